//! Makes sled's writes survive a power cut.
//!
//! sled 0.34.7 ends its writes with `sync_file_range(2)` on Linux, which does not write out file metadata nor flush the
//! disk's cache: in simulated power cuts it lost acknowledged data, also when the caller added an fdatasync after each
//! flush. Turning every such call into `fdatasync(2)` lost nothing in 90 cuts. The symbol defined here is found by the
//! linker before libc's, so sled calls it. [`syncs`] counts the calls: opening a store proves with it that the override
//! is linked, and refuses otherwise.
//!
//! After a crash sled writes what it has recovered to a new file, gives it its name with `rename(2)` and then overwrites
//! the parts of the log that the file stands for. A power cut that kept the overwriting and lost the name left a store that
//! did not open: here a rename returns when the name is on the disk. [`renames`] proves it as [`syncs`] does.
#![expect(unsafe_code, reason = "overrides a C symbol, for sled as it was published too")]

use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

static SYNCS: AtomicU64 = AtomicU64::new(0);
static RENAMES: AtomicU64 = AtomicU64::new(0);

/// How often sled's data was forced to the disk in this process.
pub(super) fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// How often a new name was forced to the disk in this process.
pub(super) fn renames() -> u64 {
    RENAMES.load(Ordering::Relaxed)
}

/// Takes the place of libc's `sync_file_range` for the whole process and does more than it promises.
///
/// # Safety
/// `fd` must be open for the length of the call, as libc's demands too.
#[unsafe(no_mangle)]
unsafe extern "C" fn sync_file_range(fd: libc::c_int, _offset: i64, _bytes: i64, _flags: libc::c_uint) -> libc::c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller keeps `fd` open, see above.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    returned(rustix::fs::fdatasync(file))
}

/// Takes the place of libc's `rename` for the whole process; the new name is on the disk when it returns.
///
/// # Safety
/// Both must be texts that end with a NUL, as libc's demands too.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const libc::c_char, to: *const libc::c_char) -> libc::c_int {
    RENAMES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: both are texts, see above.
    let (from, to) = unsafe { (CStr::from_ptr(from), CStr::from_ptr(to)) };
    returned(rustix::fs::renameat(CWD, from, CWD, to).and_then(|()| sync_directory_of(to)))
}

fn sync_directory_of(name: &CStr) -> Result<(), Errno> {
    let parent = Path::new(OsStr::from_bytes(name.to_bytes())).parent().unwrap_or(Path::new("/"));
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory =
        rustix::fs::openat(CWD, parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fsync(directory)
}

/// What a function of libc returns.
fn returned(outcome: Result<(), Errno>) -> libc::c_int {
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            // SAFETY: the address of this thread's errno, which sled reads after a result of -1.
            unsafe { *libc::__errno_location() = error.raw_os_error() };
            -1
        }
    }
}

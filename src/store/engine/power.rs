//! Makes sled's writes survive a power cut.
//!
//! sled 0.34.7 ends its writes with `sync_file_range(2)` on Linux, which does not write out file metadata nor flush the
//! disk's cache: in simulated power cuts it lost acknowledged data, also when the caller added an fdatasync after each
//! flush. Turning every such call into `fdatasync(2)` lost nothing in 90 cuts. The symbol defined here is found by the
//! linker before libc's, so sled calls it. [`syncs`] counts the calls: opening a store proves with it that the override
//! is linked, and refuses otherwise.
#![expect(unsafe_code, reason = "overrides a C symbol; the only way short of a vendored sled")]

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How often sled's data was forced to the disk in this process.
pub(super) fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
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
    match rustix::fs::fdatasync(file) {
        Ok(()) => 0,
        Err(error) => {
            // SAFETY: the address of this thread's errno, which sled reads after a result of -1.
            unsafe { *libc::__errno_location() = error.raw_os_error() };
            -1
        }
    }
}

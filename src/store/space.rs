//! Room on the disk: writes are refused while the database does not notice yet.
//!
//! sled must never meet a full disk: after one failed write even its reads fail until it is opened again. So the commit
//! thread looks at the free space and refuses in time. Reads go on whatever happens, and writes again by themselves once
//! there is room.
//!
//! - Below the *reserve* nothing new is stored but the house's own records ([`super::Record::URGENT`]); deletions go on, and
//!   changes that leave at most half of a record or only end something ([`super::Record::ends`]).
//! - Below a quarter of it nothing is written at all.
//! - Above the reserve and an eighth more all is well again: a disk that hovers must not make the answers flicker.
//!
//! Between two looks up to 10 MiB can be written here (see `EVERY` and the tally's room), and what sled adds when it
//! rewrites its segments; the smallest reserve is made for that. Others on the same file system may be faster still: then
//! the write fails, nothing acknowledged is lost, the process ends and the next start waits for room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use tokio::sync::watch;

use super::StoreError;

/// How long a look holds while little is written.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// After so many bytes it is time for another look, however short the time.
pub(super) const EVERY_BYTES: u64 = 1 << 20;
/// The smallest reserve in bytes.
pub const LEAST_RESERVE: u64 = 16 << 20;
/// The reserve of who names none.
pub const RESERVE: u64 = 64 << 20;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes free for us on the store's file system.
    pub free: u64,
    /// Below this many new records are refused.
    pub reserve: u64,
    /// Whether they are refused now.
    pub low: bool,
}

const AMPLE: u8 = 0;
const LOW: u8 = 1;
const SPENT: u8 = 2;

/// The watched file system.
#[derive(Debug)]
pub(super) struct Space {
    directory: PathBuf,
    reserve: u64,
    free: AtomicU64,
    level: AtomicU8,
    told: watch::Sender<Room>,
}

impl Space {
    /// Watches the file system of `directory`, which exists.
    pub(super) fn new(directory: &Path, reserve: u64) -> Self {
        let told = watch::Sender::new(Room { free: u64::MAX, reserve, low: false });
        let (free, level) = (AtomicU64::new(u64::MAX), AtomicU8::new(AMPLE));
        let space = Self { directory: directory.to_owned(), reserve, free, level, told };
        space.look();
        space
    }

    /// Looks again. Where the system does not say, what was last known holds.
    pub(super) fn look(&self) {
        let Ok(free) = free(&self.directory) else { return };
        self.free.store(free, Ordering::Relaxed);
        metrics::gauge!("nightporter_store_free_bytes").set(free as f64);
        let enough = match self.level.load(Ordering::Relaxed) {
            AMPLE => self.reserve,
            _ => self.reserve + self.reserve / 8,
        };
        let level = match free {
            free if free < self.reserve / 4 => SPENT,
            free if free < enough => LOW,
            _ => AMPLE,
        };
        self.level.store(level, Ordering::Relaxed);
        let low = level != AMPLE;
        self.told.send_if_modified(|room| {
            let news = room.low != low;
            *room = Room { free, reserve: self.reserve, low };
            news
        });
    }

    /// Lets a write pass, or not.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn admit(&self, urgent: bool) -> Result<(), StoreError> {
        let level = self.level.load(Ordering::Relaxed);
        if level == AMPLE || (urgent && level == LOW) {
            return Ok(());
        }
        metrics::counter!("nightporter_store_refused_total").increment(1);
        Err(StoreError::Full { free: self.free.load(Ordering::Relaxed), reserve: self.reserve })
    }

    /// What there is, and news when writes begin or end to be refused.
    pub(super) fn watch(&self) -> watch::Receiver<Room> {
        self.told.subscribe()
    }
}

/// Whether opening a store in `path` finds the room that it needs; the directory need not exist yet. Where none can be made or
/// written to, room is not what is missing: opening says what is.
pub fn opens(path: &Path, reserve: u64) -> bool {
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    !is_usable(there) || free(there).map_or(true, |free| free >= reserve / 4)
}

/// Whether there is room on the file system of `directory` for another [`EVERY_BYTES`] of a database that nobody has open yet.
///
/// # Errors
/// [`StoreError::Full`].
pub(super) fn suffices(directory: &Path) -> Result<(), StoreError> {
    match free(directory) {
        Ok(free) if free < LEAST_RESERVE => Err(StoreError::Full { free, reserve: LEAST_RESERVE }),
        // Where the system does not say, it is found out.
        _ => Ok(()),
    }
}

fn is_usable(directory: &Path) -> bool {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    directory.is_dir() && accessat(CWD, directory, access, AtFlags::EACCESS).is_ok()
}

/// Bytes free for this user on the file system of `path`.
///
/// # Errors
/// Where the system does not say, as where there is no disk behind it.
pub fn free(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    if stat.f_blocks == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

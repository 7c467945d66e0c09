//! Profiles: the throw-away directory of one browser process, locked while it lives, removed after.
//!
//! A profile is held by a lock on its directory, which the kernel releases however we end: what an earlier run left
//! behind is recognised by that, not by a process number that somebody else may have by now.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statvfs};

use super::error::BrowserError;
use super::kin::Kin;
use super::user::Account;
use crate::clock;

const PREFIX: &str = "chromium-";
/// The room that a browser must find, in bytes: a fresh profile takes a few megabytes, and shared memory is made of files in
/// it. With less it starts and then dies of a bus error, which says nothing to anybody.
const ROOM: u64 = 32 << 20;

/// The directory below which all profiles of this process are made.
#[derive(Debug)]
pub(super) struct Profiles {
    root: PathBuf,
    owner: Option<Account>,
    made: AtomicU32,
}

impl Profiles {
    /// Prepares `root` and removes what earlier runs left in it.
    pub(super) fn open(root: &Path, owner: Option<Account>) -> Result<Self, BrowserError> {
        let fail = |reason: String| BrowserError::Launch {
            reason: format!("browser.runtime_dir {}: {reason}", root.display()),
        };
        // Others may pass through (the browser's account must) but never list.
        let mode = if owner.is_some() { 0o711 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(root).map_err(|error| fail(error.to_string()))?;
        let meta = fs::symlink_metadata(root).map_err(|error| fail(error.to_string()))?;
        let ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
        if !ours || meta.permissions().mode() & 0o022 != 0 {
            return Err(fail("must be a directory of our own that nobody else can write".into()));
        }
        let root = root.canonicalize().map_err(|error| fail(error.to_string()))?;
        if let Some(account) = &owner
            && let Some(barrier) = account.barrier(&root)
        {
            let (barrier, name) = (barrier.display(), &account.name);
            return Err(fail(format!("{name} may not pass through {barrier}; `chmod o+x {barrier}` or move it")));
        }
        remove_leftovers(&root).map_err(|error| fail(error.to_string()))?;
        Ok(Self { root, owner, made: AtomicU32::new(0) })
    }

    /// The account the profiles belong to, if not ours.
    pub(super) const fn owner(&self) -> Option<&Account> {
        self.owner.as_ref()
    }

    /// A fresh, locked profile.
    pub(super) fn create(&self) -> Result<Profile, BrowserError> {
        let fail =
            |error: io::Error| BrowserError::Launch { reason: format!("profile in {}: {error}", self.root.display()) };
        let disk = statvfs(&self.root).map_err(|error| fail(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < ROOM {
            let told = format!("the disk is full: {} MB are free, a browser needs {} MB", free >> 20, ROOM >> 20);
            return Err(fail(io::Error::new(io::ErrorKind::StorageFull, told)));
        }
        let path = self.make_directory().map_err(fail)?;
        let lock = File::open(&path).map_err(fail)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| fail(error.into()))?;
        let owner = self.owner.as_ref().map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
        let profile = Profile { path, owner, _lock: lock };
        for part in [profile.data(), profile.home(), profile.temporary()] {
            make_private(&part, self.owner.as_ref()).map_err(fail)?;
        }
        Ok(profile)
    }

    fn make_directory(&self) -> io::Result<PathBuf> {
        loop {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let path = self.root.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match make_private(&path, self.owner.as_ref()) {
                // Another pool, or a process of the same number in another container, shares the place.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| path),
            }
        }
    }
}

/// One process's directory; removed when dropped.
#[derive(Debug)]
pub(super) struct Profile {
    path: PathBuf,
    owner: u32,
    _lock: File,
}

impl Profile {
    /// What Chromium calls its user data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// `$HOME` of the process, so that it finds nothing of ours.
    pub(super) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// `$TMPDIR` of the process, so that nothing of it stays in `/tmp`.
    pub(super) fn temporary(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// The processes that work in it.
    pub(super) fn kin(&self) -> Kin {
        Kin { profile: self.path.clone(), owner: self.owner }
    }

    /// Removes the directory once its process is dead. Children that die a moment later may still write into it, so a
    /// directory that would not go is tried again for a second.
    pub(super) async fn remove(self) {
        for _ in 0..20 {
            match tokio::fs::remove_dir_all(&self.path).await {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(_) => {}
            }
            clock::pause(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Mostly gone already; what cannot be removed now is found at the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn make_private(path: &Path, owner: Option<&Account>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    owner.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

fn remove_leftovers(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let abandoned = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path()).is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
        if abandoned {
            // A browser that was stopped when its last owner died may still be there.
            Kin { profile: entry.path(), owner: entry.metadata()?.uid() }.kill();
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_profiles_in_use_stay() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        let first = Profiles::open(&root, None).unwrap();
        let profile = first.create().unwrap();
        fs::create_dir_all(root.join("chromium-1-0/data/Default")).unwrap();
        fs::create_dir(root.join("somebody-elses")).unwrap();
        let second = Profiles::open(&root, None).unwrap();
        assert!(profile.data().is_dir() && root.join("somebody-elses").is_dir());
        assert!(!root.join("chromium-1-0").exists());
        assert_eq!(fs::metadata(profile.data()).unwrap().permissions().mode() & 0o777, 0o700);
        drop((profile, second));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Profiles::open(dir.path(), None).unwrap_err().to_string().contains("nobody else can write"));
    }
}

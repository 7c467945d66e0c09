//! A file system of a few megabytes, for tests of what a full one does. Needs root, who alone may mount.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FallocateFlags;

/// The mounted file system; unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None without the rights of root.
    pub(crate) fn mount(at: PathBuf, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            // Past the test's captured output: nobody must believe that this ran.
            let _ = std::io::stdout().write_all(b"\nnot run: a full disk, which needs root to mount a small one\n");
            return None;
        }
        fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=711");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "nightporter-test"]).arg(&at).status();
        assert!(mount.unwrap().success());
        Some(Self(at))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes all but `bytes` of what is free, at once.
    pub(crate) fn leave(&self, bytes: u64) {
        let filler = fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        let taken = filler.metadata().unwrap().len();
        // Somebody else may take some of it at the same time.
        loop {
            let take = self.free().saturating_sub(bytes);
            if take == 0 || rustix::fs::fallocate(&filler, FallocateFlags::empty(), taken, take).is_ok() {
                return;
            }
        }
    }

    /// Gives everything back that [`SmallDisk::leave`] took.
    pub(crate) fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Lets nobody write to it, as a kernel does that has met a fault; or lets them again.
    #[allow(dead_code, reason = "each test uses its part of it")]
    pub(crate) fn set_read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        assert!(Command::new("mount").args(["-o", options]).arg(&self.0).status().unwrap().success());
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold a file.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

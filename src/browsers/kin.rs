//! Kin: every process that works on one profile, found by what its command line says, and what they weigh together.
//!
//! Not found by descent or by group: Chromium's crash handlers leave both, and when the leader is dead its children are
//! init's. A profile's path is used once, and the kin must have the rights of the profile's owner. Reads `/proc`, which may
//! wait for a busy process: on the runtime only [`apart`].

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often the killed are looked at, and the pause between: a second for what takes milliseconds.
const LOOKS: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// The processes of one profile.
#[derive(Clone, Debug)]
pub(super) struct Kin {
    /// The profile's directory.
    pub(super) profile: PathBuf,
    /// The user that it belongs to.
    pub(super) owner: u32,
}

impl Kin {
    /// The live ones.
    fn members(&self) -> Vec<Pid> {
        let marker = [b"=", self.profile.as_os_str().as_encoded_bytes(), b"/"].concat();
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let numbers = entries.flatten().filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        let named = numbers.filter(|pid| {
            let line = fs::read(proc_file(*pid, "cmdline")).unwrap_or_default();
            line.windows(marker.len()).any(|window| window == marker)
        });
        named.filter(|pid| user(*pid) == Some(self.owner)).collect()
    }

    /// Kills all of them and sees them gone, also those that are stopped and those that they start meanwhile. May block for
    /// a second.
    pub(super) fn kill(&self) {
        for _ in 0..LOOKS {
            let left = self.members();
            if left.is_empty() {
                return;
            }
            for pid in left {
                // Fails only for one that has ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What they weigh together in bytes: each page counts once, divided among those that share it (PSS). Blocks.
    pub(super) fn weight(&self) -> u64 {
        self.members().into_iter().filter_map(proportional).sum()
    }
}

/// Runs what blocks apart from the runtime; none when that is shutting down.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => None,
    }
}

/// Whose rights a process has. Not the owner of its directory in `/proc`: that is root where it guards its memory.
fn user(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(proc_file(pid, "status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

fn proportional(pid: Pid) -> Option<u64> {
    let rollup = fs::read_to_string(proc_file(pid, "smaps_rollup")).ok()?;
    let kilobytes = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

fn proc_file(pid: Pid, name: &str) -> String {
    format!("/proc/{}/{name}", pid.as_raw_pid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    /// A process whose command line says `argument`, and that waits until it is killed.
    fn waiting(argument: &str) -> Child {
        Command::new("sh").args(["-c", "read line", "sh", argument]).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn only_what_names_the_profile_and_is_its_owners_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let profile = dir.path().join("chromium-1-1");
        let mut child = waiting(&format!("--user-data-dir={}/data", profile.display()));
        let mut stranger = waiting(&format!("--user-data-dir={}1/data", profile.display()));
        let kin = Kin { profile, owner: rustix::process::geteuid().as_raw() };
        // A child that has just been started may not show its command line yet.
        while kin.members().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(kin.members(), [Pid::from_child(&child)]);
        assert!((1 << 10..1 << 30).contains(&kin.weight()), "{}", kin.weight());
        Kin { owner: 4_000_001, ..kin.clone() }.kill();
        assert!(child.try_wait().unwrap().is_none());
        rustix::process::kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        kin.kill();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

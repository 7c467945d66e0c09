//! One Chromium process from spawn to burial: its group, its profile, its last words.
//!
//! The process leads a group of its own, and the group is always killed before the leader is reaped, while its number
//! cannot have passed to anybody else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr};

use super::frames::{Frame, Frames};
use super::kin::{self, Kin};
use super::launch::Spawner;
use super::profile::Profile;
use crate::clock;
use crate::lifecycle::Lifecycle;

/// How long a killed process may take to be gone; then it is left to init.
const BURIAL: Duration = Duration::from_secs(3);
/// The last words kept: lines, and bytes a line.
const LAST_LINES: usize = 20;
const LINE_LIMIT: usize = 2 * 1024;

/// A running browser process. Dropped without [`Process::bury`], it is killed all the same.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    profile: Option<Profile>,
    words: LastWords,
    /// Keeps the spawning thread alive: the child dies with that thread.
    _spawner: Spawner,
}

impl Process {
    /// Takes charge of `child`, which leads its own process group.
    pub(super) fn adopt(mut child: Child, profile: Profile, spawner: Spawner, life: &Lifecycle) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let words = LastWords::default();
        if let Some(stderr) = child.stderr.take() {
            life.spawn("browser stderr", words.clone().listen(stderr));
        }
        Self { child, group, profile: Some(profile), words, _spawner: spawner }
    }

    /// The process number of the browser.
    pub(super) fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// The last lines it wrote to stderr, oldest first.
    pub(super) fn last_words(&self) -> Vec<String> {
        self.words.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The processes that work in its profile, itself included.
    pub(super) fn kin(&self) -> Option<Kin> {
        self.profile.as_ref().map(Profile::kin)
    }

    /// Kills whatever is left of the group, reaps the leader, kills what had left the group, and removes the profile.
    pub(super) async fn bury(mut self) {
        self.kill();
        if clock::within(BURIAL, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.id(), "browser process {} does not go away after SIGKILL", self.id());
        }
        if let Some(profile) = self.profile.take() {
            let kin = profile.kin();
            kin::apart(move || kin.kill()).await;
            profile.remove().await;
        }
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // Fails only when nothing is left to kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A bounded memory of a process's stderr, which is always drained so that the process never blocks on it.
#[derive(Clone, Debug, Default)]
struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    async fn listen(self, stderr: ChildStderr) {
        let mut lines = Frames::new(stderr, b'\n', LINE_LIMIT);
        while let Ok(Some(frame)) = lines.next().await {
            let Frame::Whole(line) = frame else { continue };
            let line = String::from_utf8_lossy(&line);
            // That there is no message bus is so by design, and said often enough to drown the rest.
            if line.contains(":dbus/") {
                continue;
            }
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == LAST_LINES {
                kept.pop_front();
            }
            kept.push_back(line.into_owned());
        }
    }
}

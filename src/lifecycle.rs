//! Life and death of the process: who runs, who noticed that it ended, and how everything stops.
//!
//! Every task is spawned here under a name. A task that panics, or ends before it was asked to, takes the process down
//! with a clear message: the service manager restarts it and the store knows where to go on. Loops that must not hang
//! hold a [`Heartbeat`]; the service manager's watchdog is fed only while all of them are fresh. Nothing here knows what
//! the tasks do.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{self, Stopwatch};

/// The handle that spawns and stops; clones share the same life.
#[derive(Clone, Debug)]
pub struct Lifecycle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The runtime on which this life began, for what is spawned on another: by a request, which is served elsewhere.
    home: Option<Handle>,
    stop: CancellationToken,
    tracker: TaskTracker,
    failure: watch::Sender<Option<String>>,
    beats: Mutex<BTreeMap<String, Beat>>,
}

#[derive(Debug)]
struct Beat {
    last: Stopwatch,
    limit: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A life with no tasks yet. They run on the runtime that this is called on, if there is one, or on that of their spawner.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            home: Handle::try_current().ok(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            failure: watch::Sender::new(None),
            beats: Mutex::default(),
        }))
    }

    /// Cancelled when everything shall stop: every loop selects on it.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Runs a task that lives as long as the process. Ending before [`Lifecycle::stopping`] is a failure like a panic.
    pub fn supervise(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.run(None, name.into(), true, task);
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn run(
        &self,
        place: Option<&Handle>,
        name: String,
        forever: bool,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.0);
        let task = async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            let stopped = shared.stop.is_cancelled();
            match ended {
                Err(panic) => shared.fail(format!("{name} panicked: {}", panic_message(&*panic))),
                Ok(()) if forever && !stopped => shared.fail(format!("{name} ended by itself")),
                Ok(()) => {}
            }
        };
        let task = self.0.tracker.track_future(task);
        match place.or(self.0.home.as_ref()) {
            Some(place) => place.spawn(task),
            None => tokio::spawn(task),
        };
    }

    /// Runs a task that may end when its work is done. A panic in it is a failure of the process.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.run(None, name.into(), false, task);
    }

    /// As [`Lifecycle::spawn`], on the runtime `place`.
    pub fn spawn_on(&self, place: &Handle, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.run(Some(place), name.into(), false, task);
    }

    /// Runs `work` on a named thread of its own, for what blocks for as long as the process lives. A panic in it is a
    /// failure of the process.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn thread(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let shared = Arc::clone(&self.0);
        let label = name.to_owned();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
                shared.fail(format!("{label} panicked: {}", panic_message(&*panic)));
            }
        })
    }

    /// Reports that the process cannot go on; the first report wins.
    pub fn fail(&self, reason: impl Into<String>) {
        self.0.fail(reason.into());
    }

    /// Waits until some part failed and returns what it said.
    pub async fn failed(&self) -> String {
        let mut failure = self.0.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks every task to stop and waits for them, at most `limit`. Returns false when some did not end in time.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.0.stop.cancel();
        self.0.tracker.close();
        clock::within(limit, self.0.tracker.wait()).await.is_ok()
    }

    /// Registers a loop that promises to beat at least once every `limit`.
    pub fn heartbeat(&self, name: impl Into<String>, limit: Duration) -> Heartbeat {
        let name = name.into();
        self.0.beats().insert(name.clone(), Beat { last: Stopwatch::start(), limit });
        Heartbeat { name, shared: Arc::clone(&self.0) }
    }

    /// The names of the loops that have not beaten within their limit.
    pub fn stale(&self) -> Vec<String> {
        let beats = self.0.beats();
        beats.iter().filter(|(_, beat)| beat.last.elapsed() > beat.limit).map(|(name, _)| name.clone()).collect()
    }
}

impl Shared {
    fn fail(&self, reason: String) {
        tracing::error!(reason, "a part of the process failed: {reason}");
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(reason);
            }
            first
        });
    }

    // A plain mutex: held for a map access, never across an await.
    fn beats(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Beat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop's promise that it still turns; dropping it withdraws the promise.
#[derive(Debug)]
pub struct Heartbeat {
    name: String,
    shared: Arc<Shared>,
}

impl Heartbeat {
    /// Says "still here".
    pub fn beat(&self) {
        if let Some(beat) = self.shared.beats().get_mut(&self.name) {
            beat.last = Stopwatch::start();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.beats().remove(&self.name);
    }
}

/// What a caught panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_and_an_early_end_are_noticed_by_name() {
        let life = Lifecycle::new();
        life.supervise("keeper vroong", async { panic!("no such slot") });
        assert_eq!(life.failed().await, "keeper vroong panicked: no such slot");
        let life = Lifecycle::new();
        life.supervise("sweeper", async {});
        assert_eq!(life.failed().await, "sweeper ended by itself");
    }

    #[tokio::test]
    async fn shutdown_stops_loops_and_tells_of_those_that_stay() {
        let life = Lifecycle::new();
        let stop = life.stopping();
        life.supervise("loop", async move { stop.cancelled().await });
        assert!(life.shutdown(Duration::from_secs(5)).await);
        let life = Lifecycle::new();
        life.supervise("stuck", std::future::pending());
        assert!(!life.shutdown(Duration::from_millis(10)).await);
    }

    #[test]
    fn a_heartbeat_goes_stale_and_is_withdrawn_when_dropped() {
        let life = Lifecycle::new();
        let pulse = life.heartbeat("commit", Duration::ZERO);
        std::thread::yield_now();
        assert_eq!(life.stale(), ["commit"]);
        drop(pulse);
        assert!(life.stale().is_empty());
    }
}

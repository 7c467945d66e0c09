//! Whether the store can write: tried every few seconds, remembered for whoever asks. Readiness and the service manager's
//! watchdog look here, so that neither waits for a disk.

use std::time::Duration;

use tokio::sync::watch;

use super::Ground;
use crate::clock::{self, Stopwatch};
use crate::store::space::Room;
use crate::store::{Store, StoreError};

/// How often a write is tried.
const EVERY: Duration = Duration::from_secs(10);
/// How long one may take. A busy disk takes a second; one that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(10);
/// From this age on the last success says nothing any more: a probe and its pause, and some.
const FRESH: Duration = Duration::from_secs(30);

/// The last outcome; clones share it.
#[derive(Clone, Debug)]
pub(super) struct StoreProbe {
    told: watch::Receiver<Outcome>,
    room: watch::Receiver<Room>,
}

#[derive(Clone, Debug)]
struct Outcome {
    good: bool,
    /// The store works; it is the disk that has no room.
    full: bool,
    at: Stopwatch,
}

impl StoreProbe {
    /// Tries once, and again for as long as the process lives; the part `store` is ready while that works.
    pub(super) async fn start(store: Store, ground: &Ground) -> Self {
        let room = store.room();
        let (tell, told) = watch::channel(attempt(&store, true).await);
        let (stop, pulse) = (ground.life.stopping(), ground.life.heartbeat("store probe", EVERY + LIMIT * 2));
        ground.life.supervise("store probe", async move {
            while clock::within(EVERY, stop.cancelled()).await.is_err() {
                pulse.beat();
                let before = tell.borrow().good;
                tell.send_replace(attempt(&store, before).await);
            }
        });
        let probe = Self { told, room };
        let asked = probe.clone();
        ground.readiness.part("store", move || {
            if asked.room.borrow().low {
                return Err("the disk is nearly full: nothing new is stored".to_owned());
            }
            asked.verdict().map_err(str::to_owned)
        });
        probe
    }

    /// Why the store cannot be relied on, in words for anyone; the log has the rest. A full disk is no reason: another
    /// process would not have more room.
    pub(super) fn verdict(&self) -> Result<(), &'static str> {
        let outcome = self.told.borrow();
        if !outcome.good && !outcome.full {
            return Err("the last attempt to write failed");
        }
        if outcome.at.elapsed() > FRESH { Err("no write has been tried for too long") } else { Ok(()) }
    }
}

/// Tries a write; logs when the outcome differs from the one before.
async fn attempt(store: &Store, before: bool) -> Outcome {
    let tried = clock::within(LIMIT, store.probe()).await;
    let full = matches!(tried, Ok(Err(StoreError::Full { .. })));
    let failure = match tried {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", LIMIT.as_secs())),
    };
    match &failure {
        Some(error) if before => tracing::error!(error, "the store cannot write: {error}"),
        None if !before => tracing::info!("the store writes again"),
        _ => {}
    }
    Outcome { good: failure.is_none(), full, at: Stopwatch::start() }
}

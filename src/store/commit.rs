//! Group commit: one thread that flushes for everybody.
//!
//! Each change takes a ticket after its swap; the thread flushes up to the highest ticket it sees, tells the news of those
//! changes in the order of their tickets, and then publishes that number. There is no added delay: while one flush runs,
//! the next group gathers (7 to 20 changes on a busy store).

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::StoreError;
use super::engine::{Change, EngineError};
use super::ledger::Ledger;
use super::sync::{Condvar, JoinHandle, Mutex, MutexGuard, thread};
use super::tally::Tally;
use crate::clock::Stopwatch;
use crate::lifecycle::Lifecycle;

/// How long the thread sleeps when nothing was written: it must wake to beat.
const IDLE: Duration = Duration::from_millis(500);
/// The pause between flushes under [`Durability::Interval`]: with a flush of up to 50 ms, at most 200 ms are lost.
const INTERVAL: Duration = Duration::from_millis(150);

/// What the end of an update means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The change is on the disk.
    #[default]
    Acknowledged,
    /// The change will be on the disk within 200 ms.
    Interval,
}

/// How far the commit thread has come.
#[derive(Clone, Debug)]
enum Progress {
    Flushed(u64),
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Commit {
    shared: Arc<Shared>,
    tally: Arc<Tally>,
    progress: watch::Receiver<Progress>,
    durability: Durability,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    gathering: Mutex<Gathering>,
    wake: Condvar,
}

/// What the thread is to flush next.
#[derive(Debug, Default)]
struct Gathering {
    /// The highest ticket.
    taken: u64,
    /// What to tell when it is on the disk. No longer than what is changed during one flush.
    news: Vec<Change>,
    /// A ticket was taken since the thread last looked.
    wanted: bool,
    /// The last handle to the store is gone.
    closed: bool,
}

impl Commit {
    pub(super) fn start(
        mut ledger: Ledger,
        tally: Arc<Tally>,
        durability: Durability,
        life: &Lifecycle,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let (tell, progress) = watch::channel(Progress::Flushed(0));
        let (pulse, failing) = (life.heartbeat("store commit", Duration::from_secs(20)), life.clone());
        let told = Arc::clone(&shared);
        // The thread ends when the last handle to the store is gone, not with the stop token: what is still being
        // written while the process drains must be acknowledged too.
        let work = move || {
            let mut flushed = 0;
            loop {
                pulse.beat();
                let (target, news, closed) = told.gathered(if ledger.is_auditing() { Duration::ZERO } else { IDLE });
                if target == flushed {
                    ledger.rest();
                } else {
                    if let Err(error) = ledger.flush() {
                        tell.send_replace(Progress::Failed(error.to_string()));
                        return failing.fail(format!("the store cannot write: {error}"));
                    }
                    flushed = target;
                    news.into_iter().for_each(|change| ledger.engine().publish(change));
                    tell.send_replace(Progress::Flushed(flushed));
                }
                if closed {
                    return ledger.seal();
                }
                if let Err(error) = between(&mut ledger, durability) {
                    tell.send_replace(Progress::Failed(error.to_string()));
                    return failing.fail(error.to_string());
                }
            }
        };
        let thread = thread(life, "store commit", work).map_err(|error| EngineError::Failed(error.to_string()))?;
        Ok(Self { shared, tally, progress, durability, thread: Some(thread) })
    }

    /// Waits until another change may join those that are to be flushed, so that what a start may find unaccounted for has
    /// a bound. A caller that has waited makes its change without another pause.
    pub(super) async fn room(&self) -> Result<(), StoreError> {
        if self.tally.has_room() {
            return Ok(());
        }
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|progress| matches!(progress, Progress::Failed(_)) || self.tally.has_room());
        match reached.await.as_deref() {
            Ok(Progress::Flushed(_)) => Ok(()),
            Ok(Progress::Failed(reason)) => Err(EngineError::Failed(reason.clone()).into()),
            Err(_) => Err(StoreError::Stopped),
        }
    }

    /// A number that [`Commit::durable`] accepts once everything written before this call is on the disk. `news` is told
    /// then, before anybody who waits for the number goes on.
    pub(super) fn ticket(&self, news: impl IntoIterator<Item = Change>) -> u64 {
        let mut gathering = self.shared.lock();
        gathering.taken += 1;
        gathering.wanted = true;
        gathering.news.extend(news);
        self.shared.wake.notify_one();
        gathering.taken
    }

    /// Waits until the ticket's change is on the disk; at once under [`Durability::Interval`].
    pub(super) async fn durable(&self, ticket: u64) -> Result<(), StoreError> {
        if self.durability == Durability::Interval {
            return match &*self.progress.borrow() {
                Progress::Failed(reason) => Err(EngineError::Failed(reason.clone()).into()),
                Progress::Flushed(_) => Ok(()),
            };
        }
        self.flushed(ticket).await
    }

    /// Waits until the ticket's change is on the disk, whatever the durability.
    pub(super) async fn flushed(&self, ticket: u64) -> Result<(), StoreError> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|progress| match progress {
            Progress::Flushed(number) => *number >= ticket,
            Progress::Failed(_) => true,
        });
        match reached.await.as_deref() {
            Ok(Progress::Flushed(_)) => Ok(()),
            Ok(Progress::Failed(reason)) => Err(EngineError::Failed(reason.clone()).into()),
            Err(_) => Err(StoreError::Stopped),
        }
    }
}

/// The pause between two flushes, which is also when a store that was just opened is compared with its sum.
fn between(ledger: &mut Ledger, durability: Durability) -> Result<(), StoreError> {
    let since = Stopwatch::start();
    while ledger.is_auditing() {
        ledger.audit()?;
        if durability == Durability::Acknowledged || since.elapsed() >= INTERVAL {
            return Ok(());
        }
    }
    if durability == Durability::Interval {
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

impl Drop for Commit {
    /// Flushes what is left and gives the engine back, so that whoever opens the directory next finds it free.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the lifecycle.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do, at most `limit`; returns the highest ticket, the news of all up to it, and
    /// whether the store is closed.
    fn gathered(&self, limit: Duration) -> (u64, Vec<Change>, bool) {
        let idle = |gathering: &mut Gathering| !gathering.wanted && !gathering.closed;
        let waited = self.wake.wait_timeout_while(self.lock(), limit, idle);
        let (mut gathering, _) = waited.unwrap_or_else(PoisonError::into_inner);
        gathering.wanted = false;
        (gathering.taken, std::mem::take(&mut gathering.news), gathering.closed)
    }
}

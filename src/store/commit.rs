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
/// The pause between flushes under [`Durability::Interval`]. A change that just misses one waits for its end, for the pause
/// and for the next: with flushes of up to 50 ms at most 200 ms are lost.
const INTERVAL: Duration = Duration::from_millis(100);

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
#[derive(Debug)]
struct Progress {
    /// Up to this ticket everything is on the disk, whatever failed since.
    flushed: u64,
    /// Why nothing more will be.
    failure: Option<EngineError>,
}

impl Progress {
    /// Whether there is no need to wait any longer for the ticket.
    ///
    /// # Errors
    /// Why waiting would be in vain.
    fn reaches(&self, ticket: u64) -> Result<bool, EngineError> {
        match &self.failure {
            _ if self.flushed >= ticket => Ok(true),
            None => Ok(false),
            Some(failure) => Err(failure.again()),
        }
    }
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
    /// A ticket was taken, or somebody waits for room, since the thread last looked.
    wanted: bool,
    /// The thread pauses: only a crowd wakes it.
    pausing: bool,
    /// The last handle to the store is gone.
    closed: bool,
}

/// What the thread has found to do.
struct Gathered {
    /// The highest ticket.
    target: u64,
    /// The news of all up to it.
    news: Vec<Change>,
    /// Somebody asked for something.
    wanted: bool,
    /// The store is closed.
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
        let (tell, progress) = watch::channel(Progress { flushed: 0, failure: None });
        let (pulse, failing) = (life.heartbeat("store commit", Duration::from_secs(20)), life.clone());
        let (told, tallied) = (Arc::clone(&shared), Arc::clone(&tally));
        // The thread ends when the last handle to the store is gone, not with the stop token: what is still being
        // written while the process drains must be acknowledged too.
        let work = move || {
            let mut flushed = 0;
            let fail = |error: EngineError, words: String| {
                tell.send_modify(|progress| progress.failure = Some(error));
                failing.fail(words);
            };
            loop {
                pulse.beat();
                let limit = if ledger.is_auditing() { Duration::ZERO } else { IDLE };
                let Gathered { target, news, wanted, closed } = told.gathered(limit);
                match if wanted { ledger.unseal() } else { Ok(false) } {
                    Ok(false) => {}
                    // For those who wait for room.
                    Ok(true) => tell.send_modify(|_| {}),
                    Err(error) => return fail(error.again(), format!("the store cannot write: {error}")),
                }
                let written = if target == flushed {
                    ledger.rest()
                } else {
                    let changes = tallied.changes();
                    ledger.flush().map(|()| tallied.flushed(changes))
                };
                if let Err(error) = written {
                    return fail(error.again(), format!("the store cannot write: {error}"));
                }
                if target > flushed {
                    flushed = target;
                    news.into_iter().for_each(|change| ledger.engine().publish(change));
                    tell.send_modify(|progress| progress.flushed = flushed);
                }
                if closed {
                    return ledger.seal();
                }
                if let Err(error) = told.between(&mut ledger, &tallied, durability) {
                    return fail(EngineError::Failed(error.to_string()), error.to_string());
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
        self.shared.want();
        let reached = progress.wait_for(|progress| progress.failure.is_some() || self.tally.has_room());
        match reached.await.as_deref() {
            Ok(Progress { failure: Some(failure), .. }) => Err(failure.again().into()),
            Ok(_) => Ok(()),
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
        if !gathering.pausing || self.tally.is_crowded() {
            self.shared.wake.notify_one();
        }
        gathering.taken
    }

    /// Waits until the ticket's change is on the disk; at once under [`Durability::Interval`].
    pub(super) async fn durable(&self, ticket: u64) -> Result<(), StoreError> {
        if self.durability == Durability::Interval {
            return Ok(self.progress.borrow().failure.as_ref().map_or(Ok(()), |failure| Err(failure.again()))?);
        }
        self.flushed(ticket).await
    }

    /// Waits until all that was read before this call is on the disk; at once when it is already, which costs no flush, and
    /// under [`Durability::Interval`].
    pub(super) async fn shown(&self) -> Result<(), StoreError> {
        let settled = self.durability == Durability::Interval || self.tally.is_flushed();
        self.durable(if settled { 0 } else { self.ticket([]) }).await
    }

    /// Waits until every record that was changed before this call is on the disk, whatever the durability. Nothing is written
    /// when they are already: on a full disk that would be one byte too many.
    pub(super) async fn settled(&self) -> Result<(), StoreError> {
        self.flushed(if self.tally.is_flushed() { 0 } else { self.ticket([]) }).await
    }

    /// Waits until the ticket's change is on the disk, whatever the durability.
    pub(super) async fn flushed(&self, ticket: u64) -> Result<(), StoreError> {
        let mut progress = self.progress.clone();
        match progress.wait_for(|progress| !matches!(progress.reaches(ticket), Ok(false))).await.as_deref() {
            Ok(reached) => Ok(reached.reaches(ticket).map(drop)?),
            Err(_) => Err(StoreError::Stopped),
        }
    }
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
    /// Wakes the thread.
    fn want(&self) {
        self.lock().wanted = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pause between two flushes, which is also when a store that was just opened is compared with its sum. It ends
    /// early when so much has been changed that whoever changes more would soon have to wait.
    fn between(&self, ledger: &mut Ledger, tally: &Tally, durability: Durability) -> Result<(), StoreError> {
        let since = Stopwatch::start();
        while ledger.is_auditing() {
            ledger.audit()?;
            if durability == Durability::Acknowledged || since.elapsed() >= INTERVAL || tally.is_crowded() {
                return Ok(());
            }
        }
        if durability == Durability::Interval {
            let mut gathering = self.lock();
            gathering.pausing = true;
            let limit = INTERVAL.saturating_sub(since.elapsed());
            let quiet = |gathering: &mut Gathering| !gathering.closed && !tally.is_crowded();
            let waited = self.wake.wait_timeout_while(gathering, limit, quiet);
            waited.unwrap_or_else(PoisonError::into_inner).0.pausing = false;
        }
        Ok(())
    }

    /// Waits until there is something to do, at most `limit`.
    fn gathered(&self, limit: Duration) -> Gathered {
        let idle = |gathering: &mut Gathering| !gathering.wanted && !gathering.closed;
        let waited = self.wake.wait_timeout_while(self.lock(), limit, idle);
        let (mut gathering, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let wanted = std::mem::take(&mut gathering.wanted);
        let news = std::mem::take(&mut gathering.news);
        Gathered { target: gathering.taken, news, wanted, closed: gathering.closed }
    }
}

//! Group commit: one thread that flushes for everybody.
//!
//! Each change takes a ticket after its swap; the thread flushes up to the highest ticket it sees, tells the news of those
//! changes in the order of their tickets, and then publishes that number. While one flush runs, the next group gathers. A
//! flush costs the processor as much as several changes, so after one that several have waited for, the next begins when as
//! many wait again, or a moment later. Who changes alone is never kept waiting.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::StoreError;
use super::engine::{Change, EngineError};
use super::ledger::Ledger;
use super::sync::{Condvar, JoinHandle, Mutex, MutexGuard, REST, thread};
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
#[derive(Debug, Default)]
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
    /// Who waits for which ticket. Each is woken once, by the flush that he waits for: to wake all of a hundred for every
    /// flush took more of the processor than their changes.
    waiting: Mutex<Vec<(u64, oneshot::Sender<()>)>>,
}

/// The commit thread's voice. When it is gone nobody waits any longer.
#[derive(Debug)]
struct Teller {
    progress: Option<watch::Sender<Progress>>,
    shared: Arc<Shared>,
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
    sleep: Sleep,
    /// The last handle to the store is gone.
    closed: bool,
}

/// What the thread sleeps for. To wake one that is at work costs a system call and changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sleep {
    /// It is at work, or about to wake.
    #[default]
    No,
    /// Until something is wanted.
    Idle,
    /// Until this ticket is taken.
    Rest(u64),
    /// Until there is a crowd.
    Pause,
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
        let (progress_to_tell, progress) = watch::channel(Progress::default());
        let teller = Teller { progress: Some(progress_to_tell), shared: Arc::clone(&shared) };
        let (pulse, failing) = (life.heartbeat("store commit", Duration::from_secs(20)), life.clone());
        let (gathering, tallied) = (Arc::clone(&shared), Arc::clone(&tally));
        // The thread ends when the last handle to the store is gone, not with the stop token: what is still being
        // written while the process drains must be acknowledged too.
        let work = move || {
            let (mut flushed, mut told) = (0, 0);
            let fail = |flushed: u64, failure: EngineError, words: String| {
                teller.tell(Progress { flushed, failure: Some(failure) });
                failing.fail(words);
            };
            loop {
                pulse.beat();
                let limit = if ledger.is_auditing() { Duration::ZERO } else { IDLE };
                let Gathered { target, news, wanted, closed } = gathering.gathered(limit);
                match if wanted { ledger.unseal() } else { Ok(false) } {
                    Ok(false) => {}
                    // For those who wait for room.
                    Ok(true) => drop(teller.tell(Progress { flushed, failure: None })),
                    Err(error) => return fail(flushed, error.again(), format!("the store cannot write: {error}")),
                }
                let written = if target == flushed {
                    ledger.rest()
                } else {
                    let changes = tallied.changes();
                    ledger.flush().map(|()| tallied.flushed(changes))
                };
                if let Err(error) = written {
                    return fail(flushed, error.again(), format!("the store cannot write: {error}"));
                }
                if target > flushed {
                    flushed = target;
                    news.into_iter().for_each(|change| ledger.engine().publish(change));
                    told = teller.tell(Progress { flushed, failure: None });
                }
                if closed {
                    return ledger.seal();
                }
                let again = if told > 1 { flushed + told } else { 0 };
                told = 0;
                if let Err(error) = gathering.between(&mut ledger, &tallied, durability, again) {
                    return fail(flushed, EngineError::Failed(error.to_string()), error.to_string());
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
        let enough = match gathering.sleep {
            Sleep::No => false,
            Sleep::Idle => true,
            Sleep::Rest(ticket) => gathering.taken >= ticket || self.tally.is_crowded(),
            Sleep::Pause => self.tally.is_crowded(),
        };
        if enough {
            self.shared.rouse(&mut gathering);
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
        let told = {
            let mut waiting = self.shared.waiting();
            // Under the lock: whoever tells of a flush looks at those who wait afterwards.
            if let Some(reached) = self.reached(ticket) {
                return reached;
            }
            let (tell, told) = oneshot::channel();
            waiting.push((ticket, tell));
            told
        };
        // Told or not, the progress says what it was.
        let _ = told.await;
        self.reached(ticket).unwrap_or(Err(StoreError::Stopped))
    }

    /// What has become of the ticket; None while it is to be waited for.
    fn reached(&self, ticket: u64) -> Option<Result<(), StoreError>> {
        match self.progress.borrow().reaches(ticket) {
            Ok(true) => Some(Ok(())),
            Ok(false) => self.progress.has_changed().is_err().then_some(Err(StoreError::Stopped)),
            Err(failure) => Some(Err(failure.into())),
        }
    }
}

impl Teller {
    /// Tells those whom it concerns; returns how many they are.
    fn tell(&self, progress: Progress) -> u64 {
        let upto = if progress.failure.is_some() { u64::MAX } else { progress.flushed };
        if let Some(tell) = &self.progress {
            tell.send_replace(progress);
        }
        let mut waiting = self.shared.waiting();
        let told: Vec<_> = waiting.extract_if(.., |(ticket, _)| *ticket <= upto).collect();
        drop(waiting);
        // Who has left meanwhile need not be told.
        told.into_iter().filter_map(|(_, tell)| tell.send(()).ok()).count() as u64
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.progress = None;
        self.shared.waiting().clear();
    }
}

impl Drop for Commit {
    /// Flushes what is left and gives the engine back, so that whoever opens the directory next finds it free.
    fn drop(&mut self) {
        let mut gathering = self.shared.lock();
        gathering.closed = true;
        self.shared.rouse(&mut gathering);
        drop(gathering);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the lifecycle.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Lets the thread work for somebody who waits for room.
    fn want(&self) {
        let mut gathering = self.lock();
        gathering.wanted = true;
        self.rouse(&mut gathering);
    }

    /// Wakes the thread.
    fn rouse(&self, gathering: &mut Gathering) {
        if std::mem::take(&mut gathering.sleep) != Sleep::No {
            self.wake.notify_one();
        }
    }

    /// Lets the thread sleep, at most `limit`.
    fn sleep<'a>(
        &self,
        mut gathering: MutexGuard<'a, Gathering>,
        sleep: Sleep,
        limit: Duration,
    ) -> MutexGuard<'a, Gathering> {
        gathering.sleep = sleep;
        let asleep = |gathering: &mut Gathering| gathering.sleep != Sleep::No;
        let slept = self.wake.wait_timeout_while(gathering, limit, asleep);
        let (mut gathering, _) = slept.unwrap_or_else(PoisonError::into_inner);
        gathering.sleep = Sleep::No;
        gathering
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(u64, oneshot::Sender<()>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pause between two flushes, which is also when a store that was just opened is compared with its sum. It ends
    /// early when so much has been changed that whoever changes more would soon have to wait. With ticket `again` as many wait
    /// as the last flush has let go on.
    fn between(
        &self,
        ledger: &mut Ledger,
        tally: &Tally,
        durability: Durability,
        again: u64,
    ) -> Result<(), StoreError> {
        let since = Stopwatch::start();
        while ledger.is_auditing() {
            ledger.audit()?;
            if durability == Durability::Acknowledged || since.elapsed() >= INTERVAL || tally.is_crowded() {
                return Ok(());
            }
        }
        let gathering = self.lock();
        if gathering.closed || tally.is_crowded() {
            return Ok(());
        }
        if durability == Durability::Interval {
            drop(self.sleep(gathering, Sleep::Pause, INTERVAL.saturating_sub(since.elapsed())));
        } else if gathering.taken < again && !REST.is_zero() {
            drop(self.sleep(gathering, Sleep::Rest(again), REST));
        }
        Ok(())
    }

    /// Waits until there is something to do, at most `limit`.
    fn gathered(&self, limit: Duration) -> Gathered {
        let mut gathering = self.lock();
        if !gathering.wanted && !gathering.closed && !limit.is_zero() {
            gathering = self.sleep(gathering, Sleep::Idle, limit);
        }
        let wanted = std::mem::take(&mut gathering.wanted);
        let news = std::mem::take(&mut gathering.news);
        Gathered { target: gathering.taken, news, wanted, closed: gathering.closed }
    }
}

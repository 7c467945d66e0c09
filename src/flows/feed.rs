//! The feed: every version of a flow, in order, for whoever follows it. What is published is durable; the last versions of
//! each flow are kept in memory, and whoever asks for older ones, or comes back after the process did, is given the
//! whole flow as it stands. A slow reader costs nothing: it holds a place, not a buffer.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Flow;
use crate::lifecycle::Lifecycle;

/// Versions kept of one flow, and of how many bytes.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 256 * 1024;
/// Bytes kept of all flows. Beyond it the quieter half is forgotten.
const ALL_BYTES: usize = 32 * 1024 * 1024;

/// The feed of all flows; clones share it.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journals: Mutex<Journals>,
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Journals {
    by_flow: HashMap<String, Journal>,
    bytes: usize,
    /// Counts publications, to tell which flows are quiet.
    turn: u64,
}

/// The last versions of one flow.
#[derive(Debug, Default)]
struct Journal {
    versions: BTreeMap<u64, Arc<Flow>>,
    bytes: usize,
    /// Up to this version none is kept; None while nothing is known of it.
    forgotten: Option<u64>,
    ended: Option<Ended>,
    news: Arc<Notify>,
    readers: usize,
    turn: u64,
}

/// How a flow went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has come to a state that nothing leads out of.
    Final,
    /// Somebody removed it.
    Deleted,
    /// Its time was over.
    Expired,
}

impl Ended {
    /// The word that clients switch on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
        }
    }
}

/// What a journal has for a reader.
enum Next {
    Version(Arc<Flow>),
    /// More was missed than is kept.
    Lost,
    Ended(Ended),
    /// Nothing yet.
    Wait,
}

/// What a reader is told.
#[derive(Clone, Debug)]
pub enum Step {
    /// The next version.
    Version(Arc<Flow>),
    /// Versions were missed; this is the whole flow, and it goes on from here.
    Reset(Arc<Flow>),
    /// Nothing will come any more.
    Ended(Ended),
}

/// What a reader hears of the feed.
pub(super) enum Heard {
    Step(Step),
    /// More was missed than is kept: look at the flow.
    Lost,
}

/// Who follows one flow.
#[derive(Debug)]
pub struct Reader {
    feed: Feed,
    key: String,
    news: Arc<Notify>,
    position: u64,
    /// The last version seen was in a state that nothing leads out of.
    finished: bool,
    /// It has looked at the flow since the last news.
    looked: bool,
    /// The end was told.
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// For at most so many readers; each holds a connection, of which there must be some left for everybody else.
    pub(super) fn new(readers: usize, life: &Lifecycle) -> Self {
        let (places, closed) = (Arc::new(Semaphore::new(readers)), life.stopping().child_token());
        Self(Arc::new(Shared { journals: Mutex::default(), places, closed }))
    }

    // Held for map operations only, never across an await.
    fn journals(&self) -> MutexGuard<'_, Journals> {
        self.0.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all readers, for a stop that must not wait for those who would read for ever.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// Tells a version that is durable. They may come in any order, and are read in theirs.
    pub(super) fn publish(&self, key: &str, flow: Arc<Flow>) {
        let mut journals = self.journals();
        journals.turn += 1;
        let turn = journals.turn;
        let journal = journals.by_flow.entry(key.to_owned()).or_default();
        journal.turn = turn;
        let before = journal.bytes;
        journal.keep(flow);
        let (after, news) = (journal.bytes, Arc::clone(&journal.news));
        journals.bytes = journals.bytes + after - before;
        journals.shrink();
        drop(journals);
        news.notify_waiters();
    }

    /// Tells that a flow is gone; its versions that were published are still read.
    pub(super) fn end(&self, key: &str, ended: Ended) {
        self.change(key, |journal| journal.ended = Some(ended));
    }

    /// Tells that a version may be missing: readers are given the whole flow.
    pub(super) fn lose(&self, key: &str) {
        self.change(key, Journal::forget);
    }

    /// Tells that anything may be missing.
    pub(super) fn lose_all(&self) {
        let keys: Vec<String> = self.journals().by_flow.keys().cloned().collect();
        keys.iter().for_each(|key| self.lose(key));
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Journal)) {
        let mut journals = self.journals();
        let Some(journal) = journals.by_flow.get_mut(key) else { return };
        let before = journal.bytes;
        change(journal);
        let (after, news, idle) = (journal.bytes, Arc::clone(&journal.news), journal.readers == 0);
        if idle && journal.ended.is_some() {
            journals.by_flow.remove(key);
            journals.bytes -= before;
        } else {
            journals.bytes = journals.bytes + after - before;
        }
        drop(journals);
        news.notify_waiters();
    }

    /// Follows a flow; None when there are as many readers as may be. Where it stands is said with its `start`.
    pub(super) fn read(&self, key: &str) -> Option<Reader> {
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        let mut journals = self.journals();
        let journal = journals.by_flow.entry(key.to_owned()).or_default();
        journal.readers += 1;
        let news = Arc::clone(&journal.news);
        drop(journals);
        Some(Reader {
            feed: self.clone(),
            key: key.to_owned(),
            news,
            position: 0,
            finished: false,
            looked: false,
            over: false,
            _place: place,
        })
    }
}

impl Journals {
    /// Forgets the quieter half when all is too much.
    fn shrink(&mut self) {
        if self.bytes <= ALL_BYTES {
            return;
        }
        let mut turns: Vec<u64> = self.by_flow.values().map(|journal| journal.turn).collect();
        turns.sort_unstable();
        let middle = turns[turns.len() / 2];
        for journal in self.by_flow.values_mut().filter(|journal| journal.turn <= middle) {
            journal.forget();
        }
        self.by_flow.retain(|_, journal| journal.readers > 0 || journal.turn > middle);
        self.bytes = self.by_flow.values().map(|journal| journal.bytes).sum();
    }
}

impl Journal {
    fn keep(&mut self, flow: Arc<Flow>) {
        let version = flow.version;
        let forgotten = *self.forgotten.get_or_insert(version - 1);
        if version <= forgotten {
            return;
        }
        self.bytes += flow.size();
        self.versions.insert(version, flow);
        while (self.versions.len() > KEPT || self.bytes > KEPT_BYTES)
            && self.versions.len() > 1
            && let Some((version, gone)) = self.versions.pop_first()
        {
            self.bytes -= gone.size();
            self.forgotten = Some(version);
        }
    }

    fn forget(&mut self) {
        let last = self.versions.last_key_value().map(|(version, _)| *version);
        self.forgotten = last.max(self.forgotten);
        self.versions.clear();
        self.bytes = 0;
    }

    fn after(&self, position: u64) -> Next {
        if let Some(flow) = self.versions.get(&(position + 1)) {
            return Next::Version(Arc::clone(flow));
        }
        if self.forgotten.is_some_and(|forgotten| forgotten > position) {
            return Next::Lost;
        }
        // A later one is there already: the one between them is on its way.
        match self.ended {
            Some(ended) if self.versions.range(position + 1..).next().is_none() => Next::Ended(ended),
            _ => Next::Wait,
        }
    }
}

impl Reader {
    /// Where it stands: it has seen `seen`, and the flow is as `latest` says.
    pub(super) fn start(&mut self, seen: u64, latest: &Flow) {
        self.position = seen;
        self.finished = seen == latest.version && latest.is_over();
        let mut journals = self.feed.journals();
        if let Some(journal) = journals.by_flow.get_mut(&self.key)
            && journal.forgotten.is_none()
        {
            journal.forgotten = Some(latest.version);
        }
    }

    /// The next version, when there is one; None when the process is about to stop, or the end was told.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        let heard = Arc::clone(&self.news);
        while !self.over {
            let mut news = pin!(heard.notified());
            // Before the look, so that what comes between the look and the wait is heard.
            news.as_mut().enable();
            let next = self.feed.journals().by_flow.get(&self.key).map(|journal| journal.after(self.position));
            match next.unwrap_or(Next::Lost) {
                Next::Version(flow) => {
                    self.see(&flow);
                    return Some(Heard::Step(Step::Version(flow)));
                }
                Next::Ended(ended) => {
                    self.over = true;
                    return Some(Heard::Step(Step::Ended(ended)));
                }
                Next::Lost if !self.looked => return Some(Heard::Lost),
                Next::Lost | Next::Wait => {}
            }
            if self.finished {
                self.over = true;
                return Some(Heard::Step(Step::Ended(Ended::Final)));
            }
            tokio::select! {
                () = self.feed.0.closed.cancelled() => return None,
                () = news => self.looked = false,
            }
        }
        None
    }

    /// Takes the flow as it stands for what was missed; None when that is what this reader has seen.
    pub(super) fn look(&mut self, flow: Option<Arc<Flow>>) -> Option<Step> {
        match flow {
            Some(flow) if flow.version > self.position => {
                self.see(&flow);
                Some(Step::Reset(flow))
            }
            Some(_) => {
                self.looked = true;
                None
            }
            None => {
                self.over = true;
                Some(Step::Ended(Ended::Expired))
            }
        }
    }

    fn see(&mut self, flow: &Flow) {
        self.position = flow.version;
        self.finished = flow.is_over();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut journals = self.feed.journals();
        let Some(journal) = journals.by_flow.get_mut(&self.key) else { return };
        journal.readers -= 1;
        let (bytes, empty) = (journal.bytes, journal.versions.is_empty() || journal.ended.is_some());
        if journal.readers == 0 && empty {
            journals.by_flow.remove(&self.key);
            journals.bytes -= bytes;
        }
    }
}

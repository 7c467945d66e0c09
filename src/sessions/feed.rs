//! The feed: what happened to the sessions of a space, in order, for those who would have asked Redis for keyspace
//! notifications. The last thousand events of a space are kept in memory; who asks for older ones, or comes back after
//! the process did, is told to look at the sessions themselves. It carries ids and versions, never data.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::SessionRecord;
use super::census::Census;
use crate::lifecycle::Lifecycle;
use crate::store::{Change, ChangeKind, Record, Store};

/// Events kept of one space.
const KEPT: usize = 1000;
/// Spaces whose events are kept; of more, those that have been quiet for longest are forgotten.
const SPACES: usize = 256;

/// The feed of all spaces; clones share it.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells this process's numbers from those of the one before.
    boot: String,
    journals: Mutex<Journals>,
    latest: watch::Sender<u64>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Journals {
    by_space: BTreeMap<String, Journal>,
    /// Up to this number journals of whole spaces are gone.
    forgotten: u64,
}

/// The last events of one space.
#[derive(Debug, Default)]
struct Journal {
    events: VecDeque<Event>,
    /// The number of the last event that is not kept any more.
    forgotten: u64,
}

/// Who follows one space from a position on.
#[derive(Debug)]
pub struct Reader {
    feed: Feed,
    space: String,
    position: Position,
}

/// A place in a feed, as clients keep it: `boot-number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    boot: String,
    number: u64,
}

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number; events of other spaces lie between.
    pub number: u64,
    /// Which session.
    pub id: String,
    /// What.
    pub happened: Happened,
    /// The session's version then; its last one when it went.
    pub version: u64,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was made.
    Created,
    /// Its data or its end changed.
    Changed,
    /// Somebody removed it.
    Deleted,
    /// Its time was over. Told within a second or so of it.
    Expired,
}

impl Happened {
    /// The word that clients switch on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.number)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (boot, number) = text.split_once('-').ok_or(InvalidPosition)?;
        let wellformed = boot.len() == 8 && boot.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = number.parse().ok().filter(|_| wellformed).ok_or(InvalidPosition)?;
        Ok(Self { boot: boot.to_owned(), number })
    }
}

/// The text is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event id of this feed")]
pub struct InvalidPosition;

/// What lies behind a position.
#[derive(Debug)]
pub enum Behind {
    /// These, in order; perhaps none.
    Events(Vec<Event>),
    /// More than is kept: look at the sessions, and go on from the end.
    Lost,
}

impl Feed {
    pub(super) fn new(boot: String, life: &Lifecycle) -> Self {
        let (latest, stop) = (watch::Sender::new(0), life.stopping());
        Self(Arc::new(Shared { boot, journals: Mutex::default(), latest, stop }))
    }

    // Held for map operations only, never across an await.
    fn journals(&self) -> MutexGuard<'_, Journals> {
        self.0.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present end of the feed.
    pub fn end(&self) -> Position {
        self.at(*self.0.latest.borrow())
    }

    /// The position of the event with that number.
    pub fn at(&self, number: u64) -> Position {
        Position { boot: self.0.boot.clone(), number }
    }

    /// Follows the space from `position` on.
    pub fn read(&self, space: &str, position: Position) -> Reader {
        Reader { feed: self.clone(), space: space.to_owned(), position }
    }

    fn behind(&self, space: &str, position: &Position, limit: usize) -> Behind {
        if position.boot != self.0.boot || position.number > *self.0.latest.borrow() {
            return Behind::Lost;
        }
        let journals = self.journals();
        let journal = journals.by_space.get(space);
        if position.number < journal.map_or(journals.forgotten, |journal| journal.forgotten) {
            return Behind::Lost;
        }
        let behind = journal.into_iter().flat_map(|journal| &journal.events);
        let behind = behind.skip_while(|event| event.number <= position.number);
        Behind::Events(behind.take(limit).cloned().collect())
    }

    fn note(&self, space: &str, change: &Change) {
        let (happened, version) = match change.kind {
            ChangeKind::Put { version, created: true } => (Happened::Created, version),
            ChangeKind::Put { version, created: false } => (Happened::Changed, version),
            ChangeKind::Deleted { version } => (Happened::Deleted, version),
            ChangeKind::Expired { version } => (Happened::Expired, version),
        };
        let number = *self.0.latest.borrow() + 1;
        let id = change.key.id()[space.len() + 1..].to_owned();
        self.journals().note(space, Event { number, id, happened, version });
        self.0.latest.send_replace(number);
    }

    /// Something was missed, nobody knows in which space.
    fn lose(&self) {
        let number = *self.0.latest.borrow() + 1;
        *self.journals() = Journals { by_space: BTreeMap::new(), forgotten: number };
        self.0.latest.send_replace(number);
    }
}

impl Journals {
    fn note(&mut self, space: &str, event: Event) {
        if !self.by_space.contains_key(space) && self.by_space.len() >= SPACES {
            self.forget_quietest();
        }
        let fresh = Journal { events: VecDeque::new(), forgotten: self.forgotten };
        let journal = self.by_space.entry(space.to_owned()).or_insert(fresh);
        journal.events.push_back(event);
        if journal.events.len() > KEPT
            && let Some(gone) = journal.events.pop_front()
        {
            journal.forgotten = gone.number;
        }
    }

    fn forget_quietest(&mut self) {
        let last = |journal: &Journal| journal.events.back().map_or(journal.forgotten, |event| event.number);
        let quietest = self.by_space.iter().min_by_key(|(_, journal)| last(journal));
        if let Some((space, number)) = quietest.map(|(space, journal)| (space.clone(), last(journal))) {
            self.by_space.remove(&space);
            self.forgotten = self.forgotten.max(number);
        }
    }
}

impl Reader {
    /// The next events, as soon as there are some; None when the process is about to stop. After [`Behind::Lost`] it goes
    /// on from the feed's end.
    pub async fn next(&mut self, limit: usize) -> Option<Behind> {
        loop {
            // Before the look, so that what comes between the two is found by the next one.
            let end = self.feed.end();
            match self.feed.behind(&self.space, &self.position, limit) {
                Behind::Lost => {
                    self.position = end;
                    return Some(Behind::Lost);
                }
                Behind::Events(events) => match events.last() {
                    Some(last) => {
                        self.position.number = last.number;
                        return Some(Behind::Events(events));
                    }
                    None => self.position = end,
                },
            }
            let mut latest = self.feed.0.latest.subscribe();
            let number = self.position.number;
            tokio::select! {
                () = self.feed.0.stop.cancelled() => return None,
                grown = latest.wait_for(|latest| *latest > number) => drop(grown.ok()?),
            }
        }
    }

    /// Where it stands.
    pub fn position(&self) -> &Position {
        &self.position
    }
}

/// Follows the store's changes until the process stops.
pub(super) fn start(feed: &Feed, census: &Census, store: &Store, life: &Lifecycle) {
    let (feed, census, stop, mut changes) = (feed.clone(), census.clone(), life.stopping(), store.changes());
    life.supervise("session feed", async move {
        loop {
            let change = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Ok(change) if change.key.space() == SessionRecord::SPACE => {
                    let space = change.key.id().split('/').next().unwrap_or_default();
                    census.follow(space, change.kind);
                    feed.note(space, &change);
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the feed of session changes missed {missed}; its readers start anew");
                    census.forget();
                    feed.lose();
                }
                Err(RecvError::Closed) => return stop.cancelled().await,
            }
        }
    });
}

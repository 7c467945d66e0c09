//! The feed: what happened to the sessions of a space, in order, for those who would have asked Redis for keyspace
//! notifications. The last thousand events of a space are kept in memory; who asks for older ones, or comes back after
//! the process did, is told to look at the sessions themselves. It carries ids and versions, never data.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::SessionRecord;
use crate::lifecycle::Lifecycle;
use crate::store::{Change, ChangeKind, Heard, Hearing, Store};

/// Events kept of one space.
const KEPT: usize = 1000;
/// Spaces whose events are kept; of more, those that have been quiet for longest are forgotten.
const SPACES: usize = 256;
/// Readers at once; each holds a connection, of which there must be some left for everybody else.
pub const READERS: usize = 768;
/// Readers are woken in so many groups, by space: news of one space does not wake the readers of all.
const GROUPS: usize = 64;

/// The feed of all spaces; clones share it.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells this process's numbers from those of the one before.
    boot: String,
    journals: Mutex<Journals>,
    news: [Notify; GROUPS],
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Journals {
    /// What is still to be noted.
    hearing: Option<Hearing>,
    by_space: BTreeMap<String, Journal>,
    /// The number of the last event.
    latest: u64,
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
    _place: OwnedSemaphorePermit,
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
    /// A feed of what there is to hear.
    fn new(boot: String, hearing: Option<Hearing>, life: &Lifecycle) -> Self {
        let journals = Mutex::new(Journals { hearing, ..Journals::default() });
        let (news, places) = (std::array::from_fn(|_| Notify::new()), Arc::new(Semaphore::new(READERS)));
        let closed = life.stopping().child_token();
        Self(Arc::new(Shared { boot, journals, news, places, closed }))
    }

    /// The journals with everything in them that somebody may know of. Held for map operations only, never across an await.
    fn journals(&self) -> MutexGuard<'_, Journals> {
        let mut journals = self.0.journals.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(heard) = journals.hearing.as_mut().and_then(Hearing::heard) {
            match heard {
                Heard::Change(change) => self.note(&mut journals, &change),
                Heard::Missed(missed) => {
                    tracing::warn!(missed, "the feed of session changes missed {missed}; its readers start anew");
                    self.lose(&mut journals);
                }
            }
        }
        journals
    }

    fn news(&self, space: &str) -> &Notify {
        &self.0.news[crc32fast::hash(space.as_bytes()) as usize % GROUPS]
    }

    /// The present end of the feed.
    pub fn end(&self) -> Position {
        self.at(self.journals().latest)
    }

    /// The position of the event with that number.
    pub fn at(&self, number: u64) -> Position {
        Position { boot: self.0.boot.clone(), number }
    }

    /// Follows the space from `position` on; None when there are as many readers as may be.
    pub fn read(&self, space: &str, position: Position) -> Option<Reader> {
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        Some(Reader { feed: self.clone(), space: space.to_owned(), position, _place: place })
    }

    /// Ends all readers, for a stop that must not wait for those who would read for ever.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// What lies behind `position`, which moves to its end.
    fn behind(&self, space: &str, position: &mut Position, limit: usize) -> Behind {
        let journals = self.journals();
        let journal = journals.by_space.get(space);
        let forgotten = journal.map_or(journals.forgotten, |journal| journal.forgotten);
        if position.boot != self.0.boot || !(forgotten..=journals.latest).contains(&position.number) {
            *position = self.at(journals.latest);
            return Behind::Lost;
        }
        let behind = journal.into_iter().flat_map(|journal| &journal.events);
        let behind = behind.skip_while(|event| event.number <= position.number);
        let events: Vec<_> = behind.take(limit).cloned().collect();
        position.number = events.last().filter(|_| events.len() == limit).map_or(journals.latest, |last| last.number);
        Behind::Events(events)
    }

    fn note(&self, journals: &mut Journals, change: &Change) {
        let Some((space, id)) = change.key.id().split_once('/') else { return };
        let (happened, version) = match change.kind {
            ChangeKind::Put { version, created: true } => (Happened::Created, version),
            ChangeKind::Put { version, created: false } => (Happened::Changed, version),
            ChangeKind::Deleted { version } => (Happened::Deleted, version),
            ChangeKind::Expired { version } => (Happened::Expired, version),
        };
        journals.note(space, id, happened, version);
        self.news(space).notify_waiters();
    }

    /// Something was missed, nobody knows in which space.
    fn lose(&self, journals: &mut Journals) {
        journals.latest += 1;
        journals.forgotten = journals.latest;
        journals.by_space.clear();
        self.0.news.iter().for_each(Notify::notify_waiters);
    }
}

impl Journals {
    fn note(&mut self, space: &str, id: &str, happened: Happened, version: u64) {
        self.latest += 1;
        if self.by_space.len() >= SPACES && !self.by_space.contains_key(space) {
            self.forget_quietest();
        }
        let journal = match self.by_space.get_mut(space) {
            Some(journal) => journal,
            None => {
                let fresh = Journal { events: VecDeque::new(), forgotten: self.forgotten };
                self.by_space.entry(space.to_owned()).or_insert(fresh)
            }
        };
        journal.events.push_back(Event { number: self.latest, id: id.to_owned(), happened, version });
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
        let Self { feed, space, position, .. } = self;
        loop {
            let mut news = pin!(feed.news(space).notified());
            // Before the look, so that what comes between the look and the wait is heard.
            news.as_mut().enable();
            match feed.behind(space, position, limit) {
                Behind::Events(events) if events.is_empty() => {}
                behind => return Some(behind),
            }
            tokio::select! {
                () = feed.0.closed.cancelled() => return None,
                () = news => {}
            }
        }
    }

    /// Where it stands.
    pub fn position(&self) -> &Position {
        &self.position
    }
}

/// A feed of the changes in `store`, which wakes its readers until the process stops.
pub(super) fn start(boot: String, store: &Store, life: &Lifecycle) -> Feed {
    let hearing = store.hearing::<SessionRecord>();
    let (mut bell, stop) = (hearing.bell(), life.stopping());
    let feed = Feed::new(boot, Some(hearing), life);
    let ringing = feed.clone();
    life.supervise("session feed", async move {
        while bell.rung(&stop).await {
            drop(ringing.journals());
        }
    });
    feed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_read_and_whoever_leaves_makes_room() {
        let life = Lifecycle::new();
        let feed = Feed::new("0123abcd".to_owned(), None, &life);
        let mut readers: Vec<_> = (0..READERS).map(|_| feed.read("a", feed.end()).unwrap()).collect();
        assert!(feed.read("a", feed.end()).is_none());
        readers.pop();
        assert!(feed.read("a", feed.end()).is_some());
    }

    #[test]
    fn of_many_spaces_the_quietest_are_forgotten_and_their_readers_told() {
        let feed = Feed::new("0123abcd".to_owned(), None, &Lifecycle::new());
        for space in 0..=SPACES {
            feed.journals().note(&space.to_string(), "x", Happened::Created, 1);
        }
        assert_eq!(feed.journals().by_space.len(), SPACES);
        let behind = |space: &str, number: u64| feed.behind(space, &mut feed.at(number), 10);
        assert!(matches!(behind("0", 0), Behind::Lost), "its event is gone");
        assert!(matches!(behind("0", 1), Behind::Events(events) if events.is_empty()), "it had been read");
        assert!(matches!(behind("1", 0), Behind::Events(events) if events[0].number == 2));
        assert!(matches!(behind("1", SPACES as u64 + 2), Behind::Lost), "that is yet to come");
    }
}

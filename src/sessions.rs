//! Sessions for any application: a JSON object under a space and an id, with a version, an expiry and the store's
//! guarantees. What a Redis key was, without its lost updates.
//!
//! Data is the client's: it is kept as the text that came, numbers included, and merged by RFC 7396 without being
//! rounded. Every change is one compare-and-swap. Nothing here knows HTTP, or what an application means by its data.

mod feed;
mod record;

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::clock::{Clock, Time};
use crate::config;
use crate::document;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::store::{Census, Crowded, Decision, Expires, MAX_PAYLOAD, Place, Store, StoreError, Stored};
pub use feed::{Behind, Event, Feed, Happened, InvalidPosition, Position, READERS, Reader};
pub use record::{KINDS, SessionRecord};

/// The longest id in bytes.
pub const MAX_ID: usize = 256;
/// Records on a page of a list at most.
pub const MAX_PAGE: usize = 500;
/// Bytes of records after which a page ends earlier.
const PAGE_BYTES: usize = 1024 * 1024;

/// The sessions of all applications; clones share them.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    random: Random,
    limits: Quotas,
    census: Census<SessionRecord>,
    feed: Feed,
}

/// What applications may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// The life of a session whose creator names none.
    pub ttl: Duration,
    /// The longest that one may be given.
    pub max_ttl: Duration,
    /// Live sessions in one space.
    pub max_records: u64,
    /// Spaces in use at once.
    pub max_spaces: usize,
}

/// A session as it stands.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id within the space.
    pub id: String,
    /// Grows by one with every change.
    pub version: u64,
    /// The client's object, as text.
    pub data: Box<RawValue>,
    /// How long it lives after a touch.
    pub ttl: Duration,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed; a touch is a change.
    pub updated_at: Time,
    /// From this millisecond on it is gone.
    pub expires_at: Time,
}

/// Why a session could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is none of that id, or it has expired.
    #[error("no session of that id is in the space")]
    Missing,
    /// It is not at a version that the caller allows.
    #[error("the session has changed since the version that this request names")]
    Changed,
    /// The name of the space cannot be one.
    #[error("a space is 1 to 64 of a-z, 0-9, \"_\" and \"-\", and starts with a letter or a digit")]
    Space,
    /// The id cannot be one.
    #[error("an id has 1 to {MAX_ID} bytes, no \"/\" and no control characters, and is neither \".\" nor \"..\"")]
    Id,
    /// The data is no JSON object.
    #[error("data must be a JSON object")]
    Data,
    /// The life is shorter than a millisecond or longer than allowed.
    #[error("ttl is between 1ms and {}, which is sessions.max_ttl", config::duration::show(*.0))]
    Ttl(Duration),
    /// The record would be larger than one may be.
    #[error("the session would take {length} bytes, a record holds {MAX_PAYLOAD}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// The space has as many sessions as it may.
    #[error("the space holds {0} sessions, as many as sessions.max_records allows")]
    SpaceFull(u64),
    /// There are as many spaces as there may be.
    #[error("{0} spaces are in use, as many as sessions.max_spaces allows")]
    TooManySpaces(usize),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge { length, .. } => Self::TooLarge { length },
            other => Self::Store(other),
        }
    }
}

/// What a caller wants written.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The data; None leaves what is there.
    pub data: Option<&'a RawValue>,
    /// How long it shall live; None: as it did, or [`Quotas::ttl`].
    pub ttl: Option<Duration>,
}

/// Which versions a change is allowed at; it is shown None where there is no session.
pub trait Allows: Fn(Option<u64>) -> bool {}
impl<F: Fn(Option<u64>) -> bool> Allows for F {}

/// How a change treats the data that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Replace,
    /// As `Replace`, or makes it: a place for it has been taken.
    Make,
    Merge,
    Touch,
}

impl Sessions {
    /// Sessions in `store`; the feed of their changes runs until `life` ends.
    pub fn start(store: Store, clock: Clock, random: Random, limits: Quotas, life: &Lifecycle) -> Self {
        let boot = random.session_id()[..8].to_owned();
        let census = Census::new(store.clone(), clock.clone(), limits.max_spaces);
        let feed = feed::start(boot, &store, life);
        Self(Arc::new(Inner { store, clock, random, limits, census, feed }))
    }

    /// Makes a session under a new id.
    ///
    /// # Errors
    /// [`SessionError`], but neither `Missing` nor `Changed`.
    pub async fn create(&self, space: &str, wish: Wish<'_>) -> Result<Session, SessionError> {
        let id = self.0.random.session_id();
        self.replace(space, &id, |version| version.is_none(), wish).await.map(|(session, _)| session)
    }

    /// The session, unless it is absent or expired.
    ///
    /// # Errors
    /// [`SessionError::Space`], [`SessionError::Id`], or a failing store.
    pub async fn get(&self, space: &str, id: &str) -> Result<Option<Session>, SessionError> {
        let stored = self.0.store.read::<SessionRecord>(&key(space, id)?).await?;
        Ok(stored.map(|stored| Session::new(id, stored, None)))
    }

    /// Puts `wish` in the place of what was there, or makes the session; its life begins anew. True: it was made.
    ///
    /// # Errors
    /// [`SessionError`], but not `Missing`.
    pub async fn replace(
        &self,
        space: &str,
        id: &str,
        allowed: impl Allows,
        wish: Wish<'_>,
    ) -> Result<(Session, bool), SessionError> {
        let key = key(space, id)?;
        match self.change(&key, id, &allowed, wish, Change::Replace).await {
            Err(SessionError::Missing) => {
                let place = self.place(space).await?;
                let made = self.change(&key, id, &allowed, wish, Change::Make).await;
                // After a failure of the store nobody knows.
                if !matches!(made, Ok((_, true)) | Err(SessionError::Store(_))) {
                    place.give_back();
                }
                made
            }
            replaced => replaced,
        }
    }

    async fn place(&self, space: &str) -> Result<Place, SessionError> {
        let Quotas { max_records, max_spaces, .. } = self.0.limits;
        self.0.census.reserve(space, max_records).await.map_err(|crowded| match crowded {
            Crowded::Space => SessionError::SpaceFull(max_records),
            Crowded::Spaces => SessionError::TooManySpaces(max_spaces),
            Crowded::Store(error) => error.into(),
        })
    }

    /// Merges `wish.data` into the data (RFC 7396). Its end stays where it was unless `wish.ttl` moves it.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn merge(
        &self,
        space: &str,
        id: &str,
        allowed: impl Allows,
        wish: Wish<'_>,
    ) -> Result<Session, SessionError> {
        self.change(&key(space, id)?, id, allowed, wish, Change::Merge).await.map(|(session, _)| session)
    }

    /// Lets its life begin anew, with another length if `ttl` says so.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn touch(
        &self,
        space: &str,
        id: &str,
        allowed: impl Allows,
        ttl: Option<Duration>,
    ) -> Result<Session, SessionError> {
        let wish = Wish { data: None, ttl };
        self.change(&key(space, id)?, id, allowed, wish, Change::Touch).await.map(|(session, _)| session)
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`SessionError::Missing`], [`SessionError::Changed`] and those of [`Sessions::get`].
    pub async fn delete(&self, space: &str, id: &str, allowed: impl Allows) -> Result<(), SessionError> {
        let delete = |old: Option<&Stored<SessionRecord>>| match old {
            None => Decision::Keep(Err(SessionError::Missing)),
            Some(old) if !allowed(Some(old.version)) => Decision::Keep(Err(SessionError::Changed)),
            Some(_) => Decision::Delete(Ok(())),
        };
        let (key, removal) = (key(space, id)?, self.0.census.removal(space));
        self.0.store.update::<SessionRecord, _>(&key, delete).await?.answer?;
        removal.done();
        Ok(())
    }

    /// Up to `limit` live sessions of the space in the order of their ids, after the id `after`, and the id to go on
    /// after when there may be more. Fewer than `limit` when they are large: a page ends at about a megabyte.
    ///
    /// # Errors
    /// As [`Sessions::get`].
    pub async fn list(
        &self,
        space: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Session>, Option<String>), SessionError> {
        let prefix = prefix(space)?;
        let after = after.map(|id| key(space, id)).transpose()?;
        let limit = limit.clamp(1, MAX_PAGE);
        let listed = self.0.store.list_within::<SessionRecord>(&prefix, after.as_deref(), limit, PAGE_BYTES);
        let (page, more) = listed.await?;
        let sessions = page.into_iter().map(|(key, stored)| Session::new(&key[prefix.len()..], stored, None));
        let sessions = sessions.collect::<Vec<_>>();
        let next = sessions.last().filter(|_| more).map(|last| last.id.clone());
        Ok((sessions, next))
    }

    /// What changes in the spaces.
    pub fn feed(&self) -> &Feed {
        &self.0.feed
    }

    async fn change(
        &self,
        key: &str,
        id: &str,
        allowed: impl Allows,
        wish: Wish<'_>,
        change: Change,
    ) -> Result<(Session, bool), SessionError> {
        if wish.data.is_some_and(|data| !data.get().starts_with('{')) {
            return Err(SessionError::Data);
        }
        let longest = self.0.limits.max_ttl;
        if wish.ttl.is_some_and(|ttl| ttl < Duration::from_millis(1) || ttl > longest) {
            return Err(SessionError::Ttl(longest));
        }
        let decide = |old: Option<&Stored<SessionRecord>>| {
            let puts = matches!(change, Change::Replace | Change::Make);
            if (old.is_some() || puts) && !allowed(old.map(|old| old.version)) {
                return Decision::Keep(Err(SessionError::Changed));
            }
            if old.is_none() && change != Change::Make {
                return Decision::Keep(Err(SessionError::Missing));
            }
            match next(old, wish, change, &self.0.limits, self.0.clock.now()) {
                Some((record, expires)) => Decision::Put(record, Expires::At(expires), Ok(old.is_none())),
                None => Decision::Keep(Err(SessionError::Data)),
            }
        };
        let updated = self.0.store.update::<SessionRecord, _>(key, decide).await?;
        let made = updated.answer?;
        let stored = updated.record.ok_or(SessionError::Missing)?;
        // What was put as it came needs no second look to be known as JSON.
        let data = wish.data.filter(|_| matches!(change, Change::Replace | Change::Make));
        Ok((Session::new(id, stored, data.map(ToOwned::to_owned)), made))
    }
}

/// The record that a change makes of the old one, and its end; None for data that is not JSON.
fn next(
    old: Option<&Stored<SessionRecord>>,
    wish: Wish<'_>,
    change: Change,
    limits: &Quotas,
    now: Time,
) -> Option<(SessionRecord, Time)> {
    let before = old.map(|old| old.value.data.as_str());
    let data = match (change, wish.data) {
        (Change::Merge, Some(patch)) => document::merge(before, patch)?,
        (_, Some(data)) => data.get().to_owned(),
        (_, None) => before.unwrap_or("{}").to_owned(),
    };
    // An old one may come from a time when longer ones were allowed.
    let ttl = wish.ttl.or(old.map(|old| old.value.ttl())).unwrap_or(limits.ttl).min(limits.max_ttl);
    let end = match (change, wish.ttl, old.and_then(|old| old.expires)) {
        (Change::Merge, None, Some(end)) => end,
        _ => now + ttl,
    };
    let created_at = old.map_or(now, |old| old.value.created_at);
    Some((SessionRecord::new(data, ttl, created_at, now), end))
}

impl Session {
    /// What is stored under `id`; `data` when it is at hand as JSON already.
    fn new(id: &str, stored: Stored<SessionRecord>, data: Option<Box<RawValue>>) -> Self {
        let Stored { version, expires, value } = stored;
        let ttl = value.ttl();
        let (created_at, updated_at) = (value.created_at, value.updated_at);
        // Written only after it was read as JSON, and guarded by the record's checksum since.
        let read = || RawValue::from_string(value.data).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let data = data.unwrap_or_else(read);
        let expires_at = expires.unwrap_or(updated_at + ttl);
        Self { id: id.to_owned(), version, data, ttl, created_at, updated_at, expires_at }
    }
}

fn prefix(space: &str) -> Result<String, SessionError> {
    if config::is_name(space) { Ok([space, "/"].concat()) } else { Err(SessionError::Space) }
}

fn key(space: &str, id: &str) -> Result<String, SessionError> {
    let plain = !id.contains('/') && !id.chars().any(char::is_control);
    // Clients that follow the URL standard never send the last two as they are.
    let fits = plain && (1..=MAX_ID).contains(&id.len()) && id != "." && id != "..";
    match (config::is_name(space), fits) {
        (true, true) => Ok([space, "/", id].concat()),
        (true, false) => Err(SessionError::Id),
        (false, _) => Err(SessionError::Space),
    }
}

//! How many sessions each space holds, for its quota. A number here is never below the truth: whoever makes a record takes
//! its place first, and gives it back only when nothing was made for sure. What expires is not followed; when a space seems
//! full, its live records are counted before anybody is refused. Counts this process's store; it writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Quotas, SessionError, SessionRecord, prefix};
use crate::clock::{Clock, Time};
use crate::store::Store;

/// A count that took a second is repeated ten seconds later at the earliest: whoever knocks at a full space must not keep
/// the machine busy.
const REST: u32 = 10;

/// The counts; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Census(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    spaces: Mutex<Spaces>,
    /// One counts at a time; spaces are entered by its holder only.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Spaces {
    /// When the spaces in the store may be looked up again; None before the first time.
    again_from: Option<Time>,
    counts: BTreeMap<String, Count>,
}

/// What is known about a space.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Records in the store at most; None before they were counted.
    records: Option<u64>,
    /// Places taken for records that are being made.
    taken: u64,
    /// Records made since the start.
    made: u64,
    /// Grows when a count begins and when it ends.
    era: u64,
    /// When its records may be counted again.
    again_from: Time,
}

/// A place for a record that is about to be made. Dropped, also by a maker that was called off half-way, it counts as made.
#[derive(Debug)]
pub(super) struct Place {
    census: Census,
    space: String,
    unused: bool,
}

/// A removal under way.
#[derive(Debug)]
pub(super) struct Removal<'a> {
    census: &'a Census,
    space: &'a str,
    era: Option<u64>,
}

impl Census {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        let (spaces, counting) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Shared { store, clock, spaces, counting }))
    }

    // Held for map operations only, never across an await.
    fn spaces(&self) -> MutexGuard<'_, Spaces> {
        self.0.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place in the space.
    ///
    /// # Errors
    /// [`SessionError::SpaceFull`], [`SessionError::TooManySpaces`], or a failing store.
    pub(super) async fn reserve(&self, space: &str, limits: &Quotas) -> Result<Place, SessionError> {
        if let Some(place) = self.take(space, limits) {
            return Ok(place);
        }
        let _alone = self.0.counting.lock().await;
        if let Some(place) = self.take(space, limits) {
            return Ok(place);
        }
        self.enter(space, limits).await?;
        self.count(space).await?;
        self.take(space, limits).ok_or(SessionError::SpaceFull(limits.max_records))
    }

    /// A place if the space was counted and is not full.
    fn take(&self, space: &str, limits: &Quotas) -> Option<Place> {
        let mut spaces = self.spaces();
        let count = spaces.counts.get_mut(space)?;
        if count.records? + count.taken >= limits.max_records {
            return None;
        }
        count.taken += 1;
        Some(Place { census: self.clone(), space: space.to_owned(), unused: false })
    }

    /// Makes the space one of those in use.
    async fn enter(&self, space: &str, limits: &Quotas) -> Result<(), SessionError> {
        let full = |spaces: &Spaces| !spaces.counts.contains_key(space) && spaces.counts.len() >= limits.max_spaces;
        let look = {
            let spaces = self.spaces();
            spaces.again_from.is_none_or(|from| full(&spaces) && from <= self.0.clock.now())
        };
        if look {
            self.look().await?;
        }
        let mut spaces = self.spaces();
        if full(&spaces) {
            return Err(SessionError::TooManySpaces(limits.max_spaces));
        }
        spaces.counts.entry(space.to_owned()).or_default();
        Ok(())
    }

    /// Finds the spaces that have live records, from one space's first record to the next space's.
    async fn look(&self) -> Result<(), SessionError> {
        let (began, before) = (self.0.clock.now(), self.spaces().counts.clone());
        let (mut found, mut after) = (BTreeSet::new(), None);
        while let Some(key) = self.0.store.next_id::<SessionRecord>(after.as_deref()).await? {
            let space = key.split('/').next().unwrap_or_default();
            // The character after "/", so behind all ids of this space and before those of any other.
            after = Some(format!("{space}0"));
            found.insert(space.to_owned());
        }
        let mut spaces = self.spaces();
        let unused = |name: &str, count: &Count| {
            let quiet = before.get(name).is_some_and(|before| before.made == count.made);
            quiet && count.taken == 0 && !found.contains(name)
        };
        spaces.counts.retain(|name, count| !unused(name, count));
        for space in found {
            spaces.counts.entry(space).or_default();
        }
        spaces.again_from = Some(self.rested(began));
        Ok(())
    }

    /// Counts the live records of the space, unless that was done a moment ago.
    async fn count(&self, space: &str) -> Result<(), SessionError> {
        let began = self.0.clock.now();
        let made = {
            let mut spaces = self.spaces();
            let Some(count) = spaces.counts.get_mut(space) else { return Ok(()) };
            if count.records.is_some() && began < count.again_from {
                return Ok(());
            }
            count.era += 1;
            count.made
        };
        let counted = self.0.store.count_under::<SessionRecord>(&prefix(space)?).await;
        let again_from = self.rested(began);
        if let Some(count) = self.spaces().counts.get_mut(space) {
            count.era += 1;
            count.again_from = again_from;
            // What was made meanwhile may have been counted or not.
            count.records = counted.as_ref().ok().map(|counted| counted + (count.made - made)).or(count.records);
        }
        Ok(counted.map(|_| ())?)
    }

    fn rested(&self, began: Time) -> Time {
        let now = self.0.clock.now();
        now + now.since(began) * REST
    }

    /// To be asked for before a record of the space is removed.
    pub(super) fn removal<'a>(&'a self, space: &'a str) -> Removal<'a> {
        Removal { census: self, space, era: self.spaces().counts.get(space).map(|count| count.era) }
    }
}

impl Removal<'_> {
    /// The record is gone. When records were counted meanwhile it may have been left out already, and is not subtracted.
    pub(super) fn done(self) {
        let mut spaces = self.census.spaces();
        if let Some(count) = spaces.counts.get_mut(self.space)
            && self.era == Some(count.era)
            && count.era.is_multiple_of(2)
        {
            count.records = count.records.map(|records| records.saturating_sub(1));
        }
    }
}

impl Place {
    /// Nothing was made in it.
    pub(super) fn give_back(mut self) {
        self.unused = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let made = u64::from(!self.unused);
        if let Some(count) = self.census.spaces().counts.get_mut(&self.space) {
            count.taken = count.taken.saturating_sub(1);
            count.made += made;
            count.records = count.records.map(|records| records + made);
        }
    }
}

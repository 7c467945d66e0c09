//! How many live records of one kind each space holds (a space is the part of an id before its "/"), for its quota. A
//! number here is never below the truth: whoever makes a record takes its place first, and gives it back only when nothing
//! was made for sure. What expires is not followed; when a space seems full, its live records are counted before anybody is
//! refused. Counts this process's store; it writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Record, Store, StoreError};
use crate::clock::{Clock, Time};

/// A count that took a second is repeated ten seconds later at the earliest: whoever knocks at a full space must not keep
/// the machine busy.
const REST: u32 = 10;

/// Why a space takes no further record.
#[derive(Debug, thiserror::Error)]
pub enum Crowded {
    /// It holds as many as it may.
    #[error("the space holds as many records as it may")]
    Space,
    /// It would be one more space than there may be.
    #[error("as many spaces are in use as may be")]
    Spaces,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The counts of the records `T`.
#[derive(Debug)]
pub struct Census<T> {
    store: Store,
    clock: Clock,
    spaces: Arc<Mutex<Spaces>>,
    /// One counts at a time; spaces are entered by its holder only.
    counting: tokio::sync::Mutex<()>,
    /// Spaces in use at once.
    most_spaces: usize,
    _of: PhantomData<fn() -> T>,
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
pub struct Place {
    spaces: Arc<Mutex<Spaces>>,
    space: String,
    unused: bool,
}

/// A removal under way.
#[derive(Debug)]
pub struct Removal<'a> {
    spaces: &'a Mutex<Spaces>,
    space: &'a str,
    era: Option<u64>,
}

// Held for map operations only, never across an await.
fn held(spaces: &Mutex<Spaces>) -> MutexGuard<'_, Spaces> {
    spaces.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Record> Census<T> {
    /// Counts in `store`, where at most so many spaces may be in use at once.
    pub fn new(store: Store, clock: Clock, most_spaces: usize) -> Self {
        let (spaces, counting) = (Arc::default(), tokio::sync::Mutex::default());
        Self { store, clock, spaces, counting, most_spaces, _of: PhantomData }
    }

    fn spaces(&self) -> MutexGuard<'_, Spaces> {
        held(&self.spaces)
    }

    /// Takes a place in the space, which may hold `most` records.
    ///
    /// # Errors
    /// [`Crowded`].
    pub async fn reserve(&self, space: &str, most: u64) -> Result<Place, Crowded> {
        if let Some(place) = self.take(space, most) {
            return Ok(place);
        }
        let _alone = self.counting.lock().await;
        if let Some(place) = self.take(space, most) {
            return Ok(place);
        }
        self.enter(space).await?;
        self.count(space).await?;
        self.take(space, most).ok_or(Crowded::Space)
    }

    /// A place if the space was counted and is not full.
    fn take(&self, space: &str, most: u64) -> Option<Place> {
        let mut spaces = self.spaces();
        let count = spaces.counts.get_mut(space)?;
        if count.records? + count.taken >= most {
            return None;
        }
        count.taken += 1;
        Some(Place { spaces: Arc::clone(&self.spaces), space: space.to_owned(), unused: false })
    }

    /// Makes the space one of those in use.
    async fn enter(&self, space: &str) -> Result<(), Crowded> {
        let full = |spaces: &Spaces| !spaces.counts.contains_key(space) && spaces.counts.len() >= self.most_spaces;
        let look = {
            let spaces = self.spaces();
            spaces.again_from.is_none_or(|from| full(&spaces) && from <= self.clock.now())
        };
        if look {
            self.look().await?;
        }
        let mut spaces = self.spaces();
        if full(&spaces) {
            return Err(Crowded::Spaces);
        }
        spaces.counts.entry(space.to_owned()).or_default();
        Ok(())
    }

    /// Finds the spaces that have live records, from one space's first record to the next space's.
    async fn look(&self) -> Result<(), StoreError> {
        let (began, before) = (self.clock.now(), self.spaces().counts.clone());
        let (mut found, mut after) = (BTreeSet::new(), None);
        while let Some(key) = self.store.next_id::<T>(after.as_deref()).await? {
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
    async fn count(&self, space: &str) -> Result<(), StoreError> {
        let began = self.clock.now();
        let made = {
            let mut spaces = self.spaces();
            let Some(count) = spaces.counts.get_mut(space) else { return Ok(()) };
            if count.records.is_some() && began < count.again_from {
                return Ok(());
            }
            count.era += 1;
            count.made
        };
        let counted = self.store.count_under::<T>(&format!("{space}/")).await;
        let again_from = self.rested(began);
        if let Some(count) = self.spaces().counts.get_mut(space) {
            count.era += 1;
            count.again_from = again_from;
            // What was made meanwhile may have been counted or not.
            count.records = counted.as_ref().ok().map(|counted| counted + (count.made - made)).or(count.records);
        }
        counted.map(|_| ())
    }

    fn rested(&self, began: Time) -> Time {
        let now = self.clock.now();
        now + now.since(began) * REST
    }

    /// To be asked for before a record of the space is removed.
    pub fn removal<'a>(&'a self, space: &'a str) -> Removal<'a> {
        Removal { spaces: &self.spaces, space, era: self.spaces().counts.get(space).map(|count| count.era) }
    }
}

impl Removal<'_> {
    /// The record is gone. When records were counted meanwhile it may have been left out already, and is not subtracted.
    pub fn done(self) {
        let mut spaces = held(self.spaces);
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
    pub fn give_back(mut self) {
        self.unused = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let made = u64::from(!self.unused);
        if let Some(count) = held(&self.spaces).counts.get_mut(&self.space) {
            count.taken = count.taken.saturating_sub(1);
            count.made += made;
            count.records = count.records.map(|records| records + made);
        }
    }
}

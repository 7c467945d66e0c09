//! How many sessions each space holds, for its quota. Counted from the store when a space is first written to and again
//! before anybody is refused, so that what was missed can only make the count too high for a moment, never a refusal
//! wrong. Counts live sessions of this process's store; it writes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Quotas, SessionError, SessionRecord, prefix};
use crate::store::{ChangeKind, Store};

/// The counts; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Census(Arc<Mutex<Spaces>>);

#[derive(Debug, Default)]
struct Spaces {
    /// Whether the spaces that were in the store at the start are among them.
    complete: bool,
    counts: BTreeMap<String, Count>,
}

/// What is known about a space.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Records in the store; None before they were counted.
    records: Option<u64>,
    /// Places taken for records that are being made.
    taken: u64,
}

/// A place that was taken for a record that is about to be made, until its making is counted.
#[derive(Debug)]
pub(super) struct Place {
    census: Census,
    space: String,
}

impl Census {
    // Held for map operations only, never across an await.
    fn spaces(&self) -> MutexGuard<'_, Spaces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place in the space.
    ///
    /// # Errors
    /// [`SessionError::SpaceFull`], [`SessionError::TooManySpaces`], or a failing store.
    pub(super) async fn reserve(&self, space: &str, limits: &Quotas, store: &Store) -> Result<Place, SessionError> {
        if let Some(place) = self.take(space, limits.max_records) {
            return Ok(place);
        }
        self.learn_spaces(store).await?;
        let counted = store.count_under::<SessionRecord>(&prefix(space)?).await?;
        {
            let counts = &mut self.spaces().counts;
            counts.retain(|name, count| name == space || count.taken > 0 || count.records != Some(0));
            if !counts.contains_key(space) && counts.len() >= limits.max_spaces {
                return Err(SessionError::TooManySpaces(limits.max_spaces));
            }
            counts.entry(space.to_owned()).or_default().records = Some(counted);
        }
        self.take(space, limits.max_records).ok_or(SessionError::SpaceFull(limits.max_records))
    }

    /// Finds the spaces that the store holds already, once: from one space's records to the next space's first.
    async fn learn_spaces(&self, store: &Store) -> Result<(), SessionError> {
        if self.spaces().complete {
            return Ok(());
        }
        let mut after: Option<String> = None;
        while let Some((key, _)) = store.list_under::<SessionRecord>("", after.as_deref(), 1).await?.pop() {
            let space = key.split('/').next().unwrap_or_default();
            self.spaces().counts.entry(space.to_owned()).or_default();
            after = Some(format!("{space}/{}", char::MAX));
        }
        self.spaces().complete = true;
        Ok(())
    }

    /// A place if the space was counted and is not full.
    fn take(&self, space: &str, most: u64) -> Option<Place> {
        let mut spaces = self.spaces();
        let count = spaces.counts.get_mut(space)?;
        if count.records? + count.taken >= most {
            return None;
        }
        count.taken += 1;
        Some(Place { census: self.clone(), space: space.to_owned() })
    }

    /// Changes were missed: every space is counted anew when it is next written to.
    pub(super) fn forget(&self) {
        self.spaces().counts.values_mut().for_each(|count| count.records = None);
    }

    /// Follows a change that was made.
    pub(super) fn follow(&self, space: &str, kind: ChangeKind) {
        let mut spaces = self.spaces();
        let Some(records) = spaces.counts.get_mut(space).and_then(|count| count.records.as_mut()) else { return };
        match kind {
            ChangeKind::Put { created: true, .. } => *records += 1,
            ChangeKind::Put { .. } => {}
            ChangeKind::Deleted { .. } | ChangeKind::Expired { .. } => *records = records.saturating_sub(1),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = self.census.spaces().counts.get_mut(&self.space) {
            count.taken = count.taken.saturating_sub(1);
        }
    }
}

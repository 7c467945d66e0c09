//! Changing a record: the one way.

use super::engine::{Change, ChangeKind, Swap, Table};
use super::expiry;
use super::record::{self, Record, Stored};
use super::{Key, Store, StoreError};
use crate::clock::Time;

/// A swap that loses this often against other processes gives up; inside one process the stripe lock prevents losing.
const ATTEMPTS: usize = 64;

/// What a closure decided about the record it was shown.
#[derive(Clone, Debug)]
pub enum Decision<T, R> {
    /// Store this value; answer `R`.
    Put(T, Expires, R),
    /// Remove the record; answer `R`.
    Delete(R),
    /// Leave everything as it is; answer `R`.
    Keep(R),
}

/// When the new value expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// Never.
    Never,
    /// At this moment.
    At(Time),
    /// When the old value would have; a new record never.
    Unchanged,
}

/// What an update left behind.
#[derive(Clone, Debug)]
pub struct Updated<T, R> {
    /// The record as it now stands; None: it does not exist.
    pub record: Option<Stored<T>>,
    /// What the deciding closure answered.
    pub answer: R,
}

impl Store {
    /// Changes the record `id` in one atomic step and waits until the change is durable.
    ///
    /// `decide` is shown the live record (None: absent or expired) and may run again when somebody else was faster, so it
    /// must be pure: no side effects, all of what it wants to say in its answer.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::Full`] and [`StoreError::Key`] before anything happened; [`StoreError::Damaged`] or
    /// [`StoreError::Newer`] when the old record cannot be read; [`StoreError::Engine`] when the disk failed, in which
    /// case the change may or may not be there after a restart.
    pub async fn update<T: Record, R>(
        &self,
        id: &str,
        mut decide: impl FnMut(Option<&Stored<T>>) -> Decision<T, R>,
    ) -> Result<Updated<T, R>, StoreError> {
        let key = Key::of::<T>(id)?;
        let (updated, ticket) = {
            let mut last = self.stripe(&key).await;
            self.0.commit.room().await?;
            let (updated, happened) = self.swap(&key, &mut decide)?;
            // What was kept was shown to the closure: it must be on the disk too before somebody acts on the answer.
            if !happened.is_empty() {
                let news = happened.into_iter().map(|kind| Change { key: key.clone(), kind });
                *last = self.0.commit.ticket(news);
            }
            (updated, *last)
        };
        self.0.commit.durable(ticket).await?;
        Ok(updated)
    }

    /// Reads, decides and swaps until the swap holds; tells what happened to the record, nothing when it was kept.
    fn swap<T: Record, R>(
        &self,
        key: &Key,
        decide: &mut impl FnMut(Option<&Stored<T>>) -> Decision<T, R>,
    ) -> Result<(Updated<T, R>, Vec<ChangeKind>), StoreError> {
        for _ in 0..ATTEMPTS {
            let old = self.0.engine.get(Table::Records, key.as_bytes())?;
            let physical = old.as_deref().map(|bytes| record::decode::<T>(key, bytes)).transpose()?;
            let now = self.0.clock.now();
            let live = physical.as_ref().filter(|stored| !stored.expired_at(now));
            let (record, answer) = match decide(live) {
                Decision::Keep(answer) => {
                    return Ok((Updated { record: self.again(live, key)?, answer }, Vec::new()));
                }
                Decision::Delete(answer) if physical.is_none() => {
                    return Ok((Updated { record: None, answer }, Vec::new()));
                }
                Decision::Delete(answer) => (None, answer),
                Decision::Put(value, expires, answer) => {
                    let expires = match expires {
                        Expires::Never => None,
                        Expires::At(moment) => Some(moment),
                        Expires::Unchanged => live.and_then(|stored| stored.expires),
                    };
                    let last = match &physical {
                        Some(stored) => stored.version,
                        None => expiry::version_floor(self, key)?,
                    };
                    (Some(Stored { version: last + 1, expires, value }), answer)
                }
            };
            let new = record.as_ref().map(|record| record::encode(key, record)).transpose()?;
            let ends = physical.as_ref().zip(record.as_ref()).is_some_and(|(old, new)| T::ends(&old.value, &new.value));
            self.0.space.admit(T::URGENT || ends || gives_room(old.as_deref(), new.as_deref()))?;
            let writing = self.0.tally.writing();
            match &record {
                Some(record) => {
                    expiry::index(self, key, physical.as_ref().and_then(|old| old.expires), record.expires)?;
                }
                None => {
                    let version = physical.as_ref().map_or(0, |old| old.version);
                    expiry::raise_version_floor(self, &writing, key, version)?;
                }
            }
            self.0.cutting.keep(key.as_bytes(), old.as_deref());
            let swap =
                self.0.engine.compare_and_swap(Table::Records, key.as_bytes(), old.as_deref(), new.as_deref())?;
            if swap == Swap::Done {
                writing.book(Table::Records, key.as_bytes(), old.as_deref(), new.as_deref());
                let happened = happened(physical.as_ref(), live.is_some(), record.as_ref());
                return Ok((Updated { record, answer }, happened));
            }
        }
        Err(StoreError::Contended { key: key.to_string() })
    }

    /// The record that a closure chose to keep, read anew because the closure only borrowed it.
    fn again<T: Record>(&self, live: Option<&Stored<T>>, key: &Key) -> Result<Option<Stored<T>>, StoreError> {
        match live {
            Some(_) => self.get(key.id()),
            None => Ok(None),
        }
    }
}

/// Whether a change is let through while there is little room, as a deletion is: it leaves at most half of the record. However
/// often that is done to one record, all of it together writes no more than the record took before.
fn gives_room(old: Option<&[u8]>, new: Option<&[u8]>) -> bool {
    new.is_none_or(|new| old.is_some_and(|old| new.len() <= old.len() / 2))
}

/// What a swap did to a record. One that had expired unnoticed ends before its successor begins.
fn happened<T>(physical: Option<&Stored<T>>, was_live: bool, record: Option<&Stored<T>>) -> Vec<ChangeKind> {
    let ended = physical.map(|old| match was_live {
        true if record.is_none() => Some(ChangeKind::Deleted { version: old.version }),
        true => None,
        false => Some(ChangeKind::Expired { version: old.version }),
    });
    let put = record.map(|record| ChangeKind::Put { version: record.version, created: !was_live });
    ended.flatten().into_iter().chain(put).collect()
}

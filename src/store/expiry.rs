//! Expiry: the index of when records end, the sweeper that removes them, and the versions they leave behind.
//!
//! The index is a hint. It is written before the record, so a record that expires always has an entry at or before its
//! end; a touch does not move it, the sweeper does when it finds the record alive. Readers never look at it: they check
//! the record's own expiry.
//!
//! A record made anew must not repeat a version of an earlier one with the same key (a client's stale `If-Match` would
//! match). Before a record goes, its version raises the *floor* of its stripe, and new records start above the floor.
//! 4096 stripes keep that memory bounded; sharing one only makes a first version higher.

use std::time::Duration;

use super::engine::{Batch, Change, ChangeKind, Swap, Table};
use super::record;
use super::tally::Writing;
use super::{Key, STRIPES, Store, StoreError, blocking};
use crate::clock::Time;
use crate::lifecycle::Lifecycle;

const FLOORS: u32 = 4096;
// Keys that share a floor share a lock too: both are remainders of one hash.
const _: () = assert!((FLOORS as usize).is_multiple_of(STRIPES));
/// Records looked at per sweep.
const BATCH: usize = 256;
/// Records removed without a pause: half a millisecond, so that a request never waits long behind them.
const TOGETHER: usize = 16;
const EVERY: Duration = Duration::from_secs(1);
/// When the sweeper comes back to a damaged record, which it cannot judge.
const DAMAGED_AGAIN: Duration = Duration::from_secs(3600);

/// Makes sure that an index entry at or before `new` exists.
pub(super) fn index(store: &Store, key: &Key, old: Option<Time>, new: Option<Time>) -> Result<(), StoreError> {
    let Some(new) = new else { return Ok(()) };
    // An earlier entry already leads the sweeper here; it will move the entry then.
    if old.is_some_and(|old| old <= new) {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.set(Table::Expiry, entry(new, key), Vec::new());
    Ok(store.0.engine.apply(batch)?)
}

/// The version that a new record with this key must exceed.
pub(super) fn version_floor(store: &Store, key: &Key) -> Result<u64, StoreError> {
    let floor = store.0.engine.get(Table::Floors, &stripe(key))?;
    Ok(floor.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes))
}

/// Remembers that `version` of this key has been used, before its record goes.
pub(super) fn raise_version_floor(
    store: &Store,
    writing: &Writing<'_>,
    key: &Key,
    version: u64,
) -> Result<(), StoreError> {
    // Keys of one floor stripe have the same lock in this process, so nobody raises the floor in between; another process
    // on a shared engine may.
    loop {
        let old = store.0.engine.get(Table::Floors, &stripe(key))?;
        let floor = old.clone().and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        if floor >= version {
            return Ok(());
        }
        let new = version.to_le_bytes();
        let swap = store.0.engine.compare_and_swap(Table::Floors, &stripe(key), old.as_deref(), Some(&new))?;
        if swap == Swap::Done {
            writing.book(Table::Floors, &stripe(key), old.as_deref(), Some(&new));
            return Ok(());
        }
    }
}

pub(super) fn start(store: Store, life: &Lifecycle) {
    let stop = life.stopping();
    let pulse = life.heartbeat("store sweeper", Duration::from_secs(60));
    life.supervise("store sweeper", async move {
        loop {
            pulse.beat();
            match store.sweep().await {
                Ok(BATCH..) => tokio::task::yield_now().await,
                Ok(_) => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = store.0.clock.sleep(EVERY) => {}
                    }
                }
                Err(StoreError::Stopped) => return,
                Err(error) => {
                    tracing::error!(%error, "expired records could not be removed: {error}");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = store.0.clock.sleep(EVERY * 10) => {}
                    }
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    });
}

/// Looks at up to [`BATCH`] index entries that are due; returns how many it looked at.
pub(super) async fn sweep(store: &Store) -> Result<usize, StoreError> {
    // No record comes back by that: readers look at its expiry themselves.
    if store.0.space.admit(true).is_err() {
        return Ok(0);
    }
    let now = store.0.clock.now();
    let this = store.clone();
    let due = blocking(move || {
        let page = this.0.engine.scan(Table::Expiry, &[], &[], BATCH)?;
        Ok(page.into_iter().map(|(entry, _)| entry).take_while(|entry| moment(entry) <= now).collect::<Vec<_>>())
    })
    .await?;
    let looked_at = due.len();
    for (before, entry) in due.into_iter().enumerate() {
        if before % TOGETHER == TOGETHER - 1 {
            tokio::task::yield_now().await;
        }
        remove_if_expired(store, entry, now).await?;
    }
    Ok(looked_at)
}

async fn remove_if_expired(store: &Store, old_entry: Vec<u8>, now: Time) -> Result<(), StoreError> {
    let key = Key::from_bytes(old_entry.get(8..).unwrap_or_default())?;
    let mut last = store.stripe(&key).await;
    store.0.commit.room().await?;
    let mut batch = Batch::default();
    if let Some(bytes) = store.0.engine.get(Table::Records, key.as_bytes())? {
        let expires = match record::open(&key, &bytes) {
            Ok((head, _)) => head.expires.map(|expires| (expires, head.version)),
            // It must not hold up those that come after it.
            Err(error) => {
                tracing::error!(%error, "a record is not swept: {error}");
                batch.set(Table::Expiry, entry(now + DAMAGED_AGAIN, &key), Vec::new());
                None
            }
        };
        match expires {
            Some((expires, version)) if expires <= now => {
                let writing = store.0.tally.writing();
                raise_version_floor(store, &writing, &key, version)?;
                store.0.cutting.keep(key.as_bytes(), Some(&bytes));
                // A lost swap means that another process changed the record: its own index entry leads back here.
                let swap = store.0.engine.compare_and_swap(Table::Records, key.as_bytes(), Some(&bytes), None)?;
                if swap == Swap::Done {
                    writing.book(Table::Records, key.as_bytes(), Some(&bytes), None);
                    let kind = ChangeKind::Expired { version };
                    *last = store.0.commit.ticket([Change { key: key.clone(), kind }]);
                }
            }
            Some((expires, _)) => batch.set(Table::Expiry, entry(expires, &key), Vec::new()),
            None => {}
        }
    }
    batch.remove(Table::Expiry, old_entry);
    store.0.engine.apply(batch)?;
    Ok(())
}

pub(super) fn entry(expires: Time, key: &Key) -> Vec<u8> {
    [&expires.as_millis().to_be_bytes(), key.as_bytes()].concat()
}

/// The moment of an index entry.
pub(super) fn moment(entry: &[u8]) -> Time {
    Time::from_millis(entry.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

/// Which floor is this key's.
pub(super) fn stripe(key: &Key) -> [u8; 4] {
    (key.hash() % FLOORS).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{Decision, Durability, Expires, Record, StoreError};

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Note(u32);

    impl Record for Note {
        const SPACE: &'static str = "note";
        const SCHEMA: u8 = 1;
    }

    #[tokio::test]
    async fn a_damaged_record_is_told_and_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::held(Time::from_millis(1_000_000));
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &Lifecycle::new()).unwrap();
        let end = Expires::At(clock.now() + Duration::from_secs(1));
        for id in ["a", "b"] {
            store.update::<Note, _>(id, |_| Decision::Put(Note(1), end, ())).await.unwrap();
        }
        let key = Key::of::<Note>("a").unwrap();
        let whole = store.0.engine.get(Table::Records, key.as_bytes()).unwrap().unwrap();
        let mut flipped = whole.clone();
        flipped[23] ^= 1;
        let swap = store.0.engine.compare_and_swap(Table::Records, key.as_bytes(), Some(&whole), Some(&flipped));
        assert_eq!(swap.unwrap(), Swap::Done);

        let damaged = |error: &StoreError| error.is_damage() && error.to_string().contains("record note/a is damaged");
        assert!(damaged(&store.get::<Note>("a").unwrap_err()));
        let changed = store.update::<Note, _>("a", |_| Decision::Put(Note(2), end, ())).await.unwrap_err();
        assert!(damaged(&changed) && store.get::<Note>("b").unwrap().is_some());
        clock.advance(Duration::from_secs(1));
        while store.sweep().await.unwrap() > 0 {}
        let left = store.0.engine.scan(Table::Records, &[], &[], 10).unwrap();
        assert_eq!(left, [(key.as_bytes().to_vec(), flipped)], "the one behind it is swept");
    }
}

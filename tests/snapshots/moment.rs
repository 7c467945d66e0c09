//! The cut is one moment: whatever follows from something is in the snapshot only with that from which it follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nightporter::clock::Clock;
use nightporter::store::snapshot::{Existing, SnapshotError, restore_into};
use nightporter::store::{Expires, Store};

use super::shelf::{Count, Shelf, put};

const WRITERS: usize = 12;
const FILLING: u64 = 1500;
const SNAPSHOTS: usize = 4;

/// What all writers have done so far, and whether they shall stop.
#[derive(Default)]
struct Work {
    done: AtomicU64,
    stop: AtomicBool,
}

/// Counts up in one record, and when that is acknowledged in another. The names of half of the pairs sort the other way.
async fn cause_and_effect(store: Store, work: Arc<Work>, writer: usize) {
    let (cause, effect) = pair(writer);
    for count in 1.. {
        put(&store, &cause, count, Expires::Never).await;
        put(&store, &effect, count, Expires::Never).await;
        work.done.fetch_add(1, Ordering::Relaxed);
        if work.stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn pair(writer: usize) -> (String, String) {
    let (first, last) = (format!("a/{writer}"), format!("z/{writer}"));
    if writer.is_multiple_of(2) { (first, last) } else { (last, first) }
}

/// Makes records all over the store and says how many in one at the beginning; removes them and says so at the end.
async fn coming_and_going(store: Store, work: Arc<Work>) {
    for count in 1.. {
        let id = format!("m/{:04}/{count}", count * 7919 % FILLING);
        put(&store, &id, count, Expires::Never).await;
        put(&store, "b/made", count, Expires::Never).await;
        if let Some(old) = count.checked_sub(20).filter(|old| *old > 0) {
            let id = format!("m/{:04}/{old}", old * 7919 % FILLING);
            put(&store, "y/removing", old, Expires::Never).await;
            let remove = |_: Option<&_>| nightporter::store::Decision::<Count, _>::Delete(());
            store.update(&id, remove).await.unwrap();
        }
        if work.stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Takes a snapshot and sees to it that the writers go on between its pieces.
async fn taken(store: &Store, work: &Work) -> Vec<u8> {
    let mut snapshot = store.snapshot().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = snapshot.chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
        let seen = work.done.load(Ordering::Relaxed);
        while work.done.load(Ordering::Relaxed) < seen + 2 * WRITERS as u64 {
            tokio::task::yield_now().await;
        }
    }
    bytes
}

fn check(counts: &BTreeMap<String, u64>, snapshot: usize) {
    let count = |id: &str| counts.get(id).copied().unwrap_or_default();
    for writer in 0..WRITERS {
        let (cause, effect) = pair(writer);
        let (before, after) = (count(&cause), count(&effect));
        assert!(after <= before && before <= after + 1, "snapshot {snapshot}: {cause} {before}, {effect} {after}");
    }
    let (made, removing) = (count("b/made"), count("y/removing"));
    for number in 1..=made + 1 {
        let id = format!("m/{:04}/{number}", number * 7919 % FILLING);
        if counts.contains_key(&id) {
            assert!(number + 1 >= removing, "snapshot {snapshot}: {id} was removed before {removing} was announced");
        } else {
            let gone = number <= removing || number == made + 1;
            assert!(gone, "snapshot {snapshot}: {id} is missing; {made} were made, {removing} removed");
        }
    }
    let filling = counts.keys().filter(|id| id.starts_with("f/")).count() as u64;
    assert_eq!(filling, FILLING);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_is_one_moment_of_a_store_that_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open_at(&dir.path().join("store"), Clock::system());
    // Enough for many pages, so that the scan is overtaken by writers again and again.
    let fill = (0..FILLING).map(|n| {
        let store = shelf.store.clone();
        async move { put(&store, &format!("f/{n:04}"), n, Expires::Never).await }
    });
    futures_util::future::join_all(fill).await;
    let work = Arc::new(Work::default());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(cause_and_effect(shelf.store.clone(), work.clone(), writer));
    }
    writers.spawn(coming_and_going(shelf.store.clone(), work.clone()));
    let mut taken_ones = Vec::new();
    for _ in 0..SNAPSHOTS {
        taken_ones.push(taken(&shelf.store, &work).await);
    }
    work.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    shelf.close().await;
    let mut last = 0;
    for (number, bytes) in taken_ones.iter().enumerate() {
        let (file, store) = (dir.path().join(format!("{number}.snapshot")), dir.path().join(format!("store-{number}")));
        std::fs::write(&file, bytes).unwrap();
        let now = Clock::system().now();
        let restored = restore_into(&file, &store, Existing::Refuse(now), &mut |_| true).unwrap();
        let shelf = Shelf::open(&store);
        let counts = shelf.store.list::<Count>(None, usize::MAX).await.unwrap();
        assert_eq!(restored.manifest.records, counts.len() as u64);
        let counts: BTreeMap<String, u64> = counts.into_iter().map(|(id, count)| (id, count.value.0)).collect();
        check(&counts, number);
        let sum = counts.values().sum();
        assert!(sum > last, "snapshot {number} is older than the one before");
        last = sum;
        shelf.close().await;
    }
}

#[tokio::test]
async fn there_is_one_snapshot_at_a_time_and_one_given_up_frees_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path());
    let first = shelf.store.snapshot().await.unwrap();
    assert!(matches!(shelf.store.snapshot().await, Err(SnapshotError::Busy)));
    drop(first);
    let mut second = shelf.store.snapshot().await.unwrap();
    while second.chunk().await.unwrap().is_some() {}
    assert!(shelf.store.snapshot().await.is_ok(), "a snapshot that is whole holds nothing up");
    drop(second);
    shelf.close().await;
}

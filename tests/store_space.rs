//! A disk that fills up: writes are refused before the database notices, and where somebody else takes the last byte within
//! a flush, everything acknowledged is there when the store is opened again.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightporter::clock::{self, Clock, Time};
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::store::compact::{CompactError, Wishes, compact};
use nightporter::store::snapshot::{self, Existing, Progress, SnapshotError, Stage};
use nightporter::store::space::LEAST_RESERVE;
use nightporter::store::{Decision, Durability, Expires, Record, Settings, Store, StoreError};
use serde::{Deserialize, Serialize};
use small::SmallDisk;

#[path = "disk/small.rs"]
mod small;

const LIMIT: Duration = Duration::from_secs(60);
const NOW: Time = Time::from_millis(1_800_000_000_000);
const WISHES: Wishes = Wishes { keep: false, accept: false, now: NOW };
const WRITERS: u64 = 8;
const KEYS: u32 = 120;

#[derive(Clone, Serialize, Deserialize)]
struct Counter {
    count: u64,
    padding: Vec<u8>,
}

impl Record for Counter {
    const SPACE: &'static str = "counter";
    const SCHEMA: u8 = 1;
}

#[derive(Clone, Serialize, Deserialize)]
struct Urgent(u32);

impl Record for Urgent {
    const SPACE: &'static str = "urgent";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

fn open(disk: &SmallDisk, life: &Lifecycle) -> Store {
    let settings = Settings { reserve: LEAST_RESERVE, ..Durability::Acknowledged.into() };
    Store::open(&disk.path().join("store"), settings, Clock::system(), life).unwrap()
}

async fn count_up(store: &Store, id: &str, padding: usize) -> Result<u64, StoreError> {
    let updated = store.update::<Counter, _>(id, |old| {
        let count = old.map_or(0, |old| old.value.count) + 1;
        Decision::Put(Counter { count, padding: vec![7; padding] }, Expires::Never, ())
    });
    Ok(updated.await?.record.unwrap().version)
}

async fn put_urgent(store: &Store) -> Result<(), StoreError> {
    store.update::<Urgent, _>("told", |_| Decision::Put(Urgent(1), Expires::Never, ())).await.map(|_| ())
}

async fn delete(store: &Store, id: &str) -> Result<(), StoreError> {
    store.update::<Counter, _>(id, |_| Decision::Delete(())).await.map(|_| ())
}

async fn until_low(store: &Store, low: bool) {
    let mut room = store.room();
    clock::within(LIMIT, room.wait_for(|room| room.low == low)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_before_the_disk_is_full_and_go_on_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "64m") else { return };
    let life = Lifecycle::new();
    let store = open(&disk, &life);
    for id in ["a", "b", "c"] {
        assert_eq!(count_up(&store, id, 600).await.unwrap(), 1);
    }
    assert_eq!(count_up(&store, "large", 6000).await.unwrap(), 1);
    disk.leave(LEAST_RESERVE - (1 << 20));
    until_low(&store, true).await;
    assert!(matches!(count_up(&store, "a", 600).await, Err(StoreError::Full { .. })));
    assert_eq!(store.get::<Counter>("a").unwrap().unwrap().version, 1, "a refused change must change nothing");
    put_urgent(&store).await.unwrap();
    delete(&store, "b").await.unwrap();
    assert!(matches!(count_up(&store, "large", 5000).await, Err(StoreError::Full { .. })));
    assert_eq!(count_up(&store, "large", 2000).await.unwrap(), 2, "what gives up half of itself may");

    // The rest goes too: nothing is written, everything is read, and the database has not noticed.
    disk.leave(0);
    let noticed = async {
        while store.room().borrow().free > 0 {
            tokio::task::yield_now().await;
        }
    };
    clock::within(LIMIT, noticed).await.unwrap();
    assert!(matches!(put_urgent(&store).await, Err(StoreError::Full { .. })));
    assert!(matches!(delete(&store, "c").await, Err(StoreError::Full { .. })));
    assert!(store.get::<Counter>("c").unwrap().is_some() && store.get::<Counter>("b").unwrap().is_none());
    let elsewhere = dir.path().join("elsewhere.snapshot");
    assert_eq!(snapshot::save(&store, &elsewhere, false).await.unwrap().records, 4);
    disk.clear();
    until_low(&store, false).await;
    assert_eq!(count_up(&store, "a", 600).await.unwrap(), 2);
    assert!(life.shutdown(LIMIT).await);
    drop(store);
    let store = open(&disk, &Lifecycle::new());
    assert_eq!(store.get::<Counter>("a").unwrap().unwrap().version, 2);
}

/// A closed store with so many records of 60 kB, and a snapshot of it.
async fn keep(disk: &SmallDisk, records: u32, taken: &Path) {
    let life = Lifecycle::new();
    let store = open(disk, &life);
    for id in 0..records {
        count_up(&store, &id.to_string(), 60_000).await.unwrap();
    }
    snapshot::save(&store, taken, false).await.unwrap();
    assert!(life.shutdown(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_database_is_made_where_it_would_meet_the_end_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "128m") else { return };
    let (path, taken) = (disk.path().join("store"), dir.path().join("elsewhere.snapshot"));
    keep(&disk, 200, &taken).await;
    // The second time they find out on the way.
    for left in [LEAST_RESERVE - (1 << 20), LEAST_RESERVE + (4 << 20)] {
        disk.leave(left);
        let (from, to) = (taken.clone(), path.clone());
        let making = tokio::task::spawn_blocking(move || {
            let restored = snapshot::restore_into(&from, &to, Existing::Aside(NOW), &mut |_| true);
            (compact(&to, WISHES, &mut |_| true), restored)
        });
        let (compacted, restored) = clock::within(LIMIT, making).await.expect("it hangs").unwrap();
        assert!(matches!(compacted, Err(CompactError::Store(StoreError::Full { .. }))), "{compacted:?}");
        assert!(matches!(restored, Err(SnapshotError::Store(StoreError::Full { .. }))), "{restored:?}");
        assert!(!path.join(".nightporter-building").exists());
        disk.clear();
    }
    let store = open(&disk, &Lifecycle::new());
    assert_eq!(store.list::<Counter>(None, 500).await.unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_that_meets_the_end_of_the_disk_is_given_up_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "64m") else { return };
    let (path, taken) = (disk.path().join("store"), dir.path().join("elsewhere.snapshot"));
    keep(&disk, 10, &taken).await;
    let small = Arc::new(disk);
    for command in ["compact", "restore"] {
        let (from, to, disk) = (taken.clone(), path.clone(), Arc::clone(&small));
        let making = tokio::task::spawn_blocking(move || {
            // Somebody else takes the last byte after room was looked for.
            let mut watch = |progress: Progress| {
                if progress.stage == Stage::Writing {
                    disk.leave(0);
                }
                true
            };
            match command {
                "compact" => compact(&to, WISHES, &mut watch).unwrap_err().to_string(),
                _ => snapshot::restore_into(&from, &to, Existing::Aside(NOW), &mut watch).unwrap_err().to_string(),
            }
        });
        let error = clock::within(LIMIT, making).await.expect("it hangs").unwrap();
        assert!(error.contains("the disk is full"), "{command}: {error}");
        small.clear();
    }
    let store = open(&small, &Lifecycle::new());
    assert_eq!(store.list::<Counter>(None, 500).await.unwrap().len(), 10);
}

/// The highest acknowledged version of each record.
type Highest = Arc<Mutex<BTreeMap<String, u64>>>;

/// Writes until the store refuses or fails; remembers what was acknowledged.
async fn write(round: u32, store: Store, random: Random, highest: Highest, made: Arc<AtomicU64>) -> bool {
    loop {
        // Ids of this round's own: only a store that grows asks the disk for more.
        let id = format!("{round}-{}", random.below(KEYS));
        match count_up(&store, &id, 200 + random.below(6000) as usize).await {
            Ok(version) => {
                let mut highest = highest.lock().unwrap();
                let highest = highest.entry(id).or_default();
                *highest = version.max(*highest);
                made.fetch_add(1, Ordering::Relaxed);
            }
            Err(StoreError::Full { .. }) => return true,
            Err(StoreError::Engine(_)) => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Fills the disk up under eight writers `rounds` times, at random points and to random depths; tells how often the
/// database itself met the end of the disk.
async fn fill_up(rounds: u32, seed: u64) -> String {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "96m") else { return String::new() };
    let (random, highest) = (Random::seeded(seed), Highest::default());
    let mut met = 0;
    for round in 0..rounds {
        let life = Lifecycle::new();
        let store = open(&disk, &life);
        let (made, refused) = (Arc::new(AtomicU64::new(0)), AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let random = Random::seeded(seed << 32 | u64::from(round) << 8 | writer);
                tokio::spawn(write(round, store.clone(), random, highest.clone(), made.clone()))
            })
            .collect();
        let budget = u64::from(random.below(400));
        clock::within(LIMIT, async {
            while made.load(Ordering::Relaxed) < budget {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        disk.leave(u64::from(random.below(3)) * u64::from(random.below(LEAST_RESERVE as u32 / 2)));
        for writer in writers {
            let orderly = clock::within(LIMIT, writer).await.unwrap().unwrap();
            refused.fetch_or(!orderly, Ordering::Relaxed);
        }
        if refused.load(Ordering::Relaxed) {
            met += 1;
            // What takes the process down, and has the service manager start another.
            let reason = clock::within(LIMIT, life.failed()).await.unwrap();
            assert!(reason.contains("the disk is full"), "{reason}");
        }
        disk.clear();
        life.shutdown(LIMIT).await;
        drop(store);
        let life = Lifecycle::new();
        let store = open(&disk, &life);
        for (id, version) in highest.lock().unwrap().iter() {
            let stored = store.get::<Counter>(id).unwrap().unwrap_or_else(|| panic!("round {round}: {id} is gone"));
            assert!(stored.version >= *version, "round {round}: {id} fell back to {} from {version}", stored.version);
            assert_eq!(stored.version, stored.value.count, "round {round}: {id}");
        }
        life.shutdown(LIMIT).await;
    }
    format!("{rounds} times full (seed {seed}): the database met the end of the disk {met} times, nothing was lost")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_full_disk() {
    println!("{}", fill_up(6, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; `make torture` runs it"]
async fn long_nothing_acknowledged_is_lost_by_a_hundred_full_disks() {
    for seed in 2..7 {
        println!("{}", fill_up(20, seed).await);
    }
}

//! The real update, sweeper and commit thread under shuttle, which decides at every step who goes on: thousands of
//! orders, the same for the same seed, and a failure prints the one that led to it. `make interleavings`.
//!
//! The engine is a map in memory whose every operation is a point at which another task may go on, and which looks after
//! every write whether a crash at just this moment would break a promise. What can be found is what one process does to
//! itself and, with two stores on one engine, what two do to each other; sled's own threads are not explored here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shuttle::future::{block_on, spawn};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Mutex;
use tokio::sync::broadcast;

use crate::clock::{Clock, Time};
use crate::lifecycle::Lifecycle;
use crate::store::engine::{Batch, Change, ChangeKind, Engine, EngineError, Lease, Leases, Pair, Swap, Table};
use crate::store::opening::Opened;
use crate::store::space::Space;
use crate::store::{Decision, Durability, Expires, Key, Record, Store, StoreError, expiry, record, snapshot};

/// Orders explored of each test by each scheduler: in `make test`, and in `make torture`.
const SHORT: usize = 1000;
const LONG: usize = 20_000;
/// Bytes of a task's stack: unoptimised futures are large.
const STACK: usize = 512 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note(u32);

impl Record for Note {
    const SPACE: &'static str = "note";
    const SCHEMA: u8 = 1;
}

type Tables = [BTreeMap<Vec<u8>, Vec<u8>>; 3];

/// An engine in memory that keeps an eye on what it is told to do.
#[derive(Debug)]
struct Memory {
    state: Mutex<State>,
    news: broadcast::Sender<Change>,
    leases: Arc<Leases>,
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    /// How many writes there were.
    written: u64,
    /// What would be found after a power cut, and after how many writes that was.
    durable: Tables,
    safe: u64,
    /// The last version that each key has had.
    versions: BTreeMap<Vec<u8>, u64>,
    told: Vec<Change>,
    /// Flushes after which the disk fails.
    flushes_left: Option<u32>,
}

impl State {
    fn write(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) {
        match value {
            Some(value) => drop(self.tables[table as usize].insert(key.to_vec(), value)),
            None => drop(self.tables[table as usize].remove(key)),
        }
        self.written += 1;
        let of = if table == Table::Expiry { &key[8..] } else { key };
        if table != Table::Floors {
            self.keeps_its_promises(of);
        }
    }

    /// Whatever happens next, `key` is found again by the sweeper, and no version of it comes twice.
    fn keeps_its_promises(&mut self, key: &[u8]) {
        let named = Key::from_bytes(key).unwrap();
        let last = self.versions.entry(key.to_vec()).or_default();
        let Some(bytes) = self.tables[Table::Records as usize].get(key) else {
            let floor = floor(&self.tables, &named);
            assert!(floor >= *last, "{named} is gone at version {last}, and its floor is {floor}");
            return;
        };
        let (head, _) = record::open(&named, bytes).unwrap();
        assert!(head.version >= *last, "{named} has version {} after {last}", head.version);
        *last = head.version;
        if let Some(expires) = head.expires {
            let mut entries = self.tables[Table::Expiry as usize].keys();
            let found = entries.any(|entry| &entry[8..] == key && expiry::moment(entry) <= expires);
            assert!(found, "{named} expires at {expires}, and no entry of the index leads there");
        }
    }
}

/// The version that a key has, or has had before it was removed.
fn reached(tables: &Tables, key: &Key) -> u64 {
    let stored = tables[Table::Records as usize].get(key.as_bytes());
    stored.map_or_else(|| floor(tables, key), |bytes| record::open(key, bytes).unwrap().0.version)
}

fn floor(tables: &Tables, key: &Key) -> u64 {
    let floor = tables[Table::Floors as usize].get(&expiry::stripe(key)[..]);
    floor.map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()))
}

impl Memory {
    fn new() -> Arc<Self> {
        let news = broadcast::channel(64).0;
        Arc::new(Self { state: Mutex::default(), news, leases: Arc::default() })
    }

    /// Fails unless version `version` of `id` would survive a power cut.
    fn has_safe(&self, id: &str, version: u64) {
        let key = Key::of::<Note>(id).unwrap();
        let safe = reached(&self.state.lock().unwrap().durable, &key);
        assert!(safe >= version, "version {version} of {key} was acknowledged, {safe} is on the disk");
    }
}

/// A store on `memory`.
fn open(memory: &Arc<Memory>, clock: &Clock) -> Store {
    let space = Space::new(std::path::Path::new("."), 0);
    let opened = Opened::unseen(memory.clone());
    Store::on(opened, space, Durability::Acknowledged, clock.clone(), &Lifecycle::new()).unwrap()
}

impl Engine for Memory {
    fn note(&self, _: &str, _: &[u8]) -> Result<(), EngineError> {
        Ok(())
    }

    fn noted(&self, _: &str) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(None)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.state.lock().unwrap().tables[table as usize].get(key).cloned())
    }

    fn compare_and_swap(
        &self,
        table: Table,
        key: &[u8],
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap, EngineError> {
        let mut state = self.state.lock().unwrap();
        if state.tables[table as usize].get(key).map(Vec::as_slice) != old {
            return Ok(Swap::Lost);
        }
        state.write(table, key, new.map(<[u8]>::to_vec));
        Ok(Swap::Done)
    }

    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        let state = self.state.lock().unwrap();
        let all = state.tables[table as usize].range(from.max(prefix).to_vec()..);
        let found = all.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        for (table, key, value) in batch.0 {
            self.state.lock().unwrap().write(table, &key, value);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut state = self.state.lock().unwrap();
        if let Some(left) = &mut state.flushes_left {
            *left = left.checked_sub(1).ok_or_else(|| EngineError::Failed("the disk is gone".to_owned()))?;
        }
        let (begun, written) = (state.tables.clone(), state.written);
        drop(state);
        // What is written from here on need not be on the disk at the end, and a slower flush undoes no faster one.
        let mut state = self.state.lock().unwrap();
        if written > state.safe {
            (state.durable, state.safe) = (begun, written);
        }
        Ok(())
    }

    fn publish(&self, change: Change) {
        let (ChangeKind::Put { version, .. } | ChangeKind::Deleted { version } | ChangeKind::Expired { version }) =
            change.kind;
        self.has_safe(change.key.id(), version);
        self.state.lock().unwrap().told.push(change.clone());
        let _ = self.news.send(change);
    }

    fn subscribe(&self, _: &'static str, _: usize) -> broadcast::Receiver<Change> {
        self.news.subscribe()
    }

    fn lease(&self, name: &str) -> Option<Lease> {
        self.leases.take(name)
    }
}

/// A store, and what is behind it.
#[derive(Clone)]
struct Bench {
    memory: Arc<Memory>,
    store: Store,
    clock: Clock,
}

const START: Time = Time::from_millis(1000);

fn after(millis: u64) -> Expires {
    Expires::At(START + Duration::from_millis(millis))
}

impl Bench {
    fn new() -> Self {
        let (memory, clock) = (Memory::new(), Clock::held(START));
        let store = open(&memory, &clock);
        Self { memory, store, clock }
    }

    /// Counts the record up by one; its value is the number of times since it was made.
    async fn count(&self, id: &str, expires: Expires) -> Result<(u64, u32), StoreError> {
        let up = self
            .store
            .update::<Note, _>(id, |old| Decision::Put(Note(old.map_or(0, |old| old.value.0) + 1), expires, ()));
        let record = up.await?.record.unwrap();
        self.memory.has_safe(id, record.version);
        Ok((record.version, record.value.0))
    }

    /// Returns the version that was removed.
    async fn delete(&self, id: &str) -> Option<u64> {
        let delete = self.store.update::<Note, _>(id, |old| Decision::Delete(old.map(|old| old.version)));
        let version = delete.await.unwrap().answer;
        if let Some(version) = version {
            self.memory.has_safe(id, version);
        }
        version
    }

    /// The versions of all records, by id.
    fn versions(&self) -> BTreeMap<String, u64> {
        let state = self.memory.state.lock().unwrap();
        let records = state.tables[Table::Records as usize].iter().map(|(key, bytes)| {
            let key = Key::from_bytes(key).unwrap();
            (key.id().to_owned(), record::open(&key, bytes).unwrap().0.version)
        });
        records.collect()
    }

    async fn sweep(&self) {
        while self.store.sweep().await.unwrap() > 0 {}
    }

    /// No reader is shown a record past its end.
    fn look(&self, id: &str) {
        let before = self.clock.now();
        if let Some(seen) = self.store.get::<Note>(id).unwrap() {
            assert!(!seen.expired_at(before), "{id} was shown after its end");
        }
    }

    /// Ends the store and compares what it has told and left with what was promised.
    fn end(self) {
        let Self { memory, store, .. } = self;
        drop(store);
        let state = memory.state.lock().unwrap();
        // The index is a hint: an entry that was not removed leads the sweeper to nothing.
        for table in [Table::Records, Table::Floors] {
            let (left, safe) = (&state.tables[table as usize], &state.durable[table as usize]);
            assert_eq!(left, safe, "the end of the store leaves some {table:?} off the disk");
        }
        for (key, last) in &state.versions {
            let told = state.told.iter().filter(|change| change.key.as_bytes() == key);
            let versions = told.filter_map(|change| match change.kind {
                ChangeKind::Put { version, .. } => Some(version),
                _ => None,
            });
            assert_eq!(Vec::from_iter(versions), Vec::from_iter(1..=*last), "what was told of {key:?}");
        }
    }
}

/// Explores orders of `test` by chance, and such with few preemptions, which find what takes a certain order.
fn explore(orders: usize, test: fn()) {
    fn run(scheduler: impl Scheduler + 'static, test: fn()) {
        let mut config = shuttle::Config::new();
        config.stack_size = STACK;
        shuttle::Runner::new(scheduler, config).run(test);
    }
    run(RandomScheduler::new_from_seed(7, orders), test);
    run(PctScheduler::new_from_seed(7, 3, orders), test);
}

/// Each of these in its short and its long form.
macro_rules! explored {
    ($($name:ident $long:ident)*) => { $(
        #[test]
        fn $name() {
            explore(SHORT, || block_on(scenes::$name()));
        }

        #[test]
        #[ignore = "takes minutes: make torture"]
        fn $long() {
            explore(LONG, || block_on(scenes::$name()));
            println!("{}: {} orders", stringify!($name), 2 * LONG);
        }
    )* };
}

explored! {
    a_record_that_is_renewed_is_not_swept long_a_record_that_is_renewed_is_not_swept
    versions_go_on_through_deletion_and_expiry long_versions_go_on_through_deletion_and_expiry
    a_group_is_on_the_disk_when_it_is_acknowledged long_a_group_is_on_the_disk_when_it_is_acknowledged
    what_a_list_shows_is_on_the_disk long_what_a_list_shows_is_on_the_disk
    a_failing_disk_acknowledges_nothing long_a_failing_disk_acknowledges_nothing
    a_snapshot_shows_one_moment long_a_snapshot_shows_one_moment
    two_processes_lose_no_change long_two_processes_lose_no_change
}

/// What happens in each.
mod scenes {
    use super::*;

    pub(super) async fn a_record_that_is_renewed_is_not_swept() {
        let bench = Bench::new();
        bench.count("a", after(100)).await.unwrap();
        let renewing = [after(1000), after(300), Expires::Never].map(|expires| {
            let bench = bench.clone();
            spawn(async move { bench.count("a", expires).await.unwrap() })
        });
        let (sweeper, passing) = (bench.clone(), bench.clone());
        let sweeping = spawn(async move {
            passing.clock.advance(Duration::from_millis(100));
            sweeper.sweep().await;
        });
        let mut renewed = Vec::new();
        for task in renewing {
            renewed.push(task.await.unwrap());
        }
        sweeping.await.unwrap();
        let left = bench.store.get::<Note>("a").unwrap().expect("it was renewed after its end");
        let last = renewed.iter().max().unwrap();
        assert_eq!((left.version, left.value.0), *last);
        assert_eq!(left.version, 4);
        bench.end();
    }

    pub(super) async fn versions_go_on_through_deletion_and_expiry() {
        let bench = Bench::new();
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let bench = bench.clone();
                spawn(async move {
                    let mut made = vec![bench.count("a", after(50 * (number + 1))).await.unwrap().0];
                    match number {
                        0 => drop(bench.delete("a").await),
                        1 => bench.sweep().await,
                        2 => bench.clock.advance(Duration::from_millis(120)),
                        _ => bench.look("a"),
                    }
                    made.push(bench.count("a", Expires::Unchanged).await.unwrap().0);
                    bench.look("a");
                    made
                })
            })
            .collect();
        let mut versions = Vec::new();
        for task in tasks {
            versions.extend(task.await.unwrap());
        }
        versions.sort_unstable();
        assert_eq!(versions, Vec::from_iter(1..=8));
        bench.end();
    }

    pub(super) async fn a_group_is_on_the_disk_when_it_is_acknowledged() {
        let bench = Bench::new();
        let tasks: Vec<_> = (0..5)
            .map(|number| {
                let bench = bench.clone();
                spawn(async move {
                    let id = if number % 2 == 0 { "a" } else { "b" };
                    if number == 4 {
                        // A caller that goes away while it waits; whether it has written by then is the scheduler's.
                        let waiting = bench.count(id, Expires::Never);
                        drop(
                            futures_util::future::select(Box::pin(waiting), Box::pin(bench.count("c", after(9)))).await,
                        );
                    } else {
                        bench.count(id, Expires::Never).await.unwrap();
                        bench.count(id, Expires::Never).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        bench.end();
    }

    pub(super) async fn what_a_list_shows_is_on_the_disk() {
        let bench = Bench::new();
        let counting = ["a", "b"].map(|id| {
            let bench = bench.clone();
            spawn(async move {
                for _ in 0..2 {
                    bench.count(id, Expires::Never).await.unwrap();
                }
            })
        });
        for _ in 0..2 {
            for (id, shown) in bench.store.list::<Note>(None, 2).await.unwrap() {
                bench.memory.has_safe(&id, shown.version);
            }
        }
        for task in counting {
            task.await.unwrap();
        }
        bench.end();
    }

    pub(super) async fn a_failing_disk_acknowledges_nothing() {
        let bench = Bench::new();
        bench.memory.state.lock().unwrap().flushes_left = Some(2);
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let bench = bench.clone();
                // What is acknowledged is compared with the disk by `count`.
                spawn(async move {
                    let id = if number % 2 == 0 { "a" } else { "b" };
                    let outcomes = [bench.count(id, Expires::Never).await, bench.count(id, after(9)).await];
                    assert!(!matches!(outcomes, [Err(_), Ok(_)]), "a disk that failed came back");
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(
            bench.count("a", Expires::Never).await.is_err()
                || bench.memory.state.lock().unwrap().flushes_left.is_some()
        );
    }

    pub(super) async fn a_snapshot_shows_one_moment() {
        let bench = Bench::new();
        for id in ["c", "d"] {
            bench.count(id, Expires::Never).await.unwrap();
        }
        bench.count("cc", after(100)).await.unwrap();
        // Each counts one up before the other, in the order of keys and against it, and others come and go between.
        let writers = [("a", "e"), ("e", "b")].map(|(cause, effect)| {
            let bench = bench.clone();
            spawn(async move {
                for id in [cause, effect, cause, effect] {
                    bench.count(id, Expires::Never).await.unwrap();
                }
            })
        });
        let passing = bench.clone();
        let passing = spawn(async move {
            passing.delete("c").await;
            passing.count("bb", Expires::Never).await.unwrap();
            passing.delete("d").await;
            passing.clock.advance(Duration::from_millis(100));
            passing.sweep().await;
        });
        let before = bench.versions();
        let mut snapshot = bench.store.snapshot().await.unwrap();
        let after = bench.versions();
        let mut bytes = Vec::new();
        while let Some(chunk) = snapshot.chunk().await.unwrap() {
            bytes.extend(chunk);
        }
        let shown = shown(&bytes);
        for id in ["a", "b", "bb", "c", "cc", "d", "e"] {
            let version = shown.get(id).copied().unwrap_or(0);
            let gone = ["c", "cc", "d"].contains(&id) && version == 0;
            let least = before.get(id).copied().unwrap_or(0);
            assert!(gone || version >= least, "{id} was at {least} before the snapshot, which shows {version}");
            let most = after.get(id).copied().unwrap_or(0).max(least);
            assert!(version <= most, "{id} was at {most} when the snapshot had begun, which shows {version}");
        }
        let version = |id: &str| shown.get(id).copied().unwrap_or(0);
        // Who counts an effect up has counted its cause up before: `e` is an effect of `a`, and the cause of `b`.
        assert!(version("b") <= version("e"), "an effect without its cause: {shown:?}");
        assert!(version("e") <= version("a") + 2, "an effect without its cause: {shown:?}");
        assert!(version("bb") == 0 || version("c") == 0, "what came after a deletion, and the deleted: {shown:?}");
        assert!(version("d") != 0 || version("bb") != 0, "a deletion without what came before it: {shown:?}");
        assert!(version("cc") != 0 || version("d") == 0, "an end without what came before it: {shown:?}");
        for writer in writers {
            writer.await.unwrap();
        }
        passing.await.unwrap();
        bench.end();
    }

    /// The versions that a snapshot shows, by id.
    fn shown(bytes: &[u8]) -> BTreeMap<String, u64> {
        let mut shown = BTreeMap::new();
        snapshot::each(bytes, |table, key, value| {
            if table == Table::Records {
                let key = Key::from_bytes(key).unwrap();
                shown.insert(key.id().to_owned(), record::open(&key, value).unwrap().0.version);
            }
        });
        shown
    }

    pub(super) async fn two_processes_lose_no_change() {
        let first = Bench::new();
        let (memory, clock) = (first.memory.clone(), first.clock.clone());
        let store = open(&memory, &clock);
        let second = Bench { memory, store, clock };
        first.count("a", after(100)).await.unwrap();
        first.clock.advance(Duration::from_millis(100));
        let tasks = [&first, &second, &first, &second].map(|bench| {
            let bench = bench.clone();
            spawn(async move {
                let (version, _) = bench.count("a", Expires::Never).await.unwrap();
                bench.sweep().await;
                version
            })
        });
        let mut versions = Vec::new();
        for task in tasks {
            versions.push(task.await.unwrap());
        }
        versions.sort_unstable();
        assert_eq!(versions, [2, 3, 4, 5]);
        assert_eq!(first.store.get::<Note>("a").unwrap().map(|note| note.value.0), Some(4));
        drop(second);
        drop(first);
    }
}

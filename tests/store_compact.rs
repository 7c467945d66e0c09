//! A store that churned for months: its files stop growing, and `compact` gives back what they have grown to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::lifecycle::Lifecycle;
use nightporter::store::compact::{CompactError, Compacted, Wishes, compact};
use nightporter::store::engine::EngineError;
use nightporter::store::snapshot::{Progress, Stage};
use nightporter::store::{Decision, Durability, Expires, Record, Store, StoreError};
use serde::{Deserialize, Serialize};

#[path = "strace/kill.rs"]
mod kill;

const STORE: &str = "NIGHTPORTER_TEST_COMPACT_STORE";
const NOW: Time = Time::from_millis(1_800_000_000_000);
const RECORDS: u32 = 1500;
const SIZE: usize = 600;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    turn: u32,
    padding: Vec<u8>,
}

impl Record for Note {
    const SPACE: &'static str = "note";
    const SCHEMA: u8 = 1;
}

struct Open {
    store: Store,
    life: Lifecycle,
}

impl Open {
    fn new(path: &Path) -> Self {
        let life = Lifecycle::new();
        Self { store: Store::open(path, Durability::Interval, Clock::held(NOW), &life).unwrap(), life }
    }

    async fn churn(&self, turn: u32) {
        self.write(turn, RECORDS).await;
    }

    async fn write(&self, turn: u32, records: u32) {
        for id in 0..records {
            let put = |_: Option<&_>| Decision::Put(Note { turn, padding: vec![id as u8; SIZE] }, Expires::Never, ());
            self.store.update::<Note, _>(&id.to_string(), put).await.unwrap();
        }
        self.store.flush().await.unwrap();
    }

    async fn close(self) {
        assert!(self.life.shutdown(Duration::from_secs(60)).await);
        tokio::task::spawn_blocking(move || drop(self.store)).await.unwrap();
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path.join("sled/db")).unwrap().len()
}

fn wishes(keep: bool, accept: bool) -> Wishes {
    Wishes { keep, accept, now: NOW }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_stop_growing_and_a_compaction_gives_back_what_they_hold_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let store = Open::new(dir.path());
    let mut sizes = Vec::new();
    for turn in 0..16 {
        store.churn(turn).await;
        sizes.push(size(dir.path()));
    }
    let deleted = |id: u32| id % 10 != 7;
    for id in (0..RECORDS).filter(|id| deleted(*id)) {
        store.store.update::<Note, _>(&id.to_string(), |_| Decision::Delete(())).await.unwrap();
    }
    let refused = compact(dir.path(), wishes(false, false), &mut |_| true).unwrap_err();
    let in_use = CompactError::Store(StoreError::Engine(EngineError::Failed(String::new())));
    assert_eq!(std::mem::discriminant(&refused), std::mem::discriminant(&in_use));
    assert!(refused.to_string().contains("is in use"), "{refused}");
    store.close().await;

    let live = u64::from(RECORDS) * SIZE as u64;
    println!("{live} live bytes; the file after each turn: {sizes:?}");
    let peak = |sizes: &[u64]| sizes.iter().copied().max().unwrap();
    assert!(peak(&sizes[8..]) <= peak(&sizes[..8]) * 5 / 4, "the file goes on growing: {sizes:?}");

    let mut told = 0;
    let compacted = compact(dir.path(), wishes(false, false), &mut |_| (told += 1, true).1).unwrap();
    let Compacted { records, before, after, ref aside } = compacted;
    println!("{before} bytes before, {after} after");
    assert!(told > 1 && aside.is_none() && after < before / 2, "{compacted:?}");
    assert_eq!(records, u64::from(RECORDS / 10));

    let store = Open::new(dir.path());
    for id in 0..RECORDS {
        let note = store.store.get::<Note>(&id.to_string()).unwrap();
        assert_eq!(note.map(|note| (note.version, note.value.turn)), (!deleted(id)).then_some((16, 15)), "{id}");
    }
    let again = store
        .store
        .update::<Note, _>("0", |_| Decision::Put(Note { turn: 0, padding: Vec::new() }, Expires::Never, ()));
    assert!(again.await.unwrap().record.unwrap().version > 16, "a version must not come back with a compaction");
    store.close().await;
    assert!(!dir.path().join("sled.before-20270115T080000000Z").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_is_broken_off_changes_nothing_and_the_old_database_can_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Open::new(dir.path());
    store.churn(1).await;
    store.close().await;
    for stage in [Stage::Verifying, Stage::Writing, Stage::Comparing] {
        let broken = compact(dir.path(), wishes(false, false), &mut |progress| progress.stage != stage);
        assert!(matches!(broken, Err(CompactError::Interrupted)), "{stage:?}: {broken:?}");
    }
    let store = Open::new(dir.path());
    assert!(store.store.get::<Note>("7").unwrap().is_some());
    store.close().await;
    let kept = compact(dir.path(), wishes(true, false), &mut |_| true).unwrap().aside.unwrap();
    assert!(kept.join("mark").exists() && kept.join("db").exists());

    // Put back, it is as good as before: its mark went with it.
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    fs::rename(&kept, dir.path().join("sled")).unwrap();
    let store = Open::new(dir.path());
    assert!(store.store.get::<Note>("7").unwrap().is_some());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_mark_or_another_ones_is_refused_until_somebody_accepts_it() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for path in [dir.path(), other.path()] {
        let store = Open::new(path);
        store.churn(1).await;
        store.close().await;
    }
    let (mark, foreign) = (dir.path().join("sled/mark"), other.path().join("sled/mark"));
    let own = fs::read(&mark).unwrap();
    let refused = |words: &str| {
        let refused = Store::open(dir.path(), Durability::Interval, Clock::held(NOW), &Lifecycle::new()).unwrap_err();
        assert!(refused.is_damage() && refused.to_string().contains(words), "{refused}");
        let refused = compact(dir.path(), wishes(false, false), &mut |_| true).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
    };
    fs::copy(&foreign, &mark).unwrap();
    refused("its mark is of another database");
    fs::write(&mark, vec![0; own.len()]).unwrap();
    refused("its mark cannot be read");
    fs::remove_file(&mark).unwrap();
    refused("it has records but no mark");
    let mut furthest = 0;
    let accepted = compact(dir.path(), wishes(false, true), &mut |Progress { stage, done, total }| {
        assert!(stage == Stage::Comparing || total == 0, "nobody knows how many there are");
        furthest = furthest.max(done);
        true
    });
    assert_eq!((accepted.unwrap().records, furthest), (u64::from(RECORDS), u64::from(RECORDS)));
    let store = Open::new(dir.path());
    assert!(store.store.get::<Note>("7").unwrap().is_some());
    store.close().await;

    // The old mark does not fit the new database, and an old copy of the database does not fit its mark.
    fs::write(&mark, own).unwrap();
    refused("its mark is of another database");
}

/// The process that is killed.
#[test]
#[ignore = "started and killed by the test below"]
fn compactor() {
    let store = std::env::var_os(STORE).expect("run by the other test");
    compact(Path::new(&store), wishes(false, false), &mut |_| true).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_is_killed_at_any_step_leaves_a_store_with_everything_in_it() {
    const FEW: u32 = 40;
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    for step in 1.. {
        let turn = step as u32;
        let open = Open::new(&store);
        open.write(turn, FEW).await;
        open.close().await;
        let killed = kill::killed_at(step, "compactor", &[(STORE, &store)]);
        let open = Open::new(&store);
        for id in 0..FEW {
            let note = open.store.get::<Note>(&id.to_string()).unwrap();
            let found = note.map(|note| (note.version, note.value.turn));
            assert_eq!(found, Some((u64::from(turn), turn)), "step {step}: {id}");
        }
        open.close().await;
        let left = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| name.starts_with(".nightporter-") || name.starts_with("sled.")).collect();
        assert!(left.is_empty(), "step {step}: {left:?}");
        if !killed {
            assert!(step > 10, "{step}");
            return;
        }
    }
}

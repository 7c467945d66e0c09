//! The store's promises, on a real sled in a temporary directory with the clock held.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::lifecycle::Lifecycle;
use nightporter::store::{ChangeKind, Decision, Durability, Expires, Record, Store, StoreError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note(Vec<String>);

impl Record for Note {
    const SPACE: &'static str = "note";
    const SCHEMA: u8 = 1;
}

struct Bench {
    store: Store,
    clock: Clock,
    life: Lifecycle,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, life) = (Clock::held(Time::from_millis(1_000_000)), Lifecycle::new());
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        Self { store, clock, life, dir }
    }

    async fn reopen(self) -> Self {
        let Self { store, clock, life, dir } = self;
        assert!(life.shutdown(Duration::from_secs(60)).await);
        drop(store);
        let life = Lifecycle::new();
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        Self { store, clock, life, dir }
    }

    async fn put(&self, id: &str, text: &str, expires: Expires) -> u64 {
        let put = self.store.update::<Note, _>(id, |_| Decision::Put(Note(vec![text.to_owned()]), expires, ()));
        put.await.unwrap().record.unwrap().version
    }

    async fn append(&self, id: &str, text: &str) -> u64 {
        let append = self.store.update::<Note, _>(id, |old| {
            let mut note = old.map_or_else(|| Note(Vec::new()), |old| old.value.clone());
            note.0.push(text.to_owned());
            Decision::Put(note, Expires::Unchanged, ())
        });
        append.await.unwrap().record.unwrap().version
    }

    async fn delete(&self, id: &str) {
        self.store.update::<Note, _>(id, |_| Decision::Delete(())).await.unwrap();
    }

    fn get(&self, id: &str) -> Option<(u64, Vec<String>)> {
        self.store.get::<Note>(id).unwrap().map(|note| (note.version, note.value.0))
    }
}

#[tokio::test]
async fn a_record_survives_reopening_with_its_version() {
    let bench = Bench::new();
    assert_eq!(bench.append("a", "하나").await, 1);
    assert_eq!(bench.append("a", "둘").await, 2);
    let bench = bench.reopen().await;
    assert_eq!(bench.get("a"), Some((2, vec!["하나".to_owned(), "둘".to_owned()])));
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_by_many_writers_all_survive() {
    let bench = std::sync::Arc::new(Bench::new());
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let bench = bench.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    bench.append("hot", &format!("{writer}/{n}")).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let (version, mut notes) = bench.get("hot").unwrap();
    assert_eq!(version, 640);
    notes.sort();
    notes.dedup();
    assert_eq!(notes.len(), 640);
}

#[tokio::test]
async fn an_expired_record_is_gone_to_the_millisecond_and_swept() {
    let bench = Bench::new();
    let end = bench.clock.now() + Duration::from_millis(500);
    bench.put("a", "kept for half a second", Expires::At(end)).await;
    bench.clock.advance(Duration::from_millis(499));
    assert!(bench.get("a").is_some());
    assert_eq!(bench.store.list::<Note>(None, 10).await.unwrap().len(), 1);
    bench.clock.advance(Duration::from_millis(1));
    assert!(bench.get("a").is_none());
    assert!(bench.store.list::<Note>(None, 10).await.unwrap().is_empty());
    let seen = bench.store.update::<Note, _>("a", |old| Decision::Keep(old.is_some())).await.unwrap().answer;
    assert!(!seen, "an update must not see an expired record");
}

#[tokio::test]
async fn a_touched_record_is_not_swept_at_its_first_expiry() {
    let bench = Bench::new();
    let start = bench.clock.now();
    bench.put("a", "x", Expires::At(start + Duration::from_millis(100))).await;
    bench.put("a", "x", Expires::At(start + Duration::from_millis(900))).await;
    bench.put("b", "y", Expires::At(start + Duration::from_millis(900))).await;
    bench.put("b", "y", Expires::At(start + Duration::from_millis(100))).await;
    bench.clock.advance(Duration::from_millis(200));
    while bench.store.sweep().await.unwrap() > 0 {}
    assert!(bench.get("a").is_some() && bench.get("b").is_none());
    bench.clock.advance(Duration::from_millis(700));
    assert!(bench.get("a").is_none());
    while bench.store.sweep().await.unwrap() > 0 {}
    let bench = bench.reopen().await;
    assert!(bench.get("a").is_none());
}

#[tokio::test]
async fn a_version_is_never_used_twice_for_a_key() {
    let bench = Bench::new();
    for _ in 0..6 {
        bench.append("a", "x").await;
    }
    bench.delete("a").await;
    assert_eq!(bench.append("a", "x").await, 7, "after a deletion");
    let end = bench.clock.now() + Duration::from_millis(10);
    bench.put("a", "x", Expires::At(end)).await;
    bench.clock.advance(Duration::from_millis(10));
    while bench.store.sweep().await.unwrap() > 0 {}
    assert_eq!(bench.append("a", "x").await, 9, "after expiry and sweeping");
    bench.delete("a").await;
    let bench = bench.reopen().await;
    assert_eq!(bench.append("a", "x").await, 10, "after deletion and reopening");
}

#[tokio::test]
async fn changes_are_told_in_order_after_they_are_durable() {
    let bench = Bench::new();
    let mut changes = bench.store.changes::<Note>();
    bench.append("a", "x").await;
    bench.append("a", "y").await;
    bench.delete("a").await;
    // Two that expire: one is found by the sweeper, the other by its successor.
    bench.put("b", "x", Expires::At(bench.clock.now() + Duration::from_secs(1))).await;
    bench.put("c", "x", Expires::At(bench.clock.now() + Duration::from_millis(500))).await;
    // The sweeper by itself looks once a second.
    bench.clock.advance(Duration::from_millis(500));
    bench.append("c", "y").await;
    bench.clock.advance(Duration::from_millis(500));
    bench.store.sweep().await.unwrap();
    let put = |version, created| ChangeKind::Put { version, created };
    for (id, kind) in [
        ("a", put(1, true)),
        ("a", put(2, false)),
        ("a", ChangeKind::Deleted { version: 2 }),
        ("b", put(1, true)),
        ("c", put(1, true)),
        ("c", ChangeKind::Expired { version: 1 }),
        ("c", put(2, true)),
        ("b", ChangeKind::Expired { version: 1 }),
    ] {
        let change = changes.recv().await.unwrap();
        assert_eq!((change.key.id(), change.kind), (id, kind));
    }
}

#[tokio::test]
async fn lists_are_pages_in_order_of_ids() {
    let bench = Bench::new();
    for id in ["c", "a", "나", "b", "가"] {
        bench.put(id, "x", Expires::Never).await;
    }
    let first = bench.store.list::<Note>(None, 3).await.unwrap();
    assert_eq!(first.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let rest = bench.store.list::<Note>(Some("c"), 3).await.unwrap();
    assert_eq!(rest.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["가", "나"]);
}

#[tokio::test]
async fn lists_look_past_any_number_of_expired_records() {
    let bench = Bench::new();
    let ids: Vec<String> = (0..1500).map(|number| format!("{number:04}")).collect();
    let end = Expires::At(bench.clock.now() + Duration::from_secs(1));
    let last = |id: &str| id == "1400" || id == "1499";
    let put = |id| bench.put(id, "x", if last(id) { Expires::Never } else { end });
    futures_util::future::join_all(ids.iter().map(|id| put(id))).await;
    // Not advanced, or the sweeper would wake and take them away.
    bench.clock.set(bench.clock.now() + Duration::from_secs(1));
    let (first, more) = bench.store.list_within::<Note>("", None, 1, usize::MAX).await.unwrap();
    assert_eq!((first[0].0.as_str(), first.len(), more), ("1400", 1, true));
    let (rest, more) = bench.store.list_within::<Note>("", Some("1400"), 5, usize::MAX).await.unwrap();
    assert_eq!((rest[0].0.as_str(), rest.len(), more), ("1499", 1, false));
    let (heavy, more) = bench.store.list_within::<Note>("", None, 5, 1).await.unwrap();
    assert_eq!((heavy.len(), more), (1, true), "a page ends with the record that makes it too large");
    assert_eq!(bench.store.next_id::<Note>(Some("1400")).await.unwrap().as_deref(), Some("1499"));
    assert_eq!(bench.store.next_id::<Note>(Some("1499")).await.unwrap(), None);
    assert_eq!(bench.store.count_under::<Note>("1").await.unwrap(), 2);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    bench.put("a", "x", Expires::Never).await;
    let huge = "x".repeat(nightporter::store::MAX_PAYLOAD);
    let refused = bench.store.update::<Note, _>("a", |_| Decision::Put(Note(vec![huge.clone()]), Expires::Never, ()));
    assert!(matches!(refused.await, Err(StoreError::TooLarge { .. })));
    assert_eq!(bench.get("a"), Some((1, vec!["x".to_owned()])));
    for id in ["", "a\0b", "a\nb", &"x".repeat(513)] {
        assert!(matches!(bench.store.get::<Note>(id), Err(StoreError::Key(_))), "{id:?}");
    }
}

#[tokio::test]
async fn a_lease_is_held_by_one() {
    let bench = Bench::new();
    let lease = bench.store.lease("keeper/vroong").unwrap();
    assert!(bench.store.lease("keeper/vroong").is_none());
    assert!(bench.store.lease("keeper/other").is_some());
    drop(lease);
    assert!(bench.store.lease("keeper/vroong").is_some());
}

#[tokio::test]
async fn a_database_that_disappears_is_missed() {
    let bench = Bench::new();
    bench.put("a", "x", Expires::Never).await;
    let Bench { store, clock, life, dir } = bench;
    assert!(life.shutdown(Duration::from_secs(60)).await);
    drop(store);
    for gone in ["taken away", "emptied"] {
        let database = dir.path().join("sled");
        let _ = std::fs::remove_dir_all(&database);
        if gone == "emptied" {
            std::fs::create_dir(&database).unwrap();
        }
        let life = Lifecycle::new();
        let error = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap_err();
        assert!(error.is_damage() && error.to_string().contains("it is gone"), "{gone}: {error}");
    }
}

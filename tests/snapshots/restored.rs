//! What a restored store is: the same records, versions that go on, ends that come; and what is refused.

use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::store::Expires;
use nightporter::store::snapshot::{self, Existing, Restored, SnapshotError, latest, restore_into, verify_file};

use super::shelf::{Shelf, aside, names};

const NOW: Time = Time::from_millis(1_700_000_123_456);

#[tokio::test]
async fn versions_go_on_and_ends_come_in_a_restored_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("a.snapshot"));
    let shelf = Shelf::open(&store);
    let end = shelf.clock.now() + Duration::from_secs(60);
    for count in 1..=5 {
        shelf.put("kept", count, Expires::Never).await;
        shelf.put("deleted", count, Expires::Never).await;
    }
    shelf.put("ending", 1, Expires::At(end)).await;
    shelf.delete("deleted").await;
    let manifest = shelf.save(&file).await;
    assert_eq!((manifest.records, manifest.floors, manifest.kinds["count"].records), (2, 1, 2));
    shelf.put("kept", 6, Expires::Never).await;
    shelf.close().await;

    let restored = restore_into(&file, &store, Existing::Aside(NOW), &mut |_| true).unwrap();
    let aside = store.join("sled.before-20231114T221523456Z");
    assert_eq!(restored, Restored { manifest, aside: Some(aside.clone()) });
    assert!(aside.join("db").exists());
    let shelf = Shelf::open(&store);
    assert_eq!(shelf.get("kept"), Some((5, 5)));
    assert_eq!(shelf.put("deleted", 1, Expires::Never).await, 6, "a version came twice");
    assert_eq!(shelf.get("ending"), Some((1, 1)));
    shelf.clock.advance(Duration::from_secs(60));
    while shelf.store.sweep().await.unwrap() > 0 {}
    assert_eq!(shelf.save(&dir.path().join("b.snapshot")).await.records, 2, "the end of a record was forgotten");
    shelf.close().await;
}

#[tokio::test]
async fn a_store_with_records_is_refused_and_an_empty_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("a.snapshot"));
    let shelf = Shelf::open(&store);
    shelf.put("a", 1, Expires::Never).await;
    shelf.save(&file).await;
    let in_use = restore_into(&file, &store, Existing::Aside(NOW), &mut |_| true).unwrap_err();
    assert!(in_use.to_string().contains("in use by process"), "{in_use}");
    shelf.close().await;
    let refused = restore_into(&file, &store, Existing::Refuse(NOW), &mut |_| true);
    assert!(matches!(refused, Err(SnapshotError::NotEmpty(_))));
    // A database that cannot be opened may hold records.
    std::fs::write(store.join("sled/conf"), "nonsense").unwrap();
    let refused = restore_into(&file, &store, Existing::Refuse(NOW), &mut |_| true);
    assert!(matches!(refused, Err(SnapshotError::NotEmpty(_))));
    restore_into(&file, &store, Existing::Aside(NOW), &mut |_| true).unwrap();
    let empty = dir.path().join("empty");
    Shelf::open(&empty).close().await;
    restore_into(&file, &empty, Existing::Refuse(NOW), &mut |_| true).unwrap();
    for store in [&store, &empty] {
        let shelf = Shelf::open(store);
        assert_eq!(shelf.get("a"), Some((1, 1)));
        shelf.close().await;
    }
}

#[tokio::test]
async fn a_damaged_file_or_a_watcher_that_has_enough_leaves_the_store_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("a.snapshot"));
    let shelf = Shelf::open(&store);
    shelf.put("a", 1, Expires::Never).await;
    shelf.save(&file).await;
    shelf.put("a", 2, Expires::Never).await;
    shelf.close().await;
    // Enough at the first word, at the second, and so on until it is done before it is enough.
    let mut enough = 0;
    loop {
        let mut words = 0;
        let restored = restore_into(&file, &dir.path().join("other"), Existing::Refuse(NOW), &mut |_| {
            words += 1;
            words <= enough
        });
        match restored {
            Err(SnapshotError::Interrupted) => enough += 1,
            restored => break assert!(restored.is_ok() && enough == 3, "{enough}"),
        }
        assert!(!names(dir.path()).contains(&"other".to_owned()) || names(&dir.path().join("other")) == ["lock"]);
    }
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = restore_into(&file, &store, Existing::Aside(NOW), &mut |_| true).unwrap_err().to_string();
    assert!(damaged.contains("a.snapshot: at byte "), "{damaged}");
    assert_eq!(aside(&store), None);
    let shelf = Shelf::open(&store);
    assert_eq!(shelf.get("a"), Some((2, 2)));
    shelf.close().await;
}

#[tokio::test]
async fn the_latest_snapshot_is_the_newest_that_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let shelves = dir.path().join("snapshots");
    assert_eq!(latest(&shelves).unwrap(), None);
    std::fs::create_dir(&shelves).unwrap();
    let shelf = Shelf::open_at(&dir.path().join("store"), Clock::held(NOW));
    let mut files = Vec::new();
    for _ in 0..3 {
        shelf.clock.advance(Duration::from_secs(1));
        files.push(shelves.join(snapshot::name(shelf.clock.now())));
        shelf.save(files.last().unwrap()).await;
    }
    std::fs::write(shelves.join("notes.txt"), "not ours").unwrap();
    assert_eq!(latest(&shelves).unwrap().unwrap().path, files[2]);
    std::fs::write(&files[2], std::fs::read(&files[2]).unwrap().split_last().unwrap().1).unwrap();
    let found = latest(&shelves).unwrap().unwrap();
    assert_eq!((&found.path, found.manifest.created_at), (&files[1], NOW + Duration::from_secs(2)));
    assert_eq!(verify_file(&files[1], &mut |_| true).unwrap(), found.manifest);
    assert_eq!(names(&shelves).len(), 4, "something unfinished was left");
    shelf.close().await;
}

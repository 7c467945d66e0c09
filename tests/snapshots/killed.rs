//! A restore killed at every step that it takes: the store opens, and is the old one or the new one.

use std::path::Path;

use nightporter::clock::{Clock, Time};
use nightporter::store::Expires;
use nightporter::store::snapshot::{Existing, restore_into};

use super::shelf::{Shelf, names};
use crate::kill::killed_at;

const STORE: &str = "NIGHTPORTER_TEST_RESTORE_STORE";
const FILE: &str = "NIGHTPORTER_TEST_RESTORE_FILE";
const RESTORER: &str = "snapshots::killed::restorer";

/// The process that is killed.
#[test]
#[ignore = "started and killed by the test below"]
fn restorer() {
    let [store, file] = [STORE, FILE].map(|name| std::env::var_os(name).expect("run by the other test"));
    let existing = Existing::Aside(Time::from_millis(1_700_000_000_000));
    restore_into(Path::new(&file), Path::new(&store), existing, &mut |_| true).unwrap();
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_the_old_store_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("a.snapshot"));
    let shelf = Shelf::open(&store);
    shelf.put("a", 1, Expires::Never).await;
    shelf.save(&file).await;
    shelf.close().await;
    let (mut old, mut new) = (0, 0);
    for step in 1.. {
        let shelf = Shelf::open_at(&store, Clock::system());
        shelf.put("a", 2, Expires::Never).await;
        shelf.close().await;
        std::fs::write(store.join("store.key"), "an operator's file").unwrap();
        let killed = killed_at(step, RESTORER, &[(STORE, &store), (FILE, &file)]);
        let shelf = Shelf::open(&store);
        match shelf.get("a") {
            Some((_, 2)) => old += 1,
            Some((1, 1)) => new += 1,
            other => panic!("step {step}: {other:?}"),
        }
        shelf.close().await;
        let left = names(&store);
        let clutter = left.iter().filter(|name| name.starts_with(".nightporter-")).count();
        assert_eq!(clutter, 0, "step {step}: {left:?}");
        assert!(left.contains(&"store.key".to_owned()), "step {step}: {left:?}");
        if !killed {
            println!("{} kills: {old} times the old store, {new} times the new one", step - 1);
            assert!(old > 10 && new > 2, "{old} {new}");
            return;
        }
        if let Some(aside) = super::shelf::aside(&store) {
            std::fs::remove_dir_all(aside).unwrap();
        }
    }
}

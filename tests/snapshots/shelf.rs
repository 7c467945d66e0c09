//! A store with a few kinds of records, and snapshots of it beside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::lifecycle::Lifecycle;
use nightporter::store::snapshot::{self, Manifest};
use nightporter::store::{Decision, Durability, Expires, Record, Store};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count(pub(crate) u64);

impl Record for Count {
    const SPACE: &'static str = "count";
    const SCHEMA: u8 = 1;
}

pub(crate) struct Shelf {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    life: Lifecycle,
}

impl Shelf {
    pub(crate) fn open(path: &Path) -> Self {
        Self::open_at(path, Clock::held(Time::from_millis(1_700_000_000_000)))
    }

    pub(crate) fn open_at(path: &Path, clock: Clock) -> Self {
        let life = Lifecycle::new();
        let store = Store::open(path, Durability::Acknowledged, clock.clone(), &life).unwrap();
        Self { store, clock, life }
    }

    pub(crate) async fn close(self) {
        assert!(self.life.shutdown(Duration::from_secs(60)).await);
    }

    /// Sets the count; returns its new version.
    pub(crate) async fn put(&self, id: &str, count: u64, expires: Expires) -> u64 {
        put(&self.store, id, count, expires).await
    }

    pub(crate) async fn delete(&self, id: &str) {
        self.store.update::<Count, _>(id, |_| Decision::Delete(())).await.unwrap();
    }

    pub(crate) fn get(&self, id: &str) -> Option<(u64, u64)> {
        self.store.get::<Count>(id).unwrap().map(|count| (count.version, count.value.0))
    }

    pub(crate) async fn save(&self, path: &Path) -> Manifest {
        snapshot::save(&self.store, path, false).await.unwrap()
    }
}

pub(crate) async fn put(store: &Store, id: &str, count: u64, expires: Expires) -> u64 {
    let put = store.update::<Count, _>(id, |_| Decision::Put(Count(count), expires, ()));
    put.await.unwrap().record.unwrap().version
}

/// The names in a directory, in order.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// The database that was put aside, if there is one.
pub(crate) fn aside(store: &Path) -> Option<PathBuf> {
    names(store).into_iter().find(|name| name.starts_with("sled.before-")).map(|name| store.join(name))
}

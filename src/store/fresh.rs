//! A database made anew beside the old one, and put in its place: what restoring and compacting have in common.
//!
//! All of it happens inside the store's directory under the store's lock, and only the directory `sled` in it is exchanged;
//! keys, sockets and whatever else lies there stay as they are.
//!
//! ```text
//! .nightporter-building/sled      is being written; worth nothing           a start removes it
//! .nightporter-built-STAMP/sled   whole and on the disk: it shall be used   a start goes on from here
//!   sled → sled.before-STAMP,  .nightporter-built-STAMP/sled → sled
//! ```
//!
//! The step from `building` to `built` is one rename, and it decides: killed before it, the old database is found,
//! afterwards the new one. The old one is never deleted.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::engine::sled::Sled;
use super::engine::{Batch, DATABASE, Engine, EngineError, Pair, Table};
use super::key::Key;
use super::migration::Schemas;
use super::tally::Sum;
use super::{PATIENCE, StoreError, expiry, opening, record};

const BUILDING: &str = ".nightporter-building";
const BUILT: &str = ".nightporter-built-";
const BEFORE: &str = "sled.before-";
/// Pairs written at once.
const BATCH: usize = 1024;

/// A new database that is being filled.
#[derive(Debug)]
pub(super) struct Fresh {
    directory: PathBuf,
    engine: Sled,
    batch: Batch,
    sum: Sum,
    schemas: Schemas,
}

impl Fresh {
    /// An empty database in `directory`; whatever was there is removed.
    pub(super) fn create(directory: &Path) -> Result<Self, EngineError> {
        remove(directory)?;
        let engine = Sled::open(directory, PATIENCE)?;
        Ok(Self {
            directory: directory.to_owned(),
            engine,
            batch: Batch::default(),
            sum: Sum::default(),
            schemas: Schemas::default(),
        })
    }

    /// Adds one pair. The expiry hint of a record is made from it, so hints themselves are not accepted.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match table {
            Table::Records => {
                let named = Key::from_bytes(key)?;
                let (head, _) = record::open(&named, value)?;
                self.schemas.see(named.space(), head.schema);
                if let Some(expires) = head.expires {
                    self.batch.set(Table::Expiry, expiry::entry(expires, &named), Vec::new());
                }
                self.batch.set(table, key.to_vec(), value.to_vec());
            }
            Table::Floors => self.batch.set(table, key.to_vec(), value.to_vec()),
            Table::Expiry => return Ok(()),
        }
        self.sum.swap(table, key, None, Some(value));
        self.sum.changes += 1;
        if self.batch.0.len() >= BATCH {
            self.engine.apply(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    /// Forces everything to the disk, seals it with a mark of its own and closes the database.
    pub(super) fn finish(mut self) -> Result<Sum, StoreError> {
        self.engine.apply(std::mem::take(&mut self.batch))?;
        self.schemas.write(&self.engine)?;
        opening::seal(&self.engine, &self.directory.join(DATABASE), self.sum)?;
        self.engine.close()?;
        sync(&self.directory)?;
        Ok(self.sum)
    }
}

/// Reads every pair of `table` in the database in `directory`, and closes it again.
pub(super) fn read<E: From<EngineError>>(
    directory: &Path,
    mut each: impl FnMut(Table, &Pair) -> Result<(), E>,
) -> Result<(), E> {
    let engine = Sled::open(directory, PATIENCE)?;
    for table in [Table::Records, Table::Floors] {
        let mut from = Vec::new();
        loop {
            let page = engine.scan(table, &[], &from, BATCH)?;
            for pair in &page {
                each(table, pair)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == BATCH => from = [last.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
    }
    Ok(engine.close()?)
}

/// A store's directory while nobody has the store open: nobody can open it until this is dropped.
#[derive(Debug)]
pub(super) struct Site {
    store: PathBuf,
    _lock: File,
}

impl Site {
    /// Locks the directory, makes it if need be, and settles what an earlier process left.
    pub(super) fn claim(store: &Path) -> Result<Self, EngineError> {
        let lock = Sled::lock(store)?;
        settle(store)?;
        Ok(Self { store: store.to_owned(), _lock: lock })
    }

    /// Where the new database is to be made.
    pub(super) fn building(&self) -> PathBuf {
        self.store.join(BUILDING)
    }

    /// Whether there is a database that holds a record, or one that cannot say.
    pub(super) fn occupied(&self) -> bool {
        if !self.store.join(DATABASE).exists() {
            return false;
        }
        let first = Sled::open_unlocked(&self.store, PATIENCE).and_then(|engine| {
            let first = engine.scan(Table::Records, &[], &[], 1)?;
            engine.close()?;
            Ok(first)
        });
        first.map_or(true, |first| !first.is_empty())
    }

    /// Puts the new database in the old one's place; tells where the old one is now.
    pub(super) fn put_in_place(self, stamp: &str) -> Result<Option<PathBuf>, EngineError> {
        let built = self.store.join(format!("{BUILT}{stamp}"));
        rename(&self.building(), &built)?;
        exchange(&self.store, &built, stamp)
    }
}

/// Whether there is a database in the store's directory, in its place or on the way there.
pub(super) fn exists(store: &Path) -> bool {
    store.join(DATABASE).is_dir() || awaiting(store).is_ok_and(|built| !built.is_empty())
}

/// Databases that are whole and shall be used, with their stamps.
fn awaiting(store: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut built = Vec::new();
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if let Some(stamp) = entry.file_name().to_str().and_then(|name| name.strip_prefix(BUILT)) {
            built.push((entry.path(), stamp.to_owned()));
        }
    }
    Ok(built)
}

/// Ends what an earlier process began to exchange, or clears it away. Call it with the store's lock held.
pub(super) fn settle(store: &Path) -> Result<(), EngineError> {
    let built = awaiting(store).map_err(|source| EngineError::Directory { path: store.to_owned(), source })?;
    for (path, stamp) in built {
        tracing::warn!("the store in {} goes on with the database that was being put in place", store.display());
        exchange(store, &path, &stamp)?;
    }
    remove(&store.join(BUILDING))
}

/// The two renames, or what is left of them.
fn exchange(store: &Path, built: &Path, stamp: &str) -> Result<Option<PathBuf>, EngineError> {
    let (database, fresh) = (store.join(DATABASE), built.join(DATABASE));
    let before = store.join(format!("{BEFORE}{stamp}"));
    if fresh.exists() {
        if database.exists() {
            rename(&database, &before)?;
        }
        rename(&fresh, &database)?;
    }
    remove(built)?;
    Ok(before.exists().then_some(before))
}

/// Renames within the store's directory, and has it on the disk.
fn rename(from: &Path, to: &Path) -> Result<(), EngineError> {
    let failed = |source| EngineError::Directory { path: to.to_owned(), source };
    fs::rename(from, to).map_err(failed)?;
    for path in [from, to] {
        let parent = path.parent().unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Removes a directory of ours; that it is not there is as good.
pub(super) fn remove(directory: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::Directory { path: directory.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Forces every file below `directory` to the disk, and the names of all.
fn sync(directory: &Path) -> Result<(), EngineError> {
    let failed = |source| EngineError::Directory { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
        }
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

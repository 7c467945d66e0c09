//! A database made anew beside the old one, and put in its place: what restoring and compacting have in common.
//!
//! All of it happens inside the store's directory under the store's lock, and only the directory `sled` in it is exchanged;
//! keys, sockets and whatever else lies there stay as they are.
//!
//! ```text
//! .nightporter-building/sled      is being written; worth nothing           a start removes it
//! .nightporter-built-NAME/sled    whole and on the disk: it shall be used   a start goes on from here
//!   sled → sled.NAME,  .nightporter-built-NAME/sled → sled                  NAME: before-STAMP or damaged-STAMP
//!   sled → .nightporter-old-NAME,  the same                                 NAME: unwanted-STAMP
//! .nightporter-old-NAME           replaced, and nobody wants it             a start removes it
//! ```
//!
//! The step from `building` to `built` is one rename, and it decides: killed before it, the old database is found,
//! afterwards the new one. The old one keeps its name until it is whole under another or nobody's any more: what is half
//! removed never has a name that somebody would trust.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::engine::sled::{Sled, unused};
use super::engine::{Batch, DATABASE, Engine, EngineError, Pair, Table};
use super::key::Key;
use super::migration::Schemas;
use super::tally::Sum;
use super::{PATIENCE, StoreError, expiry, opening, record, space};

const BUILDING: &str = ".nightporter-building";
const BUILT: &str = ".nightporter-built-";
const OLD: &str = ".nightporter-old-";
/// What the name of a database that is put aside begins with.
const ASIDE: &str = "sled.";
/// Pairs written at once.
const BATCH: usize = 1024;

/// A new database that is being filled.
#[derive(Debug)]
pub(super) struct Fresh {
    directory: PathBuf,
    engine: Sled,
    batch: Batch,
    /// Bytes in the batch.
    weight: u64,
    sum: Sum,
    schemas: Schemas,
}

impl Fresh {
    /// An empty database in `directory`; whatever was there is removed.
    ///
    /// # Errors
    /// [`StoreError::Full`], here and in [`Fresh::put`], before the database meets the end of the disk: its files would stay in
    /// use to the end of the process.
    pub(super) fn create(directory: &Path) -> Result<Self, StoreError> {
        remove(directory)?;
        space::suffices(directory.parent().unwrap_or(directory))?;
        let engine = Sled::open(directory, PATIENCE)?;
        Ok(Self {
            directory: directory.to_owned(),
            engine,
            batch: Batch::default(),
            weight: 0,
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
        self.weight += (key.len() + value.len()) as u64;
        if self.batch.0.len() >= BATCH || self.weight >= space::EVERY_BYTES {
            space::suffices(&self.directory)?;
            self.engine.apply(std::mem::take(&mut self.batch))?;
            self.weight = 0;
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
        unused(store)?;
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

    /// Puts the new database in the old one's place; tells where the old one is now. One that is unwanted goes with the next start.
    pub(super) fn put_in_place(self, why: Why, stamp: &str) -> Result<Option<PathBuf>, EngineError> {
        let name = format!("{}{stamp}", why.name());
        let built = self.store.join(format!("{BUILT}{name}"));
        rename(&self.building(), &built)?;
        exchange(&self.store, &built, &name)
    }
}

/// Why a database is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody wanted another one.
    Asked,
    /// The new one says the same.
    Unwanted,
    /// It was damaged, and nobody was asked.
    Damaged,
}

impl Why {
    /// What comes before the time in its name.
    const fn name(self) -> &'static str {
        match self {
            Self::Asked => "before-",
            Self::Unwanted => "unwanted-",
            Self::Damaged => "damaged-",
        }
    }
}

/// How many databases lie aside for that reason.
pub(super) fn aside(store: &Path, why: Why) -> usize {
    let begins = format!("{ASIDE}{}", why.name());
    let names = fs::read_dir(store).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(&begins)).count()
}

/// Whether there is a database in the store's directory, in its place or on the way there.
pub(super) fn exists(store: &Path) -> bool {
    store.join(DATABASE).is_dir() || named(store, BUILT).is_ok_and(|built| !built.is_empty())
}

/// What begins with `prefix` in the store's directory, and how its name goes on.
fn named(store: &Path, prefix: &str) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix)) {
            found.push((entry.path(), name.to_owned()));
        }
    }
    Ok(found)
}

/// Ends what an earlier process began to exchange, or clears it away. Call it with the store's lock held.
pub(super) fn settle(store: &Path) -> Result<(), EngineError> {
    let failed = |source| EngineError::Directory { path: store.to_owned(), source };
    for (path, name) in named(store, BUILT).map_err(failed)? {
        tracing::warn!("the store in {} goes on with the database that was being put in place", store.display());
        exchange(store, &path, &name)?;
    }
    for (path, _) in named(store, OLD).map_err(failed)? {
        remove(&path)?;
    }
    remove(&store.join(BUILDING))
}

/// The two renames, or what is left of them.
fn exchange(store: &Path, built: &Path, name: &str) -> Result<Option<PathBuf>, EngineError> {
    let (database, fresh) = (store.join(DATABASE), built.join(DATABASE));
    let prefix = if name.starts_with(Why::Unwanted.name()) { OLD } else { ASIDE };
    let before = store.join(format!("{prefix}{name}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies in the directory.
    fn names(store: &Path) -> Vec<String> {
        let entries = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_kill_left_half_removed_is_removed_and_what_was_put_aside_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path();
        for name in ["sled.before-1", ".nightporter-old-unwanted-2", ".nightporter-building"] {
            fs::create_dir(store.join(name)).unwrap();
            fs::write(store.join(name).join("db"), "x").unwrap();
        }
        drop(Site::claim(store).unwrap());
        assert_eq!(names(store), ["lock", "sled.before-1"]);
    }

    #[test]
    fn a_kill_in_the_exchange_leaves_nothing_of_what_is_unwanted() {
        let directory = |path: PathBuf| fs::create_dir_all(path.join("part")).unwrap();
        // Before the first rename, between the two, and after both.
        for left in [
            &["sled", ".nightporter-built-unwanted-1/sled"] as &[_],
            &[".nightporter-old-unwanted-1", ".nightporter-built-unwanted-1/sled"],
            &[".nightporter-old-unwanted-1", ".nightporter-built-unwanted-1", "sled"],
        ] {
            let dir = tempfile::tempdir().unwrap();
            left.iter().for_each(|name| directory(dir.path().join(name)));
            settle(dir.path()).unwrap();
            assert_eq!(names(dir.path()), ["sled"], "{left:?}");
        }
    }
}

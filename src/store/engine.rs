//! What the store needs of a database, and nothing more.
//!
//! sled is the embedded engine; a shared one can follow for teams who outgrow one machine, so nothing above may assume
//! that it is alone: rights are taken by [`Engine::lease`], news travels by [`Engine::subscribe`], and every change is a
//! [`Engine::compare_and_swap`]. Engines know bytes, not records.

mod power;
pub(super) mod sled;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::Key;
use super::guard::Lost;

/// The embedded database's own directory in the store's.
pub(super) const DATABASE: &str = "sled";

/// The ordered tables of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Enveloped records by key.
    Records,
    /// Expiry hints: big-endian milliseconds, then the key.
    Expiry,
    /// The highest version removed, by key stripe.
    Floors,
}

/// How a compare-and-swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The new value stands.
    Done,
    /// Another value stood there than the caller believed.
    Lost,
}

/// A committed change, as told to [`Engine::subscribe`]rs.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which record.
    pub key: Key,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// The kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is at `version` now.
    Put {
        /// The new version.
        version: u64,
        /// There was no such record before.
        created: bool,
    },
    /// Somebody removed it when it was at `version`.
    Deleted {
        /// Its last version.
        version: u64,
    },
    /// It came to its end at `version` and was removed. Told when the sweeper, or a successor, finds it; readers have
    /// missed it from the millisecond of its expiry on.
    Expired {
        /// Its last version.
        version: u64,
    },
}

/// Writes that belong together but need no comparison: index entries.
#[derive(Debug, Default)]
pub struct Batch(pub(super) Vec<(Table, Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    /// Sets `key` to `value`.
    pub fn set(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((table, key, Some(value)));
    }

    /// Removes `key`.
    pub fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.0.push((table, key, None));
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A database of ordered byte strings.
pub trait Engine: Send + Sync + Debug {
    /// The value of `key`.
    ///
    /// # Errors
    /// When the database failed.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Sets `key` to `new` if it holds `old`; None stands for absence.
    ///
    /// # Errors
    /// When the database failed.
    fn compare_and_swap(
        &self,
        table: Table,
        key: &[u8],
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap, EngineError>;

    /// Up to `limit` pairs whose keys begin with `prefix`, in order, from `from` on.
    ///
    /// # Errors
    /// When the database failed.
    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError>;

    /// Makes all writes of `batch`, in order; not atomically.
    ///
    /// # Errors
    /// When the database failed; some of the writes may have been made.
    fn apply(&self, batch: Batch) -> Result<(), EngineError>;

    /// Keeps `value` under `name`, apart from the tables: what the store says of itself.
    ///
    /// # Errors
    /// When the database failed.
    fn note(&self, name: &str, value: &[u8]) -> Result<(), EngineError>;

    /// What was last kept under `name`.
    ///
    /// # Errors
    /// When the database failed.
    fn noted(&self, name: &str) -> Result<Option<Vec<u8>>, EngineError>;

    /// Blocks until everything written before the call survives a power cut.
    ///
    /// # Errors
    /// When the disk failed; what is on it is unknown then.
    fn flush(&self) -> Result<(), EngineError>;

    /// Tells those who listen to its kind of a change that is durable.
    fn publish(&self, change: Change);

    /// Hears of changes of one kind of records made through any handle to this engine, from now on. Whoever listens first
    /// decides how far all who listen may lag.
    fn subscribe(&self, space: &'static str, backlog: usize) -> broadcast::Receiver<Change>;

    /// Takes the exclusive right `name`, or None when it is taken.
    fn lease(&self, name: &str) -> Option<Lease>;

    /// Whether it goes on answering: one that has met the end of its disk does not, until it is opened again.
    ///
    /// # Errors
    /// What it has met.
    fn goes_on(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Why an engine could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process holds the data directory.
    #[error("{} is in use by {owner}", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// What is known about the other process.
        owner: String,
    },
    /// The data directory could not be prepared.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The file or directory in question.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The database could not be opened: damaged, or not one.
    #[error("the store in {} is damaged, its database does not open ({reason})", path.display())]
    Open {
        /// The data directory.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// Writes would not reach the disk in this build; nothing must be acknowledged.
    #[error(
        "writes are not forced to the disk in this build (the overrides of power.rs are not linked); refusing to run"
    )]
    NotDurable,
    /// The disk is full, and the database has noticed: it answers little until it is opened again. What was acknowledged
    /// is there then.
    #[error("the disk is full, and the database must be opened again ({0})")]
    NoSpace(String),
    /// The database has not answered for too long: its disk is slow, or it is damaged in a way that makes it hang. A thread of
    /// this process is still at it, so nothing may be done to the files before the process has ended.
    #[error("the store in {} has not answered for {} s; is its disk slow?", path.display(), limit.as_secs())]
    Unresponsive {
        /// The data directory.
        path: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The operating system refused something to the database. That says nothing about what is stored.
    #[error("the store cannot be read or written: {0}")]
    Io(String),
    /// The database failed while working.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl EngineError {
    /// The same for somebody else whom it concerns.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::NoSpace(words) => Self::NoSpace(words.clone()),
            Self::Io(words) => Self::Io(words.clone()),
            Self::Failed(words) => Self::Failed(words.clone()),
            other => Self::Failed(other.to_string()),
        }
    }

    /// Why guarded work on the database in `path` came to no result.
    pub(super) fn lost(path: &Path, lost: Lost) -> Self {
        let path = path.to_owned();
        match lost {
            Lost::Panicked(words) => Self::Open { path, reason: format!("the database gave up on it: {words}") },
            Lost::Silent(limit) => Self::Unresponsive { path, limit },
            Lost::NoThread(source) => Self::Directory { path, source },
        }
    }
}

/// An exclusive right, held until dropped.
#[derive(Debug)]
pub struct Lease {
    name: String,
    held: Arc<Leases>,
}

/// The rights that are taken in an engine that one process has for itself.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<std::collections::HashSet<String>>);

impl Leases {
    pub(super) fn take(self: &Arc<Self>, name: &str) -> Option<Lease> {
        let fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        fresh.then(|| Lease { name: name.to_owned(), held: Arc::clone(self) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

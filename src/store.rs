//! The store: session records that are never lost and never half changed.
//!
//! Everything that must outlive the process is a record: a key, a version, an expiry, a payload. There is one way to
//! change one: [`Store::update`], a compare-and-swap around a pure decision. When `update` returns, the change is on the
//! disk (unless the operator chose [`Durability::Interval`]). A record past its expiry is gone for every reader from that
//! millisecond on, whether or not the sweeper has been by. No rule of any domain lives here, and only `engine/sled.rs`
//! says sled.
//!
//! ## Design notes
//!
//! - `update` = striped async lock → read → decide → compare-and-swap → sequence number → unlock → wait until the commit
//!   thread has flushed past it. The lock only saves retries on a hot key (measured 27 per update without it); the
//!   compare-and-swap is what makes it correct, also against another process on a shared engine.
//! - Point reads and swaps run on the calling task: they are memory operations of 1 to 10 µs in sled, less than a hop to
//!   another thread costs. Scans and flushes block and run elsewhere.
//! - A change that has side effects (a mail, an event) carries them inside the record as pending, for the outbox to move
//!   on: one record, one swap, on any engine. There are no transactions over several records.
//! - What follows an update is published to [`Store::changes`] by the commit thread, in the order of the tickets and after
//!   the flush: a request that is cancelled while it waits does not take the news with it.

mod census;
mod codec;
mod commit;
pub mod compact;
pub mod engine;
mod expiry;
mod follow;
mod fresh;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guard;
mod key;
mod ledger;
mod listing;
mod mark;
mod migration;
mod opening;
mod record;
pub mod snapshot;
pub mod space;
mod sync;
mod tally;
#[cfg(all(test, feature = "interleavings"))]
mod tests {
    mod interleavings;
}
mod update;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, broadcast, watch};

use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
pub use census::{Census, Crowded, Place};
use commit::Commit;
pub use commit::Durability;
pub use engine::{Change, ChangeKind};
use engine::{Engine, EngineError, Lease, Table};
pub use follow::{Bell, Follower, Following, Heard, Hearing};
pub use key::{InvalidKey, Key};
use ledger::Ledger;
pub use migration::Kind;
use opening::Opened;
pub use record::{MAX_PAYLOAD, Record, Stored};
use snapshot::Cutting;
use space::{Room, Space};
use sync::blocking;
pub use tally::CROWD;
use tally::Tally;
pub use update::{Decision, Expires, Updated};

/// Locks that keep updates of one key in line; two keys share one with probability 1/1024, which only costs waiting.
const STRIPES: usize = 1024;

/// The number of the store's layout: tables, envelope, mark. A program refuses a higher one.
const FORMAT: u16 = 1;

/// How long opening may go without a sign of life before it is given up: a damaged sled file can hang it for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a store is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the end of an update means.
    pub durability: Durability,
    /// Free bytes on the disk below which new records are refused.
    pub reserve: u64,
    /// How long opening may go without a sign of life.
    pub patience: Duration,
    /// How long opening may look at the records; what is left is looked at while the store works.
    pub budget: Duration,
}

impl From<Durability> for Settings {
    fn from(durability: Durability) -> Self {
        Self { durability, reserve: space::RESERVE, patience: PATIENCE, budget: opening::BUDGET }
    }
}

/// The handle to the store; clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Arc<dyn Engine>,
    clock: Clock,
    /// Each with the ticket of the last change behind it.
    stripes: Vec<Mutex<u64>>,
    tally: Arc<Tally>,
    space: Arc<Space>,
    commit: Commit,
    cutting: Cutting,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine could not be opened or failed while working.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A stored record does not pass its checksum or does not decode. Restore from a snapshot.
    #[error("record {key} is damaged: {reason}")]
    Damaged {
        /// The record in question.
        key: String,
        /// What did not fit.
        reason: &'static str,
    },
    /// The record was written by a newer version of this program.
    #[error("record {key} has schema {found}, this program knows up to {known}: use the newer program")]
    Newer {
        /// The record in question.
        key: String,
        /// Its schema byte.
        found: u8,
        /// The highest one known here.
        known: u8,
    },
    /// The database is not what its mark says. Restore from a snapshot.
    #[error("the store in {} is damaged: {finding}", path.display())]
    Unsound {
        /// The database's directory.
        path: PathBuf,
        /// What does not fit.
        finding: String,
    },
    /// The whole store was written by a newer version of this program.
    #[error("the store has format {found}, this program knows up to {known}: use the newer program")]
    NewerStore {
        /// Its format.
        found: u16,
        /// The highest one known here.
        known: u16,
    },
    /// The disk is nearly full; nothing was changed. Works again by itself when there is room.
    #[error(
        "the disk is nearly full: {} MiB are free, and from {} MiB on nothing new is stored",
        free >> 20, reserve >> 20
    )]
    Full {
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// The new value is larger than a record may be.
    #[error("record {key} would take {length} bytes, the limit is {MAX_PAYLOAD}")]
    TooLarge {
        /// The record in question.
        key: String,
        /// Its encoded length in bytes.
        length: usize,
    },
    /// The id cannot be part of a key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// Somebody else keeps changing this record; ask again.
    #[error("record {key} is changed faster than it can be updated")]
    Contended {
        /// The record in question.
        key: String,
    },
    /// The commit thread has ended; nothing can be acknowledged any more.
    #[error("the store is shut down")]
    Stopped,
}

impl StoreError {
    /// Whether the disk has no room: refused in time, or met by the database, which is opened again when there is some.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Engine(EngineError::NoSpace(_)))
    }

    /// Whether something that was stored is damaged or missing, so that a snapshot must help. A database that is slow, or whose
    /// files the operating system does not give, is not: another start may find it whole.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Unsound { .. } | Self::Damaged { .. } | Self::Engine(EngineError::Open { .. }))
    }
}

impl Store {
    /// Opens the embedded store in `path` and starts its commit thread and sweeper under `life`. Blocks, up to a few
    /// seconds for a large store: `opening.rs` says what is compared before anybody gets an answer.
    ///
    /// # Errors
    /// [`EngineError::InUse`] when another process has it open; an error with [`StoreError::is_damage`] when it is not what
    /// it was; others when it cannot be opened or is not durable here.
    pub fn open(
        path: &Path,
        settings: impl Into<Settings>,
        clock: Clock,
        life: &Lifecycle,
    ) -> Result<Self, StoreError> {
        let Settings { durability, reserve, patience, budget } = settings.into();
        let opened = opening::open(path, patience, budget)?;
        let store = Self::on(opened, Space::new(path, reserve), durability, clock, life)?;
        expiry::start(store.clone(), life);
        Ok(store)
    }

    /// A store on an open database, with a commit thread but without a sweeper.
    fn on(
        opened: Opened,
        space: Space,
        durability: Durability,
        clock: Clock,
        life: &Lifecycle,
    ) -> Result<Self, StoreError> {
        let (engine, tally, space) = (Arc::clone(&opened.engine), Arc::clone(&opened.tally), Arc::new(space));
        let commit = Commit::start(Ledger::new(opened, Arc::clone(&space)), Arc::clone(&tally), durability, life)?;
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Ok(Self(Arc::new(Inner { engine, clock, stripes, tally, space, commit, cutting: Cutting::default() })))
    }

    /// Whether there is a store in the directory `path`, whole or not.
    pub fn exists(path: &Path) -> bool {
        fresh::exists(path)
    }

    /// The record `id` of this kind, unless it is absent or expired.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Newer`] or an engine failure.
    pub fn get<T: Record>(&self, id: &str) -> Result<Option<Stored<T>>, StoreError> {
        let key = Key::of::<T>(id)?;
        let Some(bytes) = self.0.engine.get(Table::Records, key.as_bytes())? else { return Ok(None) };
        let stored = record::decode::<T>(&key, &bytes)?;
        Ok((!stored.expired_at(self.0.clock.now())).then_some(stored))
    }

    /// As [`Store::get`], but what is returned is on the disk: a crash cannot take back what a client was shown.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn read<T: Record>(&self, id: &str) -> Result<Option<Stored<T>>, StoreError> {
        let key = Key::of::<T>(id)?;
        let (stored, ticket) = {
            let last = self.stripe(&key).await;
            (self.get(id)?, *last)
        };
        self.0.commit.durable(ticket).await?;
        Ok(stored)
    }

    /// What changes in one kind of records from now on, in the order of commitment, told when it is on the disk, also when
    /// nobody waits for that any more. A receiver that lags by more than [`Record::BACKLOG`] is told so and must look at the records
    /// itself.
    pub fn changes<T: Record>(&self) -> broadcast::Receiver<Change> {
        self.0.engine.subscribe(T::SPACE, T::BACKLOG)
    }

    /// How much room the disk has; told anew when new records begin or end to be refused.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.0.space.watch()
    }

    /// Whether there is room for new records. For who begins something that must be noted to its end, urgently then.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn takes_new(&self) -> Result<(), StoreError> {
        self.0.space.admit(false)
    }

    /// Takes the exclusive right `name` among all processes that share this store, until the lease is dropped.
    /// None when somebody holds it.
    pub fn lease(&self, name: &str) -> Option<Lease> {
        self.0.engine.lease(name)
    }

    /// Proves that the store can write: one small change, made and flushed.
    ///
    /// # Errors
    /// The failure that a client's write would meet.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.update(Probe::ID, |_| Decision::Put(Probe(self.0.clock.now()), Expires::Never, ())).await.map(|_| ())
    }

    /// Removes what has expired by now, at most one batch; returns how many records went. The sweeper calls it; tests too.
    ///
    /// # Errors
    /// An engine failure.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        expiry::sweep(self).await
    }

    /// Waits until everything acknowledged or not is on disk, for a clean end.
    ///
    /// # Errors
    /// An engine failure.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.0.commit.flushed(self.0.commit.ticket([])).await
    }

    async fn stripe(&self, key: &Key) -> MutexGuard<'_, u64> {
        self.0.stripes[key.hash() as usize % STRIPES].lock().await
    }
}

/// The kinds of records of the store itself.
pub const KINDS: &[Kind] = &[Kind::of::<Probe>()];

/// Proves that `value` is written as `hex` and that what was once written so is still read.
#[cfg(test)]
pub(crate) fn golden<T: Record>(value: &T, hex: &str) {
    let written = data_encoding::HEXLOWER.encode(&payload(value));
    assert_eq!(written, hex, "{} is written in another way: that needs a new schema", T::SPACE);
    let read = codec::decode::<T>(&data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap();
    assert_eq!(data_encoding::HEXLOWER.encode(&payload(&read)), hex, "{}", T::SPACE);
}

/// What a record of `value` holds on the disk.
#[cfg(test)]
pub(crate) fn payload<T: Record>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).unwrap();
    bytes
}

/// The record that [`Store::probe`] writes.
#[derive(serde::Serialize, serde::Deserialize)]
struct Probe(crate::clock::Time);

impl Probe {
    const ID: &'static str = "probe";
}

impl Record for Probe {
    const SPACE: &'static str = "store";
    const SCHEMA: u8 = 1;
}

#[cfg(test)]
mod bytes {
    use super::*;
    use crate::clock::Time;

    #[test]
    fn the_bytes_on_disk_are_golden() {
        golden::<Probe>(&Probe(Time::from_millis(1_700_000_000_000)), "fd0068e5cf8b010000");
    }
}

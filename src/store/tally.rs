//! What the store holds, counted while it changes: how many changes there were, how many records there are, and a digest
//! over all of them. The mark outside the database keeps these numbers, and the next start compares.
//!
//! The digest is a sum, so a change costs one subtraction and one addition whatever the size of the store, and the order of
//! changes does not matter. A record counts with its version and its checksum, which covers its key and its content; so a
//! record that fell back to an earlier version is noticed as one that is missing is.
//!
//! Who changes the database holds the gate open from the write to the booking ([`Tally::writing`]), a few microseconds
//! without any waiting. Who needs database and numbers to agree closes it ([`Tally::still`]).

use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;

use super::engine::{Engine, EngineError, Pair, Table};
use super::record;
use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering, RwLock, RwLockReadGuard};
use super::{Key, StoreError};

/// What a change weighs beside its bytes, so that small ones are bounded in number too.
const CHANGE: u64 = 2 << 10;
/// The weight of changes that may wait for one flush. With [`CHANGE`] at most 4096 changes, which is a hundred times what
/// gathers behind the slowest flush that was measured.
const ROOM: u64 = 8 << 20;
/// How many changes may lie between two sums written into the database: what has room, and one for each thread that was
/// on its way.
pub(super) const IN_FLIGHT: u64 = ROOM / CHANGE + 1024;
/// How many changes one flush can make known: each may be the end of one record and the beginning of another. A
/// [`Record::BACKLOG`](super::Record::BACKLOG) of this loses nothing to a crowd; it takes 1.6 MB.
pub const CROWD: usize = 2 * IN_FLIGHT as usize;

/// What a database holds. All three wrap around together; nothing but differences is computed with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Changes since the database was made: the high-water mark.
    pub(super) changes: u64,
    /// Records, the expired that have not been swept included.
    pub(super) count: u64,
    /// The sum over all records and floors.
    pub(super) digest: u64,
}

impl Sum {
    /// Takes `old` out of the sum and puts `new` in.
    pub(super) fn swap(&mut self, table: Table, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        let counts = u64::from(table == Table::Records);
        if let Some(old) = old {
            self.count = self.count.wrapping_sub(counts);
            self.digest = self.digest.wrapping_sub(print(key, old));
        }
        if let Some(new) = new {
            self.count = self.count.wrapping_add(counts);
            self.digest = self.digest.wrapping_add(print(key, new));
        }
    }
}

/// What one entry counts in the digest: a mix of the version in its head and the checksum at its end. A floor, which has
/// neither, is short enough to count as it is.
fn print(key: &[u8], value: &[u8]) -> u64 {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
    match record::stamp(value) {
        Some((version, crc)) => mix(mix(version) ^ u64::from(crc)),
        None => mix(mix(word(key)) ^ word(value)),
    }
}

/// The finisher of splitmix64: every bit of the input changes half of the output's.
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The running sum of an open database.
#[derive(Debug)]
pub(super) struct Tally {
    gate: RwLock<()>,
    changes: AtomicU64,
    count: AtomicU64,
    digest: AtomicU64,
    weight: AtomicU64,
    /// No change may begin yet: the mark says that nothing has happened since the end in order.
    held: AtomicBool,
    /// How many changes are on the disk for certain.
    flushed: AtomicU64,
    auditing: AtomicBool,
    audit: Mutex<Audit>,
}

/// How far the comparison of all records with the sum has come.
#[derive(Debug)]
struct Audit {
    /// Floors first, then records.
    table: Table,
    /// Everything before this key has been looked at.
    from: Vec<u8>,
    /// What was seen.
    seen: Sum,
    /// What must have been seen at the end: the sum at the start, and the changes since in what had not been looked at.
    wanted: Sum,
}

/// What an audit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audited {
    /// There is more to look at.
    Going,
    /// All was seen: this and that was expected.
    Done {
        /// What the records came to.
        seen: Sum,
        /// What they should have come to.
        wanted: Sum,
    },
}

impl Tally {
    /// The tally of a database that should hold `sum`, to be compared by [`Tally::audit`].
    pub(super) fn new(sum: Sum) -> Self {
        let audit = Audit { table: Table::Floors, from: Vec::new(), seen: Sum::default(), wanted: sum };
        Self {
            gate: RwLock::new(()),
            changes: sum.changes.into(),
            count: sum.count.into(),
            digest: sum.digest.into(),
            weight: AtomicU64::new(0),
            held: AtomicBool::new(false),
            flushed: sum.changes.into(),
            auditing: AtomicBool::new(true),
            audit: Mutex::new(audit),
        }
    }

    /// Opens the gate for a change.
    pub(super) fn writing(&self) -> Writing<'_> {
        Writing { tally: self, _open: self.gate.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Runs `work` while nothing changes, with what the database holds at that moment.
    pub(super) fn still<T>(&self, work: impl FnOnce(Sum) -> T) -> T {
        let _closed = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        work(Sum {
            changes: self.changes.load(Ordering::Relaxed),
            count: self.count.load(Ordering::Relaxed),
            digest: self.digest.load(Ordering::Relaxed),
        })
    }

    /// Whether another change may join those that wait for their flush.
    pub(super) fn has_room(&self) -> bool {
        !self.held.load(Ordering::Acquire) && self.weight.load(Ordering::Relaxed) < ROOM
    }

    /// Lets no change begin before [`Tally::release`].
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Changes may begin.
    pub(super) fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// Whether so much waits for its flush that there would soon be no room.
    pub(super) fn is_crowded(&self) -> bool {
        self.weight.load(Ordering::Relaxed) >= ROOM / 2
    }

    /// Says that what was written so far is being flushed; returns how much that was.
    pub(super) fn make_room(&self) -> u64 {
        self.weight.swap(0, Ordering::Relaxed)
    }

    /// How many changes there were by now; a flush that begins after this call covers them.
    pub(super) fn changes(&self) -> u64 {
        self.still(|sum| sum.changes)
    }

    /// Says that so many changes are on the disk.
    pub(super) fn flushed(&self, changes: u64) {
        self.flushed.store(changes, Ordering::Relaxed);
    }

    /// Whether everything that could be read before this call is on the disk.
    pub(super) fn is_flushed(&self) -> bool {
        self.changes() == self.flushed.load(Ordering::Relaxed)
    }

    /// Whether every record has been compared with the sum.
    pub(super) fn is_audited(&self) -> bool {
        !self.auditing.load(Ordering::Relaxed)
    }

    /// How many records have been compared.
    pub(super) fn looked_at(&self) -> u64 {
        self.audited().seen.count
    }

    /// Looks at up to `limit` more entries, while changes go on in between.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a record that does not pass its checksum; an engine failure.
    pub(super) fn audit(&self, engine: &dyn Engine, limit: usize) -> Result<Audited, StoreError> {
        let (table, page) = self.still(|_| self.look(engine, limit))?;
        for (key, value) in page.iter().filter(|_| table == Table::Records) {
            record::open(&Key::from_bytes(key)?, value)?;
        }
        if self.auditing.load(Ordering::Relaxed) {
            return Ok(Audited::Going);
        }
        let audit = self.audited();
        Ok(Audited::Done { seen: audit.seen, wanted: audit.wanted })
    }

    /// Reads the next page and moves on; the gate is closed.
    fn look(&self, engine: &dyn Engine, limit: usize) -> Result<(Table, Vec<Pair>), EngineError> {
        let mut audit = self.audited();
        let table = audit.table;
        let page = engine.scan(table, &[], &audit.from, limit)?;
        for (key, value) in &page {
            audit.seen.swap(table, key, None, Some(value));
        }
        match page.last() {
            Some((last, _)) if page.len() == limit => audit.from = [last.as_slice(), &[0]].concat(),
            _ if table == Table::Floors => (audit.table, audit.from) = (Table::Records, Vec::new()),
            _ => self.auditing.store(false, Ordering::Relaxed),
        }
        Ok((table, page))
    }

    /// Takes over what an audit has seen where it differs from what was expected: after an end that nobody could note.
    pub(super) fn correct(&self, seen: Sum, wanted: Sum) {
        if (seen.count, seen.digest) == (wanted.count, wanted.digest) {
            return;
        }
        let _closed = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        // One number of changes stands for one sum, here too.
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(seen.count.wrapping_sub(wanted.count), Ordering::Relaxed);
        self.digest.fetch_add(seen.digest.wrapping_sub(wanted.digest), Ordering::Relaxed);
    }

    fn audited(&self) -> MutexGuard<'_, Audit> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change the database; must not be held across a wait.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    tally: &'a Tally,
    _open: RwLockReadGuard<'a, ()>,
}

impl Writing<'_> {
    /// Books that the entry of `key` was `old` and is `new`, after that has been written.
    pub(super) fn book(&self, table: Table, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        let tally = self.tally;
        let mut change = Sum::default();
        change.swap(table, key, old, new);
        tally.changes.fetch_add(1, Ordering::Relaxed);
        tally.count.fetch_add(change.count, Ordering::Relaxed);
        tally.digest.fetch_add(change.digest, Ordering::Relaxed);
        tally.weight.fetch_add(CHANGE + new.map_or(0, <[u8]>::len) as u64, Ordering::Relaxed);
        if tally.auditing.load(Ordering::Relaxed) {
            let mut audit = tally.audited();
            let ahead = match (audit.table, table) {
                (Table::Floors, Table::Records) => true,
                (now, then) => now == then && audit.from.as_slice() <= key,
            };
            if ahead {
                audit.wanted.count = audit.wanted.count.wrapping_add(change.count);
                audit.wanted.digest = audit.wanted.digest.wrapping_add(change.digest);
            }
        }
    }
}

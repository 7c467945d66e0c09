//! The mark: what the database must hold at least, kept in a file that is not the database's.
//!
//! A damaged database can open without a complaint and be what it was a minute ago (12 of 100 with one bit flipped). So the
//! commit thread writes the store's [`Sum`] twice: into the database just before each flush, and after the flush into this
//! file. The file is therefore never ahead of the database; a database that is behind the file has lost something.
//!
//! ```text
//! two slots of one block (4096 bytes) each, written in turn; the one with the higher turn counts
//! offset  0  magic    8 bytes  "nightmrk"
//!         8  format   u16  the store's, little endian as everything here
//!        10  flags    u8   1: sealed, the database was closed in order and holds exactly this
//!                          2: doubted, an audit while running found a difference
//!        11  zero     5 bytes
//!        16  id       16 bytes, of the database
//!        32  turn     u64
//!        40  changes  u64
//!        48  count    u64
//!        56  digest   u64
//!        64  crc32    u32  over everything before
//! ```
//!
//! A slot is smaller than a sector, so a power cut leaves the old or the new one. Each flush writes the file without
//! forcing it to the disk, which would halve the store's throughput: exact after a SIGKILL, at most a second behind after a
//! power cut.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::engine::EngineError;
use super::tally::Sum;
use super::{FORMAT, StoreError};
use crate::clock::Stopwatch;

/// The file's name in the database's directory: so it goes where the directory goes.
pub(super) const NAME: &str = "mark";

const MAGIC: [u8; 8] = *b"nightmrk";
const BLOCK: u64 = 4096;
const BODY: usize = 64;
const SLOT: usize = BODY + 4;
const SEALED: u8 = 1;
const DOUBTED: u8 = 2;
/// How far the file may be behind after a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What is written into the file and into the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which database; drawn when it was made.
    pub(super) id: [u8; 16],
    /// Closed in order, and nothing has happened since.
    pub(super) sealed: bool,
    /// To be looked at whole before anybody gets an answer from it.
    pub(super) doubted: bool,
    /// Which writing of the file this is.
    pub(super) turn: u64,
    /// What the database holds.
    pub(super) sum: Sum,
}

impl Mark {
    /// The mark of a new, empty database.
    pub(super) fn new(id: [u8; 16]) -> Self {
        Self { id, sealed: false, doubted: false, turn: 0, sum: Sum::default() }
    }

    pub(super) fn encode(&self) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        slot[10] = (u8::from(self.sealed) * SEALED) | (u8::from(self.doubted) * DOUBTED);
        slot[16..32].copy_from_slice(&self.id);
        let numbers = [self.turn, self.sum.changes, self.sum.count, self.sum.digest];
        for (place, number) in slot[32..BODY].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&slot[..BODY]);
        slot[BODY..].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    /// Reads a slot; None for what is none.
    ///
    /// # Errors
    /// [`StoreError::NewerStore`] when a newer program wrote it.
    pub(super) fn decode(slot: &[u8]) -> Result<Option<Self>, StoreError> {
        let Some((body, crc)) = slot.split_last_chunk::<4>() else { return Ok(None) };
        if body.len() != BODY || !body.starts_with(&MAGIC) || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Ok(None);
        }
        let found = u16::from_le_bytes([body[8], body[9]]);
        if found > FORMAT {
            return Err(StoreError::NewerStore { found, known: FORMAT });
        }
        let number = |at: usize| body[at..at + 8].iter().rev().fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
        let mut id = [0; 16];
        id.copy_from_slice(&body[16..32]);
        let sum = Sum { changes: number(40), count: number(48), digest: number(56) };
        let flags = body[10];
        Ok(Some(Self { id, sealed: flags & SEALED != 0, doubted: flags & DOUBTED != 0, turn: number(32), sum }))
    }
}

/// The file with its newest mark.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    path: PathBuf,
    newest: Mark,
    synced: Stopwatch,
    dirty: bool,
}

/// What was found where the file should be.
#[derive(Debug)]
pub(super) enum Found {
    /// The file, with at least one good slot.
    Mark(MarkFile),
    /// There is none.
    Nothing,
    /// There is one in which nothing can be read.
    Unreadable,
}

impl MarkFile {
    /// Reads the file in the database's directory.
    ///
    /// # Errors
    /// [`StoreError::NewerStore`], or what the operating system said.
    pub(super) fn find(directory: &Path) -> Result<Found, StoreError> {
        let path = directory.join(NAME);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(EngineError::Directory { path, source }.into()),
        };
        let mut newest: Option<Mark> = None;
        for offset in [0, BLOCK] {
            let mut slot = [0; SLOT];
            if file.read_exact_at(&mut slot, offset).is_ok()
                && let Some(mark) = Mark::decode(&slot)?
                && newest.is_none_or(|newest| newest.turn < mark.turn)
            {
                newest = Some(mark);
            }
        }
        let Some(newest) = newest else { return Ok(Found::Unreadable) };
        Ok(Found::Mark(Self { file, path, newest, synced: Stopwatch::start(), dirty: false }))
    }

    /// Makes the file for a new database and forces it to the disk.
    ///
    /// # Errors
    /// What the operating system said.
    pub(super) fn create(directory: &Path, mark: Mark) -> Result<Self, StoreError> {
        let path = directory.join(NAME);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = open.map_err(|source| EngineError::Directory { path: path.clone(), source })?;
        let mut made = Self { file, path, newest: mark, synced: Stopwatch::start(), dirty: false };
        made.settle(mark).map_err(|error| made.failed(error))?;
        let entry = File::open(directory).and_then(|directory| directory.sync_all());
        entry.map_err(|error| made.failed(error))?;
        Ok(made)
    }

    /// A file that nobody sees, for a store without a directory.
    #[cfg(all(test, feature = "interleavings"))]
    pub(super) fn unseen() -> Self {
        let file = rustix::fs::memfd_create(NAME, rustix::fs::MemfdFlags::empty()).unwrap();
        let newest = Mark::new([0; 16]);
        Self { file: file.into(), path: PathBuf::from(NAME), newest, synced: Stopwatch::start(), dirty: false }
    }

    /// What the file says.
    pub(super) fn newest(&self) -> Mark {
        self.newest
    }

    /// Writes `mark` into both slots and forces them to the disk: at the start, at the end, and when something is wrong.
    pub(super) fn settle(&mut self, mark: Mark) -> io::Result<()> {
        self.write(mark)?;
        self.write(mark)?;
        self.sync()
    }

    /// Notes that the database holds at least `sum`. Forced to the disk once a second.
    pub(super) fn note(&mut self, sum: Sum) -> io::Result<()> {
        self.write(Mark { sum, ..self.newest })?;
        self.keep_up()
    }

    /// Forces to the disk what was noted, if that is due.
    pub(super) fn keep_up(&mut self) -> io::Result<()> {
        if self.dirty && self.synced.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// The database's directory.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// What went wrong with the file, as the store tells it.
    pub(super) fn failed(&self, source: io::Error) -> EngineError {
        EngineError::Directory { path: self.path.clone(), source }
    }

    fn write(&mut self, mark: Mark) -> io::Result<()> {
        let mark = Mark { turn: self.newest.turn + 1, ..mark };
        // The slot that does not hold the newest mark, so that one is always whole.
        self.file.write_all_at(&mark.encode(), mark.turn % 2 * BLOCK)?;
        self.newest = mark;
        self.dirty = true;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        (self.synced, self.dirty) = (Stopwatch::start(), false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(changes: u64) -> Mark {
        Mark { sum: Sum { changes, count: 3, digest: 0x0102_0304 }, ..Mark::new([7; 16]) }
    }

    fn found(directory: &Path) -> Mark {
        match MarkFile::find(directory).unwrap() {
            Found::Mark(file) => file.newest(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let sealed = Mark { sealed: true, turn: 258, ..mark(9) };
        let golden = "6e696768746d726b010001000000000007070707070707070707070707070707\
                      0201000000000000090000000000000003000000000000000403020100000000\
                      00000000";
        let encoded = data_encoding::HEXLOWER.encode(&sealed.encode());
        assert_eq!(encoded[..128], golden[..128]);
        assert_eq!(Mark::decode(&sealed.encode()).unwrap(), Some(sealed));
    }

    #[test]
    fn a_slot_that_was_torn_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = MarkFile::create(dir.path(), mark(0)).unwrap();
        file.note(mark(1).sum).unwrap();
        file.note(mark(2).sum).unwrap();
        assert_eq!(found(dir.path()).sum.changes, 2);
        let torn = file.newest().turn % 2 * BLOCK;
        file.file.write_all_at(&[0xff; 20], torn + 30).unwrap();
        assert_eq!(found(dir.path()).sum.changes, 1);
        file.file.write_all_at(&[0xff; 20], BLOCK - torn).unwrap();
        assert!(matches!(MarkFile::find(dir.path()).unwrap(), Found::Unreadable));
        assert!(matches!(MarkFile::find(&dir.path().join("elsewhere")).unwrap(), Found::Nothing));
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_a_newer_format_refused() {
        let bytes = mark(5).encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&flipped).unwrap(), None, "bit {bit}");
        }
        let mut newer = bytes;
        newer[8..10].copy_from_slice(&(FORMAT + 1).to_le_bytes());
        let crc = crc32fast::hash(&newer[..BODY]);
        newer[BODY..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Mark::decode(&newer), Err(StoreError::NewerStore { known: FORMAT, .. })));
    }
}

//! Reads a snapshot and believes nothing of it: a checksum a frame, keys in order, every record's own envelope, counts and
//! digest at the end, and no byte after that.
//!
//! Pure: it reads from anything, allocates at most 256 KiB because of what it reads, and never panics, whatever that is.

use std::io::{self, Read};

use super::format::{
    Account, CRC, FORMAT, FRAME_HEAD, Head, Kind, MAGIC, MAX_BODY, MAX_KEY, MAX_VALUE, Manifest, PAIR_HEAD, TABLES,
    Tail,
};
use crate::store::engine::Table;

/// The longest name of a program's version.
const MAX_PROGRAM: usize = 64;

/// What is wrong with a snapshot, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {reason}")]
pub struct Damage {
    /// Bytes from the beginning.
    pub offset: u64,
    /// What does not fit there.
    pub reason: String,
}

/// Reads everything that `source` holds and checks it.
///
/// # Errors
/// The first [`Damage`]; a source that cannot be read counts as damaged where that happens.
pub fn verify(source: impl Read) -> Result<Manifest, Damage> {
    let mut reader = Reader::open(source)?;
    while reader.next()?.is_some() {}
    reader.finish()
}

/// A snapshot that is being read.
pub(super) struct Reader<R> {
    source: R,
    offset: u64,
    number: u32,
    head: Head,
    account: Account,
    /// The account before the first pair.
    blank: Account,
    /// The frame that is being read: what it holds, its body, where in the file that begins, how much of it is read.
    kind: Kind,
    body: Vec<u8>,
    begins: u64,
    read: usize,
    /// The key before this one.
    last: Vec<u8>,
    manifest: Option<Manifest>,
}

/// One pair of a snapshot.
pub(super) struct Item<'a> {
    pub(super) table: Table,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    pub(super) fn open(mut source: R) -> Result<Self, Damage> {
        let mut start = [0; MAGIC.len() + 1];
        let got = fill(&mut source, &mut start).map_err(|error| unreadable(0, &error))?;
        if start[..got.min(MAGIC.len())] != MAGIC[..got.min(MAGIC.len())] || got == 0 {
            return Err(damage(0, "this is no Nightporter snapshot"));
        }
        if got < start.len() {
            return Err(damage(got as u64, CUT_OFF));
        }
        if start[MAGIC.len()] != FORMAT {
            let reason =
                format!("snapshot format {}, this program knows {FORMAT}: use a newer one", start[MAGIC.len()]);
            return Err(damage(MAGIC.len() as u64, reason));
        }
        let empty = Account::new(&[]);
        let mut reader = Self {
            source,
            offset: start.len() as u64,
            number: 0,
            head: Head::new(crate::clock::Time::default()),
            account: empty.clone(),
            blank: empty,
            kind: Kind::Head,
            body: Vec::new(),
            begins: 0,
            read: 0,
            last: Vec::new(),
            manifest: None,
        };
        reader.read_head()?;
        Ok(reader)
    }

    /// How many bytes have been read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// An account of nothing below this snapshot's head, to be compared with the manifest when something is counted.
    pub(super) fn blank(&self) -> Account {
        self.blank.clone()
    }

    /// The next pair, or None at the end, which has been checked then.
    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, Damage> {
        while self.manifest.is_none() && self.read == self.body.len() {
            self.next_frame()?;
        }
        let table = match self.kind {
            Kind::Records => Table::Records,
            Kind::Floors => Table::Floors,
            Kind::Head | Kind::End | Kind::Broken => return Ok(None),
        };
        let at = self.begins + self.read as u64;
        let rest = &self.body[self.read..];
        let Some((&[a, b, c, d, e, f], after)) = rest.split_first_chunk::<PAIR_HEAD>() else {
            return Err(damage(at, "a pair is cut off"));
        };
        let (key, value) = (usize::from(u16::from_le_bytes([a, b])), u32::from_le_bytes([c, d, e, f]) as usize);
        if key > MAX_KEY || value > MAX_VALUE {
            return Err(damage(at, format!("a pair of {key} and {value} bytes is too long")));
        }
        if key == 0 || after.len() < key + value {
            return Err(damage(at, "a pair does not fit into its frame"));
        }
        let (key, value) = after[..key + value].split_at(key);
        if !self.last.is_empty() && *self.last >= *key {
            let text = String::from_utf8_lossy(key).escape_debug().to_string();
            return Err(damage(at, format!("{text} comes twice, or out of order")));
        }
        self.account.count(table, key, value).map_err(|reason| damage(at, reason))?;
        self.last.clear();
        self.last.extend_from_slice(key);
        self.read += PAIR_HEAD + key.len() + value.len();
        Ok(Some(Item { table, key, value }))
    }

    /// The manifest, once [`Reader::next`] has told of the end.
    pub(super) fn finish(self) -> Result<Manifest, Damage> {
        self.manifest.ok_or_else(|| damage(self.offset, CUT_OFF))
    }

    fn read_head(&mut self) -> Result<(), Damage> {
        self.read_frame()?;
        let wrong = |reason: &str| damage(self.begins, reason);
        if self.kind != Kind::Head {
            return Err(wrong("the manifest is missing"));
        }
        let head: Head =
            serde_json::from_slice(&self.body).map_err(|error| wrong(&format!("the manifest: {error}")))?;
        let strange = head.program.len() > MAX_PROGRAM || head.program.chars().any(char::is_control);
        if head.format != FORMAT || head.tables != TABLES || strange {
            return Err(wrong("the manifest does not fit the file's format"));
        }
        self.blank = Account::new(&self.body);
        self.account = self.blank.clone();
        self.head = head;
        self.read = self.body.len();
        Ok(())
    }

    fn next_frame(&mut self) -> Result<(), Damage> {
        let before = self.kind;
        self.read_frame()?;
        match self.kind {
            Kind::Records | Kind::Floors if !follows(before, self.kind) => {
                Err(damage(self.begins, "a frame is out of order"))
            }
            Kind::Records | Kind::Floors if self.body.is_empty() => Err(damage(self.begins, "a frame is empty")),
            Kind::Records | Kind::Floors => {
                if before != self.kind {
                    self.last.clear();
                }
                Ok(())
            }
            Kind::Head => Err(damage(self.begins, "a second manifest")),
            Kind::Broken => {
                let reason = String::from_utf8_lossy(&self.body).escape_debug().to_string();
                Err(damage(self.begins, format!("the snapshot was broken off: {reason}")))
            }
            Kind::End => self.read_end(),
        }
    }

    fn read_end(&mut self) -> Result<(), Damage> {
        let told: Tail = serde_json::from_slice(&self.body)
            .map_err(|error| damage(self.begins, format!("the end of the manifest: {error}")))?;
        let counted = std::mem::replace(&mut self.account, self.blank.clone()).close();
        if told.tally != counted.tally {
            let (told, counted) = (told.tally.records, counted.tally.records);
            return Err(damage(self.begins, format!("the manifest tells of {told} records, there are {counted}")));
        }
        if told.sha256 != counted.sha256 {
            return Err(damage(self.begins, "the digest of all records does not match"));
        }
        let more = fill(&mut self.source, &mut [0]).map_err(|error| unreadable(self.offset, &error))?;
        if more > 0 {
            return Err(damage(self.offset, "bytes follow the end"));
        }
        self.read = self.body.len();
        self.manifest = Some(Manifest::new(self.head.clone(), told));
        Ok(())
    }

    /// Reads one frame and checks what a frame can be checked for alone.
    fn read_frame(&mut self) -> Result<(), Damage> {
        let at = self.offset;
        let mut head = [0; FRAME_HEAD];
        self.exactly(&mut head)?;
        let [kind, a, b, c, d, e, f, g, h] = head;
        let (number, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]) as usize);
        if length > MAX_BODY {
            return Err(damage(at, format!("a frame of {length} bytes is too long")));
        }
        let mut body = std::mem::take(&mut self.body);
        body.resize(length, 0);
        let mut crc = [0; CRC];
        let begins = self.offset;
        self.exactly(&mut body)?;
        self.exactly(&mut crc)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head);
        hasher.update(&body);
        if hasher.finalize() != u32::from_le_bytes(crc) {
            return Err(damage(at, "a frame's checksum does not match"));
        }
        if number != self.number {
            return Err(damage(at, format!("frame {number} is in the place of frame {}", self.number)));
        }
        let kind = Kind::of(kind).ok_or_else(|| damage(at, format!("a frame of the unknown kind {kind}")))?;
        self.number = self.number.wrapping_add(1);
        (self.kind, self.body, self.begins, self.read) = (kind, body, begins, 0);
        Ok(())
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), Damage> {
        let got = fill(&mut self.source, buffer).map_err(|error| unreadable(self.offset, &error))?;
        self.offset += got as u64;
        if got < buffer.len() { Err(damage(self.offset, CUT_OFF)) } else { Ok(()) }
    }
}

/// Whether a frame of `next` may stand after one of `before`.
fn follows(before: Kind, next: Kind) -> bool {
    match next {
        Kind::Records => matches!(before, Kind::Head | Kind::Records),
        Kind::Floors => matches!(before, Kind::Head | Kind::Records | Kind::Floors),
        Kind::Head | Kind::End | Kind::Broken => false,
    }
}

const CUT_OFF: &str = "the file is cut off here";

fn damage(offset: u64, reason: impl Into<String>) -> Damage {
    Damage { offset, reason: reason.into() }
}

fn unreadable(offset: u64, error: &io::Error) -> Damage {
    damage(offset, format!("cannot be read: {error}"))
}

/// Reads until `buffer` is full or the source has ended; tells how much it read.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match source.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

//! The snapshot file's format: what writer and reader must agree on, and nothing about where the bytes come from or go.
//!
//! ```text
//! magic    "npsnap\r\n"           8 bytes; the line end tells a transfer that "corrects" text
//! format   u8  1
//! frames   kind u8 · number u32 · length u32 · body · crc32 u32 over all of that
//!          H   once, first: JSON, see Head
//!          R   records in the order of their keys, at most 256 KiB
//!          F   version floors, the same way
//!          E   once, last: JSON, see Tail; nothing follows it
//!          X   instead of all that would follow: why the snapshot was broken off, in words
//! pair     key length u16 · value length u32 · key · value
//! ```
//!
//! Numbers are little endian; frames are numbered from 0. Keys ascend strictly, so a reader notices a doubled or misplaced
//! one without remembering those before it. The digest is SHA-256 over the body of H and every pair in order, wherever the
//! frames begin and end: so a restored database can be compared with it too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::store::engine::Table;
use crate::store::key::Key;
use crate::store::record::{self, MAX_PAYLOAD};

pub(super) const MAGIC: [u8; 8] = *b"npsnap\r\n";
/// The only format there is so far.
pub(super) const FORMAT: u8 = 1;
/// Kind, number and length.
pub(super) const FRAME_HEAD: usize = 9;
pub(super) const CRC: usize = 4;
/// The longest body of a frame: all that a reader ever allocates because a file says so.
pub(super) const MAX_BODY: usize = 256 * 1024;
/// From this length on a frame is full; one more pair stays far below [`MAX_BODY`].
pub(super) const FULL_BODY: usize = 128 * 1024;
/// The longest key: a kind's name and an id.
pub(super) const MAX_KEY: usize = 1024;
/// The longest value: a payload and its envelope.
pub(super) const MAX_VALUE: usize = MAX_PAYLOAD + 1024;
/// Key length and value length.
pub(super) const PAIR_HEAD: usize = 6;
/// The most kinds of records in one file; this program has two dozen.
pub(super) const MAX_KINDS: usize = 256;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Head = b'H' as isize,
    Records = b'R' as isize,
    Floors = b'F' as isize,
    End = b'E' as isize,
    Broken = b'X' as isize,
}

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        [Self::Head, Self::Records, Self::Floors, Self::End, Self::Broken].into_iter().find(|kind| *kind as u8 == byte)
    }

    pub(super) fn holding(table: Table) -> Option<Self> {
        match table {
            Table::Records => Some(Self::Records),
            Table::Floors => Some(Self::Floors),
            // Hints, made again from the records.
            Table::Expiry => None,
        }
    }
}

/// What a snapshot says of itself at its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) format: u8,
    pub(super) program: String,
    pub(super) created_at: Time,
    pub(super) tables: Vec<String>,
}

impl Head {
    pub(super) fn new(created_at: Time) -> Self {
        let tables = TABLES.map(str::to_owned).to_vec();
        Self { format: FORMAT, program: env!("CARGO_PKG_VERSION").to_owned(), created_at, tables }
    }
}

/// The tables that a snapshot holds, in order.
pub(super) const TABLES: [&str; 2] = ["records", "floors"];

/// What a snapshot says of itself at its end, when it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    pub(super) tally: Tally,
    pub(super) sha256: String,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) floors: u64,
    pub(super) kinds: BTreeMap<String, Records>,
}

/// The records of one kind in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// How many.
    pub records: u64,
    /// The schema numbers they are written in.
    pub schemas: BTreeSet<u8>,
}

/// What a snapshot is: told at its beginning and its end, and checked against all that lies between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The file format's number.
    pub format: u8,
    /// The version of the program that made it.
    pub program: String,
    /// The moment that it shows.
    pub created_at: Time,
    /// The tables in it.
    pub tables: Vec<String>,
    /// Records in it; those that had expired and were not swept yet are counted.
    pub records: u64,
    /// Version floors in it.
    pub floors: u64,
    /// The records by kind.
    pub kinds: BTreeMap<String, Records>,
    /// SHA-256 over the manifest's beginning and every record, in lowercase hex: tells two snapshots apart.
    pub sha256: String,
}

impl Manifest {
    pub(super) fn new(head: Head, tail: Tail) -> Self {
        let Head { format, program, created_at, tables } = head;
        let Tail { tally: Tally { records, floors, kinds }, sha256 } = tail;
        Self { format, program, created_at, tables, records, floors, kinds, sha256 }
    }
}

/// Counts pairs and takes their digest, in the same way for a file, a store and a restored database.
#[derive(Clone)]
pub(super) struct Account {
    tally: Tally,
    digest: Context,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("tally", &self.tally).finish_non_exhaustive()
    }
}

impl Account {
    /// Nothing counted yet below this head.
    pub(super) fn new(head: &[u8]) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(head);
        Self { tally: Tally::default(), digest }
    }

    /// Checks one pair as far as a pair can be checked alone, and counts it.
    pub(super) fn count(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), String> {
        if key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(format!("a pair of {} and {} bytes is too long", key.len(), value.len()));
        }
        match table {
            Table::Records => self.record(key, value)?,
            Table::Floors if key.len() == 4 && value.len() == 8 => self.tally.floors += 1,
            Table::Floors => return Err("a version floor has the wrong length".to_owned()),
            Table::Expiry => return Err("expiry hints are no part of a snapshot".to_owned()),
        }
        self.digest.update(&pair_head(key, value));
        self.digest.update(key);
        self.digest.update(value);
        Ok(())
    }

    fn record(&mut self, key: &[u8], envelope: &[u8]) -> Result<(), String> {
        let key = Key::from_bytes(key).map_err(|error| format!("a record's key cannot be one: {error}"))?;
        let (head, _) = record::open(&key, envelope).map_err(|error| error.to_string())?;
        self.tally.records += 1;
        let kinds = &mut self.tally.kinds;
        if kinds.len() == MAX_KINDS && !kinds.contains_key(key.space()) {
            return Err(format!("more than {MAX_KINDS} kinds of records"));
        }
        let kind = kinds.entry(key.space().to_owned()).or_default();
        kind.records += 1;
        kind.schemas.insert(head.schema);
        Ok(())
    }

    /// Everything counted, with the digest of it.
    pub(super) fn close(self) -> Tail {
        let sha256 = data_encoding::HEXLOWER.encode(self.digest.finish().as_ref());
        Tail { tally: self.tally, sha256 }
    }
}

/// What stands before a key and its value.
pub(super) fn pair_head(key: &[u8], value: &[u8]) -> [u8; PAIR_HEAD] {
    let [a, b] = (key.len() as u16).to_le_bytes();
    let [c, d, e, f] = (value.len() as u32).to_le_bytes();
    [a, b, c, d, e, f]
}

//! The envelope around every payload.
//!
//! ```text
//! offset  0  format    u8   1
//!         1  schema    u8   which struct the payload is
//!         2  flags     u8   0, reserved
//!         3  version   u64  little endian; grows by one with every change
//!        11  expires   u64  milliseconds since the epoch, little endian; all ones: never
//!        19  length    u32  of the payload, little endian
//!        23  payload
//!         …  crc32     u32  over the key and everything before it, little endian
//! ```
//!
//! The checksum covers the key so that a record that turns up in another's place is noticed too: a decoder alone accepts
//! more than half of all flipped bits as other data.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::codec;
use super::key::Key;
use crate::clock::Time;

/// The largest payload in bytes. With its envelope a record stays below 64 KiB: sled moves larger values to files that it
/// does not sync.
pub const MAX_PAYLOAD: usize = 63 * 1024;

const FORMAT: u8 = 1;
const HEAD: usize = 23;
/// Of the head, its end.
const LENGTH: usize = 4;
const CRC: usize = 4;
/// Bytes that most records fit into.
const USUAL: usize = 1024;
const NEVER: u64 = u64::MAX;

/// A kind of record: a serde struct with a place of its own in the store.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {
    /// The kind's name, the first part of its keys.
    const SPACE: &'static str;
    /// Which version of the struct this is. Raise it with every change to the fields, and read the old ones in
    /// [`Record::migrate`].
    const SCHEMA: u8;
    /// Whether a record may still be stored when the disk is nearly full. For what keeps the portals' sessions alive and what
    /// tells a person of the trouble: small, and as many as the configuration makes; never what a client may send at will.
    const URGENT: bool = false;
    /// How many changes whoever listens to this kind may lag behind ([`Store::changes`](super::Store::changes)) before he is told to look for
    /// himself. Each takes 100 bytes as soon as somebody listens.
    const BACKLOG: usize = 1024;

    /// Whether this change only ends what was begun while there was room, such as a login: it is stored also when the disk is nearly
    /// full. So there are never more of these than there was room for beginnings.
    fn ends(before: &Self, after: &Self) -> bool {
        let _ = (before, after);
        false
    }

    /// Reads the payload of an older schema. The default knows none.
    fn migrate(schema: u8, payload: &[u8]) -> Option<Self> {
        let _ = (schema, payload);
        None
    }
}

/// A record as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// Grows by one with every change; never repeats for a key, not even after a deletion.
    pub version: u64,
    /// The record is gone from this moment on; None: it stays.
    pub expires: Option<Time>,
    /// The payload.
    pub value: T,
}

impl<T> Stored<T> {
    /// Whether the record is gone at `now`.
    pub fn expired_at(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What the envelope says, without its payload.
pub(super) struct Head {
    pub(super) schema: u8,
    pub(super) version: u64,
    pub(super) expires: Option<Time>,
}

pub(super) fn encode<T: Record>(key: &Key, stored: &Stored<T>) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(USUAL);
    bytes.extend([FORMAT, T::SCHEMA, 0]);
    bytes.extend(stored.version.to_le_bytes());
    bytes.extend(stored.expires.map_or(NEVER, Time::as_millis).to_le_bytes());
    bytes.extend([0; LENGTH]);
    codec::encode(&stored.value, &mut bytes).map_err(|length| StoreError::TooLarge { key: key.to_string(), length })?;
    let length = (bytes.len() - HEAD) as u32;
    bytes[HEAD - LENGTH..HEAD].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(key, &bytes);
    bytes.extend(crc.to_le_bytes());
    Ok(bytes)
}

pub(super) fn decode<T: Record>(key: &Key, bytes: &[u8]) -> Result<Stored<T>, StoreError> {
    let (head, payload) = open(key, bytes)?;
    let value = if head.schema == T::SCHEMA { codec::decode(payload) } else { T::migrate(head.schema, payload) };
    let Some(value) = value else {
        return Err(if head.schema > T::SCHEMA {
            StoreError::Newer { key: key.to_string(), found: head.schema, known: T::SCHEMA }
        } else {
            damaged(key, "the payload does not decode")
        });
    };
    Ok(Stored { version: head.version, expires: head.expires, value })
}

/// Checks the envelope and splits it.
pub(super) fn open<'a>(key: &Key, bytes: &'a [u8]) -> Result<(Head, &'a [u8]), StoreError> {
    let (body, crc) = bytes.split_last_chunk::<CRC>().ok_or_else(|| damaged(key, "too short"))?;
    if checksum(key, body) != u32::from_le_bytes(*crc) {
        return Err(damaged(key, "the checksum does not match"));
    }
    let (head, payload) = body.split_first_chunk::<HEAD>().ok_or_else(|| damaged(key, "too short"))?;
    let [format, schema, flags, rest @ ..] = head;
    if *format != FORMAT || *flags != 0 {
        return Err(StoreError::Newer { key: key.to_string(), found: *format, known: FORMAT });
    }
    let number = |at: usize| rest[at..at + 8].iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let length = rest[16..20].iter().rev().fold(0_usize, |n, byte| n << 8 | usize::from(*byte));
    if length != payload.len() {
        return Err(damaged(key, "the length does not match"));
    }
    let expires = Some(number(8)).filter(|expires| *expires != NEVER).map(Time::from_millis);
    Ok((Head { schema: *schema, version: number(0), expires }, payload))
}

/// The version in an envelope's head and the checksum at its end, neither of them checked.
pub(super) fn stamp(bytes: &[u8]) -> Option<(u64, u32)> {
    let (body, crc) = bytes.split_last_chunk::<CRC>()?;
    let (_, [version @ .., _, _, _, _, _, _, _, _, _, _, _, _]) =
        body.first_chunk::<HEAD>()?.split_first_chunk::<3>()?
    else {
        return None;
    };
    Some((u64::from_le_bytes(*version.first_chunk()?), u32::from_le_bytes(*crc)))
}

fn checksum(key: &Key, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// `bytes` with the checksum that they would need.
#[cfg(any(test, fuzzing))]
pub(super) fn sealed(key: &Key, bytes: &[u8]) -> Vec<u8> {
    [bytes, &checksum(key, bytes).to_le_bytes()].concat()
}

fn damaged(key: &Key, reason: &'static str) -> StoreError {
    StoreError::Damaged { key: key.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
    struct Ticket {
        name: String,
        place: u32,
    }

    impl Record for Ticket {
        const SPACE: &'static str = "ticket";
        const SCHEMA: u8 = 2;

        fn migrate(schema: u8, payload: &[u8]) -> Option<Self> {
            (schema == 1).then(|| codec::decode::<String>(payload).map(|name| Self { name, place: 0 })).flatten()
        }
    }

    fn sample() -> (Key, Stored<Ticket>) {
        let value = Ticket { name: "김하늘".to_owned(), place: 50 };
        (
            Key::of::<Ticket>("a").unwrap(),
            Stored { version: 7, expires: Some(Time::from_millis(1_700_000_000_000)), value },
        )
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let (key, stored) = sample();
        let golden = "010200070000000000000000\
                      68e5cf8b0100000b00000009\
                      eab980ed9598eb8a9832";
        let bytes = encode(&key, &stored).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes[..bytes.len() - 4]), golden);
        assert_eq!(decode::<Ticket>(&key, &bytes).unwrap(), stored);
    }

    #[test]
    fn every_flipped_bit_and_a_foreign_key_are_noticed() {
        let (key, stored) = sample();
        let bytes = encode(&key, &stored).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Ticket>(&key, &damaged).is_err(), "bit {bit}");
        }
        let other = Key::of::<Ticket>("b").unwrap();
        assert!(matches!(decode::<Ticket>(&other, &bytes), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn an_older_schema_is_migrated_and_a_newer_one_refused() {
        #[derive(Serialize, serde::Deserialize)]
        struct Named(String);
        impl Record for Named {
            const SPACE: &'static str = "ticket";
            const SCHEMA: u8 = 1;
        }
        let (key, stored) = sample();
        let old = Stored { version: 1, expires: None, value: Named("김하늘".to_owned()) };
        let migrated = decode::<Ticket>(&key, &encode(&key, &old).unwrap()).unwrap();
        assert_eq!(migrated.value, Ticket { name: "김하늘".to_owned(), place: 0 });
        let newer = decode::<Named>(&key, &encode(&key, &stored).unwrap());
        assert!(matches!(newer, Err(StoreError::Newer { found: 2, known: 1, .. })));
    }

    #[test]
    fn a_record_that_is_too_large_is_refused_with_its_length() {
        let (key, mut stored) = sample();
        stored.value.name = "x".repeat(MAX_PAYLOAD);
        assert!(matches!(encode(&key, &stored), Err(StoreError::TooLarge { length, .. }) if length > MAX_PAYLOAD));
    }
}

//! The payload codec: the only place that says bincode.
//!
//! bincode 1.3.3 is unmaintained (RUSTSEC-2025-0141) and was the owner's choice: it is confined here, behind the
//! envelope's format byte, a size limit and golden-bytes tests, so that another codec can follow under another format
//! byte. It is not self-describing: JSON that clients own is stored as JSON text, and a struct never changes under the
//! same schema byte.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::MAX_PAYLOAD;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MAX_PAYLOAD as u64)
}

/// Appends the encoded `value` to `bytes`, or tells the length that is too much.
pub(super) fn encode<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), usize> {
    options().serialize_into(bytes, value).map_err(|_| {
        let length = bincode::DefaultOptions::new().serialized_size(value).unwrap_or(u64::MAX);
        usize::try_from(length).unwrap_or(usize::MAX)
    })
}

/// Decodes a value that takes up all of `payload`.
pub(super) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    options().deserialize(payload).ok()
}

//! Keys: `kind/id` as UTF-8, so that a kind is a range and a dump is readable.

use std::fmt;

use super::record::Record;

/// The longest id in bytes. Far above what ids need; far below what would hurt sled's nodes.
const MAX_ID: usize = 512;

/// The full name of a record: its kind and its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    text: String,
    kind: usize,
}

/// The id is empty, longer than 512 bytes, or carries control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to {MAX_ID} bytes and no control characters")]
pub struct InvalidKey;

impl Key {
    /// The key of record `id` of the kind `T`.
    ///
    /// # Errors
    /// [`InvalidKey`] for an id that cannot be one.
    pub fn of<T: Record>(id: &str) -> Result<Self, InvalidKey> {
        if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
            return Err(InvalidKey);
        }
        Ok(Self { text: [T::SPACE, "/", id].concat(), kind: T::SPACE.len() })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidKey)?;
        let kind = text.find('/').ok_or(InvalidKey)?;
        Ok(Self { text: text.to_owned(), kind })
    }

    /// What all keys of the kind `T` begin with.
    pub(super) fn prefix<T: Record>() -> Vec<u8> {
        format!("{}/", T::SPACE).into_bytes()
    }

    /// The smallest key after this one.
    pub(super) fn successor(&self) -> Vec<u8> {
        [self.as_bytes(), &[0]].concat()
    }

    /// The kind, as in [`Record::SPACE`].
    pub fn space(&self) -> &str {
        &self.text[..self.kind]
    }

    /// The id within the kind.
    pub fn id(&self) -> &str {
        &self.text[self.kind + 1..]
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// A stable hash; part of the file format through the version floors.
    pub(super) fn hash(&self) -> u32 {
        crc32fast::hash(self.as_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

//! Attachments: too large for a record, so kept in sealed pieces of their own until their message is delivered.
//!
//! A file belongs to one message. Delivery removes it; a file whose message never came expires with the time in which
//! the message could have been delivered.

use serde::{Deserialize, Serialize};

use super::letter::PATIENCE;
use super::{Outbox, OutboxError};
use crate::store::{Decision, Expires, Kind, Record, StoreError};

/// The largest attachment in bytes: a full-page screenshot fits.
pub const MAX_FILE: usize = 1024 * 1024;
/// Bytes of a file in one record: a record holds 63 KiB, and sealing adds 28 bytes.
const PIECE: usize = 60 * 1024;

/// Something to send along: a screenshot, as a rule.
#[derive(Clone)]
pub struct Attachment {
    /// The file name that the recipient sees.
    pub name: String,
    /// Its media type, such as `image/png`.
    pub mime: String,
    /// The bytes; at most [`MAX_FILE`].
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attachment({} bytes of {})", self.bytes.len(), self.mime)
    }
}

/// A staged attachment: where its pieces are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) mime: String,
    pub(super) length: u32,
}

impl File {
    fn pieces(&self) -> impl Iterator<Item = String> + '_ {
        (0..(self.length as usize).div_ceil(PIECE)).map(|n| format!("{}/{n}", self.id))
    }
}

/// One sealed piece of a file.
#[derive(Serialize, Deserialize)]
struct Piece(Vec<u8>);

/// The kinds of records that are kept here.
pub(super) const KINDS: &[Kind] = &[Kind::of::<Piece>()];

impl Record for Piece {
    const SPACE: &'static str = "outbox-file";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

impl Outbox {
    /// Keeps `attachment` for one message. Stage it once for every recipient: what one has received is removed while
    /// others still wait for theirs.
    ///
    /// # Errors
    /// [`OutboxError::FileTooLarge`] above [`MAX_FILE`]; send the message without it and say so.
    pub async fn stage(&self, attachment: &Attachment) -> Result<File, OutboxError> {
        let length = attachment.bytes.len();
        if length > MAX_FILE {
            return Err(OutboxError::FileTooLarge { name: attachment.name.clone(), length });
        }
        let now = self.0.clock.now();
        let file = File {
            id: self.0.random.uuid(now).to_string(),
            name: attachment.name.chars().filter(|c| !c.is_control()).collect(),
            mime: attachment.mime.clone(),
            length: length as u32,
        };
        let writes = file.pieces().zip(attachment.bytes.chunks(PIECE)).map(|(id, bytes)| async move {
            let sealed = self.0.vault.seal(&format!("{}/{id}", Piece::SPACE), bytes)?;
            let put = |_: Option<&_>| Decision::Put(Piece(sealed.clone()), Expires::At(now + PATIENCE), ());
            self.0.store.update(&id, put).await?;
            Ok::<_, OutboxError>(())
        });
        futures_util::future::try_join_all(writes).await?;
        Ok(file)
    }

    /// The bytes of a staged file; None when it has expired.
    pub(super) fn read(&self, file: &File) -> Result<Option<Vec<u8>>, OutboxError> {
        let mut bytes = Vec::with_capacity(file.length as usize);
        for id in file.pieces() {
            let Some(piece) = self.0.store.get::<Piece>(&id)? else { return Ok(None) };
            bytes.extend_from_slice(&self.0.vault.open(&format!("{}/{id}", Piece::SPACE), &piece.value.0)?);
        }
        Ok(Some(bytes))
    }

    /// Removes staged files that no message will need. They would expire by themselves; this is sooner.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn discard(&self, files: impl IntoIterator<Item = File>) -> Result<(), StoreError> {
        for id in files.into_iter().flat_map(|file| file.pieces().collect::<Vec<_>>()) {
            self.0.store.update::<Piece, _>(&id, |_| Decision::Delete(())).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::golden;

    #[test]
    fn the_bytes_on_disk_are_golden() {
        golden::<Piece>(&Piece(vec![1, 2, 3]), "03010203");
    }
}

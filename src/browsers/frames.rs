//! Framing: cuts a byte stream at a delimiter into messages of bounded size. Serves the CDP pipe (NUL) and Chromium's
//! stderr (newline), and knows nothing about either.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads delimited messages; one that exceeds the limit is skipped, never held.
pub(super) struct Frames<R> {
    reader: BufReader<R>,
    delimiter: u8,
    limit: usize,
}

/// What stood between two delimiters.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The bytes, without the delimiter.
    Whole(Vec<u8>),
    /// More bytes than the limit; they are gone.
    TooLong,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads `reader` in messages of at most `limit` bytes that end with `delimiter`.
    pub(super) fn new(reader: R, delimiter: u8, limit: usize) -> Self {
        Self { reader: BufReader::with_capacity(32 * 1024, reader), delimiter, limit }
    }

    /// The next message, or `None` at the end of the stream. A last message without a delimiter is dropped: it is half a
    /// message. Not safe to cancel and call again.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut message = Vec::new();
        let mut too_long = false;
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let end = chunk.iter().position(|byte| *byte == self.delimiter);
            let piece = &chunk[..end.unwrap_or(chunk.len())];
            too_long |= message.len() + piece.len() > self.limit;
            if too_long {
                message = Vec::new();
            } else {
                message.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(if too_long { Frame::TooLong } else { Frame::Whole(message) }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8], limit: usize) -> Vec<Frame> {
        // A one-byte duplex makes every message arrive in pieces.
        let (mut near, far) = tokio::io::duplex(1);
        let mut frames = Frames::new(far, 0, limit);
        let feed = async {
            tokio::io::AsyncWriteExt::write_all(&mut near, input).await.unwrap();
            drop(near);
        };
        let read = async {
            let mut seen = Vec::new();
            while let Some(frame) = frames.next().await.unwrap() {
                seen.push(frame);
            }
            seen
        };
        tokio::join!(feed, read).1
    }

    #[tokio::test]
    async fn messages_are_cut_at_the_delimiter_and_half_a_message_is_dropped() {
        let whole = |text: &str| Frame::Whole(text.as_bytes().to_vec());
        assert_eq!(all("하나\0\0two\0thr".as_bytes(), 100).await, [whole("하나"), whole(""), whole("two")]);
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_skipped_and_the_next_one_read() {
        assert_eq!(all(b"12345\x001234\0", 4).await, [Frame::TooLong, Frame::Whole(b"1234".to_vec())]);
    }
}

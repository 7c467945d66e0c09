//! Follows chunked framing to find where a body ends. Only counts: the bytes go on unchanged, and hyper decodes them.

/// Hex digits that a chunk size may have: sixteen fill a u64.
const MAX_SIZE_DIGITS: u8 = 16;

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the size line, before any extension.
    Size { value: u64, digits: u8 },
    /// In a chunk extension, skipped up to the end of its line.
    Extension { value: u64 },
    /// The LF that ends the size line.
    SizeEnd { value: u64 },
    /// In the data.
    Data { left: u64 },
    /// The CR behind the data.
    DataCr,
    /// The LF behind the data.
    DataLf,
    /// In the trailer; `line` counts the bytes of its present line.
    Trailer { line: u32 },
    /// The LF that ends a trailer line.
    TrailerLf { line: u32 },
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// All bytes belong to the body, and more will come.
    More,
    /// The body ends after this many of the bytes.
    End(usize),
    /// These bytes are not chunked framing.
    Broken,
}

impl Chunks {
    /// Before the first byte.
    pub(super) const START: Self = Self::Size { value: 0, digits: 0 };

    /// Reads on through `bytes`.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        while at < bytes.len() {
            if let Self::Data { left } = *self {
                // Data is skipped as a whole: this is where nearly all bytes are.
                let taken = left.min((bytes.len() - at) as u64);
                at += taken as usize;
                *self = if taken == left { Self::DataCr } else { Self::Data { left: left - taken } };
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match self.step(byte) {
                Some(Some(next)) => *self = next,
                Some(None) => return Scan::End(at),
                None => return Scan::Broken,
            }
        }
        Scan::More
    }

    /// The state after `byte`: `Some(None)` at the end of the body, `None` when the byte is out of place.
    fn step(self, byte: u8) -> Option<Option<Self>> {
        let next = match (self, byte) {
            (Self::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < MAX_SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size { value: (value << 4) | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { value, digits: 1.. }, b';') => Self::Extension { value },
            (Self::Size { value, digits: 1.. } | Self::Extension { value }, b'\r') => Self::SizeEnd { value },
            (Self::Extension { value }, byte) if byte != b'\n' => Self::Extension { value },
            (Self::SizeEnd { value: 0 }, b'\n') => Self::Trailer { line: 0 },
            (Self::SizeEnd { value }, b'\n') => Self::Data { left: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            (Self::Trailer { line }, b'\r') => Self::TrailerLf { line },
            (Self::Trailer { line }, byte) if byte != b'\n' => Self::Trailer { line: line.saturating_add(1) },
            (Self::TrailerLf { line: 0 }, b'\n') => return Some(None),
            (Self::TrailerLf { .. }, b'\n') => Self::Trailer { line: 0 },
            _ => return None,
        };
        Some(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_the_bytes_arrive() {
        let body = b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: v\r\n\r\n";
        let mut sent = body.to_vec();
        sent.extend_from_slice(b"GET / HTTP/1.1");
        assert_eq!(Chunks::START.clone().scan(&sent), Scan::End(body.len()));
        let mut chunks = Chunks::START;
        for (at, byte) in body.iter().enumerate() {
            let expected = if at + 1 == body.len() { Scan::End(1) } else { Scan::More };
            assert_eq!(chunks.scan(&[*byte]), expected, "byte {at}");
        }
    }

    #[test]
    fn loose_framing_is_broken() {
        for body in
            ["\r\n", " 5\r\n", "5\nhello", "-1\r\n", "0x5\r\n", "5\r\nhelloX", "5 \r\n", "11111111111111111\r\n"]
        {
            assert_eq!(Chunks::START.clone().scan(body.as_bytes()), Scan::Broken, "{body:?}");
        }
    }
}

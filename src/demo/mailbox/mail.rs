//! Reading a mail: decoded headers and the text, so that Korean is seen as Korean. Reads only, and never fails: what
//! is malformed is shown as it came.

use data_encoding::BASE64;
use quoted_printable::ParseMode;

use crate::clock::Time;

/// Parts inside parts that are looked into.
const DEPTH: usize = 4;

/// A mail as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// When it was accepted.
    pub at: Time,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body as they came, without the dots of the transfer.
    pub raw: Vec<u8>,
}

impl Mail {
    /// A header by its name in any case, unfolded and decoded (RFC 2047).
    pub fn header(&self, name: &str) -> Option<String> {
        Part::of(&self.raw).header(name)
    }

    /// The decoded subject; empty when there is none.
    pub fn subject(&self) -> String {
        self.header("Subject").unwrap_or_default()
    }

    /// The first plain text in it, decoded, with `\n` line ends.
    pub fn body(&self) -> String {
        Part::of(&self.raw).text(DEPTH).unwrap_or_default()
    }
}

/// Headers and content of a mail or of one part of it.
struct Part<'a> {
    head: String,
    content: &'a [u8],
}

impl<'a> Part<'a> {
    fn of(raw: &'a [u8]) -> Self {
        let (head, content) = match find(raw, b"\r\n\r\n") {
            Some(end) => (&raw[..end], &raw[end + 4..]),
            None => (raw, &raw[raw.len()..]),
        };
        // A folded line goes on after its line break: take the break out, leave the space.
        let head = String::from_utf8_lossy(head).replace("\r\n ", " ").replace("\r\n\t", " ");
        Self { head, content }
    }

    fn raw_header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn header(&self, name: &str) -> Option<String> {
        self.raw_header(name).map(decode_words)
    }

    fn text(&self, depth: usize) -> Option<String> {
        let kind = self.raw_header("Content-Type").unwrap_or("text/plain");
        if kind.to_ascii_lowercase().starts_with("multipart/") {
            let boundary = parameter(kind, "boundary")?;
            return depth.checked_sub(1).and_then(|depth| {
                parts(self.content, &boundary).into_iter().find_map(|part| Part::of(part).text(depth))
            });
        }
        kind.to_ascii_lowercase().starts_with("text/plain").then(|| self.decoded())
    }

    fn decoded(&self) -> String {
        let bytes = match self.raw_header("Content-Transfer-Encoding").unwrap_or("7bit").to_ascii_lowercase().as_str() {
            "base64" => {
                let compact: Vec<u8> =
                    self.content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
                BASE64.decode(&compact).ok()
            }
            "quoted-printable" => quoted_printable::decode(self.content, ParseMode::Robust).ok(),
            _ => None,
        };
        String::from_utf8_lossy(bytes.as_deref().unwrap_or(self.content)).replace("\r\n", "\n")
    }
}

/// A parameter of a header value: `boundary` of `multipart/mixed; boundary="x"`.
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, found) = parameters.find(|(known, _)| known.trim().eq_ignore_ascii_case(name))?;
    Some(found.trim().trim_matches('"').to_owned())
}

/// The parts between the boundary lines.
fn parts<'a>(content: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut rest = match find(content, mark.as_bytes()) {
        Some(start) => &content[start + mark.len()..],
        None => return parts,
    };
    while let Some(end) = find(rest, format!("\r\n{mark}").as_bytes()) {
        parts.push(rest[..end].strip_prefix(b"\r\n").unwrap_or(&rest[..end]));
        rest = &rest[end + 2 + mark.len()..];
    }
    parts
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Decodes the `=?utf-8?B?…?=` and `=?utf-8?Q?…?=` words of a header; the space between two such words is theirs.
fn decode_words(value: &str) -> String {
    let mut decoded = String::new();
    let mut rest = value;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let between = &rest[..start];
        let Some((text, length)) = word(&rest[start..]) else {
            decoded.push_str(&rest[..start + 2]);
            rest = &rest[start + 2..];
            after_word = false;
            continue;
        };
        if !(after_word && between.trim().is_empty()) {
            decoded.push_str(between);
        }
        decoded.push_str(&text);
        rest = &rest[start + length..];
        after_word = true;
    }
    decoded + rest
}

/// The encoded word that `text` starts with, and its length.
fn word(text: &str) -> Option<(String, usize)> {
    let mut fields = text.get(2..)?.splitn(4, '?');
    let (charset, encoding, content, tail) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if !tail.starts_with('=') || !(charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")) {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => BASE64.decode(content.as_bytes()).ok()?,
        "Q" | "q" => quoted_printable::decode(content.replace('_', " "), ParseMode::Robust).ok()?,
        _ => return None,
    };
    let length = "=??".len() + charset.len() + encoding.len() + "?".len() + content.len() + "?=".len();
    Some((String::from_utf8_lossy(&bytes).into_owned(), length))
}

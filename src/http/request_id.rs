//! The id under which a request is found in the log, in its answer and in every problem.

use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

use crate::clock::Clock;
use crate::ids::Random;

/// The header that carries the id, both ways.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client.
const MAX_LENGTH: usize = 128;

/// The text of an acceptable id. Anything else could forge log lines or fill them.
pub(super) fn valid(value: &[u8]) -> Option<&str> {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let text = std::str::from_utf8(value).ok()?;
    ((1..=MAX_LENGTH).contains(&value.len()) && value.iter().all(fine)).then_some(text)
}

/// A new id, for a request whose client sent none.
pub(super) fn draw(random: &Random, clock: &Clock) -> String {
    let mut text = Uuid::encode_buffer();
    random.uuid(clock.now()).hyphenated().encode_lower(&mut text).to_owned()
}

/// The id that a client sent, if there is exactly one and it is acceptable.
pub(super) fn sent(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(HEADER).iter();
    let first = all.next()?;
    if all.next().is_some() { None } else { valid(first.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_ids_are_kept() {
        assert_eq!(valid(b"job-7_a.B"), Some("job-7_a.B"));
        assert!(valid("가".as_bytes()).is_none() && valid(b"").is_none() && valid(b"a b").is_none());
        assert!(valid(&[b'a'; 128]).is_some() && valid(&[b'a'; 129]).is_none());
    }
}

//! Halves of surrogate pairs in the browser's messages. Its strings are UTF-16 and may hold one half alone, from a page's
//! text or from a request body that is no text; JSON for Rust may not. A message is mended only when it cannot be read.

const HEX: usize = 4;
/// The escape of U+FFFD, the replacement character.
const REPLACEMENT: &[u8] = br"\ufffd";

/// `json` with every half that stands alone replaced.
pub(super) fn mended(json: &[u8]) -> Vec<u8> {
    let mut mended = json.to_vec();
    let mut at = 0;
    while at < mended.len() {
        if mended[at] != b'\\' {
            at += 1;
            continue;
        }
        let length = match (unit(&mended[at..]), unit(mended.get(at + REPLACEMENT.len()..).unwrap_or_default())) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * REPLACEMENT.len(),
            (Some(0xd800..=0xdfff), _) => {
                mended[at..at + REPLACEMENT.len()].copy_from_slice(REPLACEMENT);
                REPLACEMENT.len()
            }
            // Any other escape: a backslash and what it stands before.
            _ => 2,
        };
        at += length;
    }
    mended
}

/// The UTF-16 unit whose escape `json` begins with.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(br"\u")?.get(..HEX)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_halves_that_stand_alone_are_replaced() {
        for (given, expected) in [
            (r#""a\ud83d\ude00b""#, r#""a\ud83d\ude00b""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uD83Dx\uDE00""#, r#""\ufffdx\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d\"\ude00""#, r#""\\ud83d\"\ufffd""#),
            (r#""\ud8""#, r#""\ud8""#),
            ("\"한\\", "\"한\\"),
        ] {
            assert_eq!(String::from_utf8(mended(given.as_bytes())).unwrap(), expected, "{given}");
        }
    }
}

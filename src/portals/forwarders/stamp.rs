//! Times as the apps write them: milliseconds or seconds since 1970, as a number or as text, or RFC 3339.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::clock::Time;

/// Below this a number counts seconds: as milliseconds it would lie in 1973, as seconds in the year 5138.
const SECONDS_BELOW: u64 = 100_000_000_000;

/// A moment that an app wrote down; None for the zero of a phone that does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) Option<Time>);

impl Stamp {
    /// Reads a text; None when it is no time.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(Self::number);
        }
        text.parse().ok().map(|time| Self(Some(time)))
    }

    fn number(number: u64) -> Self {
        let millis = if number < SECONDS_BELOW { number * 1000 } else { number };
        Self((number > 0).then_some(Time::from_millis(millis)))
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Stamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Stamp, E> {
                Ok(Stamp::number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Stamp, E> {
                Stamp::read(text).ok_or_else(|| E::custom("no time"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_however_it_is_written() {
        let moment = Some(Stamp(Some(Time::from_millis(1_700_000_000_000))));
        for json in
            ["1700000000000", "\"1700000000000\"", "1700000000", "\" 1700000000 \"", "\"2023-11-15T07:13:20+09:00\""]
        {
            assert_eq!(serde_json::from_str(json).ok(), moment, "{json}");
        }
        for json in ["0", "\"0\""] {
            assert_eq!(serde_json::from_str(json).ok(), Some(Stamp(None)), "{json}");
        }
        for json in ["-1", "1.5", "\"\"", "\"%sentStamp%\"", "true", "null", "[]", "{}", "\"99999999999999999999\""] {
            assert!(serde_json::from_str::<Stamp>(json).is_err(), "{json}");
        }
    }
}

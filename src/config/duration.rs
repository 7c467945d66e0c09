//! Durations as people write them: a whole number and a unit, `"250ms"`, `"30s"`, `"15m"`, `"24h"`, `"7d"`.
//!
//! The unit is required, because a bare 30 has meant seconds to one reader and milliseconds to the next.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::read::Field;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A number alone.
    #[error("a duration needs a unit: ms, s, m, h or d, as in \"30s\"")]
    NoUnit,
    /// Neither number nor unit, or both but not so.
    #[error("expected a whole number and a unit, as in \"250ms\", \"30s\", \"15m\" or \"24h\"")]
    Malformed,
    /// More milliseconds than 64 bits hold.
    #[error("the duration is too long")]
    TooLong,
}

/// Reads `"250ms"`, `"30s"`, `"15m"`, `"24h"` or `"7d"`.
///
/// # Errors
/// [`InvalidDuration`], which says what is expected.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(InvalidDuration::Malformed);
    }
    if unit.is_empty() {
        return Err(InvalidDuration::NoUnit);
    }
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(InvalidDuration::Malformed)?;
    let number: u64 = number.parse().map_err(|_| InvalidDuration::TooLong)?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or(InvalidDuration::TooLong)
}

/// Writes a duration the way [`parse`] reads it, in the largest unit that is exact; parts below a millisecond are
/// dropped.
pub fn show(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let exact = |unit: &&(&str, u64)| millis > 0 && millis.is_multiple_of(unit.1);
    let (name, size) = UNITS.iter().find(exact).unwrap_or(&("s", 1000));
    format!("{}{name}", millis / *size)
}

/// A reader for durations within `range`.
pub(crate) fn within(range: RangeInclusive<Duration>) -> impl Fn(&Field<'_>) -> Result<Duration, String> {
    move |field| {
        let text = field.text().map_err(|reason| format!("{reason}; a duration is written like \"30s\""))?;
        let duration = parse(text).map_err(|error| format!("{error}, got \"{text}\""))?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        Err(format!("expected between {} and {}, got \"{text}\"", show(*range.start()), show(*range.end())))
    }
}

/// As [`within`], or `"off"` for none.
pub(crate) fn within_or_off(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Field<'_>) -> Result<Option<Duration>, String> {
    let within = within(range);
    move |field| {
        if field.text().is_ok_and(|text| text == "off") {
            return Ok(None);
        }
        within(field).map(Some).map_err(|reason| format!("{reason}; \"off\" for none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("15m", 900_000), ("24h", 86_400_000), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("30"), Err(InvalidDuration::NoUnit));
        for text in ["", "s", "30 s", "1.5s", "-1s", "30S", "1h30m", "30초", "+5s", "٣s"] {
            assert_eq!(parse(text), Err(InvalidDuration::Malformed), "{text}");
        }
        for text in ["99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(text), Err(InvalidDuration::TooLong), "{text}");
        }
        assert_eq!(show(Duration::from_secs(90)), "90s");
        assert_eq!(show(Duration::from_secs(7200)), "2h");
        assert_eq!(show(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0..u64::MAX) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}

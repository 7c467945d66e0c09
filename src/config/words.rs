//! Words and numbers in settings: names, choices, plain text, sizes.

use std::ops::RangeInclusive;

use super::problem::{list, unknown};
use super::read::Field;

/// The longest plain text a setting may hold, in bytes: longer is a file pasted by accident.
const LONGEST_TEXT: usize = 4096;

/// Whether `name` can name a portal or a phone: `[a-z0-9][a-z0-9_-]{0,63}`. It becomes part of keys, URLs, credential
/// names and metric labels, so it may hold nothing that any of them reads otherwise.
pub fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    name.len() <= 64 && name.bytes().all(inner) && !name.starts_with(['_', '-']) && !name.is_empty()
}

/// Why a name is refused.
pub(crate) const BAD_NAME: &str = "a name is 1 to 64 of a-z, 0-9, \"_\" and \"-\", and starts with a letter or a digit";

/// A reader for one of a few words.
pub(crate) fn choice<T: Copy>(options: &'static [(&'static str, T)]) -> impl Fn(&Field<'_>) -> Result<T, String> {
    move |field| {
        let word = field.text()?;
        let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
        let found = options.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
        found.ok_or_else(|| unknown(&format!("value \"{word}\""), word, &words))
    }
}

/// A reader for whole numbers within `range`.
pub(crate) fn integer(range: RangeInclusive<u32>) -> impl Fn(&Field<'_>) -> Result<u32, String> {
    move |field| {
        let number = field.integer()?;
        let fits = u32::try_from(number).ok().filter(|number| range.contains(number));
        fits.ok_or_else(|| format!("expected between {} and {}, got {number}", range.start(), range.end()))
    }
}

/// Reads `true` or `false`.
pub(crate) fn boolean(field: &Field<'_>) -> Result<bool, String> {
    field.boolean()
}

/// Reads one line of text that is not empty.
pub(crate) fn text(field: &Field<'_>) -> Result<String, String> {
    let text = field.text()?;
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > LONGEST_TEXT {
        return Err(format!("longer than {LONGEST_TEXT} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads the name of a portal or a phone.
pub(crate) fn name(field: &Field<'_>) -> Result<String, String> {
    let name = field.text()?;
    if is_name(name) { Ok(name.to_owned()) } else { Err(BAD_NAME.to_owned()) }
}

/// A reader for a number of bytes within `range`: an integer, or text such as `"512 KiB"` or `"1 MiB"`.
pub(crate) fn bytes(range: RangeInclusive<usize>) -> impl Fn(&Field<'_>) -> Result<usize, String> {
    move |field| {
        let size = match field.integer() {
            Ok(number) => usize::try_from(number).ok(),
            Err(_) => size(field.text().map_err(|_| expected())?),
        };
        let size = size.ok_or_else(expected)?;
        if range.contains(&size) {
            return Ok(size);
        }
        Err(format!(
            "expected between {} and {}, got {}",
            in_units(*range.start()),
            in_units(*range.end()),
            in_units(size)
        ))
    }
}

fn expected() -> String {
    format!("expected a number of bytes, or text with {}", list(&["KiB", "MiB"]))
}

/// A number of bytes as one would write it here.
fn in_units(size: usize) -> String {
    match size {
        0 => "0 bytes".to_owned(),
        size if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        size if size.is_multiple_of(1 << 10) => format!("{} KiB", size >> 10),
        size => format!("{size} bytes"),
    }
}

fn size(text: &str) -> Option<usize> {
    let (number, unit) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Some(number), _) => (number, 1024),
        (_, Some(number)) => (number, 1024 * 1024),
        _ => (text, 1),
    };
    number.trim_end().parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_a_url_a_key_and_a_file_name() {
        for good in ["vroong", "0", "a-b_c", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a/b", "브릉", "a b", "..", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_size_may_carry_a_unit() {
        assert_eq!(size("1 MiB"), Some(1 << 20));
        assert_eq!(size("512KiB"), Some(1 << 19));
        assert_eq!(size("1 MB"), None);
        assert_eq!(size("99999999999999 MiB"), None);
    }
}

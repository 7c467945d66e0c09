//! Numbers: which runs of digits could be a code, and which are part of something else.
//!
//! Phone numbers, dates, times, amounts, cards, links and hashes are struck out first; then a run must stand free: no
//! letter, mask or joined digits beside it, no unit after it.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What looks like something other than a code, whatever the words around it say. `<` and `>` stand for the border of an
/// ASCII word: Korean particles follow a number without a blank.
const ELSE: &[&str] = &[
    // Links and mail addresses, up to the next blank.
    r"(?i)[a-z]+://\S*",
    r"(?i)[a-z][a-z0-9-]*(\.[a-z0-9-]+)*\.[a-z]{2,}(/\S*)?",
    r"(?i)\S+@[a-z0-9-]+\.\S+",
    // International, land-line, mobile and service numbers.
    r"\+\d[\d ()-]{6,}\d",
    r"<\(?0\d{1,3}\)?[ .-]?\d{3,4}[ .-]\d{4}>",
    r"<01[016789]\d{7,8}>",
    r"<1[3-9]\d\d[ .-]\d{4}>",
    r"\(\d{3}\) ?\d{3}-\d{4}>",
    // Cards and accounts: three groups or more, some perhaps masked.
    r"[\dxX*]{2,7}(-[\dxX*]{2,7}){2,}",
    r"[\dxX*]{3,6}( [\dxX*]{3,6}){2,}",
    // Dates and times.
    r"<(19|20)?\d\d ?[.\-/년] ?\d{1,2} ?[.\-/월] ?\d{1,2}>",
    r"<\d{1,2}[./]\d{1,2}([./]\d{2,4})?>",
    r"<(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])>",
    r"<\d{1,2}:\d\d(:\d\d)?>",
    r"<(\d\d|\d{4}) ?년",
    r"<\d{1,2} ?[월일]",
    // Amounts.
    r"(?i)(₩|￦|\\|\$|€|£|¥|krw|usd|eur|jpy) ?\d[\d,.]*",
    r"(?i)\d[\d,.]*(원|만원|천원|달러|엔|유로|포인트|마일|krw|usd|eur|jpy|won|%)",
    r"(?i)\d[\d,.]* (원|만원|천원|달러|엔|유로|포인트|마일|krw|usd|eur|jpy|won|%)(\s|[.,)]|$)",
    r"\d{1,3}(,\d{3})+",
];

/// What follows a number that counts something.
const UNITS: &[&str] = &[
    "개", "건", "명", "분", "초", "시간", "매", "호", "층", "동", "점", "자리", "님", "bytes", "byte", "kb", "mb",
    "gb", "km", "kg", "min", "minutes", "seconds", "sec", "hours", "days", "times", "points", "pts",
];

/// The app hash that Android's SMS retriever wants: eleven characters of Base64 at the end.
const HASH: usize = 11;

// Compiled once from constants that the tests compile as well.
#[expect(clippy::expect_used, reason = "constant patterns")]
static SOMETHING_ELSE: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let border = |pattern: &str| pattern.replace(['<', '>'], r"(?-u:\b)");
    ELSE.iter().map(|pattern| Regex::new(&border(pattern)).expect("a constant pattern")).collect()
});

/// Where the runs of exactly `length` digits are that could be a code.
pub(super) fn candidates(text: &str, length: usize) -> Vec<Range<usize>> {
    let struck: Vec<Range<usize>> =
        SOMETHING_ELSE.iter().flat_map(|pattern| pattern.find_iter(text).map(|found| found.range())).collect();
    let hash = hash(text);
    runs(text)
        .into_iter()
        .filter(|run| run.len() == length && length > 0)
        .filter(|run| !struck.iter().chain(hash.as_ref()).any(|other| run.start < other.end && other.start < run.end))
        .filter(|run| stands_free(&text[..run.start], &text[run.end..]))
        .collect()
}

/// Whether the message is nothing but this number, besides names in brackets and punctuation.
pub(super) fn alone(text: &str, number: &Range<usize>) -> bool {
    let mut depth = 0_u32;
    let around = text[..number.start].chars().chain(text[number.end..].chars());
    for c in around {
        match c {
            '[' | '(' | '<' => depth += 1,
            ']' | ')' | '>' => depth = depth.saturating_sub(1),
            c if depth == 0 && c.is_alphanumeric() => return false,
            _ => {}
        }
    }
    true
}

/// All runs of digits, as long as they go.
fn runs(text: &str) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

fn hash(text: &str) -> Option<Range<usize>> {
    let last = text.split_whitespace().last()?;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let hash = last.len() == HASH && last.bytes().all(base64) && last.bytes().any(|byte| byte.is_ascii_alphabetic());
    hash.then(|| text.len() - HASH..text.len())
}

fn stands_free(before: &str, after: &str) -> bool {
    // Stars on both sides are emphasis, on one side a mask.
    match (before.strip_suffix('*'), after.strip_prefix('*')) {
        (Some(before), Some(after)) => stands_free(before, after),
        _ => free_before(before) && free_after(after),
    }
}

/// Nothing before the run says that it is the rest of something longer.
fn free_before(before: &str) -> bool {
    let mut back = before.chars().rev();
    match back.next() {
        None => true,
        Some(c) if c.is_ascii_alphanumeric() || c.is_numeric() => false,
        Some('*' | '_' | '+' | '@' | '\\' | '~' | '•' | '●') => false,
        Some('/') => !back.next().is_some_and(|c| c.is_ascii_alphanumeric()),
        // "1,234" and "12-345678" are one number; "G-234145" and "코드.123456" are not.
        Some('-' | '.' | ',' | ':') => !back.next().is_some_and(|c| c.is_ascii_digit() || c == '*'),
        // "1588 1234" without a pattern of its own: a group of digits one blank away belongs to it.
        Some(' ') => digits(back.clone()) < 3 || written(back),
        Some(_) => true,
    }
}

/// Nothing after the run says that it is the beginning of something longer, or counts something.
fn free_after(after: &str) -> bool {
    let mut ahead = after.chars();
    match ahead.next() {
        None => true,
        Some(c) if c.is_ascii_alphanumeric() || c.is_numeric() => false,
        Some('*' | '_' | '@' | '\\' | '~' | '•' | '●') => false,
        Some('/') => !ahead.next().is_some_and(|c| c.is_ascii_alphanumeric()),
        Some('-' | '.' | ',' | ':') => !ahead.next().is_some_and(|c| c.is_ascii_digit() || c == '*'),
        Some(' ') if digits(ahead.clone()) >= 3 => written(ahead),
        Some(_) => !counts(after),
    }
}

/// How many digits the text begins with (in the direction of the iterator).
fn digits(text: impl Iterator<Item = char>) -> usize {
    text.take_while(char::is_ascii_digit).count()
}

/// Whether the digits that begin here (in the direction of the iterator) are part of a number written with separators, such
/// as "1588-1234": a number of its own beside the run.
fn written(mut text: impl Iterator<Item = char>) -> bool {
    matches!(text.find(|c| !c.is_ascii_digit()), Some('-' | '.' | ',' | ':' | '/'))
}

/// Whether a unit follows: directly, or after a blank as a word of its own.
fn counts(after: &str) -> bool {
    let spaced = after.starts_with(' ');
    let word = after.trim_start_matches(' ').to_lowercase();
    UNITS.iter().any(|unit| {
        word.strip_prefix(unit).is_some_and(|rest| {
            let ends = !rest.starts_with(char::is_alphanumeric);
            if unit.is_ascii() || spaced { ends } else { true }
        })
    })
}

//! Numbers: every number of a text, and whether it could be a code or is part of something else.
//!
//! Phone numbers, dates, times, amounts, cards, links and hashes are told by their shape; then a run of digits must stand
//! free: no letter, mask or joined digits beside it, no unit after it.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::Verdict;

/// What looks like something other than a code, whatever the words around it say. `<` and `>` stand for the border of an
/// ASCII word: Korean particles follow a number without a blank.
const ELSE: &[(Verdict, &[&str])] = &[
    // Up to the next blank.
    (Verdict::Link, &[r"(?i)[a-z]+://\S*", r"(?i)[a-z][a-z0-9-]*(\.[a-z0-9-]+)*\.[a-z]{2,}(/\S*)?"]),
    (Verdict::Mail, &[r"(?i)[a-z0-9._%+-]+@[a-z0-9-]+\.\S+"]),
    // International, land-line, mobile and service numbers.
    (
        Verdict::Phone,
        &[
            r"\+\d[\d ()-]{6,}\d",
            r"<\(?0\d{1,3}\)?[ .-]?\d{3,4}[ .-]\d{4}>",
            r"<01[016789]\d{7,8}>",
            r"<1[3-9]\d\d[ .-]\d{4}>",
            r"<(\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}>",
        ],
    ),
    (
        Verdict::Date,
        &[
            r"<(19|20)?\d\d ?[.\-/년年] ?\d{1,2} ?[.\-/월月] ?\d{1,2}>",
            r"<\d{1,2}[./]\d{1,2}([./]\d{2,4})?>",
            r"<(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])>",
            r"<(\d\d|\d{4}) ?[년年]",
            r"<\d{1,2} ?[월일月日]",
            r"(?i)<(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2}(st|nd|rd|th)?,? (19|20)\d\d>",
            r"(?i)<\d{1,2}\.? (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,? (19|20)\d\d>",
            r"(?i)(©|\(c\)|copyright) ?(19|20)\d\d>",
        ],
    ),
    // Behind the dates, which name what both match. Cards and accounts: three groups or more, some perhaps masked; or the last digits behind the word.
    (
        Verdict::Card,
        &[
            r"[\dxX*]{2,7}(-[\dxX*]{2,7}){2,}",
            r"[\dxX*]{3,6}( [\dxX*]{3,6}){2,}",
            r"카드 ?\(?\d{4}>",
            r"(?i)<card (no\.? |number )?(ending )?(in |with )?\(?\d{4}>",
        ],
    ),
    (Verdict::Time, &[r"<\d{1,2}:\d\d(:\d\d)?>"]),
    (
        Verdict::Amount,
        &[
            r"(?i)(₩|\\|\$|€|£|¥|<krw|<usd|<eur|<jpy|<rs\.?|<inr) ?\d[\d,.]*",
            r"(?i)\d[\d,.]*(원|만|천원|달러|엔|유로|포인트|마일|円|元|€|₩|krw|usd|eur|jpy|won|%)",
            r"(?i)\d[\d,.]* (원|만원|천원|달러|엔|유로|포인트|마일|円|元|€|₩|krw|usd|eur|jpy|won|%)(\s|[.,)]|$)",
            r"\d{1,3}(,\d{3})+",
        ],
    ),
];

/// What follows a number that counts something.
const UNITS: &[&str] = &[
    "개", "건", "명", "분", "초", "시간", "매", "호", "층", "동", "점", "자리", "님", "회", "장", "bytes", "byte",
    "kb", "mb", "gb", "km", "kg", "min", "minutes", "seconds", "sec", "hours", "days", "times", "points", "pts",
];

/// The app hash that Android's SMS retriever wants: eleven characters of Base64 at the end.
const HASH: usize = 11;

/// Digits of each half where a code is written in two, as in "123-456". Longer halves would be phone numbers.
const HALF: usize = 3;

// Compiled once from constants that the tests compile as well.
#[expect(clippy::expect_used, reason = "constant patterns")]
static SOMETHING_ELSE: LazyLock<Vec<(Verdict, Regex)>> = LazyLock::new(|| {
    let border = |pattern: &str| pattern.replace(['<', '>'], r"(?-u:\b)");
    let compile = |pattern: &str| Regex::new(&border(pattern)).expect("a constant pattern");
    ELSE.iter().flat_map(|(what, patterns)| patterns.iter().map(|one| (what.clone(), compile(one)))).collect()
});

/// A number of the text.
pub(super) struct Number {
    /// Where it stands.
    pub(super) place: Range<usize>,
    /// Its digits if it could be a code, and otherwise what it is.
    pub(super) code: Result<String, Verdict>,
}

/// All numbers of the text, in order; those of exactly `length` digits that are not something else could be a code.
pub(super) fn all(text: &str, length: usize) -> Vec<Number> {
    let others = others(text);
    let free = |run: &Range<usize>| !others.iter().any(|(other, _)| overlap(other, run));
    let runs = joined(text, runs(text), length).into_iter().filter(free);
    let mut numbers: Vec<Number> = runs.map(|place| Number { code: read(text, &place, length), place }).collect();
    numbers.extend(others.iter().map(|(place, what)| Number { place: place.clone(), code: Err(what.clone()) }));
    numbers.sort_by_key(|number| number.place.start);
    numbers
}

/// Whether the text is nothing but this number, besides names in brackets and punctuation.
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

/// Whether two places share a character.
pub(super) fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The numbers that are something else by their shape. Where shapes overlap they are one, and the longest names it.
fn others(text: &str) -> Vec<(Range<usize>, Verdict)> {
    let by_shape = SOMETHING_ELSE
        .iter()
        .flat_map(|(what, pattern)| pattern.find_iter(text).map(|found| (trimmed(text, found.range()), what.clone())));
    let has_digit = |(place, _): &(Range<usize>, Verdict)| text[place.clone()].contains(|c: char| c.is_ascii_digit());
    let mut found: Vec<_> = by_shape.chain(hash(text).map(|place| (place, Verdict::Hash))).filter(has_digit).collect();
    found.sort_by_key(|(place, _)| (place.start, std::cmp::Reverse(place.end)));
    let mut merged: Vec<(Range<usize>, Verdict)> = Vec::new();
    for (place, what) in found {
        match merged.last_mut() {
            Some((last, name)) if overlap(last, &place) => {
                if place.len() > last.len() {
                    *name = what;
                }
                last.end = last.end.max(place.end);
            }
            _ => merged.push((place, what)),
        }
    }
    merged
}

/// `place` without the blank that a pattern needs behind it.
fn trimmed(text: &str, place: Range<usize>) -> Range<usize> {
    place.start..place.start + text[place].trim_end().len()
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

/// The runs, two halves made one where the code is twice as long as a half: "123 456", "123-456".
fn joined(text: &str, runs: Vec<Range<usize>>, length: usize) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last)
                if length == 2 * HALF
                    && (last.len(), run.len()) == (HALF, HALF)
                    && matches!(&text[last.end..run.start], " " | "-") =>
            {
                last.end = run.end;
            }
            _ => joined.push(run),
        }
    }
    joined
}

fn hash(text: &str) -> Option<Range<usize>> {
    let last = text.split_whitespace().last()?;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let hash = last.len() == HASH && last.bytes().all(base64) && last.bytes().any(|byte| byte.is_ascii_alphabetic());
    hash.then(|| text.len() - HASH..text.len())
}

/// The digits of a run that could be a code.
fn read(text: &str, place: &Range<usize>, length: usize) -> Result<String, Verdict> {
    let digits: String = text[place.clone()].chars().filter(char::is_ascii_digit).collect();
    let (before, after) = (&text[..place.start], &text[place.end..]);
    if length == 0 || digits.len() != length {
        Err(Verdict::WrongLength { length: digits.len() })
    } else if !stands_free(before, after) {
        Err(Verdict::PartOfMore)
    } else if counts(after) {
        Err(Verdict::Counted)
    } else {
        Ok(digits)
    }
}

fn stands_free(before: &str, after: &str) -> bool {
    // Stars on both sides are emphasis, as is one at the end of a word; others are a mask.
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(char::is_whitespace);
    match (before.strip_suffix('*'), after.strip_prefix('*')) {
        (Some(before), Some(after)) => stands_free(before, after),
        (None, Some(after)) if ends(after) => stands_free(before, after),
        _ => free(before.chars().rev()) && !before.ends_with('+') && free(after.chars()),
    }
}

/// Nothing on this side says that the run is only a part of something longer. `side` goes away from the run.
fn free(mut side: impl Iterator<Item = char> + Clone) -> bool {
    match side.next() {
        None => true,
        Some(c) if c.is_ascii_alphanumeric() || c.is_numeric() => false,
        Some('*' | '_' | '@' | '\\' | '~' | '•' | '●') => false,
        Some('/' | '+') => !side.next().is_some_and(|c| c.is_ascii_alphanumeric()),
        // "1,234" and "12-345678" are one number; "G-234145" and "코드.123456" are not.
        Some('-' | '.' | ',' | ':') => !side.next().is_some_and(|c| c.is_ascii_digit() || c == '*'),
        // "1588 1234" without a pattern of its own: a group of digits one blank away belongs to it, unless it is written
        // with separators, such as "1588-1234": a number of its own.
        Some(' ') => {
            let group = side.clone().take_while(char::is_ascii_digit).count();
            let next = side.find(|c| !c.is_ascii_digit());
            group < 3 || matches!(next, Some('-' | '.' | ',' | ':' | '/'))
        }
        Some(_) => true,
    }
}

/// Whether a unit follows: directly, or after a blank as a word of its own.
fn counts(after: &str) -> bool {
    let spaced = after.starts_with(' ');
    let word = after.trim_start_matches(' ');
    UNITS.iter().any(|unit| {
        let begins = word.get(..unit.len()).is_some_and(|start| start.eq_ignore_ascii_case(unit));
        let ends = || !word[unit.len()..].starts_with(char::is_alphanumeric);
        begins && (!(unit.is_ascii() || spaced) || ends())
    })
}

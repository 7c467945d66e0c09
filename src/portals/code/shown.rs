//! Shown: whether a text presents a number as the code that its words speak of.
//!
//! "Building code violation 573829 filed" has a code and a number, and the one is not the other. So a word nearby is not
//! enough: the number stands right beside it, or the text holds it up: at the beginning, in brackets of its own, as what
//! something is, as what is to be entered.

use std::ops::Range;

/// Words that may stand between a label and its number: particles, and forms of "to be".
const LINKS: &[&str] = &[
    "은", "는", "이", "가", "을", "를", "로", "으로", "is", "are", "ist", "lautet", "est", "es", "é", "è", "là", "は",
    "是", "为", "為",
];

/// Words right before a number that hold it up, besides [`LINKS`].
const HOLD: &[&str] = &["use", "enter", "type", "saisissez", "nutze"];

/// What holds it up right behind, glued to the number or after a blank.
const HELD: &[&str] = &["입니다", "이에요", "예요", "을", "를", "은(는)", "이(가)", "を", "は"];

/// As [`HELD`], where the label comes last: "573829 is your code", not "code review 573829 is done".
const IS: &[&str] = &["is ", "are ", "ist ", "est ", "es ", "is:"];

/// Words that tell what a code is for, up to a colon: "PIN for the portal: 573829".
const FOR: &[&str] = &["for", "to", "für", "pour", "para", "de", "di"];

/// Labels, in lowercase, that speak of proving something and do not name a code. Right behind a number they may go on about
/// something else: "대출증 573829 본인확인 후 대출".
const ACTS: &[&str] = &["인증", "본인확인", "일회용", "verify", "verification", "authentication", "認証"];

/// Whether the number at `place` is the one that the label at `label` speaks of.
pub(super) fn shown(text: &str, place: &Range<usize>, label: &Range<usize>, begins: bool) -> bool {
    let (before, after) = (&text[..place.start], &text[place.end..]);
    let after = after.trim_start_matches([' ', ']', ')', '>', '*', '"', '\'']);
    let behind = |words: &[&str]| words.iter().any(|word| after.starts_with(word));
    let by_label = if label.end <= place.start {
        let between = &text[label.end..place.start];
        beside(between) || purpose(between)
    } else {
        let names = !ACTS.contains(&text[label.clone()].to_lowercase().as_str());
        names && beside(&text[place.end..label.start]) || behind(IS)
    };
    begins || by_label || framed(before) || held(before) || behind(HELD)
}

/// Whether nothing with a meaning of its own stands in between, besides an aside in brackets: "code (do not share): 573829".
fn beside(between: &str) -> bool {
    let outside = match (between.find('('), between.rfind(')')) {
        (Some(opens), Some(closes)) if opens < closes => [&between[..opens], &between[closes..]].concat(),
        _ => between.to_owned(),
    };
    let mut words = outside.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.all(|word| LINKS.contains(&word.to_lowercase().as_str()))
}

/// Whether a bracket or a sign that belongs to no word opens right before: `" [123456"`, not `"customer(123456"`.
fn framed(before: &str) -> bool {
    let mut back = before.trim_end_matches(' ').chars().rev();
    let sign =
        |c: char| !c.is_alphanumeric() && !matches!(c, ':' | '=' | '.' | ',' | '#' | '-' | '/' | ']' | ')' | '>');
    back.next().is_some_and(sign) && !back.next().is_some_and(char::is_alphanumeric)
}

/// Whether all that stands in between tells what the code is for.
fn purpose(between: &str) -> bool {
    let Some(words) = between.trim_end().strip_suffix(':') else { return false };
    let plain = words.chars().all(|c| c.is_alphabetic() || c == ' ');
    plain && words.split_whitespace().next().is_some_and(|first| FOR.contains(&first.to_lowercase().as_str()))
}

/// Whether the word right before says that this is it.
fn held(before: &str) -> bool {
    let last = before.trim_end().rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase();
    LINKS.iter().chain(HOLD).any(|word| last == *word)
}

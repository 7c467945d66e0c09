//! Codes: finding the one-time code in a text message.
//!
//! Pure: a text and rules in, an answer out, and never a guess. A wrong code costs an attempt at the portal and may lock
//! the account; no code costs a resend. So whatever could just as well be something else is refused.
//!
//! In this order: a domain-bound last line (`@acme.example #123456`) speaks for itself; then the recipe's pattern, if it has one;
//! then runs of exactly as many digits as the code has, without those that are part of something else (`numbers`), each
//! judged by the words near it (`words`).

mod bound;
mod normal;
mod numbers;
mod words;

use regex::Regex;

use crate::secret::Secret;
use bound::Bound;

/// The longest text that is looked at, in characters. Korean long messages end at about a thousand.
pub const MAX_TEXT: usize = 4096;

/// The longest code that a pattern or a domain-bound line may give, in characters; also for codes typed by an operator.
pub const MAX_CODE: usize = 16;

/// How much nearer the best candidate must be to its anchor than the next one, in characters. Less is a tie: "code 111111
/// or 222222" has two codes, however the sentence is built.
const MARGIN: usize = 20;

/// What a recipe says about its code.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many digits it has.
    pub length: usize,
    /// Words that stand near it, besides the built-in ones.
    pub anchors: Vec<String>,
    /// Overrides the search for digits: its first group, or the whole match, is the code.
    pub pattern: Option<Regex>,
    /// The portal's host name, for domain-bound codes.
    pub host: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// One code.
    Code(Secret),
    /// No code.
    Nothing,
    /// Several that could be it.
    Ambiguous,
}

/// Looks for the code in `text`.
pub fn find(text: &str, rules: &Rules) -> Found {
    if text.chars().count() > MAX_TEXT {
        return Found::Nothing;
    }
    let text = normal::form(text);
    match bound::read(&text, rules.host.as_deref()) {
        Bound::Code(code) => return Found::Code(Secret::new(code)),
        // Made for another site, whatever the rest of the message says.
        Bound::Elsewhere => return Found::Nothing,
        Bound::No => {}
    }
    match &rules.pattern {
        Some(pattern) => by_pattern(&text, pattern),
        None => by_words(&text, rules),
    }
}

fn by_pattern(text: &str, pattern: &Regex) -> Found {
    let codes = pattern.captures_iter(text).filter_map(|found| {
        let code = if found.len() > 1 { found.get(1)? } else { found.get(0)? }.as_str().trim();
        (!code.is_empty() && code.chars().count() <= MAX_CODE).then(|| (0, code.to_owned()))
    });
    nearest(codes.collect())
}

fn by_words(text: &str, rules: &Rules) -> Found {
    let candidates = numbers::candidates(text, rules.length);
    let labels = words::Labels::find(text, &rules.anchors);
    let scored = candidates.iter().filter_map(|place| {
        let distance = labels.distance(text, place)?;
        Some((distance, text[place.clone()].to_owned()))
    });
    match nearest(scored.collect()) {
        // A message that is nothing but a number, at most with the sender's name in brackets, needs no word to explain it.
        Found::Nothing if candidates.len() == 1 && numbers::alone(text, &candidates[0]) => {
            Found::Code(Secret::new(&text[candidates[0].clone()]))
        }
        found => found,
    }
}

/// The code with the smallest distance, if the next different one is clearly further away.
fn nearest(mut scored: Vec<(usize, String)>) -> Found {
    scored.sort();
    let Some((best, code)) = scored.first() else { return Found::Nothing };
    let rival = scored.iter().find(|(_, other)| other != code);
    match rival {
        Some((distance, _)) if *distance < best + MARGIN => Found::Ambiguous,
        _ => Found::Code(Secret::new(code)),
    }
}

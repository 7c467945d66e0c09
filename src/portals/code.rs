//! Codes: finding the one-time code in a text message.
//!
//! Pure: a text and rules in, an answer out, and never a guess. A wrong code costs an attempt at the portal and may lock
//! the account; no code costs a resend. So whatever could just as well be something else is refused.
//!
//! In this order: a domain-bound line (`@acme.example #123456`) speaks for itself; then the recipe's pattern, if it has one;
//! then runs of exactly as many digits as the code has, without those that are part of something else (`numbers`), each
//! judged by the words near it (`words`). Every answer comes with its [`Explanation`].

mod bound;
mod normal;
mod numbers;
mod shown;
mod words;

use std::ops::Range;

use regex::Regex;
use serde::Serialize;

use crate::secret::Secret;
use bound::{Bound, Site};
use words::{DOUBT, Labels, Near};

/// The longest text that is looked at, in characters. Korean long messages end at about a thousand.
pub const MAX_TEXT: usize = 4096;

/// The longest code that a pattern or a domain-bound line may give, in characters; also for codes typed by an operator.
pub const MAX_CODE: usize = 16;

/// How near, in characters, a number that is not shown as a code makes a tie with the one that is: "your code is 111222 (or
/// 333444)" has two codes, however the sentence is built. Two that are shown tie at any distance.
const MARGIN: usize = 20;

/// What a recipe says about its code.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many digits it has; a domain-bound code as many letters and digits.
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

/// What was found, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The answer.
    pub found: Found,
    /// What decided.
    pub rule: Rule,
    /// The text in the form in which it was looked at: plain digits, plain blanks, nothing invisible.
    pub text: Secret,
    /// Everything that was considered, in the order of the text.
    pub candidates: Vec<Candidate>,
}

/// What decided. Its words in snake case are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The text is longer than [`MAX_TEXT`] and was not looked at.
    TextTooLong,
    /// A line binds the code to a site.
    DomainBound,
    /// The recipe's pattern.
    Pattern,
    /// The words near the numbers.
    Words,
    /// The message is nothing but one number.
    Alone,
}

/// Something in the text that might have been the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As it stands in the text.
    pub text: Secret,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a candidate. Its words in snake case are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is the code.
    Code {
        /// The word that explains it, where a word was needed.
        word: Option<String>,
    },
    /// It is as likely to be the code as another one.
    Tied {
        /// The word that would explain it, where a word was needed.
        word: Option<String>,
    },
    /// A word that merely asks for a number is near; another number has a better one.
    Farther {
        /// That word.
        word: String,
    },
    /// A word for a code is near, but the text does not present the number as what it speaks of.
    NotShown {
        /// That word.
        word: String,
    },
    /// It could be a code, but no word near it says so.
    Unexplained,
    /// The word before it says that it is something else.
    Claimed {
        /// That word.
        word: String,
    },
    /// It is longer or shorter than the recipe's code.
    WrongLength {
        /// How long.
        length: usize,
    },
    /// It is bound to another site, or holds something that is.
    OtherSite,
    /// Letters, digits or a mask stand right beside it.
    PartOfMore,
    /// A unit follows it.
    Counted,
    /// Part of a link.
    Link,
    /// Part of a mail address.
    Mail,
    /// A phone number.
    Phone,
    /// A card or an account.
    Card,
    /// A date.
    Date,
    /// A time of day.
    Time,
    /// An amount of money.
    Amount,
    /// The hash at the end of a message for Android's SMS retriever.
    Hash,
}

/// Looks for the code in `text`.
pub fn find(text: &str, rules: &Rules) -> Found {
    explain(text, rules).found
}

/// Looks for the code in `text`, and says why it is that, or why there is none.
pub fn explain(text: &str, rules: &Rules) -> Explanation {
    // Looked at twice: a character can become eighteen in plain form.
    let fits = |text: &str| text.chars().nth(MAX_TEXT).is_none();
    let plain = if fits(text) { normal::form(text) } else { text.to_owned() };
    let (rule, seen) = if !fits(&plain) {
        (Rule::TextTooLong, Vec::new())
    } else if let Some(seen) = by_site(&plain, rules) {
        (Rule::DomainBound, seen)
    } else if let Some(pattern) = &rules.pattern {
        (Rule::Pattern, by_pattern(&plain, pattern))
    } else {
        by_words(&plain, rules)
    };
    let decision = Decision::of(&seen);
    let candidates = seen.into_iter().map(|seen| seen.judged(&plain, &decision)).collect();
    Explanation { found: decision.found(), rule, candidates, text: Secret::new(plain) }
}

/// A candidate before the decision: what could be the code, or why it cannot.
struct Seen {
    place: Range<usize>,
    reading: Result<Likely, Verdict>,
}

/// What could be the code.
struct Likely {
    code: String,
    /// What says so, where a word is needed.
    near: Option<Near>,
}

impl Likely {
    fn by_itself(code: &str) -> Self {
        Self { code: code.to_owned(), near: None }
    }

    fn distance(&self) -> usize {
        self.near.as_ref().map_or(0, |near| near.distance)
    }

    fn shown(&self) -> bool {
        self.near.as_ref().is_none_or(|near| near.shown)
    }

    /// Whether it could be the code as well as one at `distance` from its word.
    fn rivals(&self, distance: usize) -> bool {
        self.distance() < distance + if self.shown() { DOUBT } else { MARGIN }
    }
}

impl Seen {
    fn judged(self, text: &str, decision: &Decision) -> Candidate {
        let verdict = match self.reading {
            Ok(likely) => decision.on(&likely),
            Err(verdict) => verdict,
        };
        Candidate { text: Secret::new(&text[self.place]), verdict }
    }
}

/// The likely code nearest to its word, and whether another one could just as well be it.
struct Decision {
    best: Option<(String, usize)>,
    tie: bool,
}

impl Decision {
    fn of(seen: &[Seen]) -> Self {
        let likely = || seen.iter().filter_map(|seen| seen.reading.as_ref().ok());
        let best = likely().filter(|likely| likely.shown()).min_by_key(|likely| likely.distance());
        let tie =
            best.is_some_and(|best| likely().any(|other| other.code != best.code && other.rivals(best.distance())));
        Self { best: best.map(|best| (best.code.clone(), best.distance())), tie }
    }

    fn found(&self) -> Found {
        match &self.best {
            None => Found::Nothing,
            Some(_) if self.tie => Found::Ambiguous,
            Some((code, _)) => Found::Code(Secret::new(code)),
        }
    }

    fn on(&self, likely: &Likely) -> Verdict {
        let (shown, word) = (likely.shown(), likely.near.as_ref().map(|near| near.word.clone()));
        match (&self.best, word) {
            (Some((_, distance)), word) if self.tie && likely.rivals(*distance) => Verdict::Tied { word },
            (Some((code, _)), word) if *code == likely.code => Verdict::Code { word },
            (Some(_), Some(word)) if shown => Verdict::Farther { word },
            (_, Some(word)) => Verdict::NotShown { word },
            (_, None) => Verdict::Unexplained,
        }
    }
}

/// The codes of the lines that bind one; None without such a line, or without a host to compare with.
fn by_site(text: &str, rules: &Rules) -> Option<Vec<Seen>> {
    let bound = bound::codes(text, rules.host.as_deref()?);
    // One for another site condemns the whole message, whatever the rest of it says.
    let foreign = bound.iter().any(|code| code.site == Site::Other);
    let fits = |code: &str| rules.pattern.is_some() || code.len() == rules.length;
    let seen = bound.into_iter().map(|Bound { place, .. }| {
        let code = &text[place.clone()];
        let reading = match () {
            () if foreign => Err(Verdict::OtherSite),
            () if !fits(code) => Err(Verdict::WrongLength { length: code.len() }),
            () => Ok(Likely::by_itself(code)),
        };
        Seen { place, reading }
    });
    Some(seen.collect()).filter(|seen: &Vec<_>| !seen.is_empty())
}

fn by_pattern(text: &str, pattern: &Regex) -> Vec<Seen> {
    let matches = pattern.captures_iter(text).filter_map(|found| {
        let place = if found.len() > 1 { found.get(1)? } else { found.get(0)? };
        let code = place.as_str().trim();
        let usable = (1..=MAX_CODE).contains(&code.chars().count());
        usable.then(|| Seen { place: place.range(), reading: Ok(Likely::by_itself(code)) })
    });
    matches.collect()
}

fn by_words(text: &str, rules: &Rules) -> (Rule, Vec<Seen>) {
    let numbers = numbers::all(text, rules.length);
    let labels = Labels::find(text, &rules.anchors, &numbers);
    let judge = |code: String, place: &Range<usize>| labels.judge(place).map(|near| Likely { code, near: Some(near) });
    let mut seen: Vec<Seen> = numbers
        .into_iter()
        .map(|number| Seen { reading: number.code.and_then(|code| judge(code, &number.place)), place: number.place })
        .collect();
    // A message that is nothing but a number, at most with the sender's name in brackets, needs no word to explain it.
    let lone = seen.iter_mut().find(|seen| {
        seen.reading.as_ref().is_err_and(|why| *why == Verdict::Unexplained) && numbers::alone(text, &seen.place)
    });
    match lone {
        Some(lone) => {
            lone.reading = Ok(Likely::by_itself(&text[lone.place.clone()]));
            (Rule::Alone, seen)
        }
        None => (Rule::Words, seen),
    }
}

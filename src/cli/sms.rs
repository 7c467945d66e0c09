//! `nightporter sms explain`: what a login would take from a text message, and why. Asks the very functions that the inbox
//! asks; keeps nothing, and the message goes nowhere but to standard output.

use std::io::{self, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{self, Exit, Failure};
use super::output;
use crate::portals::code::{self, Candidate, Explanation, Found, MAX_TEXT, Rule, Verdict};
use crate::portals::inbox::{Reason, sender};
use crate::portals::recipe::{Code, Recipe};

/// The most that is read from standard input, in bytes: far more than a text that is looked at.
const INPUT: u64 = 1 << 20;

/// What can be asked about text messages.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Sms {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show which code a login by this recipe would take from a message, and why. Ends with 0 when there is one, with 4
    /// when there is none, when several could be it, or when the sender is not allowed.
    #[command(after_long_help = exit::HELP)]
    Explain(Explain),
}

#[derive(Debug, Args)]
struct Explain {
    /// The recipe whose [code] section counts
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// The message; - reads it from standard input
    #[arg(long, allow_hyphen_values = true)]
    text: String,
    /// Who sent it; without it, the sender is not checked
    #[arg(long, value_name = "SENDER", allow_hyphen_values = true)]
    from: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Sms {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let Action::Explain(explain) = self.action;
        explain.run()
    }
}

impl Explain {
    fn run(self) -> Result<Exit, Failure> {
        let recipe = Recipe::load(&self.recipe).map_err(|error| Failure::new(Exit::Config, error))?;
        let Some(code) = &recipe.code else {
            let message = format!("{}: there is no [code] section to read a message by", self.recipe.display());
            return Err(Failure::told(Exit::Config, message));
        };
        let text = if self.text == "-" { from_input()? } else { self.text };
        let explanation = code::explain(&text, &code.rules(&recipe.base_url));
        let answer = Answer::of(&explanation, code, self.from.as_deref());
        if self.json {
            output::print_json(&answer)?;
        } else {
            output::print(&answer.show())?;
        }
        Ok(if answer.code.is_some() { Exit::Good } else { Exit::NoCode })
    }
}

fn from_input() -> Result<String, Failure> {
    let read = io::read_to_string(io::stdin().lock().take(INPUT));
    read.map_err(|_| Failure::told(Exit::Failed, "standard input holds no UTF-8 text of at most 1 MiB"))
}

/// What is printed as JSON; its keys and words are stable.
#[derive(Serialize)]
struct Answer<'a> {
    /// What a login would type; null when it would wait on.
    code: Option<&'a str>,
    /// Why there is none, as the phone's forwarder would be told.
    reason: Option<Reason>,
    decided_by: Rule,
    /// How many digits the recipe wants.
    length: u8,
    sender: Sender<'a>,
    /// The text as it was looked at.
    text: &'a str,
    candidates: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Sender<'a> {
    from: Option<&'a str>,
    /// Null when no sender was given.
    allowed: Option<bool>,
    /// The recipe's; empty: anybody.
    expected: &'a [String],
}

#[derive(Serialize)]
struct Row<'a> {
    text: &'a str,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

impl<'a> Answer<'a> {
    fn of(explanation: &'a Explanation, code: &'a Code, from: Option<&'a str>) -> Self {
        let allowed = from.map(|from| sender::allowed(from, &code.senders));
        // In the inbox's order: who may not send is not read.
        let (code_found, reason) = match &explanation.found {
            _ if allowed == Some(false) => (None, Some(Reason::SenderNotAllowed)),
            Found::Code(code) => (Some(code.expose()), None),
            Found::Nothing => (None, Some(Reason::NoCode)),
            Found::Ambiguous => (None, Some(Reason::Ambiguous)),
        };
        let row = |candidate: &'a Candidate| Row { text: candidate.text.expose(), verdict: &candidate.verdict };
        Self {
            code: code_found,
            reason,
            decided_by: explanation.rule,
            length: code.length,
            sender: Sender { from, allowed, expected: &code.senders },
            text: explanation.text.expose(),
            candidates: explanation.candidates.iter().map(row).collect(),
        }
    }

    fn show(&self) -> String {
        let answer = match self.reason {
            Some(Reason::SenderNotAllowed) => "none: the message is not read, its sender is not allowed".to_owned(),
            Some(Reason::Ambiguous) => "none: several could be it, and a wrong one costs an attempt".to_owned(),
            _ => self.code.unwrap_or("none: nothing in the message is sure to be it").to_owned(),
        };
        let head = [("code", answer), ("decided by", rule(self.decided_by)), ("sender", self.sender.show())];
        let mut text = output::table(&head.map(|(key, value)| vec![key.to_owned(), value]));
        if !self.candidates.is_empty() {
            let rows = self.candidates.iter().map(|row| vec![one_line(row.text), row.says(self.length)]);
            text.push_str("\nin the text:\n");
            text.push_str(&output::table(&rows.collect::<Vec<_>>()));
        }
        text
    }
}

impl Sender<'_> {
    fn show(&self) -> String {
        let expected = || self.expected.join(", ");
        match (self.from, self.allowed) {
            (None, _) if self.expected.is_empty() => "not given; the recipe allows anybody".to_owned(),
            (None, _) => format!("not given, not checked; the recipe allows {}", expected()),
            (Some(from), _) if self.expected.is_empty() => format!("{}: the recipe allows anybody", one_line(from)),
            (Some(from), Some(true)) => format!("{}: allowed by the recipe ({})", one_line(from), expected()),
            (Some(from), _) => format!("{}: not allowed, the recipe wants {}", one_line(from), expected()),
        }
    }
}

fn rule(rule: Rule) -> String {
    match rule {
        Rule::TextTooLong => format!("the length: more than {MAX_TEXT} characters are not looked at"),
        Rule::DomainBound => "the line that binds a code to a site".to_owned(),
        Rule::Pattern => "the recipe's pattern".to_owned(),
        Rule::Words => "the words near the numbers".to_owned(),
        Rule::Alone => "there is nothing but one number".to_owned(),
    }
}

impl Row<'_> {
    fn says(&self, wanted: u8) -> String {
        let plain = match self.verdict {
            Verdict::Code { word: Some(word) } => return format!("the code: \"{word}\" says so"),
            Verdict::Tied { word: Some(word) } => return format!("as likely as another one, by \"{word}\""),
            Verdict::Farther { word } => return format!("near \"{word}\", but another number has a better word"),
            Verdict::NotShown { word } => return format!("near \"{word}\", but not shown as what it speaks of"),
            Verdict::Claimed { word } => return format!("something else: \"{word}\" stands before it"),
            Verdict::WrongLength { length } if *length < usize::from(wanted) => {
                return format!("too short: {length}, not {wanted}");
            }
            Verdict::WrongLength { length } => return format!("too long: {length}, not {wanted}"),
            Verdict::Code { word: None } => "the code",
            Verdict::Tied { word: None } => "as likely as another one",
            Verdict::Unexplained => "not near a word for a code",
            Verdict::OtherSite => "bound to another site, or beside a code that is",
            Verdict::PartOfMore => "part of something longer",
            Verdict::Counted => "counts something: a unit follows it",
            Verdict::Link => "a link",
            Verdict::Mail => "a mail address",
            Verdict::Phone => "a phone number",
            Verdict::Card => "a card or an account",
            Verdict::Date => "a date",
            Verdict::Time => "a time",
            Verdict::Amount => "an amount",
            Verdict::Hash => "the hash for Android's SMS retriever",
        };
        plain.to_owned()
    }
}

/// `text` so that a line of the table stays one, and a terminal obeys nobody who sends an SMS.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

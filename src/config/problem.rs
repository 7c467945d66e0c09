//! Problems: what is wrong with a setting, and where it was written.
//!
//! A problem names place, key and reason, and never carries the value of a secret: whoever makes one quotes a value
//! only when that value cannot be one.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Place {
    /// A flag of the command line.
    Flag {
        /// As typed, with its dashes.
        name: String,
    },
    /// An environment variable.
    Environment {
        /// The variable's name.
        name: String,
    },
    /// A line of a file.
    File {
        /// The file, as it was named by whoever asked for it.
        file: PathBuf,
        /// Counted from 1; 0 means the file as a whole.
        line: usize,
    },
    /// A file in the credentials directory.
    Credential {
        /// The credential's name, which is its key.
        name: String,
    },
    /// Written nowhere: the built-in value.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { name } | Self::Environment { name } => f.write_str(name),
            Self::File { file, line: 0 } => write!(f, "{}", file.display()),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Credential { name } => write!(f, "credential {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong, or worth a warning: `nightporter.toml:12: server.lissten: unknown key, did you mean "listen"?`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where it is written.
    #[serde(flatten)]
    pub place: Place,
    /// The dotted key; empty when the whole file is meant.
    pub key: String,
    /// What is wrong and what is expected, for the operator.
    pub reason: String,
}

impl Problem {
    /// The key, for a field of a log line: none when the whole file is meant.
    pub fn named_key(&self) -> Option<&str> {
        Some(self.key.as_str()).filter(|key| !key.is_empty())
    }
}

impl fmt::Display for Problem {
    /// One line: what a key or a name has of control characters is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        let told = format!("{}: {}{colon}{}", self.place, self.key, self.reason);
        told.chars().try_for_each(|letter| match letter.is_control() {
            true => write!(f, "{}", letter.escape_default()),
            false => f.write_char(letter),
        })
    }
}

/// The reason for a word that is not among `known`, with the nearest of them when one is near.
pub(crate) fn unknown(what: &str, word: &str, known: &[impl AsRef<str>]) -> String {
    match nearest(word, known) {
        Some(near) => format!("unknown {what}, did you mean \"{near}\"?"),
        None if known.is_empty() => format!("unknown {what}"),
        None => format!("unknown {what}; known: {}", list(known)),
    }
}

/// The known word that `word` was probably meant to be.
fn nearest<'a>(word: &str, known: &'a [impl AsRef<str>]) -> Option<&'a str> {
    // A third of the letters may be wrong: enough for a typo, too little to turn one word into another.
    let limit = (word.chars().count() / 3).max(1);
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(word, candidate.as_ref()), candidate.as_ref()))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `a, b and c`.
pub(crate) fn list(words: &[impl AsRef<str>]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_whatever_the_key_is() {
        let problem = Problem { place: Place::Default, key: "a\u{1b}[2J\n나".to_owned(), reason: "no".to_owned() };
        assert_eq!(problem.to_string(), "default: a\\u{1b}[2J\\n나: no");
    }

    #[test]
    fn a_suggestion_is_near_or_not_made() {
        let known = ["listen", "public_url", "tls"];
        assert_eq!(unknown("key", "lissten", &known), "unknown key, did you mean \"listen\"?");
        assert_eq!(unknown("key", "publik_url", &known), "unknown key, did you mean \"public_url\"?");
        assert_eq!(unknown("key", "tsl", &known), "unknown key, did you mean \"tls\"?");
        assert_eq!(unknown("key", "colour", &known), "unknown key; known: listen, public_url and tls");
    }
}

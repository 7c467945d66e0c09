//! What an operator declares: the states of a flow, the transitions between them, and the calls that they make. Read from
//! TOML and checked completely, with file, line and key for every problem. Nothing here runs anything.

mod call;
mod graph;
mod read;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use crate::config::{self, FlowCheck, Problem, Reading, SecretUse, Section};
pub(super) use call::{Call, Place as DataPath, Request, Unfilled, Values};
#[cfg(test)]
pub(super) use read::FLAGS;

/// Names that transitions cannot have, because they are routes of every flow.
const RESERVED: [&str; 3] = ["messages", "events", "retry"];

/// A flow as it is declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The life of one flow, from its creation.
    pub ttl: Duration,
    /// Where it begins.
    pub initial: String,
    /// Its flags, in order.
    pub progress: Vec<String>,
    /// The states that none leads out of.
    pub finals: Vec<String>,
    /// In the order of the file.
    pub transitions: Vec<Transition>,
}

/// A step from one state to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Its name, a part of the URL.
    pub name: String,
    /// The states that it leads out of.
    pub from: Vec<String>,
    /// Where it leads.
    pub to: String,
    /// The flags that it sets.
    pub set: Vec<String>,
    /// Parts of the data that it copies: to, from.
    pub(super) copy: Vec<(DataPath, DataPath)>,
    /// What it says when it is done.
    pub(super) message: Option<Note>,
    /// What it says when its call has failed.
    pub(super) failure: Option<String>,
    /// What it does besides.
    pub(super) work: Work,
}

/// What a transition does besides changing the record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// Nothing.
    None,
    /// One call, before the change.
    Call(Box<Call>),
    /// Calls after the change.
    Background(Box<Background>),
}

/// Calls that are made while the flow is in the transition's target state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Background {
    /// Made in this order, each begun when the one before is done.
    pub(super) calls: Vec<Call>,
    /// Where the last of them leads.
    pub(super) done: String,
    /// The flags that are set then.
    pub(super) set: Vec<String>,
    /// Where it leads when one of them has failed for good.
    pub(super) failed: String,
    /// How often each is tried.
    pub(super) attempts: u32,
    /// The wait after the first failure; doubled with each, to at most ten minutes.
    pub(super) backoff: Duration,
    /// What is said when all are done.
    pub(super) message: Option<Note>,
    /// What is said when one has failed for good.
    pub(super) failure: Option<String>,
}

/// A message that a definition leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) kind: super::Kind,
    pub(super) text: String,
}

/// A definition that cannot be used; its text is one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct DefinitionError {
    /// Everything that is wrong, never empty.
    pub problems: Vec<Problem>,
}

/// Looks into the flow at `path` for [`config::check`].
pub fn inspect(path: &Path) -> FlowCheck {
    let text = match config::read_file(path) {
        Ok(text) => text,
        Err(problem) => return FlowCheck { problems: vec![problem], ..FlowCheck::default() },
    };
    let (definition, problems, warnings, secrets) = parse(&text, path);
    FlowCheck { problems, warnings, secrets: definition.map(|_| secrets) }
}

impl Definition {
    /// Reads the definition in a file.
    ///
    /// # Errors
    /// Every problem found, the unreadable file included.
    pub fn load(path: &Path) -> Result<Self, DefinitionError> {
        let text = config::read_file(path).map_err(|problem| DefinitionError { problems: vec![problem] })?;
        let (definition, problems, ..) = parse(&text, path);
        definition.filter(|_| problems.is_empty()).ok_or(DefinitionError { problems })
    }

    /// The transitions that lead out of `status`.
    pub fn legal<'a>(&'a self, status: &'a str) -> impl Iterator<Item = &'a Transition> {
        self.transitions.iter().filter(move |transition| transition.from.iter().any(|from| from == status))
    }

    /// The transition of that name.
    pub fn transition(&self, name: &str) -> Option<&Transition> {
        self.transitions.iter().find(|transition| transition.name == name)
    }

    /// Whether nothing leads out of `status`.
    pub fn is_final(&self, status: &str) -> bool {
        self.finals.iter().any(|last| last == status)
    }

    /// Whether there is such a state.
    pub fn knows(&self, status: &str) -> bool {
        let within =
            |transition: &Transition| transition.to == status || transition.from.iter().any(|from| from == status);
        self.initial == status || self.is_final(status) || self.transitions.iter().any(within)
    }
}

impl Transition {
    pub(super) fn background(&self) -> Option<&Background> {
        if let Work::Background(background) = &self.work { Some(background) } else { None }
    }
}

type Parsed = (Option<Definition>, Vec<Problem>, Vec<Problem>, Vec<SecretUse>);

fn parse(text: &str, name: &Path) -> Parsed {
    let tree = match config::parse_tree(text, name) {
        Ok(tree) => tree,
        Err(problems) => return (None, problems, Vec::new(), Vec::new()),
    };
    let reading = Reading::new(name.parent().map(Path::to_owned).unwrap_or_default(), None);
    let mut secrets = Vec::new();
    let definition = read::definition(&Section::root(&reading, tree), &mut secrets);
    let (problems, warnings, _) = reading.finish();
    (definition, problems, warnings, secrets)
}

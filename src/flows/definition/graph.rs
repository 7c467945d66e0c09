//! Whether the parts of a definition agree: every state can be reached and left or is an end, every flag is set somewhere.

use std::collections::BTreeSet;

use super::{Definition, Transition};
use crate::config::{self, Place, Section};

/// A word of the definition, and where it stands.
pub(super) struct Mention {
    pub(super) role: Role,
    pub(super) word: String,
    pub(super) place: Place,
    pub(super) key: String,
}

/// What a word is there for. Numbers are transitions'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The state where a flow begins.
    Initial,
    /// A flag that is declared.
    Flag,
    /// A state that is declared to be an end.
    Final,
    /// A state that a transition leads out of.
    From(usize),
    /// A state that it leads to.
    To(usize),
    /// A flag that is set.
    Set,
}

/// Notes what does not agree, and fills in the ends.
pub(super) fn check(definition: &mut Definition, mentions: &[Mention], root: &Section<'_>) {
    let tell = |mention: &Mention, reason: String| root.reading().problem(&mention.place, &mention.key, reason);
    let states: Vec<&str> = named(mentions, |role| matches!(role, Role::Initial | Role::To(_)));
    let waiting = definition.transitions.iter().filter(|transition| transition.background().is_some());
    let waiting: Vec<String> = waiting.map(|transition| transition.to.clone()).collect();
    let mut left: Vec<&str> = named(mentions, |role| matches!(role, Role::From(_)));
    left.extend(waiting.iter().map(String::as_str));
    flags(mentions, &tell);
    let declared = definition.finals.clone();
    let mut broken = false;
    for mention in mentions {
        let word = mention.word.as_str();
        let known = states.contains(&word);
        let reason = match mention.role {
            Role::From(_) | Role::Final if !known => {
                format!("{}: nothing leads there", config::unknown(&format!("state \"{word}\""), word, &states))
            }
            Role::Final if left.contains(&word) => format!("\"{word}\" is final, but a transition leads out of it"),
            Role::To(_) | Role::Initial if !left.contains(&word) && !declared.is_empty() && !is_in(&declared, word) => {
                let known: BTreeSet<&str> = left.iter().copied().chain(declared.iter().map(String::as_str)).collect();
                let known: Vec<&str> = known.into_iter().collect();
                let what = config::unknown(&format!("state \"{word}\""), word, &known);
                format!("{what}: nothing leads out of it, and it is not among final")
            }
            _ => continue,
        };
        broken = true;
        tell(mention, reason);
    }
    definition.finals = states.iter().filter(|state| !left.contains(state)).map(|state| (*state).to_owned()).collect();
    definition.finals.sort();
    definition.finals.dedup();
    // Ways through states that are misspelt say nothing.
    if !broken {
        ways(definition, mentions, root);
    }
}

fn flags(mentions: &[Mention], tell: &impl Fn(&Mention, String)) {
    let declared = named(mentions, |role| role == Role::Flag);
    let set = named(mentions, |role| role == Role::Set);
    for mention in mentions {
        let word = mention.word.as_str();
        match mention.role {
            Role::Flag if !set.contains(&word) => tell(mention, format!("no transition sets the flag \"{word}\"")),
            Role::Set if !declared.contains(&word) => {
                tell(mention, config::unknown(&format!("flag \"{word}\""), word, &declared));
            }
            _ => {}
        }
    }
}

/// Every state is on a way from the beginning to an end.
fn ways(definition: &Definition, mentions: &[Mention], root: &Section<'_>) {
    let edges: Vec<(&str, &str)> = definition.transitions.iter().flat_map(edges).collect();
    let reached = closure([definition.initial.as_str()].into(), |state| {
        edges.iter().filter(|(from, _)| *from == state).map(|(_, to)| *to).collect()
    });
    let ends: BTreeSet<&str> = definition.finals.iter().map(String::as_str).collect();
    if ends.is_empty() {
        root.problem("there is no final state: a transition leads out of every state");
        return;
    }
    let ending = closure(ends, |state| edges.iter().filter(|(_, to)| *to == state).map(|(from, _)| *from).collect());
    let mut told = BTreeSet::new();
    for mention in mentions.iter().filter(|mention| matches!(mention.role, Role::From(_) | Role::Initial | Role::To(_)))
    {
        let word = mention.word.as_str();
        let reason = if !reached.contains(word) {
            format!("the state \"{word}\" cannot be reached from \"{}\"", definition.initial)
        } else if !ending.contains(word) {
            format!("no way leads from \"{word}\" to a final state")
        } else {
            continue;
        };
        if told.insert(word) {
            root.reading().problem(&mention.place, &mention.key, reason);
        }
    }
}

fn edges(transition: &Transition) -> Vec<(&str, &str)> {
    let mut edges: Vec<(&str, &str)> =
        transition.from.iter().map(|from| (from.as_str(), transition.to.as_str())).collect();
    if let Some(background) = transition.background() {
        edges.push((&transition.to, &background.done));
        edges.push((&transition.to, &background.failed));
    }
    edges
}

/// What can be reached from `start` by going on with `next`.
fn closure<'a>(start: BTreeSet<&'a str>, next: impl Fn(&str) -> Vec<&'a str>) -> BTreeSet<&'a str> {
    let mut open: Vec<&str> = start.iter().copied().collect();
    let mut reached = start;
    while let Some(state) = open.pop() {
        open.extend(next(state).into_iter().filter(|state| reached.insert(state)));
    }
    reached
}

fn named(mentions: &[Mention], role: impl Fn(Role) -> bool) -> Vec<&str> {
    mentions.iter().filter(|mention| role(mention.role)).map(|mention| mention.word.as_str()).collect()
}

fn is_in(words: &[String], word: &str) -> bool {
    words.iter().any(|known| known == word)
}

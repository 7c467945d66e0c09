//! The tree of settings before anything is believed about them: values with the place each was written.
//!
//! Built from TOML, overlaid with the environment and flags. It holds inline secrets as they were written, so it is
//! never printed (no `Debug`) and lives only as long as a load.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};

/// The problems of one file that are worth reading: past this, the rest follows from the first ones.
const MOST_SYNTAX_ERRORS: usize = 20;

/// The entries of a table by key.
pub(crate) type Table = BTreeMap<String, Rc<Node>>;

/// A value and where it was written: the line of its key, or its own line within an array.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
    /// What was written elsewhere, and does not count because of this.
    pub(crate) under: Option<Rc<Node>>,
}

/// What was written.
#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    /// Text from outside TOML (a variable, a flag, a default): text where text is wanted, else a TOML value.
    Loose(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Rc<Node>>),
    Table(Table),
}

impl Value {
    /// The kind of value, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// A table without entries.
    pub(crate) fn empty(place: Place) -> Self {
        Self { place, value: Value::Table(Table::new()), under: None }
    }

    /// A value given outside TOML.
    pub(crate) fn loose(place: Place, text: &str) -> Self {
        Self { place, value: Value::Loose(text.to_owned()), under: None }
    }

    /// This value as TOML means it: loose text is parsed, everything else is itself.
    pub(crate) fn strict(&self) -> Option<Self> {
        let Value::Loose(text) = &self.value else { return Some(self.clone()) };
        // One line, so that a variable cannot smuggle in anything but a value.
        let parsed = DeValue::parse(text.trim()).ok()?;
        let value = convert(parsed.get_ref(), &|_| self.place.clone())?;
        Some(Self { place: self.place.clone(), value, under: self.under.clone() })
    }

    /// The value for a summary.
    pub(crate) fn show(&self) -> String {
        match &self.value {
            Value::Text(text) | Value::Loose(text) | Value::Datetime(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| item.show()).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Table(_) => "{…}".to_owned(),
        }
    }
}

/// Parses a TOML document; `file` is the name used in places.
pub(crate) fn parse(text: &str, file: &Path) -> Result<Node, Vec<Problem>> {
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let place = |at: usize| Place::File { file: file.to_owned(), line: starts.partition_point(|start| *start <= at) };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // Only the message: the error's own text would show the line, which may hold a secret.
        let problem = |error: &toml::de::Error| Problem {
            place: place(error.span().map_or(text.len(), |span| span.start)),
            key: String::new(),
            reason: format!("not valid TOML: {}", error.message()),
        };
        return Err(errors.iter().take(MOST_SYNTAX_ERRORS).map(problem).collect());
    }
    let unreadable = || {
        let reason = "not valid TOML: a number is too large".to_owned();
        vec![Problem { place: Place::File { file: file.to_owned(), line: 0 }, key: String::new(), reason }]
    };
    let table = convert_table(document.get_ref(), &place).ok_or_else(unreadable)?;
    Ok(Node { place: Place::File { file: file.to_owned(), line: 0 }, value: Value::Table(table), under: None })
}

fn convert_table(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Option<Table> {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &Spanned<toml::de::DeString<'_>> = key;
        let value = convert(value.get_ref(), place)?;
        Some((key.get_ref().to_string(), Rc::new(Node { place: place(key.span().start), value, under: None })))
    };
    table.iter().map(entry).collect()
}

/// `None` only for a number that fits nothing.
fn convert(value: &DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Datetime(moment) => Value::Datetime(moment.to_string()),
        DeValue::Table(table) => Value::Table(convert_table(table, place)?),
        DeValue::Array(items) => {
            let item = |item: &Spanned<DeValue<'_>>| {
                let value = convert(item.get_ref(), place)?;
                Some(Rc::new(Node { place: place(item.span().start), value, under: None }))
            };
            Value::Array(items.iter().map(item).collect::<Option<_>>()?)
        }
    })
}

/// Puts `text` at `path`, over whatever is there; tables on the way are made.
///
/// A segment also finds a key written with hyphens where it has underscores: variable names cannot carry hyphens.
pub(crate) fn overlay(root: &mut Node, path: &[&str], place: &Place, text: &str) -> Result<(), String> {
    let Some((segment, rest)) = path.split_first() else { return Ok(()) };
    if let Some(strict) = root.strict() {
        root.value = strict.value;
    }
    let Value::Table(table) = &mut root.value else {
        return Err(format!("its parent is {}, not a table", root.value.kind()));
    };
    let key = if table.contains_key(*segment) {
        (*segment).to_owned()
    } else {
        table.keys().find(|key| key.replace('-', "_") == *segment).map_or_else(|| (*segment).to_owned(), Clone::clone)
    };
    if rest.is_empty() {
        let under = table.get(&key).cloned();
        table.insert(key, Rc::new(Node { under, ..Node::loose(place.clone(), text) }));
        return Ok(());
    }
    let child = table.entry(key).or_insert_with(|| Rc::new(Node::empty(place.clone())));
    overlay(Rc::make_mut(child), rest, place, text)
}

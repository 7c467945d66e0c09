//! Reading a tree of settings into types: every value is asked for by key and kind, every problem is collected.
//!
//! One bad value never hides the next: a getter notes the problem and returns `None`, the caller goes on, and what was
//! noted decides at the end. Keys that nobody asked for are problems too. Nothing here knows any particular setting.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use serde::Serialize;

use super::problem::{Place, Problem, unknown};
use super::tree::{Node, Table, Value};

/// One effective setting, as a summary shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The dotted key.
    pub key: String,
    /// The value as written; `[secret]` for every secret.
    pub value: String,
    /// Where it was written.
    #[serde(flatten)]
    pub place: Place,
}

/// What one reading has found so far.
#[derive(Default)]
pub(crate) struct Reading {
    /// Where relative paths of the file and of the defaults start.
    pub(crate) directory: PathBuf,
    /// Where credentials are, if there are any.
    pub(crate) credentials: Option<PathBuf>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    settings: RefCell<Vec<Setting>>,
}

impl Reading {
    /// A reading whose relative paths start at `directory`.
    pub(crate) fn new(directory: PathBuf, credentials: Option<PathBuf>) -> Self {
        Self { directory, credentials, ..Self::default() }
    }

    /// Notes what makes the settings unusable.
    pub(crate) fn problem(&self, place: &Place, key: &str, reason: impl Into<String>) {
        let problem = Problem { place: place.clone(), key: key.to_owned(), reason: reason.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// Notes problems found elsewhere.
    pub(crate) fn problems(&self, found: impl IntoIterator<Item = Problem>) {
        self.problems.borrow_mut().extend(found);
    }

    /// Notes what the operator should know, though it works.
    pub(crate) fn warning(&self, place: &Place, key: &str, reason: impl Into<String>) {
        let warning = Problem { place: place.clone(), key: key.to_owned(), reason: reason.into() };
        self.warnings.borrow_mut().push(warning);
    }

    /// Notes warnings found elsewhere.
    pub(crate) fn warnings(&self, found: impl IntoIterator<Item = Problem>) {
        self.warnings.borrow_mut().extend(found);
    }

    /// Notes an effective value for the summary.
    pub(crate) fn setting(&self, key: &str, value: String, place: &Place) {
        self.settings.borrow_mut().push(Setting { key: key.to_owned(), value, place: place.clone() });
    }

    /// The problems, warnings and settings found, each in the order of the file.
    pub(crate) fn finish(self) -> (Vec<Problem>, Vec<Problem>, Vec<Setting>) {
        let mut problems = self.problems.into_inner();
        let mut warnings = self.warnings.into_inner();
        problems.sort();
        problems.dedup();
        warnings.sort();
        warnings.dedup();
        (problems, warnings, self.settings.into_inner())
    }
}

/// One value that is being read.
#[derive(Clone)]
pub(crate) struct Field<'r> {
    reading: &'r Reading,
    node: Rc<Node>,
    key: String,
}

impl<'r> Field<'r> {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn place(&self) -> &Place {
        &self.node.place
    }

    pub(crate) fn problem(&self, reason: impl Into<String>) {
        self.reading.problem(self.place(), &self.key, reason);
    }

    pub(crate) fn warning(&self, reason: impl Into<String>) {
        self.reading.warning(self.place(), &self.key, reason);
    }

    /// Reads this with `parse`; a reason against it becomes a problem.
    pub(crate) fn read<T>(&self, parse: impl Fn(&Self) -> Result<T, String>) -> Option<T> {
        parse(self).map_err(|reason| self.problem(reason)).ok()
    }

    pub(crate) fn text(&self) -> Result<&str, String> {
        match &self.node.value {
            Value::Text(text) | Value::Loose(text) => Ok(text),
            other => Err(format!("expected text, got {}", other.kind())),
        }
    }

    pub(crate) fn integer(&self) -> Result<i64, String> {
        match self.strict("an integer")? {
            Value::Integer(number) => Ok(number),
            other => Err(format!("expected an integer, got {}", other.kind())),
        }
    }

    pub(crate) fn boolean(&self) -> Result<bool, String> {
        match self.strict("true or false")? {
            Value::Boolean(truth) => Ok(truth),
            other => Err(format!("expected true or false, got {}", other.kind())),
        }
    }

    /// The items of a list, with keys like `alerts.email[0]`.
    pub(crate) fn items(&self) -> Result<Vec<Self>, String> {
        match self.strict("a list")? {
            Value::Array(items) => {
                let item = |(index, node)| Self { reading: self.reading, node, key: format!("{}[{index}]", self.key) };
                Ok(items.into_iter().enumerate().map(item).collect())
            }
            other => Err(format!("expected a list, got {}", other.kind())),
        }
    }

    /// The table that this is.
    pub(crate) fn section(&self) -> Result<Section<'r>, String> {
        match self.strict("a table")? {
            Value::Table(table) => Ok(Section::new(self.reading, table, self.place().clone(), self.key.clone())),
            other => Err(format!("expected a table, got {}", other.kind())),
        }
    }

    /// The value as JSON, for comparing with what a portal answers.
    pub(crate) fn json(&self) -> Result<serde_json::Value, String> {
        fn convert(value: &Value) -> Option<serde_json::Value> {
            Some(match value {
                Value::Text(text) | Value::Loose(text) | Value::Datetime(text) => text.as_str().into(),
                Value::Integer(number) => (*number).into(),
                Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
                Value::Boolean(truth) => (*truth).into(),
                Value::Array(items) => {
                    items.iter().map(|item| convert(&item.value)).collect::<Option<Vec<_>>>()?.into()
                }
                Value::Table(table) => {
                    let entry = |(key, node): (&String, &Rc<Node>)| Some((key.clone(), convert(&node.value)?));
                    serde_json::Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
                }
            })
        }
        convert(&self.node.value).ok_or_else(|| "JSON has no such number".to_owned())
    }

    /// A path, see [`Field::path_from`].
    pub(crate) fn path(&self) -> Result<PathBuf, String> {
        self.path_from(self.text()?)
    }

    /// `text`, a part of this value, as a path. One from the environment or a flag is relative to the working
    /// directory, where whoever typed it stands; any other to the directory of the configuration file.
    pub(crate) fn path_from(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("expected a path".to_owned());
        }
        Ok(match self.place() {
            Place::Flag { .. } | Place::Environment { .. } => PathBuf::from(text),
            _ => self.reading.directory.join(text),
        })
    }

    fn strict(&self, wanted: &str) -> Result<Value, String> {
        self.node.strict().map(|node| node.value).ok_or_else(|| format!("expected {wanted}, got text"))
    }
}

/// One table that is being read; remembers what was asked for, so that what nobody asked for can be told.
pub(crate) struct Section<'r> {
    reading: &'r Reading,
    table: Table,
    place: Place,
    key: String,
    known: RefCell<Vec<String>>,
}

impl<'r> Section<'r> {
    pub(crate) fn new(reading: &'r Reading, table: Table, place: Place, key: String) -> Self {
        Self { reading, table, place, key, known: RefCell::default() }
    }

    /// The whole document.
    pub(crate) fn root(reading: &'r Reading, node: Node) -> Self {
        let table = if let Value::Table(table) = node.value { table } else { Table::new() };
        Self::new(reading, table, node.place, String::new())
    }

    pub(crate) fn reading(&self) -> &'r Reading {
        self.reading
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The dotted key of an entry.
    pub(crate) fn path_to(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    pub(crate) fn problem(&self, reason: impl Into<String>) {
        self.reading.problem(&self.place, &self.key, reason);
    }

    /// Notes what is wrong with `key`, where it was written.
    pub(crate) fn problem_of(&self, key: &str, reason: impl Into<String>) {
        match self.field(key) {
            Some(field) => field.problem(reason),
            None => self.problem(reason),
        }
    }

    pub(crate) fn warning(&self, reason: impl Into<String>) {
        self.reading.warning(&self.place, &self.key, reason);
    }

    /// Whether `key` was written, without asking for it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The entry `key`, if it was written; from now on it is a known key.
    pub(crate) fn field(&self, key: &str) -> Option<Field<'r>> {
        self.expect(&[key]);
        let node = Rc::clone(self.table.get(key)?);
        Some(Field { reading: self.reading, node, key: self.path_to(key) })
    }

    /// Makes keys known without reading them.
    pub(crate) fn expect(&self, keys: &[&str]) {
        let mut known = self.known.borrow_mut();
        for key in keys {
            if !known.iter().any(|known| known == key) {
                known.push((*key).to_owned());
            }
        }
    }

    /// Every entry of a table whose keys are names.
    pub(crate) fn entries(&self) -> Vec<(String, Field<'r>)> {
        let names: Vec<String> = self.table.keys().cloned().collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.field(&name)?))).collect()
    }

    /// The value of `key`, or `None` when it is absent or bad.
    pub(crate) fn optional<T>(&self, key: &str, parse: impl Fn(&Field<'r>) -> Result<T, String>) -> Option<T> {
        self.take(&self.field(key)?, parse)
    }

    /// The value of `key`; its absence is a problem.
    pub(crate) fn required<T>(&self, key: &str, parse: impl Fn(&Field<'r>) -> Result<T, String>) -> Option<T> {
        let Some(field) = self.field(key) else {
            self.reading.problem(&self.place, &self.path_to(key), "missing");
            return None;
        };
        self.take(&field, parse)
    }

    /// The value of `key`, or `default`, written as one would write it in the file. `None` when what is there is bad.
    pub(crate) fn or<T>(&self, key: &str, default: &str, parse: impl Fn(&Field<'r>) -> Result<T, String>) -> Option<T> {
        let standard = || Field {
            reading: self.reading,
            node: Rc::new(Node::loose(Place::Default, default)),
            key: self.path_to(key),
        };
        self.take(&self.field(key).unwrap_or_else(standard), parse)
    }

    /// The items of the list `key`, empty when it is absent. `None` when any is bad.
    pub(crate) fn list<T>(&self, key: &str, parse: impl Fn(&Field<'r>) -> Result<T, String>) -> Option<Vec<T>> {
        let Some(field) = self.field(key) else { return Some(Vec::new()) };
        let items = field.read(Field::items)?;
        let count = items.len();
        let good: Vec<T> = items.iter().filter_map(|item| item.read(&parse)).collect();
        self.reading.setting(&field.key, field.node.show(), field.place());
        (good.len() == count).then_some(good)
    }

    /// The table `key`, if it was written.
    pub(crate) fn section(&self, key: &str) -> Option<Self> {
        self.field(key)?.read(Field::section)
    }

    /// The table `key`, empty when it was not written.
    pub(crate) fn section_or_empty(&self, key: &str) -> Option<Self> {
        match self.field(key) {
            Some(field) => field.read(Field::section),
            None => Some(Self::new(self.reading, Table::new(), self.place.clone(), self.path_to(key))),
        }
    }

    /// Notes every key that nobody asked for; returns whether there was none.
    pub(crate) fn finish(&self) -> bool {
        let known = self.known.borrow();
        let mut clean = true;
        for (key, node) in &self.table {
            if !known.contains(key) {
                self.reading.problem(&node.place, &self.path_to(key), unknown("key", key, &known));
                clean = false;
            }
        }
        clean
    }

    fn take<T>(&self, field: &Field<'r>, parse: impl Fn(&Field<'r>) -> Result<T, String>) -> Option<T> {
        if let Some(under) = &field.node.under {
            let under = Field { node: Rc::clone(under), ..field.clone() };
            if let Err(reason) = parse(&under) {
                under.warning(format!("{reason}; it does not count, {} does", field.place()));
            }
        }
        let value = field.read(parse)?;
        self.reading.setting(&field.key, field.node.show(), field.place());
        Some(value)
    }
}

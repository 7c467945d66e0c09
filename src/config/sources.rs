//! The four places that settings come from, put into one tree: flag over environment over file over default.
//!
//! Pure in its inputs: it reads the file it is told to read, and never the process's own environment or arguments.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem};
use super::tree::{self, Node};

/// What the variables of this program start with.
const PREFIX: &str = "NIGHTPORTER_";

/// The variable that names the file; not a setting itself.
const FILE_VARIABLE: &str = "NIGHTPORTER_CONFIG";

/// The longest configuration or recipe file, in bytes: more is the wrong file.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file of `--config`; without it the variable `NIGHTPORTER_CONFIG` may name one.
    pub file: Option<PathBuf>,
    /// The environment; variables that do not start with `NIGHTPORTER_` are ignored.
    pub env: Vec<(String, String)>,
    /// Settings from the command line.
    pub flags: Vec<Flag>,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts secrets.
    pub credentials_dir: Option<PathBuf>,
}

/// One setting from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As typed, with its dashes: `--listen`.
    pub name: String,
    /// The dotted key that it sets: `server.listen`.
    pub key: String,
    /// The value as typed.
    pub value: String,
}

impl fmt::Debug for Sources {
    /// Without values of variables: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let mut show = f.debug_struct("Sources");
        show.field("file", &self.file).field("env", &names).field("flags", &self.flags);
        show.field("credentials_dir", &self.credentials_dir).finish()
    }
}

impl Sources {
    /// The configuration file, whoever named it.
    pub fn config_file(&self) -> Option<PathBuf> {
        let named = || self.env.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, value)| PathBuf::from(value));
        self.file.clone().or_else(named)
    }

    /// Everything in one tree, with what could not be put there.
    pub(super) fn tree(&self) -> (Node, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut root = match self.config_file() {
            Some(file) => load(&file).unwrap_or_else(|found| {
                problems.extend(found);
                Node::empty(Place::File { file, line: 0 })
            }),
            None => Node::empty(Place::Default),
        };
        let mut set = |place: Place, path: &[&str], value: &str| {
            if let Err(reason) = tree::overlay(&mut root, path, &place, value) {
                problems.push(Problem { place, key: path.join("."), reason });
            }
        };
        let mut variables: Vec<_> = self.env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        // Sorted, so that a table comes before what is inside it and the outcome does not depend on the system's order.
        variables.sort();
        for (name, value) in variables.into_iter().filter(|(name, _)| name != FILE_VARIABLE) {
            let key = name[PREFIX.len()..].to_lowercase();
            let path: Vec<&str> = key.split("__").collect();
            set(Place::Environment { name: name.clone() }, &path, value);
        }
        for flag in &self.flags {
            let path: Vec<&str> = flag.key.split('.').collect();
            set(Place::Flag { name: flag.name.clone() }, &path, &flag.value);
        }
        (root, problems)
    }
}

/// Reads and parses a TOML file.
pub(crate) fn load(file: &Path) -> Result<Node, Vec<Problem>> {
    let text = read(file).map_err(|problem| vec![problem])?;
    tree::parse(&text, file)
}

/// Reads a file of settings.
pub(crate) fn read(file: &Path) -> Result<String, Problem> {
    let problem =
        |reason: String| Problem { place: Place::File { file: file.to_owned(), line: 0 }, key: String::new(), reason };
    let mut text = String::new();
    let opened = File::open(file).and_then(|open| open.take(LONGEST_FILE + 1).read_to_string(&mut text));
    opened.map_err(|error| problem(format!("cannot be read: {error}")))?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(problem(format!("longer than {LONGEST_FILE} bytes")));
    }
    Ok(text)
}

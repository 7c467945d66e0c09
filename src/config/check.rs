//! The whole check of a configuration: every section, every file it references, and a summary without secrets.
//!
//! `check-config` prints the report, `serve` refuses to start on one with errors. Recipes and flows are other rooms'
//! business: whoever calls hands in the functions that look into them.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::flows::FlowCheck;
use super::problem::Problem;
use super::read::Setting;
use super::sites::RecipeCheck;
use super::sources::Sources;
use super::{Config, assemble};

/// What a check found. Serialises for `--json`; displays for people; neither shows a secret.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What must be mended before the configuration can be used.
    pub errors: Vec<Problem>,
    /// What works, but should be known.
    pub warnings: Vec<Problem>,
    /// Every effective setting with its origin, in the order of the sections.
    pub settings: Vec<Setting>,
    /// The configuration, when there are no errors.
    #[serde(skip)]
    pub config: Option<Config>,
}

impl Report {
    /// Whether the configuration can be used.
    pub fn is_good(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        if self.is_good() {
            for setting in &self.settings {
                writeln!(f, "{} = {}  ({})", setting.key, setting.value, setting.place)?;
            }
            return writeln!(f, "configuration is good, {} warning(s)", self.warnings.len());
        }
        writeln!(f, "configuration has {} error(s)", self.errors.len())
    }
}

/// What looks into the files that a configuration references.
#[derive(Clone, Copy)]
pub struct Inspectors<'a> {
    /// Into a portal's recipe.
    pub recipe: &'a dyn Fn(&Path) -> RecipeCheck,
    /// Into a flow's declaration.
    pub flow: &'a dyn Fn(&Path) -> FlowCheck,
}

impl Inspectors<'_> {
    /// Those that find nothing wrong, and nothing else either.
    pub fn none() -> Self {
        Self { recipe: &|_| RecipeCheck::default(), flow: &|_| FlowCheck::default() }
    }
}

/// Checks the configuration of `sources` with every file that it references.
pub fn check(sources: &Sources, inspect: &Inspectors<'_>) -> Report {
    let (config, errors, warnings, settings) = assemble(sources, inspect);
    Report { errors, warnings, settings, config }
}

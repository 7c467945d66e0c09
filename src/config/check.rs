//! The whole check of a configuration: every section, every recipe it references, and a summary without secrets.
//!
//! `check-config` prints the report, `serve` refuses to start on one with errors. Recipes are another room's business:
//! whoever calls hands in the function that looks into one.

use std::fmt;
use std::path::Path;

use serde::Serialize;

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

/// Checks the configuration of `sources`; `inspect` looks into each recipe that a portal references.
pub fn check(sources: &Sources, inspect: impl Fn(&Path) -> RecipeCheck) -> Report {
    let (config, errors, warnings, settings) = assemble(sources, &inspect);
    Report { errors, warnings, settings, config }
}

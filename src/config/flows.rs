//! `[flows.NAME]`: verification in several steps, each declared in a file of its own, and the secrets that its calls carry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem};
use super::read::Section;
use super::secrets;
use super::server::existing_file;
use super::sites::named;
use super::words;
use crate::secret::Secret;

/// Flows of a kind alive at once where nothing else is said: as many as the queue of the workers holds.
const MOST: &str = "100000";

/// `[flows.NAME]`: a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The file that declares it.
    pub file: PathBuf,
    /// What its calls may carry as `{{secret.NAME}}`.
    pub secrets: BTreeMap<String, Secret>,
    /// How many may be alive at once.
    pub max_records: u32,
}

/// What is known about one flow's file.
#[derive(Clone, Debug, Default)]
pub struct FlowCheck {
    /// Why it cannot be used.
    pub problems: Vec<Problem>,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// The secrets that its calls carry; None when nobody could tell.
    pub secrets: Option<Vec<SecretUse>>,
}

/// Where a file asks for a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The secret's name.
    pub name: String,
    /// The line.
    pub place: Place,
    /// The key there.
    pub key: String,
}

/// Reads the flows; `inspect` looks into each file.
pub(super) fn flows(root: &Section<'_>, inspect: &dyn Fn(&Path) -> FlowCheck) -> Option<BTreeMap<String, Flow>> {
    named(root, "flows", |section| {
        let file = section.required("file", existing_file);
        let max_records = section.or("max_records", MOST, words::integer(1..=100_000_000));
        let given = section.section_or_empty("secrets")?;
        section.finish();
        let (file, max_records) = (file?, max_records?);
        let checked = inspect(&file);
        section.reading().problems(checked.problems);
        section.reading().warnings(checked.warnings);
        let mut found = BTreeMap::new();
        let known = checked.secrets.is_some();
        for wanted in checked.secrets.into_iter().flatten() {
            if found.contains_key(&wanted.name) {
                continue;
            }
            if !secrets::is_given(&given, &wanted.name) {
                let (name, key) = (&wanted.name, given.path_to(&wanted.name));
                let ways = format!("set {key} or {key}_file, or the credential \"{key}\"");
                let reason = format!("no secret \"{name}\" is given to this flow: {ways}");
                section.reading().problem(&wanted.place, &wanted.key, reason);
            }
            if let Some(secret) = secrets::optional(&given, &wanted.name) {
                found.insert(wanted.name, secret);
            }
        }
        if known {
            given.finish();
        }
        Some(Flow { file, secrets: found, max_records })
    })
}

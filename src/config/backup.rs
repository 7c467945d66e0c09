//! The section `[backup]`: the snapshots that the server takes by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::{Field, Section};
use super::{duration, words};

/// `[backup]`: how often, how many, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The time from one snapshot to the next; None: none are taken. Default 24 h.
    pub every: Option<Duration>,
    /// How many are kept. Default 7.
    pub keep: u32,
    /// Where they are. Default: beside the store, `data/store-snapshots` for `data/store`.
    pub directory: PathBuf,
    /// The time from one restore drill to the next; None: there is none. Default 7 d.
    pub drill_every: Option<Duration>,
}

/// Each reads the whole store; more often would be a load of its own.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(366 * 86_400);

/// Reads the section; `store` is the store's directory.
pub(super) fn backup(root: &Section<'_>, store: Option<&Path>) -> Option<Backup> {
    let section = root.section_or_empty("backup")?;
    let every = section.or("every", "24h", duration::within_or_off(EVERY));
    let keep = section.or("keep", "7", words::integer(1..=10_000));
    let directory = section.optional("directory", Field::path).or_else(|| store.map(beside));
    let drill_every = section.or("drill_every", "7d", duration::within_or_off(EVERY));
    section.finish();
    if let (Some(directory), Some(store)) = (&directory, store)
        && directory.starts_with(store)
    {
        section.warning("directory is inside the store's own: who loses the one loses both");
    }
    Some(Backup { every: every?, keep: keep?, directory: directory?, drill_every: drill_every? })
}

/// A name of its own for each store, because several may lie side by side.
fn beside(store: &Path) -> PathBuf {
    let mut name = store.file_name().unwrap_or("store".as_ref()).to_owned();
    name.push("-snapshots");
    store.with_file_name(name)
}

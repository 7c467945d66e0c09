//! Makes a store from a snapshot: verify everything, build beside, compare, and only then exchange.
//!
//! Until the exchange nothing of the old store is touched, and the exchange is one decision that a kill cannot halve (see
//! [`fresh`]). The old database is put aside and never deleted, nor even opened when the caller says that it may go: it may
//! be damaged. All of this blocks; it belongs before a store is open, or off the runtime.

use std::path::{Path, PathBuf};

use super::files::{Opened, STEP, Stage, stamp, verify_file};
use super::format::{Account, Manifest};
use super::{Progress, SnapshotError, Watch};
use crate::clock::Time;
use crate::store::fresh::{self, Fresh, Site};

/// What shall become of the records that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse when there are any; an empty database is put aside with this time in its name.
    Refuse(Time),
    /// The old database is put aside with this time in its name.
    Aside(Time),
}

/// What a restore has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the store holds now.
    pub manifest: Manifest,
    /// Where the old database is, if there was one.
    pub aside: Option<PathBuf>,
}

/// Makes the snapshot `file` the content of the store in the directory `store`, which nobody may have open. Its other files
/// (key, socket) stay as they are.
///
/// # Errors
/// [`EngineError::InUse`](crate::store::engine::EngineError::InUse) when somebody has the store open, others when the snapshot is damaged, the disk is full or
/// `watch` wanted no more. The store is what it was then.
pub fn restore_into(
    file: &Path,
    store: &Path,
    existing: Existing,
    watch: &mut Watch<'_>,
) -> Result<Restored, SnapshotError> {
    let verified = verify_file(file, watch)?;
    let site = Site::claim(store)?;
    let (Existing::Refuse(now) | Existing::Aside(now)) = existing;
    if matches!(existing, Existing::Refuse(_)) && site.occupied() {
        return Err(SnapshotError::NotEmpty(store.to_owned()));
    }
    let built = build(file, &site.building(), watch).and_then(|built| {
        let changed = "the file has changed since it was verified".to_owned();
        if built == verified { Ok(built) } else { Err(differs(file, changed)) }
    });
    match built {
        Ok(manifest) => Ok(Restored { manifest, aside: site.put_in_place(&stamp(now))? }),
        Err(error) => {
            fresh::remove(&site.building())?;
            Err(error)
        }
    }
}

/// Restores the snapshot `file` into `directory`, compares, and removes it again: the proof that it can be done.
///
/// # Errors
/// As [`restore_into`]; nothing is left in `directory` either way.
pub fn rehearse(file: &Path, directory: &Path, watch: &mut Watch<'_>) -> Result<Manifest, SnapshotError> {
    let built = build(file, directory, watch);
    fresh::remove(directory)?;
    built
}

/// Writes a new database into `directory`, closes it, opens it again and compares every pair with the snapshot.
fn build(file: &Path, directory: &Path, watch: &mut Watch<'_>) -> Result<Manifest, SnapshotError> {
    let mut opened = Opened::open(file, Stage::Writing)?;
    let mut fresh = Fresh::create(directory)?;
    while let Some(item) = opened.next(watch)? {
        fresh.put(item.table, item.key, item.value)?;
    }
    let blank = opened.reader.blank();
    let manifest = opened.finish()?;
    fresh.finish()?;
    compare(file, directory, &manifest, blank, watch)?;
    Ok(manifest)
}

fn compare(
    file: &Path,
    directory: &Path,
    manifest: &Manifest,
    mut account: Account,
    watch: &mut Watch<'_>,
) -> Result<(), SnapshotError> {
    let total = manifest.records + manifest.floors;
    let mut done = 0;
    fresh::read(directory, |table, (key, value)| {
        if done % STEP == 0 && !watch(Progress { stage: Stage::Comparing, done, total }) {
            return Err(SnapshotError::Interrupted);
        }
        done += 1;
        account.count(table, key, value).map_err(|reason| differs(file, reason))
    })?;
    let found = account.close();
    if (found.tally.records, found.tally.floors) != (manifest.records, manifest.floors) {
        let reason = format!("{} records instead of {}", found.tally.records, manifest.records);
        return Err(differs(file, reason));
    }
    if found.sha256 != manifest.sha256 {
        return Err(differs(file, "the digest of all records does not match".to_owned()));
    }
    Ok(())
}

fn differs(file: &Path, reason: String) -> SnapshotError {
    SnapshotError::Differs { path: file.to_owned(), reason }
}

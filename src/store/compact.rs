//! Compaction: the live records written into a new database, because sled does not give back what its files have grown to.
//!
//! Only while nobody has the store open. What is there is compared with its mark first, the new database is read again
//! before it is put in place, and the exchange is the one of a restore (`fresh.rs`). The old database goes only after that.

use std::fs;
use std::path::{Path, PathBuf};

use super::engine::sled::Sled;
use super::engine::{DATABASE, Engine, EngineError, Table};
use super::fresh::{self, Fresh, Site, Why};
use super::guard::{self, Pulse};
use super::snapshot::{Progress, Stage, Watch, stamp};
use super::tally::Sum;
use super::{PATIENCE, StoreError, opening};
use crate::clock::Time;

/// Pairs copied between two looks at the watcher.
const PAGE: usize = 1024;

/// Why a store was not compacted. It is what it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It is damaged, in use, or the disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written is not what was read.
    #[error("the new database holds {found} records and the old one {expected}; it was not put in place")]
    Differs {
        /// What was read of the new one.
        found: u64,
        /// What was written.
        expected: u64,
    },
    /// Whoever watched wanted no more.
    #[error("broken off before anything was changed")]
    Interrupted,
}

impl From<EngineError> for CompactError {
    fn from(error: EngineError) -> Self {
        Self::Store(error.into())
    }
}

/// What a compaction came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Compacted {
    /// Records in the store.
    pub records: u64,
    /// Bytes of the old database.
    pub before: u64,
    /// Bytes of the new one.
    pub after: u64,
    /// Where the old one is, if it was to be kept.
    pub aside: Option<PathBuf>,
}

/// How to compact.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// The old database stays beside the new one, with the time of the compaction in its name.
    pub keep: bool,
    /// What is there is taken for the truth: not compared with the mark, which may be missing.
    pub accept: bool,
    /// The time.
    pub now: Time,
}

/// Writes the store in the directory `store` anew. Blocks, and takes as much room as the live records beside the old
/// database.
///
/// # Errors
/// [`CompactError`]; the store is what it was then.
pub fn compact(store: &Path, wishes: Wishes, watch: &mut Watch<'_>) -> Result<Compacted, CompactError> {
    let site = Site::claim(store)?;
    let database = store.join(DATABASE);
    let before = size(&database)?;
    let building = site.building();
    let written = rewrite(store, &building, wishes.accept, watch).and_then(|sum| compare(&building, sum, watch));
    let sum = match written {
        Ok(sum) => sum,
        // Its thread may still write there; the next start removes it.
        Err(error @ CompactError::Store(StoreError::Engine(EngineError::Unresponsive { .. }))) => return Err(error),
        Err(error) => {
            fresh::remove(&building)?;
            return Err(error);
        }
    };
    let why = if wishes.keep { Why::Asked } else { Why::Unwanted };
    let mut aside = site.put_in_place(why, &stamp(wishes.now))?;
    if !wishes.keep
        && let Some(old) = aside.take()
    {
        fresh::remove(&old)?;
    }
    Ok(Compacted { records: sum.count, before, after: size(&database)?, aside })
}

/// Copies what is live in the database of `store` into a new one in `building`. Under guard, as all reading of a database that
/// may be damaged is.
fn rewrite(store: &Path, building: &Path, accept: bool, watch: &mut Watch<'_>) -> Result<Sum, CompactError> {
    // In this order: where there is no room for the new one, the old one is not touched.
    let fresh = Fresh::create(building)?;
    let engine = Sled::open_unlocked(store, PATIENCE)?;
    let database = store.join(DATABASE);
    let work = {
        let database = database.clone();
        move |pulse: &Pulse<_, Progress>| copy(engine, fresh, &database, accept, &mut |progress| pulse.beat(progress))
    };
    let copied = guard::watched(PATIENCE, work, watch);
    let (engine, fresh) = copied.map_err(|lost| EngineError::lost(&database, lost))??;
    engine.close()?;
    Ok(fresh.finish()?)
}

fn copy(
    engine: Sled,
    mut fresh: Fresh,
    database: &Path,
    accept: bool,
    watch: &mut Watch<'_>,
) -> Result<(Sled, Fresh), CompactError> {
    let mut total = 0;
    if !accept {
        let mut examined = |done, total| watch(Progress { stage: Stage::Verifying, done, total });
        let sum = opening::examine(&engine, database, &mut examined)?.ok_or(CompactError::Interrupted)?;
        total = sum.count;
    }
    let mut done = 0;
    for table in [Table::Records, Table::Floors] {
        let mut from = Vec::new();
        loop {
            if !watch(Progress { stage: Stage::Writing, done, total }) {
                return Err(CompactError::Interrupted);
            }
            let page = engine.scan(table, &[], &from, PAGE)?;
            for (key, value) in &page {
                fresh.put(table, key, value)?;
            }
            if table == Table::Records {
                done += page.len() as u64;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => from = [last.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
    }
    Ok((engine, fresh))
}

/// Reads the new database and compares it with what was written.
fn compare(building: &Path, expected: Sum, watch: &mut Watch<'_>) -> Result<Sum, CompactError> {
    let (mut found, mut pairs) = (Sum::default(), 0_usize);
    fresh::read(building, |table, (key, value)| {
        found.swap(table, key, None, Some(value));
        pairs += 1;
        let progress = Progress { stage: Stage::Comparing, done: found.count, total: expected.count };
        if pairs.is_multiple_of(PAGE) && !watch(progress) {
            return Err(CompactError::Interrupted);
        }
        Ok(())
    })?;
    if (found.count, found.digest) == (expected.count, expected.digest) {
        return Ok(expected);
    }
    Err(CompactError::Differs { found: found.count, expected: expected.count })
}

/// Bytes of all files below `directory`; none where there is nothing.
fn size(directory: &Path) -> Result<u64, EngineError> {
    let failed = |source| EngineError::Directory { path: directory.to_owned(), source };
    let mut bytes = 0;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let meta = entry.metadata().map_err(failed)?;
        bytes += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

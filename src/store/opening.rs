//! Opening a store that says what it lost.
//!
//! What is compared before anybody gets an answer:
//! - the database's id with the mark's: a mark proves nothing about another database;
//! - the sum that the database noted with the mark: behind it means rolled back; after an end in order they are equal;
//! - every record's checksum, and the records' number and digest with the sum. Exactly after an end in order; after another
//!   one, what was in flight and never acknowledged may or may not be there, so the number may differ by as many changes.
//!
//! The last takes two seconds for a million records of 600 bytes. What is not done within [`BUDGET`] goes on in the
//! commit thread while the store works; a difference found then ends the process, and the next start looks at everything.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use super::engine::sled::Sled;
use super::engine::{DATABASE, Engine, EngineError, Table};
use super::guard::guarded;
use super::ledger::NOTED;
use super::mark::{self, Found, Mark, MarkFile};
use super::tally::{Audited, IN_FLIGHT, Sum, Tally};
use crate::clock::Stopwatch;
use crate::ids::Random;

/// How long the records may be looked at before the store opens; a million take about four times that.
const BUDGET: Duration = Duration::from_millis(500);
/// Entries looked at between two signs of life.
const PAGE: usize = 1024;

/// An open database that has been compared with its mark.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) tally: Arc<Tally>,
    pub(super) file: MarkFile,
    /// Whether the last run had ended in order.
    pub(super) sealed: bool,
}

impl Opened {
    /// An empty engine that is no file.
    #[cfg(all(test, feature = "interleavings"))]
    pub(super) fn unseen(engine: Arc<dyn Engine>) -> Self {
        let tally = Tally::new(Sum::default());
        while tally.audit(&*engine, PAGE).unwrap() == Audited::Going {}
        Self { engine, tally: Arc::new(tally), file: MarkFile::unseen(), sealed: false }
    }
}

/// Opens the database in `path`, which must not go silent for longer than `patience`.
///
/// # Errors
/// [`StoreError::Unsound`] for a database that is not what its mark says, and all that opening can say.
pub(super) fn open(path: &Path, patience: Duration) -> Result<Opened, StoreError> {
    // Before the database is touched: a newer one may not survive it.
    let directory = path.join(DATABASE);
    MarkFile::find(&directory)?;
    let engine: Arc<dyn Engine> = Arc::new(Sled::open(path, patience)?);
    let shown = directory.clone();
    let audited = guarded(patience, move |pulse| {
        let (file, sum, sealed) = compare(&*engine, &directory)?;
        let tally = Arc::new(Tally::new(sum));
        let (watch, hurry) = (Stopwatch::start(), !file.newest().doubted);
        while !hurry || watch.elapsed() < BUDGET {
            pulse.beat();
            if let Audited::Done { seen, wanted } = tally.audit(&*engine, PAGE)? {
                judge(&directory, sealed, seen, wanted)?;
                tally.correct(seen, wanted);
                break;
            }
        }
        Ok(Opened { engine, tally, file, sealed })
    });
    let unreadable = |reason| EngineError::Open { path: shown, reason };
    let mut opened = match audited {
        Ok(Ok(opened)) => opened,
        Ok(Err(StoreError::Engine(EngineError::Failed(reason)))) | Err(reason) => return Err(unreadable(reason).into()),
        Ok(Err(error)) => return Err(error),
    };
    let newest = opened.file.newest();
    let begun = opened.file.settle(Mark { sealed: false, doubted: false, ..newest });
    begun.map_err(|error| opened.file.failed(error))?;
    Ok(opened)
}

/// The mark, what the database says that it holds, and whether that is exact.
fn compare(engine: &dyn Engine, directory: &Path) -> Result<(MarkFile, Sum, bool), StoreError> {
    let unsound = |finding: String| StoreError::Unsound { path: directory.to_owned(), finding };
    let noted = match engine.noted(NOTED)? {
        None => None,
        Some(bytes) => {
            Some(Mark::decode(&bytes)?.ok_or_else(|| unsound("what it says of itself is damaged".to_owned()))?)
        }
    };
    let untouched = noted.is_none_or(|noted| noted.sum.changes == 0);
    let file = match MarkFile::find(directory)? {
        Found::Mark(file) => file,
        Found::Nothing | Found::Unreadable if untouched && is_empty(engine)? => create(directory)?,
        Found::Nothing => {
            return Err(unsound(format!("it has records but no {}, which proves that none is missing", mark::NAME)));
        }
        Found::Unreadable => return Err(unsound(format!("its {} cannot be read", mark::NAME))),
    };
    let marked = file.newest();
    let Some(noted) = noted else {
        // Made, and ended before the first change.
        return match marked.sum.changes {
            0 => Ok((file, Sum::default(), false)),
            changes => Err(unsound(format!("it is empty, and {changes} changes had been made"))),
        };
    };
    if noted.id != marked.id && noted.sum.changes > 0 {
        return Err(unsound(format!("its {} is of another database", mark::NAME)));
    }
    let behind = marked.sum.changes.saturating_sub(noted.sum.changes);
    if behind > 0 {
        return Err(unsound(format!("it has fallen back: the last {behind} changes are gone")));
    }
    let equal = noted.sum == marked.sum;
    if !equal && (marked.sealed || noted.sum.changes == marked.sum.changes) {
        return Err(unsound(format!("it is not what it was when its {} was written", mark::NAME)));
    }
    Ok((file, noted.sum, marked.sealed))
}

/// Makes the mark of a database that has just been made itself.
fn create(directory: &Path) -> Result<MarkFile, StoreError> {
    MarkFile::create(directory, Mark::new(fresh_id()?))
}

fn fresh_id() -> Result<[u8; 16], EngineError> {
    Ok(Random::system().map_err(|error| EngineError::Failed(error.to_string()))?.bytes())
}

/// Compares all of a database with its mark, in a process that has it for itself; tells what it holds.
///
/// # Errors
/// As [`open`].
pub(super) fn examine(engine: &dyn Engine, directory: &Path) -> Result<Sum, StoreError> {
    let (_, sum, sealed) = compare(engine, directory)?;
    let tally = Tally::new(sum);
    loop {
        if let Audited::Done { seen, wanted } = tally.audit(engine, PAGE)? {
            return judge(directory, sealed, seen, wanted).map(|()| seen);
        }
    }
}

/// Closes the books of a database that has just been made and filled: it holds `sum`.
///
/// # Errors
/// When the disk failed.
pub(super) fn seal(engine: &dyn Engine, directory: &Path, sum: Sum) -> Result<(), StoreError> {
    let mark = Mark { sealed: true, sum, ..Mark::new(fresh_id()?) };
    engine.note(NOTED, &mark.encode())?;
    engine.flush()?;
    MarkFile::create(directory, mark).map(|_| ())
}

fn is_empty(engine: &dyn Engine) -> Result<bool, StoreError> {
    Ok([Table::Records, Table::Floors, Table::Expiry]
        .into_iter()
        .try_fold(true, |empty, table| Ok::<_, EngineError>(empty && engine.scan(table, &[], &[], 1)?.is_empty()))?)
}

/// Whether what was seen is what should be there.
///
/// # Errors
/// [`StoreError::Unsound`] with the difference.
pub(super) fn judge(directory: &Path, sealed: bool, seen: Sum, wanted: Sum) -> Result<(), StoreError> {
    let unsound = |finding| Err(StoreError::Unsound { path: directory.to_owned(), finding });
    let (found, expected) = (seen.count, wanted.count);
    if (sealed && found != expected) || found.abs_diff(expected) > IN_FLIGHT {
        return unsound(format!("it holds {found} records, and should hold {expected}"));
    }
    if sealed && seen.digest != wanted.digest {
        return unsound(format!("its {found} records are not those that it was closed with"));
    }
    Ok(())
}

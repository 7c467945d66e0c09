//! Opening a store that says what it lost.
//!
//! What is compared before anybody gets an answer:
//! - the database's id with the mark's: a mark proves nothing about another database;
//! - the sum that the database noted with the mark: behind it means rolled back; after an end in order they are equal;
//! - every record's checksum, and the records' number and digest with the sum. Exactly after an end in order; after another
//!   one, what was in flight and never acknowledged may or may not be there, so the number may differ by as many changes.
//!
//! The last takes two seconds for a million records of 600 bytes. What is not done within [`BUDGET`] goes on in the
//! commit thread while the store works; a difference found then ends the process and is noted in the mark, so that no
//! later start takes what is left for the truth. The seal of an end in order stands until the first change, so a process
//! that is killed before that leaves a database that is compared exactly again.

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
pub(super) const BUDGET: Duration = Duration::from_millis(500);
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

/// Opens the database in `path`, which must not go silent for longer than `patience`, and looks at its records for `budget`.
///
/// # Errors
/// [`StoreError::Unsound`] for a database that is not what its mark says, and all that opening can say.
pub(super) fn open(path: &Path, patience: Duration, budget: Duration) -> Result<Opened, StoreError> {
    // Before the database is touched: a newer one may not survive it.
    let directory = path.join(DATABASE);
    MarkFile::find(&directory)?;
    let engine: Arc<dyn Engine> = Arc::new(Sled::open(path, patience)?);
    let shown = directory.clone();
    let audited = guarded(patience, move |pulse| {
        let (file, sum, sealed) = compare(&*engine, &directory)?;
        let tally = Arc::new(Tally::new(sum));
        if sealed {
            tally.hold();
        }
        let (watch, hurry) = (Stopwatch::start(), !file.newest().doubted);
        while !hurry || watch.elapsed() < budget {
            pulse.beat(());
            if let Audited::Done { seen, wanted } = tally.audit(&*engine, PAGE)? {
                judge(&directory, sealed, seen, wanted)?;
                tally.correct(seen, wanted);
                break;
            }
        }
        Ok(Opened { engine, tally, file, sealed })
    });
    let mut opened = match audited {
        Ok(Ok(opened)) => opened,
        Ok(Err(StoreError::Engine(EngineError::Failed(reason)))) => {
            return Err(EngineError::Open { path: shown, reason }.into());
        }
        Ok(Err(error)) => return Err(error),
        Err(lost) => return Err(EngineError::lost(&shown, lost).into()),
    };
    let newest = opened.file.newest();
    if newest.doubted {
        let settled = opened.file.settle(Mark { doubted: false, ..newest });
        settled.map_err(|error| opened.file.failed(error))?;
    }
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
    if marked.unsound {
        return Err(unsound("records were missing, or not what they had been, when it was last compared".to_owned()));
    }
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

/// Compares all of a database with its mark, in a process that has it for itself; tells what it holds. `watch` hears how many
/// records of how many were looked at, and says whether to go on; None when it did not.
///
/// # Errors
/// As [`open`].
pub(super) fn examine(
    engine: &dyn Engine,
    directory: &Path,
    watch: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Option<Sum>, StoreError> {
    let (_, sum, sealed) = compare(engine, directory)?;
    let tally = Tally::new(sum);
    while watch(tally.looked_at(), sum.count) {
        if let Audited::Done { seen, wanted } = tally.audit(engine, PAGE)? {
            return judge(directory, sealed, seen, wanted).map(|()| Some(seen));
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{self, Clock, Time};
    use crate::lifecycle::Lifecycle;
    use crate::store::compact::{CompactError, Wishes, compact};
    use crate::store::{Decision, Durability, Expires, Record, Settings, Store};

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Note(u32);

    impl Record for Note {
        const SPACE: &'static str = "note";
        const SCHEMA: u8 = 1;
    }

    /// Opens without any time to look at the records first.
    fn hasty(path: &Path, life: &Lifecycle) -> Result<Store, StoreError> {
        let settings = Settings { budget: Duration::ZERO, ..Durability::Acknowledged.into() };
        Store::open(path, settings, Clock::held(NOW), life)
    }

    async fn put(store: &Store, id: u32) {
        let put = |_: Option<&_>| Decision::Put(Note(id), Expires::Never, ());
        store.update::<Note, _>(&id.to_string(), put).await.unwrap();
    }

    /// A store that was closed in order and has lost a record since, its own sum untouched.
    async fn bereft(path: &Path) {
        let life = Lifecycle::new();
        let store = Store::open(path, Durability::Acknowledged, Clock::held(NOW), &life).unwrap();
        for id in 0..200 {
            put(&store, id).await;
        }
        assert!(life.shutdown(Duration::from_secs(60)).await);
        tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
        let engine = Sled::open(path, Duration::from_secs(60)).unwrap();
        let lost = engine.scan(Table::Records, &[], &[], 1).unwrap().remove(0);
        engine.compare_and_swap(Table::Records, &lost.0, Some(&lost.1), None).unwrap();
        engine.flush().unwrap();
        engine.close().unwrap();
    }

    fn refused(path: &Path) -> String {
        let opened = Store::open(path, Durability::Acknowledged, Clock::held(NOW), &Lifecycle::new());
        let error = opened.unwrap_err();
        assert!(matches!(error, StoreError::Unsound { .. }), "{error:?}");
        error.to_string()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_found_missing_while_running_is_not_accepted_by_a_later_start() {
        let dir = tempfile::tempdir().unwrap();
        bereft(dir.path()).await;
        let life = Lifecycle::new();
        let store = hasty(dir.path(), &life).unwrap();
        let found = life.failed().await;
        assert!(found.contains("it holds 199 records, and should hold 200"), "{found}");
        tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
        assert!(life.shutdown(Duration::from_secs(60)).await);
        for _ in 0..2 {
            assert!(refused(dir.path()).contains("when it was last compared"));
        }
        let wishes = Wishes { keep: false, accept: false, now: NOW };
        let compacted = compact(dir.path(), wishes, &mut |_| true);
        assert!(matches!(compacted, Err(CompactError::Store(StoreError::Unsound { .. }))), "{compacted:?}");
        compact(dir.path(), Wishes { accept: true, ..wishes }, &mut |_| true).unwrap();
        Store::open(dir.path(), Durability::Acknowledged, Clock::held(NOW), &Lifecycle::new()).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_that_is_killed_before_it_has_compared_takes_no_loss_for_the_truth() {
        let dir = tempfile::tempdir().unwrap();
        bereft(dir.path()).await;
        for _ in 0..2 {
            let opened = open(dir.path(), Duration::from_secs(60), Duration::ZERO).unwrap();
            assert!(opened.sealed && !opened.tally.is_audited());
        }
        assert!(refused(dir.path()).contains("it holds 199 records, and should hold 200"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_seal_is_broken_before_the_first_change_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join(DATABASE);
        let sealed = || match MarkFile::find(&directory).unwrap() {
            Found::Mark(file) => file.newest().sealed,
            other => panic!("{other:?}"),
        };
        for turn in 0..2 {
            let life = Lifecycle::new();
            let store = hasty(dir.path(), &life).unwrap();
            assert_eq!(sealed(), turn > 0, "nothing has changed yet");
            put(&store, turn).await;
            assert!(!sealed());
            // What was not compared to the end is closed without a seal.
            while !store.0.tally.is_audited() {
                clock::pause(Duration::from_millis(1)).await;
            }
            assert!(life.shutdown(Duration::from_secs(60)).await);
            tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
            assert!(sealed());
        }
    }
}

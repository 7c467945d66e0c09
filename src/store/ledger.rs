//! The ledger: what the commit thread does around a flush so that the next start can tell whether anything is missing.
//!
//! Before a flush the sum is noted in the database, between changes and not among them ([`Tally::still`]); after it, in the
//! mark. While a large store has not been compared with its sum since it was opened, a little of that is done after each
//! flush. Closing in order seals the mark, and the first change afterwards waits until the seal is broken.

use std::sync::Arc;

use super::StoreError;
use super::engine::{Engine, EngineError};
use super::mark::{Mark, MarkFile};
use super::opening::{self, Opened};
use super::space::{self, Space};
use super::tally::{Audited, Sum, Tally};
use crate::clock::Stopwatch;

/// Under which name the database keeps the sum.
pub(super) const NOTED: &str = "mark";
/// Entries compared at a time while others wait: 0.1 ms.
const STEP: usize = 64;

/// The database, its sum and its mark, in the hands of the commit thread.
#[derive(Debug)]
pub(super) struct Ledger {
    engine: Arc<dyn Engine>,
    tally: Arc<Tally>,
    space: Arc<Space>,
    file: MarkFile,
    /// How the last run ended: what an audit that is not done yet may find.
    sealed: bool,
    noted: Option<Sum>,
    looked: Stopwatch,
    unlooked: u64,
    blind: bool,
}

impl Ledger {
    pub(super) fn new(opened: Opened, space: Arc<Space>) -> Self {
        let Opened { engine, tally, file, sealed } = opened;
        Self { engine, tally, space, file, sealed, noted: None, looked: Stopwatch::start(), unlooked: 0, blind: false }
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Makes everything written before the call survive, and says so in the mark.
    ///
    /// # Errors
    /// When the disk failed.
    pub(super) fn flush(&mut self) -> Result<(), EngineError> {
        let (noted, weight) = self.tally.still(|sum| (self.note(sum).map(|()| sum), self.tally.make_room()));
        let sum = noted?;
        self.unlooked += weight;
        if self.unlooked >= space::EVERY_BYTES || self.looked.elapsed() >= space::EVERY {
            self.look();
        }
        self.engine.flush()?;
        self.noted = Some(sum);
        let written = self.file.note(sum);
        self.see(written);
        Ok(())
    }

    /// Breaks the seal before the first change; tells whether there was one. A change beside a seal would be taken for
    /// damage by the next start.
    ///
    /// # Errors
    /// When the disk failed.
    pub(super) fn unseal(&mut self) -> Result<bool, EngineError> {
        let newest = self.file.newest();
        if newest.sealed {
            let broken = self.file.settle(Mark { sealed: false, ..newest });
            broken.map_err(|error| self.file.failed(error))?;
            self.tally.release();
        }
        Ok(newest.sealed)
    }

    /// What is to be done while nothing is to be flushed.
    ///
    /// # Errors
    /// When the database has met the end of the disk in somebody's hands: all that are left would meet it too.
    pub(super) fn rest(&mut self) -> Result<(), EngineError> {
        self.look();
        let synced = self.file.keep_up();
        self.see(synced);
        self.engine.goes_on()
    }

    /// Whether there is more to compare.
    pub(super) fn is_auditing(&self) -> bool {
        !self.tally.is_audited()
    }

    /// Compares a little more.
    ///
    /// # Errors
    /// What is wrong. A difference is noted for good; after anything else the next start looks at everything before it lets
    /// anybody in.
    pub(super) fn audit(&mut self) -> Result<(), StoreError> {
        let judged = match self.tally.audit(&*self.engine, STEP) {
            Ok(Audited::Going) => return Ok(()),
            Ok(Audited::Done { seen, wanted }) => opening::judge(self.file.directory(), self.sealed, seen, wanted)
                .map(|()| self.tally.correct(seen, wanted)),
            Err(error) => Err(error),
        };
        match &judged {
            Ok(()) => tracing::info!("every record has been compared with the mark: nothing is missing"),
            Err(error) => {
                let unsound = matches!(error, StoreError::Unsound { .. });
                let settled = self.file.settle(Mark { doubted: true, unsound, ..self.file.newest() });
                self.see(settled);
            }
        }
        judged
    }

    /// Closes the books, with nobody left who could change anything.
    pub(super) fn seal(mut self) {
        if self.is_auditing() || self.file.newest().doubted {
            return;
        }
        let sum = self.tally.still(|sum| sum);
        if self.noted != Some(sum)
            && let Err(error) = self.flush()
        {
            tracing::error!(%error, "the store could not be closed in order: {error}");
            return;
        }
        let sealed = self.file.settle(Mark { sealed: true, sum, ..self.file.newest() });
        self.see(sealed);
    }

    fn note(&self, sum: Sum) -> Result<(), EngineError> {
        self.engine.note(NOTED, &Mark { sum, ..self.file.newest() }.encode())
    }

    fn look(&mut self) {
        self.space.look();
        (self.looked, self.unlooked) = (Stopwatch::start(), 0);
    }

    /// A mark that cannot be written stays behind, which is safe: it proves less. Told once.
    fn see(&mut self, written: std::io::Result<()>) {
        match written {
            Err(error) if !self.blind => {
                let error = self.file.failed(error);
                tracing::error!(%error, "the store's mark cannot be kept up: {error}");
                self.blind = true;
            }
            Err(_) => {}
            Ok(()) => self.blind = false,
        }
    }
}

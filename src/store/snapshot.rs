//! Snapshots: the whole store as it was at one moment, in a file that can prove that it is whole.
//!
//! [`Store::snapshot`] cuts while writers go on (`cut.rs` says how that is one moment), [`verify`] reads a file and believes
//! nothing of it, [`restore_into`] makes a store from one. A snapshot holds every record as it is stored: what is sealed in
//! the store is sealed in the snapshot, and only the store's own key opens it, which is *not* in it. Nothing here decides
//! when a snapshot is taken or how many are kept.

mod cut;
mod files;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod reader;
mod restore;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

use bytes::Bytes;

use super::engine::{EngineError, Pair, Table};
use super::{Store, StoreError, blocking};
pub(super) use cut::Cutting;
pub(super) use files::stamp;
pub use files::{Found, NewFile, Progress, Stage, Watch, clear, latest, list, name, save, verify_file};
use format::Head;
pub use format::{Manifest, Records};
pub use reader::{Damage, verify};
pub use restore::{Existing, Restored, abandon, damaged_aside, rehearse, restore_into};
use writer::Writer;

/// Records read in one step.
const PAGE: usize = if cfg!(all(test, feature = "interleavings")) { 2 } else { 128 };
/// Bytes handed on at once.
const PORTION: usize = 256 * 1024;

/// Shows `see` every pair of a snapshot.
#[cfg(all(test, feature = "interleavings"))]
pub(super) fn each(bytes: &[u8], mut see: impl FnMut(Table, &[u8], &[u8])) {
    let mut reader = reader::Reader::open(bytes).unwrap();
    while let Some(item) = reader.next().unwrap() {
        see(item.table, item.key, item.value);
    }
}

/// Why a snapshot was not taken, or a store not restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store failed, or holds a record that is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another one is being taken.
    #[error("another snapshot of this store is being taken; try again when it is done")]
    Busy,
    /// Writers changed too much meanwhile, because whoever takes the snapshot is too slow.
    #[error(
        "the store changed faster than the snapshot was carried away (64 MiB behind); write it to a faster place, or \
         try again at a quieter time"
    )]
    Overrun,
    /// The file is not what was written.
    #[error("{}: {damage}; use another snapshot", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        damage: Damage,
    },
    /// What was to become a file is no whole snapshot; the file was not made.
    #[error("{} was not written; what came for it ends {damage}", path.display())]
    NotWhole {
        /// The file that was to be.
        path: PathBuf,
        /// What is wrong, and where.
        damage: Damage,
    },
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory in question.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is a file of that name.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// There is something of that name that is no file.
    #[error("{} is there and is no file", .0.display())]
    NoFile(PathBuf),
    /// The store to be restored into holds records.
    #[error("the store in {} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// What was restored is not what the snapshot holds; it was not put in place.
    #[error("what was restored from {} differs from it: {reason}", path.display())]
    Differs {
        /// The snapshot.
        path: PathBuf,
        /// In what it differs.
        reason: String,
    },
    /// Whoever watched wanted no more.
    #[error("broken off before anything was changed")]
    Interrupted,
}

impl From<EngineError> for SnapshotError {
    fn from(error: EngineError) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Begins a snapshot of everything as it is now. Writers go on; everything in it is on the disk when this returns.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`] while there is another, or an engine failure.
    pub async fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        if !self.0.cutting.begin() {
            return Err(SnapshotError::Busy);
        }
        let cut = Cut(self.clone());
        for stripe in &self.0.stripes {
            drop(stripe.lock().await);
        }
        let writer = Writer::new(&Head::new(self.0.clock.now()));
        self.0.commit.settled().await?;
        Ok(Snapshot(Some(Box::new(Work { cut, writer, table: Some(Table::Records), from: Vec::new() }))))
    }
}

/// Ends the store's cut when dropped.
#[derive(Debug)]
struct Cut(Store);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.0.cutting.end();
    }
}

/// A snapshot that is being taken. Dropped, it is given up.
#[derive(Debug)]
pub struct Snapshot(Option<Box<Work>>);

#[derive(Debug)]
struct Work {
    cut: Cut,
    writer: Writer,
    /// What is scanned; None: all is written.
    table: Option<Table>,
    from: Vec<u8>,
}

impl Snapshot {
    /// The next bytes of the file, or None after the last. Ask without long pauses: the store remembers what changes until
    /// it has been written.
    ///
    /// # Errors
    /// [`SnapshotError::Overrun`], a damaged record or an engine failure. The snapshot is over then.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        match self.step().await? {
            None => Ok(None),
            Some((_, Err(error))) => Err(error),
            Some((work, Ok(()))) => Ok(self.hand_on(work)),
        }
    }

    /// As [`Snapshot::chunk`], but whoever reads the bytes is told of a failure too, as the last of them.
    pub async fn portion(&mut self) -> Option<Bytes> {
        // When the process ends, so do the bytes: the reader sees that they are cut off.
        let (mut work, filled) = self.step().await.ok()??;
        match filled {
            Ok(()) => self.hand_on(work),
            Err(error) => {
                tracing::error!(%error, "the snapshot was broken off: {error}");
                work.writer.break_off(&error.to_string());
                Some(work.writer.take().into())
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Step>, SnapshotError> {
        let Some(mut work) = self.0.take() else { return Ok(None) };
        let step = blocking(move || {
            let filled = work.fill();
            Ok((work, filled))
        });
        Ok(Some(step.await?))
    }

    fn hand_on(&mut self, mut work: Box<Work>) -> Option<Bytes> {
        let bytes = work.writer.take();
        if bytes.is_empty() {
            return None;
        }
        self.0 = Some(work);
        Some(bytes.into())
    }
}

type Step = (Box<Work>, Result<(), SnapshotError>);

impl Work {
    /// Writes until there is a portion to hand on, or no more.
    fn fill(&mut self) -> Result<(), SnapshotError> {
        while self.writer.ready() < PORTION
            && let Some(table) = self.table
        {
            let engine = &self.cut.0.0.engine;
            let page = engine.scan(table, &[], &self.from, PAGE).map_err(StoreError::from)?;
            let next = page.last().filter(|_| page.len() == PAGE).map(|(last, _)| [last.as_slice(), &[0]].concat());
            let page = match table {
                Table::Records => {
                    let passed = self.cut.0.0.cutting.pass(page, next.as_deref());
                    passed.map_err(|_| SnapshotError::Overrun)?
                }
                Table::Floors | Table::Expiry => page,
            };
            self.write(table, &page)?;
            match next {
                Some(next) => self.from = next,
                None => self.end(table),
            }
        }
        Ok(())
    }

    fn write(&mut self, table: Table, page: &[Pair]) -> Result<(), SnapshotError> {
        for (key, value) in page {
            if let Err(reason) = self.writer.put(table, key, value) {
                return Err(EngineError::Failed(reason).into());
            }
        }
        Ok(())
    }

    fn end(&mut self, table: Table) {
        self.from.clear();
        self.table = match table {
            Table::Records => Some(Table::Floors),
            Table::Floors | Table::Expiry => {
                self.writer.finish();
                None
            }
        };
    }
}

//! Snapshots by the clock: taken, kept for a while, and rehearsed, so that a backup is known to be one before it is needed.
//!
//! What is due is told by what is there: the newest file in the directory, and the record of the last drill. So a restart
//! neither skips nor repeats anything. A failure is an incident (`snapshots`, `restore-drill`), told once for as long as it
//! lasts. Removed are only files with our own kind of name, and only after a newer one has been written and read again: the
//! last good one never goes. How a snapshot is made is the store's business.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use metrics::{counter, gauge};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::alerts::{Alert, Alerts};
use crate::clock::{Clock, Time};
use crate::lifecycle::Lifecycle;
use crate::store::snapshot::{self, Manifest, SnapshotError};
use crate::store::space;
use crate::store::{Decision, Expires, Kind, Record, Store, StoreError};

/// How often it looks whether something is due.
const LOOK: Duration = Duration::from_secs(60);
/// The pause after a failure, unless the next one is due sooner anyway.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// What must stay free on the disk: below it `nightporter doctor` calls it too little.
const SPARE: u64 = 256 << 20;
/// How much larger a database is than its snapshot, at most: measured 3.5 times the live data after a million updates.
const UNFOLDED: u64 = 4;
/// Where a drill restores to, in the directory of the snapshots.
const DRILL: &str = ".nightporter-drill";

const SNAPSHOT_SUCCESS: &str = "nightporter_snapshot_last_success_timestamp_seconds";
const DRILL_SUCCESS: &str = "nightporter_restore_drill_last_success_timestamp_seconds";

/// How often, how many, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The time from one snapshot to the next; None: none are taken.
    pub every: Option<Duration>,
    /// How many are kept, one at least.
    pub keep: usize,
    /// Where they are; made when it is missing.
    pub directory: PathBuf,
    /// The time from one restore drill to the next; None: there is none.
    pub drill_every: Option<Duration>,
}

/// Why a snapshot or a drill failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotsError {
    /// It could not be taken, or is not good.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The directory cannot be used.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It would fill the disk, which would stop every change to the store.
    #[error("{} has {free} MiB free and {needed} MiB are needed", path.display())]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// MiB that are free.
        free: u64,
        /// MiB that it would take, with what must stay free.
        needed: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process stops.
    #[error("the process stops")]
    Stopping,
}

/// The last restore drill that went well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Drilled {
    at: Time,
    file: String,
    records: u64,
}

/// The kinds of records that are kept here.
pub const KINDS: &[Kind] = &[Kind::of::<Drilled>()];

impl Record for Drilled {
    const SPACE: &'static str = "drill";
    const SCHEMA: u8 = 1;
}

impl Drilled {
    const ID: &'static str = "restore";
}

/// What is done by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Snapshot,
    Drill,
}

impl Job {
    const ALL: [Self; 2] = [Self::Snapshot, Self::Drill];

    /// What an incident is about, and its cause.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Snapshot => ("snapshots", "snapshot_failed"),
            Self::Drill => ("restore-drill", "restore_drill_failed"),
        }
    }

    const fn counter(self) -> &'static str {
        match self {
            Self::Snapshot => "nightporter_snapshots_total",
            Self::Drill => "nightporter_restore_drills_total",
        }
    }
}

/// The handle to the schedule; clones share it.
#[derive(Clone, Debug)]
pub struct Snapshots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    alerts: Alerts,
    clock: Clock,
    settings: RwLock<Arc<Settings>>,
    changed: Notify,
    stopping: Arc<AtomicBool>,
    /// One round at a time.
    turn: tokio::sync::Mutex<()>,
    /// When each job failed last, on the clock that is never set.
    failed: Mutex<[Option<Duration>; Job::ALL.len()]>,
}

impl Snapshots {
    /// Starts the schedule under `life`; the first look is a minute away, when the start has settled.
    pub fn start(store: Store, alerts: Alerts, clock: Clock, settings: Settings, life: &Lifecycle) -> Self {
        let settings = RwLock::new(Arc::new(settings));
        let this = Self(Arc::new(Inner {
            store,
            alerts,
            clock,
            settings,
            changed: Notify::new(),
            stopping: Arc::default(),
            turn: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
        }));
        this.show();
        let (stop, at_work) = (life.stopping(), this.clone());
        life.supervise("snapshots", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = at_work.0.clock.sleep(LOOK) => {}
                    () = at_work.0.changed.notified() => {}
                }
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = at_work.round() => {}
                }
            }
            // A drill is on a thread, which sees this at its next step.
            at_work.0.stopping.store(true, Ordering::Relaxed);
        });
        this
    }

    /// Uses other settings from now on.
    pub fn reconfigure(&self, settings: Settings) {
        let settings = Arc::new(settings);
        let mut current = self.0.settings.write().unwrap_or_else(PoisonError::into_inner);
        if *current != settings {
            *current = settings;
            *self.failures() = Default::default();
            self.0.changed.notify_one();
        }
    }

    /// Does what is due now. The schedule calls it; tests too.
    pub async fn round(&self) {
        let _in_line = self.0.turn.lock().await;
        let settings = Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner));
        for job in Job::ALL {
            if self.resting(job, &settings) {
                continue;
            }
            let done = match job {
                Job::Snapshot => self.snapshot_if_due(&settings).await,
                Job::Drill => self.drill_if_due(&settings).await,
            };
            match done {
                Ok(None) => {}
                Ok(Some(told)) => self.went_well(job, &told).await,
                Err(SnapshotsError::Stopping) => return,
                // Somebody takes one by hand; the next look is in a minute.
                Err(SnapshotsError::Snapshot(SnapshotError::Busy)) => {}
                Err(error) => self.failed(job, &settings, &error).await,
            }
        }
    }

    async fn snapshot_if_due(&self, settings: &Settings) -> Result<Option<String>, SnapshotsError> {
        let Some(every) = settings.every else { return Ok(None) };
        let (directory, now) = (settings.directory.clone(), self.0.clock.now());
        let there = blocking(move || Ok(snapshot::list(&directory)?)).await?;
        // One of the future was taken before the clock was set back, and says nothing about what is due.
        let newest = there.iter().find(|(at, _)| *at <= now);
        if newest.is_some_and(|(at, _)| now.since(*at) < every) {
            return Ok(None);
        }
        let directory = settings.directory.clone();
        let before = newest.map(|(_, path)| path.clone());
        blocking(move || prepare(&directory, before.as_deref())).await?;
        let path = settings.directory.join(snapshot::name(now));
        let manifest = snapshot::save(&self.0.store, &path, false).await?;
        let (kept, keep) = (path.clone(), settings.keep);
        let directory = settings.directory.clone();
        blocking(move || prune(&directory, keep, &kept)).await?;
        gauge!(SNAPSHOT_SUCCESS).set(seconds(now));
        Ok(Some(format!("{} holds {} records", path.display(), manifest.records)))
    }

    async fn drill_if_due(&self, settings: &Settings) -> Result<Option<String>, SnapshotsError> {
        let Some(every) = settings.drill_every else { return Ok(None) };
        let now = self.0.clock.now();
        let last = self.0.store.get::<Drilled>(Drilled::ID)?.map(|last| last.value.at);
        if last.is_some_and(|last| last <= now && now.since(last) < every) {
            return Ok(None);
        }
        let directory = settings.directory.clone();
        let Some((_, path)) = blocking(move || Ok(snapshot::list(&directory)?)).await?.into_iter().next() else {
            return Ok(None);
        };
        let manifest = self.drill(settings.directory.join(DRILL), path.clone()).await?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let drilled = Drilled { at: now, file, records: manifest.records };
        let told = format!("{} was restored and compared, {} records", drilled.file, drilled.records);
        self.0.store.update(Drilled::ID, |_| Decision::Put(drilled.clone(), Expires::Never, ())).await?;
        gauge!(DRILL_SUCCESS).set(seconds(now));
        Ok(Some(told))
    }

    async fn drill(&self, directory: PathBuf, file: PathBuf) -> Result<Manifest, SnapshotsError> {
        let stopping = Arc::clone(&self.0.stopping);
        let rehearsing = move || {
            let size = std::fs::metadata(&file).map_or(0, |meta| meta.len());
            room(&file, size.saturating_mul(UNFOLDED))?;
            match snapshot::rehearse(&file, &directory, &mut |_| !stopping.load(Ordering::Relaxed)) {
                Err(SnapshotError::Interrupted) => Err(SnapshotsError::Stopping),
                rehearsed => Ok(rehearsed?),
            }
        };
        blocking(rehearsing).await
    }

    async fn went_well(&self, job: Job, told: &str) {
        let (subject, _) = job.words();
        tracing::info!(subject, "{subject}: {told}");
        counter!(job.counter(), "outcome" => "ok").increment(1);
        self.failures()[job as usize] = None;
        let title = format!("{subject}: it works again");
        if let Err(error) = self.0.alerts.resolve(subject, &title, told).await {
            tracing::error!(%error, subject, "{subject}: the end of its incident could not be recorded: {error}");
        }
    }

    async fn failed(&self, job: Job, settings: &Settings, failure: &SnapshotsError) {
        let (subject, cause) = job.words();
        tracing::error!(%failure, subject, "{subject}: {failure}");
        counter!(job.counter(), "outcome" => "failed").increment(1);
        self.failures()[job as usize] = Some(self.0.clock.passed());
        if let Err(error) = self.tell(job, settings, failure).await {
            tracing::error!(%error, subject, cause, "{subject}: the failure could not be told: {error}");
        }
    }

    /// Raises an incident, unless this one lasts already: it fails again at every attempt, which is no news.
    async fn tell(
        &self,
        job: Job,
        settings: &Settings,
        failure: &SnapshotsError,
    ) -> Result<(), crate::alerts::AlertError> {
        let (subject, cause) = job.words();
        let open = self.0.alerts.list().await?.into_iter().any(|report| report.open && report.subject == subject);
        if open {
            return Ok(());
        }
        let directory = settings.directory.display();
        let (title, what) = match job {
            Job::Snapshot => (
                "no snapshot could be taken",
                format!("The snapshots that are in {directory} are kept; a new one is tried every 15 minutes."),
            ),
            Job::Drill => (
                "the newest snapshot could not be restored",
                format!(
                    "The restore drill makes a store from the newest snapshot in {directory} and compares it; the running \
                     store is not touched. Check the others with `nightporter restore --verify FILE`, and write a fresh \
                     one with `nightporter backup FILE`."
                ),
            ),
        };
        let alert = Alert {
            cause: cause.to_owned(),
            title: title.to_owned(),
            body: format!("{failure}\n\n{what}"),
            attachments: Vec::new(),
        };
        self.0.alerts.raise(subject, &alert).await.map(|_| ())
    }

    /// Whether a failure of this job is too recent for another attempt.
    fn resting(&self, job: Job, settings: &Settings) -> bool {
        let every = match job {
            Job::Snapshot => settings.every,
            Job::Drill => settings.drill_every,
        };
        let pause = every.map_or(AGAIN, |every| every.min(AGAIN));
        self.failures()[job as usize].is_some_and(|failed| self.0.clock.passed().saturating_sub(failed) < pause)
    }

    /// Shows what earlier processes did.
    fn show(&self) {
        let settings = Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner));
        // What cannot be read is told when it is due.
        if let Some((at, _)) = snapshot::list(&settings.directory).unwrap_or_default().first() {
            gauge!(SNAPSHOT_SUCCESS).set(seconds(*at));
        }
        if let Ok(Some(last)) = self.0.store.get::<Drilled>(Drilled::ID) {
            gauge!(DRILL_SUCCESS).set(seconds(last.value.at));
        }
    }

    // A plain mutex: held for an access, never across an await.
    fn failures(&self) -> std::sync::MutexGuard<'_, [Option<Duration>; Job::ALL.len()]> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the directory, clears away what was left unfinished in it, and sees to it that there is room for a file like
/// `before`.
fn prepare(directory: &Path, before: Option<&Path>) -> Result<(), SnapshotsError> {
    let failed = |source| SnapshotsError::Directory { path: directory.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    snapshot::clear(directory)?;
    let size = before.and_then(|before| std::fs::metadata(before).ok()).map_or(0, |meta| meta.len());
    room(directory, size + size / 4)
}

/// Whether `bytes` more at `path` leave enough room for the store.
fn room(path: &Path, bytes: u64) -> Result<(), SnapshotsError> {
    let free = space::free(path).map_err(|source| SnapshotsError::Directory { path: path.to_owned(), source })?;
    let needed = bytes.saturating_add(SPARE);
    if free < needed {
        let path = path.to_owned();
        return Err(SnapshotsError::NoRoom { path, free: free >> 20, needed: needed >> 20 });
    }
    Ok(())
}

/// Removes the oldest snapshots beyond `keep`; never `newest`, which has just been read to its end.
fn prune(directory: &Path, keep: usize, newest: &Path) -> Result<(), SnapshotsError> {
    for (_, path) in snapshot::list(directory)?.into_iter().skip(keep.max(1)) {
        if path != newest {
            let failed = |source| SnapshotsError::Directory { path: path.clone(), source };
            std::fs::remove_file(&path).map_err(failed)?;
            tracing::info!("the snapshot {} was removed: {keep} newer ones are kept", path.display());
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotsError> + Send + 'static,
) -> Result<T, SnapshotsError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Err(SnapshotsError::Stopping),
    }
}

fn seconds(at: Time) -> f64 {
    at.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::golden;

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let drilled = Drilled {
            at: Time::from_millis(1_700_000_000_000),
            file: "nightporter-x.snapshot".to_owned(),
            records: 70_000,
        };
        golden::<Drilled>(&drilled, "fd0068e5cf8b010000166e69676874706f727465722d782e736e617073686f74fc70110100");
    }
}

//! Snapshots as files: their names, how one comes to be without ever being half there, and which is the newest good one.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::format::MAGIC;
use super::reader::Reader;
use super::{Damage, Manifest, SnapshotError};
use crate::clock::Time;
use crate::store::{Store, blocking};

const PREFIX: &str = "nightporter-";
const SUFFIX: &str = ".snapshot";
/// What a file ends with until it is whole.
const UNFINISHED: &str = ".unfinished";
/// Read from a file at once.
const BUFFER: usize = 256 * 1024;
/// Bytes or records between two words to a watcher.
pub(super) const STEP: u64 = 1024;

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How much of it is done.
    pub done: u64,
    /// How much there is; 0 when that is not known.
    pub total: u64,
}

/// What is being done with a snapshot, or with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The file is read and checked, in bytes; or the database, in records.
    Verifying,
    /// The records are written; in bytes of the file, or in records of the database that they are taken from.
    Writing,
    /// What was written is read and compared; in records.
    Comparing,
}

/// Hears how far it has come and says whether to go on.
pub type Watch<'a> = dyn FnMut(Progress) -> bool + 'a;

/// A snapshot in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself, verified.
    pub manifest: Manifest,
}

/// The name of a snapshot taken at `at`; names sort by time.
pub fn name(at: Time) -> String {
    format!("{PREFIX}{}{SUFFIX}", stamp(at))
}

/// A time that can be part of a file's name: `20261120T191805250Z`.
pub(in crate::store) fn stamp(at: Time) -> String {
    at.to_string().replace(['-', ':', '.'], "")
}

/// When the snapshot of this name was taken; None for any other name.
fn taken_at(file: &str) -> Option<Time> {
    let stamp = file.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    if !stamp.is_ascii() || stamp.len() != 19 {
        return None;
    }
    let (date, time) = (&stamp[..8], &stamp[9..]);
    let text = format!(
        "{}-{}-{}T{}:{}:{}.{}",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..6],
        &time[6..]
    );
    let at: Time = text.parse().ok()?;
    (name(at) == file).then_some(at)
}

/// The snapshots in `directory` by their names, the newest first, unread. None are there when there is no such directory.
///
/// # Errors
/// [`SnapshotError::Io`] when the directory cannot be read.
pub fn list(directory: &Path) -> Result<Vec<(Time, PathBuf)>, SnapshotError> {
    let failed = |source| SnapshotError::Io { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let at = entry.file_name().to_str().and_then(taken_at);
        if let Some(at) = at
            && entry.file_type().map_err(failed)?.is_file()
        {
            found.push((at, entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// The newest snapshot in `directory` that is whole; it and those newer than it are read to their ends. Blocks.
///
/// # Errors
/// [`SnapshotError::Io`] when the directory cannot be read. Damaged files are passed over with a warning.
pub fn latest(directory: &Path) -> Result<Option<Found>, SnapshotError> {
    for (_, path) in list(directory)? {
        match verify_file(&path, &mut |_| true) {
            Ok(manifest) => return Ok(Some(Found { path, manifest })),
            Err(error) => tracing::warn!(%error, "a snapshot is passed over: {error}"),
        }
    }
    Ok(None)
}

/// Reads the whole file and checks it. Blocks.
///
/// # Errors
/// [`SnapshotError::Damaged`], naming file and offset; [`SnapshotError::Io`], [`SnapshotError::Interrupted`].
pub fn verify_file(path: &Path, watch: &mut Watch<'_>) -> Result<Manifest, SnapshotError> {
    let mut opened = Opened::open(path, Stage::Verifying)?;
    while opened.next(watch)?.is_some() {}
    opened.finish()
}

/// A snapshot's file that is being read.
pub(super) struct Opened {
    path: PathBuf,
    pub(super) reader: Reader<BufReader<File>>,
    progress: Progress,
    until_told: u64,
}

impl Opened {
    pub(super) fn open(path: &Path, stage: Stage) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(SnapshotError::NoFile(path.to_owned()));
        }
        let reader = Reader::open(BufReader::with_capacity(BUFFER, file)).map_err(|damage| damaged(path, damage))?;
        let progress = Progress { stage, done: 0, total: meta.len() };
        Ok(Self { path: path.to_owned(), reader, progress, until_told: 0 })
    }

    /// The next pair; the watcher hears of it from time to time.
    pub(super) fn next(&mut self, watch: &mut Watch<'_>) -> Result<Option<super::reader::Item<'_>>, SnapshotError> {
        if self.until_told == 0 {
            self.until_told = STEP;
            self.progress.done = self.reader.offset();
            if !watch(self.progress) {
                return Err(SnapshotError::Interrupted);
            }
        }
        self.until_told -= 1;
        self.reader.next().map_err(|damage| damaged(&self.path, damage))
    }

    pub(super) fn finish(self) -> Result<Manifest, SnapshotError> {
        self.reader.finish().map_err(|damage| damaged(&self.path, damage))
    }
}

fn damaged(path: &Path, damage: Damage) -> SnapshotError {
    SnapshotError::Damaged { path: path.to_owned(), damage }
}

/// Takes a snapshot of `store` into the file `path`; there is nothing of that name until it is whole, read again and on the
/// disk. With `replace` it may take the place of another file.
///
/// # Errors
/// What [`Store::snapshot`] and [`NewFile`] say; nothing is left behind then.
pub async fn save(store: &Store, path: &Path, replace: bool) -> Result<Manifest, SnapshotError> {
    let mut file = NewFile::create(path, replace)?;
    let mut snapshot = store.snapshot().await?;
    while let Some(chunk) = snapshot.chunk().await? {
        file.append(chunk).await?;
    }
    file.finish().await
}

/// A snapshot's file that is being written, under another name. Dropped unfinished, it is removed.
#[derive(Debug)]
pub struct NewFile {
    unfinished: Unfinished,
    replace: bool,
    written: u64,
}

#[derive(Debug)]
struct Unfinished {
    file: File,
    path: PathBuf,
    /// Its name once it is whole.
    target: PathBuf,
    placed: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.placed {
            // Nobody is left to be told; the next one in this directory clears it away.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl NewFile {
    /// Begins the file that is to be `path`, mode 0600.
    ///
    /// # Errors
    /// [`SnapshotError::Exists`] without `replace`; [`SnapshotError::NoFile`], [`SnapshotError::Io`].
    pub fn create(path: &Path, replace: bool) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::Io { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() => return Err(SnapshotError::NoFile(path.to_owned())),
            Ok(_) if !replace => return Err(SnapshotError::Exists(path.to_owned())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let Some(name) = path.file_name() else { return Err(SnapshotError::NoFile(path.to_owned())) };
        let unfinished = format!(".{}.{}{UNFINISHED}", name.to_string_lossy(), std::process::id());
        let unfinished = directory(path).join(unfinished);
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        remove_abandoned(directory(path));
        let file = match options.open(&unfinished) {
            // Left by a process that had our number and was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&unfinished).map_err(failed)?;
                options.open(&unfinished)
            }
            opened => opened,
        };
        let file = file.map_err(failed)?;
        // For processes that do not see ours. A file system without locks has none to show.
        let _ = file.try_lock();
        let unfinished = Unfinished { file, path: unfinished, target: path.to_owned(), placed: false };
        Ok(Self { unfinished, replace, written: 0 })
    }

    /// How many bytes have been written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Io`], a full disk among others.
    pub async fn append(&mut self, bytes: Bytes) -> Result<(), SnapshotError> {
        self.written += bytes.len() as u64;
        let path = self.unfinished.target.clone();
        let failed = |source| SnapshotError::Io { path, source };
        let mut file = self.unfinished.file.try_clone().map_err(failed.clone())?;
        let written = blocking(move || Ok(file.write_all(&bytes))).await?;
        written.map_err(failed)
    }

    /// Puts the file in its place: on the disk, read again from its beginning, and whole.
    ///
    /// # Errors
    /// [`SnapshotError::NotWhole`] when what was written is no whole snapshot; [`SnapshotError::Exists`] when somebody else
    /// has made such a file meanwhile; [`SnapshotError::Io`].
    pub async fn finish(self) -> Result<Manifest, SnapshotError> {
        let Self { unfinished, replace, .. } = self;
        blocking(move || Ok(unfinished.place(replace))).await?
    }
}

impl Unfinished {
    fn place(mut self, replace: bool) -> Result<Manifest, SnapshotError> {
        let target = self.target.clone();
        let failed = |source| SnapshotError::Io { path: target.clone(), source };
        self.file.sync_all().map_err(failed)?;
        let manifest = verify_file(&self.path, &mut |_| true).map_err(|error| match error {
            SnapshotError::Damaged { damage, .. } => SnapshotError::NotWhole { path: target.clone(), damage },
            error => error,
        })?;
        if replace {
            fs::rename(&self.path, &target).map_err(failed)?;
        } else {
            match fs::hard_link(&self.path, &target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(SnapshotError::Exists(target));
                }
                // A file system without links: the name was free when we began.
                Err(_) => fs::rename(&self.path, &target).map_err(failed)?,
                Ok(()) => fs::remove_file(&self.path).map_err(failed)?,
            }
        }
        self.placed = true;
        File::open(directory(&target)).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(manifest)
    }
}

/// Removes from `directory` what processes that were killed while they wrote a snapshot there have left, under names of the form
/// `.NAME.PID.unfinished`. What cannot be looked at stays, and so does what holds anything but the beginning of a snapshot.
fn remove_abandoned(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(UNFINISHED)?.rsplit_once('.'));
        let pid = pid.and_then(|(_, pid)| Pid::from_raw(pid.parse().ok()?));
        let dead = pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        if dead && entry.file_type().is_ok_and(|kind| kind.is_file()) && is_abandoned(&entry.path()).unwrap_or(false) {
            let removed = fs::remove_file(entry.path());
            tracing::info!(?removed, "{} was left by a process that is gone", entry.path().display());
        }
    }
}

/// Whether the file is the beginning of a snapshot that nobody writes any more.
fn is_abandoned(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let mut begins = Vec::new();
    (&file).take(MAGIC.len() as u64).read_to_end(&mut begins)?;
    Ok(MAGIC.starts_with(&begins) && file.try_lock().is_ok())
}

/// Removes from `directory` what snapshots of ours have left unfinished there. For a directory that only one process writes
/// its snapshots to.
///
/// # Errors
/// [`SnapshotError::Io`].
pub fn clear(directory: &Path) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::Io { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(&format!(".{PREFIX}")) && name.ends_with(UNFINISHED) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Where a file lies.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_time_and_other_names_are_not_ours() {
        let at = Time::from_millis(1_700_000_000_250);
        assert_eq!(name(at), "nightporter-20231114T221320250Z.snapshot");
        assert_eq!(taken_at(&name(at)), Some(at));
        for other in [
            "nightporter-.snapshot",
            "nightporter-20231314T221320250Z.snapshot",
            "notes.snapshot",
            ".x",
            "nightporter-20231114T221320250Z.snapshot.bak",
            "nightporter-2023111éT22132025Z.snapshot",
        ] {
            assert_eq!(taken_at(other), None, "{other}");
        }
    }
}

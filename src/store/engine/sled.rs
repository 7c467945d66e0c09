//! The embedded engine: sled 0.34.7. The only file that says sled.
//!
//! ## Design notes
//!
//! - The version is deliberate: 1.0.0-alpha is 12 to 100 times slower when every answer is durable, and hangs on damaged
//!   files. sled brings `fxhash` and `instant`, which are unmaintained but sound.
//! - A lock file of our own with the process id in it gives the second process an error that a person understands.
//! - Opening happens under guard: a damaged file can make sled panic or never return.
//! - sled never flushes by itself here (`flush_every_ms(None)`); the commit thread says when.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::broadcast;

use super::{Batch, Change, DATABASE, Engine, EngineError, Lease, Leases, Pair, Swap, Table, power};
use crate::store::fresh;
use crate::store::guard::guarded;

/// sled's page cache in bytes; its resident size is about six times that.
const CACHE: u64 = 4 << 20;
/// How often opening tries again while sled's own lock is being let go, and the pause between: five seconds in all. Seen to
/// take a few milliseconds, on a busy machine, in one reopening of seventy.
const RELEASE_TRIES: u32 = 500;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);
/// The same for our lock, which nobody lets go of slowly: a fork has become another program within a second.
const LOCK_TRIES: u32 = 100;

/// The mode of directories: nobody but their owner comes in.
const PRIVATE: u32 = 0o700;
/// Beside the database: there is one, or there was.
const MADE: &str = "made";
/// What sled says when somebody has its files.
const LOCKED: &str = "could not acquire lock";

/// One sled database that this process has for itself.
#[derive(Debug)]
pub(in crate::store) struct Sled {
    db: sled::Db,
    records: sled::Tree,
    expiry: sled::Tree,
    floors: sled::Tree,
    /// Who listens to which kind of records.
    news: RwLock<HashMap<&'static str, broadcast::Sender<Change>>>,
    leases: Arc<Leases>,
    path: PathBuf,
    /// What sled said when it met the end of the disk: it fails now and then from there on, also where it only reads.
    met: OnceLock<String>,
    // Held, not read: the lock on the data directory goes with it. None: the caller has it.
    _lock: Option<File>,
    // Dropped after the other handles.
    end: End,
}

impl Sled {
    /// Opens or makes the database in the directory `path`; it must not go silent for longer than `patience`.
    pub(in crate::store) fn open(path: &Path, patience: Duration) -> Result<Self, EngineError> {
        let lock = claim(path)?;
        fresh::settle(path)?;
        Self::open_in(path, Some(lock), patience)
    }

    /// Locks the directory `path` for this process, without opening anything in it; makes it if need be.
    pub(in crate::store) fn lock(path: &Path) -> Result<File, EngineError> {
        claim(path)
    }

    /// Opens the database in a directory whose lock the caller has.
    pub(in crate::store) fn open_unlocked(path: &Path, patience: Duration) -> Result<Self, EngineError> {
        Self::open_in(path, None, patience)
    }

    fn open_in(path: &Path, lock: Option<File>, patience: Duration) -> Result<Self, EngineError> {
        let files = path.join(DATABASE);
        let opened = guarded(patience, {
            let (path, files) = (path.to_owned(), files.clone());
            move |_| open_whole(&path, &files)
        });
        let (db, [records, expiry, floors]) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(EngineError::Failed(reason))) => return Err(EngineError::Open { path: files, reason }),
            Ok(Err(error)) => return Err(error),
            Err(lost) => return Err(EngineError::lost(&files, lost)),
        };
        sync(&[&files.join("conf"), &files, path, parent(path)])?;
        tell_made(path)?;
        let (news, leases, path, met) = (RwLock::default(), Arc::default(), path.to_owned(), OnceLock::new());
        Ok(Self { db, records, expiry, floors, news, leases, path, met, _lock: lock, end: End::default() })
    }

    /// Closes the database and waits until nothing of it is at work any more, so that its files can be moved.
    pub(in crate::store) fn close(self) -> Result<(), EngineError> {
        self.goes_on()?;
        let file = self.path.join(DATABASE).join("db");
        drop(self);
        let failed = |source| EngineError::Directory { path: file.clone(), source };
        let opened = File::open(&file).map_err(failed)?;
        lock_when_released(&opened, RELEASE_TRIES).map_err(|error| failed(error.into()))
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        match table {
            Table::Records => &self.records,
            Table::Expiry => &self.expiry,
            Table::Floors => &self.floors,
        }
    }

    fn failed(&self, error: &sled::Error) -> EngineError {
        let failed = failed(error);
        if let EngineError::NoSpace(words) = &failed {
            let _ = self.met.set(words.clone());
        }
        failed
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        if self.met.get().is_some() {
            self.end.0 = Some(self.db.clone());
        }
    }
}

/// The last handle to a database that has met the end of the disk. To drop it takes until there is room, for ever perhaps,
/// which nobody should wait for.
#[derive(Debug, Default)]
struct End(Option<sled::Db>);

impl Drop for End {
    fn drop(&mut self) {
        if let Some(db) = self.0.take() {
            let _ = std::thread::Builder::new().name("store end".to_owned()).spawn(move || drop(db));
        }
    }
}

impl Engine for Sled {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.tree(table).get(key).map_err(|error| self.failed(&error))?.map(|value| value.to_vec()))
    }

    fn compare_and_swap(
        &self,
        table: Table,
        key: &[u8],
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap, EngineError> {
        match self.tree(table).compare_and_swap(key, old, new).map_err(|error| self.failed(&error))? {
            Ok(()) => Ok(Swap::Done),
            Err(_) => Ok(Swap::Lost),
        }
    }

    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        self.tree(table)
            .range(from.max(prefix)..)
            .take(limit)
            .take_while(|pair| pair.as_ref().map_or(true, |(key, _)| key.starts_with(prefix)))
            .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(|error| self.failed(&error)))
            .collect()
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        for (table, key, value) in batch.0 {
            let tree = self.tree(table);
            match value {
                Some(value) => tree.insert(key, value),
                None => tree.remove(key),
            }
            .map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn note(&self, name: &str, value: &[u8]) -> Result<(), EngineError> {
        self.db.insert(name, value).map(|_| ()).map_err(|error| self.failed(&error))
    }

    fn noted(&self, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.db.get(name).map_err(|error| self.failed(&error))?.map(|value| value.to_vec()))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.db.flush().map(|_| ()).map_err(|error| self.failed(&error))
    }

    fn publish(&self, change: Change) {
        let news = self.news.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(listeners) = news.get(change.key.space()) {
            // Nobody listening any more is not an error.
            let _ = listeners.send(change);
        }
    }

    fn subscribe(&self, space: &'static str, backlog: usize) -> broadcast::Receiver<Change> {
        let mut news = self.news.write().unwrap_or_else(PoisonError::into_inner);
        news.entry(space).or_insert_with(|| broadcast::Sender::new(backlog)).subscribe()
    }

    fn lease(&self, name: &str) -> Option<Lease> {
        self.leases.take(name)
    }

    fn goes_on(&self) -> Result<(), EngineError> {
        self.met.get().map_or(Ok(()), |words| Err(EngineError::NoSpace(words.clone())))
    }
}

fn failed(error: &sled::Error) -> EngineError {
    match error {
        sled::Error::Io(io) if io.kind() == io::ErrorKind::StorageFull || io.to_string().contains("os error 28") => {
            EngineError::NoSpace(io.to_string())
        }
        sled::Error::Io(io) if is_refusal(io) => EngineError::Io(io.to_string()),
        _ => EngineError::Failed(error.to_string()),
    }
}

/// Whether it is the operating system that refused, and not sled that found nonsense. A place in a file that cannot be,
/// which is what `InvalidInput` means, comes of a damaged pointer.
fn is_refusal(error: &io::Error) -> bool {
    // sled hands on a copy sometimes, which only has the words.
    let words = error.to_string();
    let told = error.raw_os_error().is_some() || words.starts_with("Os {") || words.contains(LOCKED);
    told && !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

/// Makes the directory, private to its owner, and locks it for this process.
fn claim(path: &Path) -> Result<File, EngineError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| EngineError::Directory { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(path).map_err(io_error(path))?;
    let lock_path = path.join("lock");
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock = options.open(&lock_path).map_err(io_error(&lock_path))?;
    match lock_when_released(&lock, LOCK_TRIES) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(EngineError::InUse { path: path.to_owned(), owner: owner(&mut lock) });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(&lock_path)(source)),
    }
    let write_pid = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write_pid(&mut lock).map_err(io_error(&lock_path))?;
    Ok(lock)
}

/// Takes the lock once nobody has it. A process that is just being started has our open files until it becomes another
/// program, this one of a store that was closed in the same moment perhaps.
fn lock_when_released(lock: &File, mut patience: u32) -> Result<(), TryLockError> {
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(RELEASE_PAUSE);
            }
            locked => return locked,
        }
    }
}

/// Who has the lock. A courtesy: where it cannot be read, the error is as true without it.
fn owner(lock: &mut File) -> String {
    let mut owner = String::new();
    let _ = lock.read_to_string(&mut owner);
    match owner.trim() {
        "" => "another process".to_owned(),
        owner => format!("process {owner}"),
    }
}

/// Everything that reads or writes the files for the first time.
fn open_whole(path: &Path, files: &Path) -> Result<(sled::Db, [sled::Tree; 3]), EngineError> {
    if !files.join("conf").exists() && !files.join("db").exists() {
        if path.join(MADE).exists() {
            let (path, reason) = (files.to_owned(), "it was made here once, and it is gone".to_owned());
            return Err(EngineError::Open { path, reason });
        }
        make(path, files)?;
    }
    // The store's directory may be older than the store, and open to everybody: sled's files have no mode of their own.
    let private = fs::set_permissions(files, fs::Permissions::from_mode(PRIVATE));
    private.map_err(|source| EngineError::Directory { path: files.to_owned(), source })?;
    remove_unfinished(files)?;
    let db = open_when_released(files)?;
    let tree = |name: &str| db.open_tree(name).map_err(|error| failed(&error));
    let trees = [tree("records")?, tree("expiry")?, tree("floors")?];
    prove_durable(&db, files)?;
    Ok((db, trees))
}

/// Writes and flushes once and looks whether an fdatasync happened, and whether a rename is ours.
fn prove_durable(db: &sled::Db, files: &Path) -> Result<(), EngineError> {
    let before = power::syncs();
    // A value that differs from the one before, or sled might find nothing to write.
    let opened = db.get("opened").map_err(|error| failed(&error))?;
    let count = opened.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes) + 1;
    db.insert("opened", &count.to_le_bytes()).map_err(|error| failed(&error))?;
    db.flush().map_err(|error| failed(&error))?;
    // A file that is given its own name stays what it is.
    let (conf, renamed) = (files.join("conf"), power::renames());
    fs::rename(&conf, &conf).map_err(|source| EngineError::Directory { path: conf, source })?;
    let proven = power::syncs() > before && power::renames() > renamed;
    if proven { Ok(()) } else { Err(EngineError::NotDurable) }
}

/// Opens the files once sled's own lock on them is free. Ours is held by now, so nobody else has them open: only the
/// worker threads of a database that this process has just closed may still be letting go.
fn open_when_released(files: &Path) -> Result<sled::Db, EngineError> {
    let config =
        sled::Config::new().path(files).cache_capacity(CACHE).flush_every_ms(None).mode(sled::Mode::HighThroughput);
    let mut patience = RELEASE_TRIES;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if patience > 0 && error.to_string().contains(LOCKED) => {
                patience -= 1;
                std::thread::sleep(RELEASE_PAUSE);
            }
            Err(sled::Error::Io(error)) if error.to_string().contains(LOCKED) => return Err(taken(files)),
            opened => return opened.map_err(|error| failed(&error)),
        }
    }
}

/// Somebody has the database open who does not have our lock: its file was removed, or is of another time.
fn taken(files: &Path) -> EngineError {
    EngineError::InUse {
        path: files.to_owned(),
        owner: "another process, though nobody has the store's lock".to_owned(),
    }
}

/// Whether nobody has the database in the store's directory open, whoever has the lock.
///
/// # Errors
/// [`EngineError::InUse`].
pub(in crate::store) fn unused(path: &Path) -> Result<(), EngineError> {
    let files = path.join(DATABASE);
    match File::open(files.join("db")).map(|file| lock_when_released(&file, RELEASE_TRIES)) {
        Ok(Err(TryLockError::WouldBlock)) => Err(taken(&files)),
        // What is not there is nobody's, and what cannot be locked is told by whoever opens it.
        _ => Ok(()),
    }
}

/// Makes an empty database under another name and gives it its own when it is whole on the disk: one that a power cut
/// leaves half made would not open.
fn make(path: &Path, files: &Path) -> Result<(), EngineError> {
    let made = path.join("sled.new");
    let failed = |source| EngineError::Directory { path: made.clone(), source };
    match fs::remove_dir_all(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::DirBuilder::new().mode(PRIVATE).create(&made).map_err(failed)?;
    drop(open_when_released(&made)?);
    sync(&[&made.join("conf"), &made.join("db"), &made])?;
    fs::rename(&made, files).map_err(failed)
}

/// Notes beside the database that there is one, so that one which disappears is missed.
fn tell_made(path: &Path) -> Result<(), EngineError> {
    let note = path.join(MADE);
    let failed = |source| EngineError::Directory { path: note.clone(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&note) {
        Ok(_) => sync(&[path]),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Removes what a recovery that was cut short had begun to write. It is worth nothing before it has its name, and sled
/// takes it for whole and refuses to open.
fn remove_unfinished(files: &Path) -> Result<(), EngineError> {
    let failed = |source| EngineError::Directory { path: files.to_owned(), source };
    for entry in fs::read_dir(files).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().ends_with(b".generating") {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Forces to the disk what sled does not: its file of settings, without which it does not open, and directory entries,
/// which are data too: a file whose name is not on the disk is lost with it.
fn sync(places: &[&Path]) -> Result<(), EngineError> {
    places.iter().try_for_each(|place| {
        let synced = File::open(place).and_then(|place| place.sync_all());
        synced.map_err(|source| EngineError::Directory { path: PathBuf::from(place), source })
    })
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn every_flushed_change_is_forced_to_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Sled::open(&dir.path().join("store"), PATIENCE).unwrap();
        for n in 0_u64..20 {
            let before = power::syncs();
            let old = n.checked_sub(1).map(u64::to_le_bytes);
            let old = old.as_ref().map(<[u8; 8]>::as_slice);
            let swap = engine.compare_and_swap(Table::Records, b"k", old, Some(&n.to_le_bytes())).unwrap();
            assert_eq!(swap, Swap::Done);
            engine.flush().unwrap();
            assert!(power::syncs() > before, "change {n} was flushed without an fdatasync");
        }
    }

    #[test]
    fn an_unfinished_recovery_does_not_keep_the_store_shut() {
        let dir = tempfile::tempdir().unwrap();
        drop(Sled::open(dir.path(), PATIENCE).unwrap());
        fs::write(dir.path().join("sled/snap.00000000000475FB.generating"), "half a file").unwrap();
        Sled::open(dir.path(), PATIENCE).unwrap();
    }

    #[test]
    fn a_rename_goes_through_to_the_disk_and_fails_as_usual() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("나"));
        fs::write(&from, "x").unwrap();
        let before = power::renames();
        fs::rename(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"x");
        let error = fs::rename(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(power::renames() >= before + 2);
    }

    #[test]
    fn the_second_opener_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Sled::open(dir.path(), PATIENCE).unwrap();
        let error = Sled::open(dir.path(), PATIENCE).unwrap_err().to_string();
        assert_eq!(error, format!("{} is in use by process {}", dir.path().display(), std::process::id()));
        drop(first);
        Sled::open(dir.path(), PATIENCE).unwrap();
    }

    #[test]
    fn a_damaged_database_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        drop(Sled::open(dir.path(), PATIENCE).unwrap());
        fs::write(dir.path().join("sled/conf"), "segment_size: nonsense").unwrap();
        assert!(matches!(Sled::open(dir.path(), PATIENCE), Err(EngineError::Open { .. })));
    }

    #[test]
    fn what_the_operating_system_refuses_and_what_takes_long_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        drop(Sled::open(dir.path(), PATIENCE).unwrap());
        let is_damage = |error: EngineError| crate::store::StoreError::from(error).is_damage();
        let slow = Sled::open(dir.path(), Duration::ZERO).unwrap_err();
        assert!(matches!(slow, EngineError::Unresponsive { .. }) && !is_damage(slow));
        // EIO, EACCES, EMFILE; and what a damaged pointer comes to.
        for (code, damage) in [(5, false), (13, false), (24, false), (22, true)] {
            let told = sled::Error::Io(io::Error::from_raw_os_error(code));
            for error in [told.clone(), told] {
                assert_eq!(matches!(failed(&error), EngineError::Failed(_)), damage, "{error}");
            }
        }
        let nonsense = io::Error::new(io::ErrorKind::UnexpectedEof, "a log ends early");
        assert!(matches!(failed(&sled::Error::Io(nonsense)), EngineError::Failed(_)));
    }

    #[test]
    fn the_database_is_private_in_a_directory_that_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sled = dir.path().join("sled");
        let mode = || fs::metadata(&sled).unwrap().permissions().mode() & 0o777;
        drop(Sled::open(dir.path(), PATIENCE).unwrap());
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&sled, fs::Permissions::from_mode(0o755)).unwrap();
        drop(Sled::open(dir.path(), PATIENCE).unwrap());
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let sled = dir.path().join("sled");
        drop(Sled::open(dir.path(), PATIENCE).unwrap());
        // For root too: opening a directory for writing.
        fs::remove_file(sled.join("db")).unwrap();
        fs::create_dir(sled.join("db")).unwrap();
        let error = Sled::open(dir.path(), PATIENCE).unwrap_err();
        assert!(matches!(&error, EngineError::Io(words) if words.contains("os error 21")), "{error:?}");
    }
}

//! Opens the store, come what may: waits for room on the disk, and where the store is damaged says how to get it back, or
//! gets it back itself when the operator has allowed that (`store.restore_latest`). Never opens less than there was without
//! saying so.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::{Ground, StartError, notify, room, vault};
use crate::alerts::{self, Alert, AlertError, Alerts};
use crate::clock::{self, Time};
use crate::config::{self, Config};
use crate::http::idempotency;
use crate::store::engine::EngineError;
use crate::store::snapshot::{self, Existing, Found, SnapshotError};
use crate::store::{Durability, Kind, Settings, Store, StoreError};
use crate::{accounts, flows, operators, outbox, portals, sessions, snapshots};

/// From when on opening the store takes so long that the service manager is told.
const SLOW: Duration = Duration::from_secs(10);
/// What a restore that nobody has been told of leaves in the store's directory: the words for it.
const UNTOLD: &str = "restored.txt";
/// Damaged databases put aside beyond which a store is not restored by itself: the disk must be what is wrong then, and it would be
/// full soon.
const ASIDE: usize = 3;

/// The open store.
///
/// # Errors
/// Why it cannot be opened; for a damaged one with the command that helps.
pub(super) async fn open(ground: &Ground, config: &Config) -> Result<Store, StartError> {
    let store = match open_when_possible(ground, &config.store).await {
        Err(damage) if damage.is_damage() => rescue(ground, config, damage).await?,
        opened => opened?,
    };
    migrate(&store, &kinds(), &config.backup.directory, ground.clock.now()).await?;
    Ok(store)
}

/// Every kind of record that this program keeps.
fn kinds() -> Vec<Kind> {
    let rooms = [crate::store::KINDS, operators::KINDS, snapshots::KINDS, sessions::KINDS, flows::KINDS, alerts::KINDS];
    [
        rooms.concat(),
        vault::KINDS.to_vec(),
        idempotency::KINDS.to_vec(),
        outbox::kinds(),
        portals::kinds(),
        accounts::kinds(),
    ]
    .concat()
}

/// Brings the records to this program's schemas, with a snapshot before the first of them is touched.
async fn migrate(store: &Store, kinds: &[Kind], snapshots: &Path, now: Time) -> Result<(), StartError> {
    let outdated = store.outdated(kinds)?;
    if !outdated.is_empty() {
        let path = snapshots.join(snapshot::name(now));
        let before = |source| SnapshotError::Io { path: snapshots.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(snapshots).map_err(before)?;
        snapshot::save(store, &path, false).await?;
        let (kinds, path) = (outdated.join(", "), path.display());
        tracing::warn!(kinds, %path, "records of older schemas are rewritten ({kinds}); as they were, they are in {path}");
    }
    let rewritten = store.migrate(kinds).await?;
    if rewritten > 0 {
        tracing::info!(rewritten, "{rewritten} records were rewritten");
    }
    Ok(())
}

async fn open_when_possible(ground: &Ground, config: &config::Store) -> Result<Store, StoreError> {
    loop {
        room::wait(config).await;
        match open_once(ground, config).await {
            // Somebody else has taken the room since.
            Err(StoreError::Engine(EngineError::NoSpace(_))) => clock::pause(Duration::from_secs(1)).await,
            opened => return opened,
        }
    }
}

async fn open_once(ground: &Ground, config: &config::Store) -> Result<Store, StoreError> {
    let (path, clock, life) = (config.path.clone(), ground.clock.clone(), ground.life.clone());
    let durability = match config.durability {
        config::Durability::Acknowledged => Durability::Acknowledged,
        config::Durability::Interval => Durability::Interval,
    };
    let settings = Settings { reserve: config.reserve, ..durability.into() };
    // It spawns tasks, for which it needs the runtime it came from.
    let runtime = tokio::runtime::Handle::current();
    let opening = move || {
        let _inside = runtime.enter();
        Store::open(&path, settings, clock, &life)
    };
    patiently("comparing the store with its mark", opening).await.unwrap_or(Err(StoreError::Stopped))
}

/// Runs what reads the disk for seconds or minutes, and tells the service manager from time to time. None: the runtime ends.
async fn patiently<T: Send + 'static>(doing: &str, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let mut working = tokio::task::spawn_blocking(work);
    let mut told = false;
    let ended = loop {
        match clock::within(SLOW, &mut working).await {
            Err(_) => notify::still_starting(doing),
            Ok(ended) => break ended,
        }
        told = true;
    };
    if told {
        notify::going_on();
    }
    match ended {
        Ok(done) => Some(done),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => None,
    }
}

/// A path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+,:@%".contains(letter);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Puts the newest whole snapshot in the damaged store's place, or says how that is done.
async fn rescue(ground: &Ground, config: &Config, damage: StoreError) -> Result<Store, StartError> {
    let directory = config.backup.directory.clone();
    let found = patiently("looking for a whole snapshot", move || snapshot::latest(&directory)).await;
    let found = match found {
        Some(Ok(Some(found))) => found,
        Some(Err(error)) => return Err(hopeless(damage, &format!("the snapshots cannot be read: {error}"))),
        Some(Ok(None)) | None => {
            let advice = format!("there is no whole snapshot in {}", config.backup.directory.display());
            return Err(hopeless(damage, &advice));
        }
    };
    let (path, at) = (quoted(&found.path), found.manifest.created_at);
    let command = format!("nightporter restore {path} --force --store {}", quoted(&config.store.path));
    if !config.store.restore_latest {
        let advice = format!("the newest whole snapshot is of {at}; this restores it: {command}");
        return Err(StartError::Damaged { damage, advice });
    }
    if snapshot::damaged_aside(&config.store.path) >= ASIDE {
        let advice = format!(
            "not restored by itself: {ASIDE} damaged databases lie in {} already, so the disk is probably at fault. \
             The newest whole snapshot is of {at}; this restores it: {command}",
            config.store.path.display()
        );
        return Err(StartError::Damaged { damage, advice });
    }
    tracing::error!(%damage, snapshot = path, "{damage}; it is restored from {path}");
    let mut told = false;
    loop {
        match restore(ground, config, &damage, &found).await {
            Ok(()) => return Ok(open_when_possible(ground, &config.store).await?),
            Err(SnapshotError::Store(full)) if full.is_full() => {
                room::missed(&full, std::mem::replace(&mut told, true)).await;
            }
            Err(error) => return Err(hopeless(damage, &format!("{path} could not be restored: {error}"))),
        }
    }
}

fn hopeless(damage: StoreError, advice: &str) -> StartError {
    StartError::Damaged { damage, advice: advice.to_owned() }
}

async fn restore(ground: &Ground, config: &Config, damage: &StoreError, found: &Found) -> Result<(), SnapshotError> {
    let (file, store, now) = (found.path.clone(), config.store.path.clone(), ground.clock.now());
    let untold = store.join(UNTOLD);
    let failed = |source| SnapshotError::Io { path: untold.clone(), source };
    // Before the exchange: a crash after it must not take the news with it.
    fs::write(&untold, words(damage, found, now)).map_err(failed)?;
    fs::File::open(&untold).and_then(|file| file.sync_all()).map_err(failed)?;
    let restoring = patiently("restoring the store", move || {
        snapshot::restore_into(&file, &store, Existing::Damaged(now), &mut |_| true)
    });
    match restoring.await {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => {
            fs::remove_file(&untold).map_err(failed)?;
            Err(error)
        }
        None => Err(StoreError::Stopped.into()),
    }
}

fn words(damage: &StoreError, found: &Found, now: Time) -> String {
    let (at, records) = (found.manifest.created_at, found.manifest.records);
    format!(
        "{damage}.\n\nIt was restored from the newest whole snapshot, {}, which holds {records} records as they were at {at}. \
         Whatever was changed after that, until {now}, is lost: sessions that were made or changed in that time are as they \
         were before, and portals may have to log in again.\n\nThe damaged database was put aside in the store's directory \
         (sled.damaged-*). Look at the disk and the log, and remove it when nobody needs it any more.",
        found.path.display()
    )
}

/// Tells a person that the store was restored, if it was and nobody has been told.
///
/// # Errors
/// When it could not be recorded; the next start tries again.
pub(super) async fn tell(store: &Path, alerts: &Alerts) -> Result<(), AlertError> {
    let untold = store.join(UNTOLD);
    let body = match fs::read_to_string(&untold) {
        Ok(body) => body,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => format!("The store was restored from a snapshot; {} cannot be read: {error}", untold.display()),
    };
    let alert = Alert {
        cause: "restored".to_owned(),
        title: "The store was damaged and has been restored from a snapshot".to_owned(),
        body,
        attachments: Vec::new(),
    };
    alerts.raise("store/restored", &alert).await?;
    if let Err(error) = fs::remove_file(&untold) {
        tracing::warn!(%error, "{} cannot be removed, so it will be told again: {error}", untold.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::clock::Clock;
    use crate::lifecycle::Lifecycle;
    use crate::store::{Decision, Expires, Record};

    #[derive(Clone, Serialize, Deserialize)]
    struct Named(String);
    impl Record for Named {
        const SPACE: &'static str = "guest";
        const SCHEMA: u8 = 1;
    }

    #[derive(Clone, Serialize, Deserialize)]
    struct Guest(String);
    impl Record for Guest {
        const SPACE: &'static str = "guest";
        const SCHEMA: u8 = 2;

        fn migrate(schema: u8, payload: &[u8]) -> Option<Self> {
            (schema == 1).then(|| Self(String::from_utf8_lossy(&payload[1..]).into_owned()))
        }
    }

    #[tokio::test]
    async fn a_migration_takes_a_snapshot_first_and_without_one_touches_nothing() {
        let (dir, now) = (tempfile::tempdir().unwrap(), Time::from_millis(1_800_000_000_000));
        let (path, taken) = (dir.path().join("store"), dir.path().join("snapshots"));
        let store = Store::open(&path, Durability::Acknowledged, Clock::held(now), &Lifecycle::new()).unwrap();
        let (old, new) = (&[Kind::of::<Named>()], &[Kind::of::<Guest>()]);
        migrate(&store, old, &taken, now).await.unwrap();
        assert!(!taken.exists(), "nothing is rewritten for a new store");
        let put = |_: Option<&_>| Decision::Put(Named("하늘".to_owned()), Expires::Never, ());
        store.update::<Named, _>("a", put).await.unwrap();

        fs::write(&taken, "a file in its way").unwrap();
        let refused = migrate(&store, new, &taken, now).await;
        assert!(matches!(refused, Err(StartError::Snapshot(_))), "{refused:?}");
        assert_eq!(store.outdated(new).unwrap(), ["guest"]);
        fs::remove_file(&taken).unwrap();
        migrate(&store, new, &taken, now).await.unwrap();
        assert_eq!(store.get::<Guest>("a").unwrap().unwrap().value.0, "하늘");
        let before = snapshot::latest(&taken).unwrap().unwrap();
        assert_eq!((before.manifest.records, before.manifest.created_at), (1, now));
        let copy = dir.path().join("copy");
        snapshot::restore_into(&before.path, &copy, Existing::Refuse(now), &mut |_| true).unwrap();
        let copy = Store::open(&copy, Durability::Acknowledged, Clock::held(now), &Lifecycle::new()).unwrap();
        assert_eq!(copy.get::<Named>("a").unwrap().unwrap().value.0, "하늘", "as it was before");
    }
}

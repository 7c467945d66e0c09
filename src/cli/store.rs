//! The store itself, for commands that found no server: opened with care for whose it is, given back in order.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::exit::{Exit, Failure};
use crate::clock::Clock;
use crate::config;
use crate::lifecycle::Lifecycle;
use crate::store::{Durability, Settings, Store, StoreError, space};

/// How long the store may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Opens the store that `config` names; no server has it.
pub(super) fn open(config: &config::Store, clock: &Clock, life: &Lifecycle) -> Result<Store, Failure> {
    check_owner(&config.path)?;
    check_room(&config.path)?;
    let settings = Settings { reserve: config.reserve, ..Durability::Acknowledged.into() };
    Store::open(&config.path, settings, clock.clone(), life).map_err(silent_owner)
}

/// Gives the store back in order; `holder` has the last handle to it.
pub(super) async fn close<T>(holder: T, life: &Lifecycle) {
    life.shutdown(CLOSE_LIMIT).await;
    drop(holder);
}

/// Files that root makes in another user's store would keep that user's server from starting. A store that is yet to be
/// made belongs to whoever has the directory that it will be in.
pub(super) fn check_owner(directory: &Path) -> Result<(), Failure> {
    let ours = rustix::process::geteuid();
    let there = directory.ancestors().find_map(|there| Some((there, std::fs::metadata(there).ok()?)));
    let Some((there, meta)) = there else { return Ok(()) };
    if meta.uid() == ours.as_raw() || (there != directory && !ours.is_root()) {
        return Ok(());
    }
    let (there, owner) = (there.display(), meta.uid());
    let message = format!("the store {there} belongs to user {owner}; do this as that user: `sudo -u '#{owner}' …`");
    Err(Failure::told(Exit::NotAllowed, message))
}

/// Opening a database writes to it. On a full disk that fails, and in more than one way.
pub(super) fn check_room(directory: &Path) -> Result<(), Failure> {
    if space::opens(directory, space::LEAST_RESERVE) {
        return Ok(());
    }
    let (store, need) = (directory.display(), (space::LEAST_RESERVE / 4) >> 20);
    let message =
        format!("the disk of the store {store} is full, and opening the store takes room: make {need} MiB of it");
    Err(Failure::told(Exit::Failed, message))
}

fn silent_owner(error: StoreError) -> Failure {
    let failure = Failure::from(error);
    failure.context("no server answers on the control socket, and the store cannot be opened without it")
}

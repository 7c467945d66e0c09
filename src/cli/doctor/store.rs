//! The store's directory, its space, its lock and its key.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Finding;
use crate::clock::Clock;
use crate::config;
use crate::http::control::Status;
use crate::http::control::socket;
use crate::lifecycle::Lifecycle;
use crate::secret::Vault;
use crate::store::engine::EngineError;
use crate::store::{Durability, Store, StoreError, space};

/// Below this the store may fail any minute: sled rewrites its files before it frees old ones.
const LEAST_FREE: u64 = 256 << 20;
/// Below this it is time to think of it.
const LITTLE_FREE: u64 = 1 << 30;

pub(super) fn look(config: &config::Store, server: Option<&Status>) -> Vec<Finding> {
    let mut findings = vec![directory(&config.path), room(&config.path)];
    let usable = findings[0].state == super::State::Good && config.path.exists();
    findings.push(match server {
        Some(server) => Finding::good("store lock", format!("held by the running server, process {}", server.pid)),
        None if usable && !space::opens(&config.path, space::LEAST_RESERVE) => {
            Finding::skipped("store lock", "opening the store takes room, and the disk is full")
        }
        None if usable => open(&config.path),
        None => Finding::skipped("store lock", "there is no store that could be opened"),
    });
    if findings[0].state == super::State::Failed && config.key.is_none() {
        findings.push(Finding::skipped("store key", "it is in the store's directory"));
    } else {
        findings.push(key(config));
    }
    if let Err(error) = socket::check(&config.path) {
        findings.push(Finding::failed("control socket", error.to_string(), "use a shorter path"));
    }
    findings
}

fn directory(path: &Path) -> Finding {
    const CHECK: &str = "store directory";
    let shown = path.display();
    let there = path.ancestors().find(|ancestor| ancestor.as_os_str().is_empty() || ancestor.exists());
    let there = there.filter(|ancestor| !ancestor.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(meta) = fs::metadata(there) else {
        return Finding::failed(CHECK, format!("{} cannot be looked at", there.display()), "check its permissions");
    };
    if !meta.is_dir() {
        let detail = format!("{} is not a directory", there.display());
        return Finding::failed(CHECK, detail, "move it away, or set store.url to another place");
    }
    let ours = rustix::process::geteuid().as_raw();
    if there == path && meta.uid() != ours {
        let detail = format!("{shown} belongs to user {}, this is user {ours}", meta.uid());
        let remedy = format!("run this as that user, or `chown -R {ours} {shown}`");
        return Finding::failed(CHECK, detail, remedy);
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if rustix::fs::accessat(rustix::fs::CWD, there, access, rustix::fs::AtFlags::EACCESS).is_err() {
        let detail = format!("{} is not writable for user {ours}", there.display());
        let remedy = format!("`install -d -m 700 -o {ours} {shown}`, or set store.url to another place");
        return Finding::failed(CHECK, detail, remedy);
    }
    if there != path {
        return Finding::good(CHECK, format!("{shown} will be made at the first start"));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let detail = format!("{shown} is open to other users (mode {mode:o})");
        return Finding::advice(CHECK, detail, format!("`chmod 700 {shown}`"));
    }
    Finding::good(CHECK, format!("{shown}, private to user {ours}"))
}

fn room(path: &Path) -> Finding {
    const CHECK: &str = "free space";
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let free = match space::free(there) {
        Ok(free) => free,
        Err(error) => return Finding::failed(CHECK, format!("{}: {error}", there.display()), "check its file system"),
    };
    let detail = format!("{} MiB free for the store", free >> 20);
    let remedy = "make room: a full disk stops every change";
    if free < LEAST_FREE {
        Finding::failed(CHECK, detail, remedy)
    } else if free < LITTLE_FREE {
        Finding::advice(CHECK, detail, remedy)
    } else {
        Finding::good(CHECK, detail)
    }
}

/// Opens the store as a start would: finds a second process, damage, and a disk that does not keep what it is given.
fn open(path: &Path) -> Finding {
    const CHECK: &str = "store lock";
    let life = Lifecycle::new();
    let opened = Store::open(path, Durability::Acknowledged, Clock::system(), &life);
    life.stopping().cancel();
    match opened {
        Ok(_) => Finding::good(CHECK, "free; the store opens and writes reach the disk"),
        Err(StoreError::Engine(error @ EngineError::InUse { .. })) => {
            let remedy = "it does not answer on its control socket: look at that process, end it if it hangs";
            Finding::failed(CHECK, error.to_string(), remedy)
        }
        Err(error) if error.is_full() => Finding::failed(CHECK, error.to_string(), "make room on the store's disk"),
        Err(error) if error.is_damage() => Finding::failed(CHECK, error.to_string(), "restore the store from a backup"),
        Err(error) => Finding::failed(CHECK, error.to_string(), "look at the disk, the files' owner and the limits"),
    }
}

fn key(config: &config::Store) -> Finding {
    const CHECK: &str = "store key";
    if config.key.is_some() {
        return Finding::good(CHECK, "from the configuration");
    }
    let path = config.path.join(crate::app::KEY_FILE);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::good(CHECK, format!("{} will be made at the first start", path.display()))
        }
        Err(error) => {
            Finding::failed(CHECK, format!("{}: {error}", path.display()), "make it readable for the server's account")
        }
        Ok(text) => {
            let mode = fs::metadata(&path).map_or(0, |meta| meta.permissions().mode() & 0o777);
            if mode & 0o077 != 0 {
                let detail = format!("{} is readable by others (mode {mode:o})", path.display());
                return Finding::failed(CHECK, detail, format!("`chmod 600 {}`", path.display()));
            }
            match Vault::from_hex(&zeroize::Zeroizing::new(text), &path) {
                Ok(_) => Finding::good(CHECK, format!("{}, private; keep a copy elsewhere", path.display())),
                Err(error) => Finding::failed(CHECK, error.to_string(), "put the store's own key back"),
            }
        }
    }
}

//! Composition: the only room that knows all others. Loads the configuration, starts the parts in order, opens the doors
//! last, and takes everything down in the opposite order. No rule of any part lives here.

mod channels;
mod deadman;
mod doors;
mod notify;
mod parts;
mod people;
mod probe;
mod room;
mod service;
mod store;
mod trial;
mod vault;

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::accounts;
use crate::alerts::AlertError;
use crate::browsers;
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, Sources};
use crate::flows;
use crate::http::control::socket::{self, SocketError};
use crate::http::health::Readiness;
use crate::http::metrics::Metrics;
use crate::http::tls::TlsError;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::logs;
use crate::outbox;
use crate::portals::{self, recipe};
use crate::secret::VaultError;
use crate::store::StoreError;
use crate::store::snapshot::SnapshotError;
pub use deadman::arm;
use doors::Doors;
pub use parts::Parts;
pub(crate) use people::people;
use probe::StoreProbe;
pub use service::{Ended, Signals, run};
pub use trial::Bench;
pub(crate) use vault::{KEY_FILE, open as open_vault};

/// How long the parts may take to stop once the doors are closed.
const PARTS_LIMIT: Duration = Duration::from_secs(10);

/// What an [`App`] is made of: everything that it does not make itself.
#[derive(Debug)]
pub struct Setup {
    /// Where the configuration comes from, again at every reload.
    pub sources: Sources,
    /// What it said.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// The process's recorder.
    pub metrics: Metrics,
    /// The process's log, whose level a reload changes.
    pub log: Option<logs::Handle>,
}

/// What every part is built on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Spawns and stops.
    pub life: Lifecycle,
    /// Where a part says that it is not ready.
    pub readiness: Readiness,
}

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is damaged.
    #[error("{damage}\n{advice}")]
    Damaged {
        /// In what way.
        damage: StoreError,
        /// What to do about it.
        advice: String,
    },
    /// The snapshot before a migration could not be taken, so nothing was migrated.
    #[error("records must be rewritten for this version, and the snapshot before that failed: {0}")]
    Snapshot(#[from] SnapshotError),
    /// It could not be recorded that the store was restored.
    #[error(transparent)]
    Untold(#[from] AlertError),
    /// The store's key could not be had.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store was sealed with another key.
    #[error("the key from {origin} is not the one that this store was sealed with; give it its own key again")]
    WrongKey {
        /// Where the key came from.
        origin: String,
    },
    /// The store was sealed, and its key is gone.
    #[error("the store was sealed with a key that is gone: {origin} is missing; put it back, or set store.key")]
    KeyLost {
        /// Where the key should be.
        origin: String,
    },
    /// There is no control socket.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A channel for alerts cannot work as it is configured.
    #[error("alerts: {0}")]
    Channel(#[from] outbox::SettingsError),
    /// The outbox could not be started.
    #[error(transparent)]
    Outbox(#[from] outbox::OutboxError),
    /// The place for browsers is not usable.
    #[error(transparent)]
    Browser(#[from] browsers::BrowserError),
    /// There are no threads for connections.
    #[error("the threads that serve connections cannot be started: {0}")]
    Workers(io::Error),
    /// The host's certificate authorities cannot be read.
    #[error("the host's certificate authorities cannot be read ({0}); install ca-certificates")]
    Authorities(io::Error),
    /// There is no place for a trial.
    #[error("no place for a trial: {0}")]
    Bench(io::Error),
    /// Flows cannot be kept.
    #[error(transparent)]
    Flows(#[from] flows::FlowsError),
    /// Accounts cannot be kept.
    #[error(transparent)]
    Accounts(#[from] accounts::StartError),
    /// A portal cannot be kept.
    #[error(transparent)]
    Portals(#[from] portals::PortalsError),
    /// A port could not be bound.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The key that asked for it.
        key: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why a new configuration is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A part cannot work with it.
    #[error(transparent)]
    Part(#[from] StartError),
}

/// What looks into recipes and flows.
pub(crate) const INSPECTORS: config::Inspectors<'static> =
    config::Inspectors { recipe: &recipe::inspect, flow: &flows::inspect };

/// Reads the configuration and every file that it references.
///
/// # Errors
/// Every problem in either.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let config::Report { errors, config, .. } = config::check(sources, &INSPECTORS);
    config.ok_or(ConfigError { problems: errors })
}

/// The browser's settings as the operator wrote them.
pub fn browser_settings(config: &config::Browser) -> browsers::Settings {
    let standard = browsers::Settings::default();
    browsers::Settings {
        binary: config.binary.clone(),
        user: config.user.clone(),
        sandbox: config.sandbox,
        runtime_dir: config.runtime_dir.clone().unwrap_or(standard.runtime_dir),
        languages: standard.languages,
        recycle: browsers::Recycle {
            after: config.recycle_after,
            navigations: u64::from(config.recycle_navigations),
            memory: config.recycle_memory as u64,
        },
    }
}

/// A running Nightporter. [`App::stop`] it; dropped, it only loses its handles.
#[derive(Debug)]
pub struct App {
    sources: Sources,
    started: Config,
    current: Mutex<Config>,
    ground: Ground,
    parts: Parts,
    probe: StoreProbe,
    doors: Doors,
}

impl App {
    /// Starts everything; on return all parts run and the ports are bound.
    ///
    /// # Errors
    /// What could not be started. Everything that was, is stopped again.
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup { sources, config, clock, random, metrics, log } = setup;
        for warning in config.warnings.iter() {
            tracing::warn!(key = warning.named_key(), place = %warning.place, "{warning}");
        }
        let ground = Ground { clock, random, life: Lifecycle::new(), readiness: Readiness::default() };
        metrics.keep_up(&ground.life);
        let open = async {
            socket::check(&config.store.path)?;
            let parts = Parts::start(&ground, &config, log).await?;
            let probe = StoreProbe::start(parts.store.clone(), &ground).await;
            let doors = Doors::open(&ground, &parts, metrics, &config).await?;
            Ok((parts, probe, doors))
        };
        match open.await {
            Ok((parts, probe, doors)) => {
                let current = Mutex::new(config.clone());
                Ok(Self { sources, started: config, current, ground, parts, probe, doors })
            }
            Err(error) => {
                ground.life.shutdown(PARTS_LIMIT).await;
                Err(error)
            }
        }
    }

    /// The address that the API is served on; tells the port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.doors.address
    }

    /// The parts, for tests and for whoever composes further.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The configuration that counts now.
    pub fn config(&self) -> Config {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a part has failed, and tells what it said: the process cannot go on then.
    pub async fn failed(&self) -> String {
        self.ground.life.failed().await
    }

    /// Reads the configuration again and hands it to the parts. What only a restart can take over is named in the log.
    ///
    /// # Errors
    /// Every problem of the new configuration; the old one stays in force.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let next = load(&self.sources)?;
        for warning in next.warnings.iter() {
            tracing::warn!(key = warning.named_key(), place = %warning.place, "{warning}");
        }
        for key in self.started.needs_restart(&next) {
            tracing::warn!(key, "{key} has changed; it is taken over at the next restart");
        }
        self.parts.reload(&next).await?;
        self.doors.reload();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Closes the doors, lets requests in flight end for at most `drain`, then stops the parts and gives the store back.
    /// Returns false when something did not end in time.
    pub async fn stop(self, drain: Duration) -> bool {
        let Self { ground, parts, doors, .. } = self;
        // Their readers would stay for ever.
        parts.sessions.feed().close();
        parts.flows.feed().close();
        let closed = doors.close(drain).await;
        let stopped = ground.life.shutdown(PARTS_LIMIT).await;
        // The last handle to the store waits for its commit thread, which must not hold up the runtime.
        let given_back = tokio::task::spawn_blocking(move || drop(parts)).await.is_ok();
        closed && stopped && given_back
    }
}

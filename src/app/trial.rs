//! The bench of `nightporter portal try`: what one login needs, without a server. Its store is a directory that is removed
//! again, its key is drawn for it, and it tells nobody anything.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{PARTS_LIMIT, StartError, browser_settings};
use crate::alerts::{self, Alerts};
use crate::browsers::Pool;
use crate::clock::Clock;
use crate::config;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::outbox::{self, Outbox};
use crate::portals::inbox::Inbox;
use crate::portals::portal::Tools;
use crate::portals::upstream::Upstream;
use crate::secret::Vault;
use crate::store::{Durability, Store};

/// The tools, and what they stand on.
#[derive(Debug)]
pub struct Bench {
    tools: Tools,
    life: Lifecycle,
    dir: Scratch,
}

/// A directory of our own, removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in a temporary directory is the system's to clear.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    /// Sets the tools out; the browser starts when the login wants it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn set(browser: &config::Browser) -> Result<Self, StartError> {
        let (clock, life) = (Clock::system(), Lifecycle::new());
        let random = Random::system().map_err(|error| StartError::Bench(std::io::Error::other(error)))?;
        let path = std::env::temp_dir().join(format!("nightporter-trial-{}", random.session_id()));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(StartError::Bench)?;
        let dir = Scratch(path);
        let store = Store::open(&dir.0.join("store"), Durability::Interval, clock.clone(), &life)?;
        let vault = Arc::new(Vault::from_file(&dir.0.join(super::KEY_FILE), &random)?);
        let nobody = outbox::Settings { mail: None, telegram: None, webhook: None };
        let outbox = Outbox::start(store.clone(), vault.clone(), clock.clone(), random.clone(), nobody, &life)?;
        let quiet = alerts::Settings { cooldown: Duration::ZERO, channels: Vec::new(), public_url: None };
        let tools = Tools {
            alerts: Alerts::start(store.clone(), outbox, vault.clone(), clock.clone(), random.clone(), quiet, &life),
            inbox: Inbox::new(store.clone(), clock.clone(), vault.clone(), &life),
            pool: Pool::new(&life, browser_settings(browser))?,
            upstream: Upstream::new().map_err(StartError::Authorities)?,
            store,
            clock,
            random,
            vault,
        };
        Ok(Self { tools, life, dir })
    }

    /// The tools.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// What runs on the bench.
    pub fn life(&self) -> &Lifecycle {
        &self.life
    }

    /// Clears everything away: the browser ends, the directory goes.
    pub async fn clear(self) {
        let Self { tools, life, dir } = self;
        life.shutdown(PARTS_LIMIT).await;
        // The last handle to the store waits for its commit thread, which must not hold up the runtime.
        let cleared = tokio::task::spawn_blocking(move || {
            drop(tools);
            drop(dir);
        });
        // A panic in there has been told already.
        let _ = cleared.await;
    }
}

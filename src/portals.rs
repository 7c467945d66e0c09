//! Portals: other people's sites that must stay logged in.
//!
//! A portal has an active and a standby session. The keeper makes sure of that, logging in by the recipe with a code from
//! the inbox; the relay serves batch jobs from the session that lives. Nothing here evades a CAPTCHA or hides what it is:
//! portals are accounts that the operator owns.

pub mod check;
pub mod code;
pub mod forwarders;
pub mod inbox;
pub mod jar;
mod keeper;
mod letter;
mod login;
pub mod phones;
pub mod portal;
pub mod recipe;
pub mod relay;
mod repair;
pub mod session;
pub mod state;
mod tab;
mod totp;
pub mod upstream;
mod way;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::lifecycle::Lifecycle;
use crate::secret::Vault;
use crate::store::StoreError;
use forwarders::Incoming;
use keeper::Keeper;
use phones::{Answer, PhoneError, Phones};
use portal::{Portal, Sessions, Settings, Tools};
use recipe::{Recipe, RecipeError};

/// A keeper beats at least every 20 s; three of those without one, and it hangs.
const PULSE: Duration = Duration::from_secs(60);

/// All portals and phones of the configuration; clones share them.
#[derive(Clone, Debug)]
pub struct Portals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tools: Tools,
    life: Lifecycle,
    // Plain locks: held to look something up, never across an await.
    kept: RwLock<BTreeMap<String, Kept>>,
    phones: RwLock<Phones>,
}

/// A portal and the end of its keeper.
#[derive(Clone, Debug)]
struct Kept {
    portal: Portal,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// Why a configuration's portals cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum PortalsError {
    /// A recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// What is known about a portal cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Portals {
    /// No portals yet; [`Portals::apply`] brings them.
    pub fn new(tools: Tools, life: &Lifecycle) -> Self {
        Self(Arc::new(Inner { tools, life: life.clone(), kept: RwLock::default(), phones: RwLock::default() }))
    }

    /// Keeps what `config` says: new portals are started, changed ones restarted from their saved sessions, others left
    /// alone. Nothing is touched unless every recipe can be used.
    ///
    /// # Errors
    /// [`PortalsError`].
    pub async fn apply(&self, config: &Config) -> Result<(), PortalsError> {
        let vault = &self.0.tools.vault;
        let wanted = config.portals.iter().map(|(name, portal)| Ok((name.clone(), settings(portal, vault)?)));
        let mut wanted = wanted.collect::<Result<BTreeMap<_, _>, RecipeError>>()?;
        *self.0.phones.write().unwrap_or_else(PoisonError::into_inner) = Phones::new(&config.phones);
        let present: Vec<_> = self.kept().iter().map(|(name, kept)| (name.clone(), kept.clone())).collect();
        for (name, kept) in present {
            if wanted.get(&name).is_some_and(|settings| settings == kept.portal.settings()) {
                wanted.remove(&name);
                continue;
            }
            kept.stop.cancel();
            kept.ended.cancelled().await;
            self.0.kept.write().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
        for (name, settings) in wanted {
            self.keep(&name, settings)?;
        }
        Ok(())
    }

    fn keep(&self, name: &str, settings: Settings) -> Result<(), StoreError> {
        let (portal, orders) = Portal::load(name, settings, self.0.tools.clone())?;
        let (stop, ended) = (self.0.life.stopping().child_token(), CancellationToken::new());
        let keeper = Keeper::new(portal.clone(), orders);
        let label = format!("keeper {name}");
        let (pulse, over) = (self.0.life.heartbeat(label.clone(), PULSE), ended.clone().drop_guard());
        let running = stop.clone();
        self.0.life.spawn(label, async move {
            keeper.run(running, pulse).await;
            drop(over);
        });
        let kept = Kept { portal, stop, ended };
        self.0.kept.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), kept);
        Ok(())
    }

    fn kept(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Kept>> {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The portal of that name.
    pub fn get(&self, name: &str) -> Option<Portal> {
        self.kept().get(name).map(|kept| kept.portal.clone())
    }

    /// All portals in the order of their names.
    pub fn all(&self) -> Vec<Portal> {
        self.kept().values().map(|kept| kept.portal.clone()).collect()
    }

    /// Takes in a request that claims to come from a phone.
    ///
    /// # Errors
    /// [`PhoneError`].
    pub async fn receive(&self, phone: &str, request: &Incoming<'_>) -> Result<Answer, PhoneError> {
        let phones = self.0.phones.read().unwrap_or_else(PoisonError::into_inner).clone();
        phones.receive(phone, request, &self.0.tools.inbox).await
    }
}

fn settings(portal: &config::Portal, vault: &Vault) -> Result<Settings, RecipeError> {
    let recipe = Recipe::load(&portal.recipe)?;
    let totp_secret = portal.totp_secret.as_ref().map_or("", |key| key.expose());
    let parts = [recipe.fingerprint.as_str(), &portal.username, portal.password.expose(), totp_secret];
    let parts = parts.map(str::as_bytes);
    Ok(Settings {
        // Keyed, because it is stored and a password in it must not be guessable from it.
        basis: data_encoding::HEXLOWER.encode(&vault.fingerprint(&parts)),
        recipe: Arc::new(recipe),
        username: portal.username.clone(),
        password: portal.password.clone(),
        totp_secret: portal.totp_secret.clone(),
        phone: portal.phone.clone(),
        sessions: match portal.sessions {
            config::Sessions::Parallel => Sessions::Parallel,
            config::Sessions::ColdStandby | config::Sessions::Single => Sessions::Single,
        },
    })
}

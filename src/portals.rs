//! Portals: other people's sites that must stay logged in.
//!
//! A portal has an active and a standby session. The keeper makes sure of that, logging in by the recipe with a code from
//! the inbox; the relay serves batch jobs from the session that lives. Nothing here evades a CAPTCHA or hides what it is:
//! portals are accounts that the operator owns.

pub mod check;
pub mod code;
pub mod code_link;
pub mod evidence;
pub mod forwarders;
pub mod inbox;
pub mod jar;
mod keeper;
pub mod learning;
mod letter;
mod login;
mod moving;
pub mod phones;
mod plain;
pub mod portal;
pub mod recipe;
pub mod relay;
mod repair;
mod retire;
mod schedule;
pub mod session;
pub mod state;
mod tab;
mod totp;
pub mod trial;
pub mod upkeep;
pub mod upstream;
mod way;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::browsers::BrowserError;
use crate::config::{self, Config};
use crate::lifecycle::Lifecycle;
use crate::store::{Kind, StoreError};
use forwarders::Incoming;
use keeper::Keeper;
use phones::{Answer, PhoneError, Phones, Report, watch};
use portal::{Portal, Sessions, Settings, Tools};
use recipe::{Recipe, RecipeError};

/// The kinds of records that are kept here.
pub fn kinds() -> Vec<Kind> {
    [code_link::KINDS, evidence::KINDS, inbox::KINDS, session::KINDS, state::KINDS].concat()
}

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
    applying: tokio::sync::Mutex<()>,
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
    /// The browser that a recipe asks for cannot be had.
    #[error(transparent)]
    Browser(#[from] BrowserError),
    /// What is known about a portal cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Kept {
    fn of(portal: Portal, life: &Lifecycle) -> Self {
        Self { portal, stop: life.stopping().child_token(), ended: CancellationToken::new() }
    }

    fn start(&self, life: &Lifecycle) {
        let label = format!("keeper {}", self.portal.name());
        let (pulse, over) = (life.heartbeat(label.clone(), PULSE), self.ended.clone().drop_guard());
        let (keeper, running) = (Keeper::new(self.portal.clone()), self.stop.clone());
        life.spawn(label, async move {
            keeper.run(running, pulse).await;
            drop(over);
        });
    }

    /// Ends the keeper and waits until it has.
    async fn end(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Portals {
    /// No portals yet; [`Portals::apply`] brings them.
    pub fn new(tools: Tools, life: &Lifecycle) -> Self {
        let (kept, applying, phones) = Default::default();
        let portals = Self(Arc::new(Inner { tools, life: life.clone(), kept, applying, phones }));
        let Tools { inbox, alerts, clock, .. } = portals.0.tools.clone();
        let (stop, known) = (life.stopping(), Arc::downgrade(&portals.0));
        let phones = move || known.upgrade().map(|inner| inner.phones()).unwrap_or_default();
        life.supervise("phones", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch::watch(phones, inbox, alerts, clock) => {}
            }
        });
        portals
    }

    /// Keeps what `config` says, all of it or, when something of it cannot be used, nothing: new portals are started,
    /// changed ones go on from the sessions that they have, others are left alone. A portal that stays can be asked for at
    /// every moment, and whoever waits for a session of it goes on waiting. What is known of a portal that is not
    /// configured any more is kept for 30 days.
    ///
    /// # Errors
    /// [`PortalsError`]; nothing has changed then.
    pub async fn apply(&self, config: &Config) -> Result<(), PortalsError> {
        // One after the other: two reloads at once would start two keepers of one portal.
        let _alone = self.0.applying.lock().await;
        let wanted = self.load(config)?;
        let phones = Phones::new(config);
        let silent_after = config.phones.iter().map(|(name, phone)| (name.clone(), phone.silent_after)).collect();
        // From here on nothing fails.
        *self.0.phones.write().unwrap_or_else(PoisonError::into_inner) = phones;
        self.0.tools.inbox.watch_over(silent_after);
        let former = self.kept().clone();
        for (name, kept) in former.iter().filter(|(name, _)| !config.portals.contains_key(*name)) {
            self.0.kept.write().unwrap_or_else(PoisonError::into_inner).remove(name);
            kept.end().await;
        }
        for (name, portal) in wanted {
            let kept = Kept::of(portal, &self.0.life);
            let former = self.0.kept.write().unwrap_or_else(PoisonError::into_inner).insert(name, kept.clone());
            if let Some(former) = former {
                former.end().await;
            }
            kept.start(&self.0.life);
        }
        if let Err(error) = retire::all_but(|name| config.portals.contains_key(name), &self.0.tools).await {
            tracing::error!("a portal that is not configured any more could not be put aside: {error}");
        }
        Ok(())
    }

    /// The portals that are new, or are to be kept in another way.
    fn load(&self, config: &Config) -> Result<Vec<(String, Portal)>, PortalsError> {
        let mut changed = Vec::new();
        for (name, portal) in config.portals.iter() {
            let settings = settings(portal, &self.0.tools)?;
            match self.get(name) {
                Some(present) if *present.settings() == settings => {}
                Some(present) => changed.push((name.clone(), present.with(settings))),
                None => changed.push((name.clone(), Portal::load(name, settings, self.0.tools.clone())?)),
            }
        }
        Ok(changed)
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
        self.0.phones().receive(phone, request, &self.0.tools.inbox).await
    }

    /// What is known about every configured phone, in the order of their names.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn phones(&self) -> Result<Vec<Report>, PhoneError> {
        let phones = self.0.phones();
        phones.names().map(|name| phones.report(name, &self.0.tools.inbox)).collect()
    }

    /// What is known about one.
    ///
    /// # Errors
    /// [`PhoneError::Unknown`], or when its record cannot be read.
    pub fn phone(&self, name: &str) -> Result<Report, PhoneError> {
        self.0.phones().report(name, &self.0.tools.inbox)
    }
}

impl Inner {
    fn phones(&self) -> Phones {
        self.phones.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn settings(portal: &config::Portal, tools: &Tools) -> Result<Settings, PortalsError> {
    let recipe = Recipe::load(&portal.recipe)?;
    let program = recipe.browser.binary.as_deref();
    let pool = program.map_or_else(|| Ok(tools.pool.clone()), |program| tools.pool.of_program(program))?;
    let totp_secret = portal.totp_secret.as_ref().map_or("", |key| key.expose());
    let parts = [recipe.fingerprint.as_str(), &portal.username, portal.password.expose(), totp_secret];
    let parts = parts.map(str::as_bytes);
    Ok(Settings {
        // Keyed, because it is stored and a password in it must not be guessable from it.
        basis: data_encoding::HEXLOWER.encode(&tools.vault.fingerprint(&parts)),
        recipe: Arc::new(recipe),
        pool,
        username: portal.username.clone(),
        password: portal.password.clone(),
        totp_secret: portal.totp_secret.clone(),
        phones: portal.phones.clone(),
        sessions: match portal.sessions {
            config::Sessions::Parallel => Sessions::Parallel,
            config::Sessions::ColdStandby => Sessions::ColdStandby,
            config::Sessions::Single => Sessions::Single,
        },
        quiet_hours: portal.quiet_hours,
        drill: portal.drill,
    })
}

#[cfg(test)]
mod tests;

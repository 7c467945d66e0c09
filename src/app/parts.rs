//! The parts that run behind the doors, in the order in which each needs the one before: where a new domain is started,
//! where its routes are added, and where it hears of a new configuration.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use super::{Ground, StartError, browser_settings, channels, room, store, vault};
use crate::accounts::{self, Accounts};
use crate::alerts::Alerts;
use crate::browsers::Pool;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::console;
use crate::flows::Flows;
use crate::http::idempotency::Idempotency;
use crate::http::{accounts as accounts_http, flows as flows_http, portals, sessions, users};
use crate::logs;
use crate::operators::Operators;
use crate::operators::limits::{Limiter, Limits};
use crate::operators::places::Places;
use crate::outbox::Outbox;
use crate::portals::Portals;
use crate::portals::inbox::Inbox;
use crate::portals::portal::Tools;
use crate::portals::relay::Relay;
use crate::portals::upstream::Upstream;
use crate::secret::Vault;
use crate::sessions::{Quotas, READERS, Sessions};
use crate::snapshots::{self, Snapshots};
use crate::store::Store;

/// Everything that runs; clones share it.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The records.
    pub store: Store,
    /// What seals secrets in them.
    pub vault: Arc<Vault>,
    /// Who may ask for what.
    pub operators: Operators,
    /// What is on its way to people.
    pub outbox: Outbox,
    /// What people are told.
    pub alerts: Alerts,
    /// Where codes arrive.
    pub inbox: Inbox,
    /// The portals that are kept.
    pub portals: Portals,
    /// What applications keep here.
    pub sessions: Sessions,
    /// Verification in several steps.
    pub flows: Flows,
    pub(super) flows_api: flows_http::Api,
    /// The team's own users.
    pub accounts: Accounts,
    accounts_api: accounts_http::Api,
    pub(super) users_api: users::Api,
    /// The snapshots by the clock.
    pub snapshots: Snapshots,
    pub(super) portals_api: portals::Api,
    sessions_api: sessions::Api,
    log: Option<logs::Handle>,
}

impl Parts {
    /// Starts every part; on return each is at work.
    pub(super) async fn start(ground: &Ground, config: &Config, log: Option<logs::Handle>) -> Result<Self, StartError> {
        let store = store::open(ground, config).await?;
        let vault = Arc::new(vault::open(&store, &config.store, &ground.random).await?);
        let Ground { clock, random, life, .. } = ground;
        let operators = Operators::new(store.clone(), clock.clone(), random.clone());
        let outbox = Outbox::start(
            store.clone(),
            vault.clone(),
            clock.clone(),
            random.clone(),
            channels::outbox(config)?,
            life,
        )?;
        let alerts = Alerts::start(
            store.clone(),
            outbox.clone(),
            vault.clone(),
            clock.clone(),
            random.clone(),
            channels::alerts(config),
            life,
        );
        store::tell(&config.store.path, &alerts).await?;
        room::watch(&store, alerts.clone(), ground);
        let snapshots = Snapshots::start(store.clone(), alerts.clone(), clock.clone(), snapshot_settings(config), life);
        let inbox = Inbox::new(store.clone(), clock.clone(), vault.clone(), life);
        let tools = Tools {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            vault: vault.clone(),
            inbox: inbox.clone(),
            pool: Pool::new(life, browser_settings(&config.browser))?,
            upstream: Upstream::new().map_err(StartError::Authorities)?,
            alerts: alerts.clone(),
        };
        let portals = Portals::new(tools, life);
        portals.apply(config).await?;
        let (limiter, relay) = (Limiter::new(limits(config), clock.clone()), Relay::default());
        let portals_api = portals::Api { portals: portals.clone(), relay, limiter, clock: clock.clone() };
        let sessions = Sessions::start(store.clone(), clock.clone(), random.clone(), quotas(config.sessions), life);
        let idempotency = Idempotency::new(store.clone(), clock.clone(), vault.clone(), random.clone(), life);
        let sessions_api = sessions_api(&sessions, &idempotency, &operators, clock);
        let accounts_api = accounts(ground, config, (&store, &outbox, &vault), &idempotency).await?;
        let users_api = users::Api { accounts: accounts_api.accounts.clone(), operators: operators.clone() };
        let flows_api = flows(ground, config, (&store, &operators, idempotency))?;
        Ok(Self {
            store,
            vault,
            operators,
            outbox,
            alerts,
            inbox,
            portals,
            sessions,
            flows: flows_api.flows.clone(),
            flows_api,
            accounts: accounts_api.accounts.clone(),
            accounts_api,
            users_api,
            snapshots,
            portals_api,
            sessions_api,
            log,
        })
    }

    /// The parts' own routes, each behind the scope it asks for, and the pages.
    pub(super) fn routes(&self) -> OpenApiRouter {
        let Self { operators, portals_api, sessions_api, flows_api, accounts_api, users_api, .. } = self.clone();
        let api = portals_api.routes(&operators).merge(sessions_api.routes()).merge(flows_api.routes());
        let api = api.merge(accounts_api.routes()).merge(users_api.routes());
        api.merge(console::routes(&self.portals))
    }

    /// Hands a changed configuration to every part that can take it over while it runs.
    ///
    /// # Errors
    /// What of it cannot be used; nothing has been taken over then.
    pub(super) async fn reload(&self, config: &Config) -> Result<(), StartError> {
        let outbox = channels::outbox(config)?;
        let flows = Flows::read(&config.flows)?;
        self.portals.apply(config).await?;
        self.flows.apply(flows);
        self.portals_api.limiter.reconfigure(limits(config));
        self.outbox.reconfigure(outbox);
        self.alerts.reconfigure(channels::alerts(config));
        self.accounts.reconfigure(account_settings(config));
        self.snapshots.reconfigure(snapshot_settings(config));
        if let Some(log) = &self.log {
            log.set_level(config.log.level);
        }
        Ok(())
    }
}

/// Flows may take a good part of the connections with readers, of which there must be some left for everybody else.
fn flows(
    ground: &Ground,
    config: &Config,
    (store, operators, idempotency): (&Store, &Operators, Idempotency),
) -> Result<flows_http::Api, StartError> {
    let Ground { clock, random, life, .. } = ground;
    let readers = config.server.max_connections as usize / 2;
    let kinds = Flows::read(&config.flows)?;
    let flows = Flows::start(store.clone(), clock.clone(), random.clone(), (readers, kinds), life)?;
    let (operators, readers, clock) = (operators.clone(), Places::new(readers), clock.clone());
    Ok(flows_http::Api { flows, idempotency, operators, readers, clock })
}

async fn accounts(
    ground: &Ground,
    config: &Config,
    (store, outbox, vault): (&Store, &Outbox, &Arc<Vault>),
    idempotency: &Idempotency,
) -> Result<accounts_http::Api, StartError> {
    let Ground { clock, random, life, .. } = ground.clone();
    let tools = accounts::Tools { store: store.clone(), outbox: outbox.clone(), vault: vault.clone(), clock, random };
    let accounts = Accounts::start(tools, account_settings(config), &life).await?;
    Ok(accounts_http::Api { accounts, idempotency: idempotency.clone() })
}

pub(super) fn account_settings(config: &Config) -> accounts::Settings {
    accounts::Settings {
        accounts: config.accounts.clone(),
        mail: config.mail.is_some(),
        public_url: config.server.public_url.as_ref().map(ToString::to_string),
    }
}

fn sessions_api(sessions: &Sessions, idempotency: &Idempotency, operators: &Operators, clock: &Clock) -> sessions::Api {
    sessions::Api {
        sessions: sessions.clone(),
        idempotency: idempotency.clone(),
        operators: operators.clone(),
        readers: Places::new(READERS),
        clock: clock.clone(),
    }
}

fn quotas(settings: config::SessionSettings) -> Quotas {
    let config::SessionSettings { ttl, max_ttl, max_records, max_spaces } = settings;
    Quotas { ttl, max_ttl, max_records: max_records.into(), max_spaces: max_spaces as usize }
}

fn snapshot_settings(config: &Config) -> snapshots::Settings {
    let config::Backup { every, keep, directory, drill_every } = (*config.backup).clone();
    snapshots::Settings { every, keep: keep as usize, directory, drill_every }
}

fn limits(config: &Config) -> Limits {
    let config::Limits { relay_per_minute, relay_concurrency } = config.limits;
    Limits { per_minute: relay_per_minute, at_once: relay_concurrency }
}

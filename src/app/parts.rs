//! The parts that run behind the doors, in the order in which each needs the one before: where a new domain is started,
//! where its routes are added, and where it hears of a new configuration.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use super::{Ground, StartError, vault};
use crate::config::{self, Config};
use crate::logs;
use crate::operators::Operators;
use crate::secret::Vault;
use crate::store::{Durability, Store, StoreError};

/// Everything that runs; clones share it.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The records.
    pub store: Store,
    /// What seals secrets in them.
    pub vault: Arc<Vault>,
    /// Who may ask for what.
    pub operators: Operators,
    log: Option<logs::Handle>,
}

impl Parts {
    /// Starts every part; on return each is at work.
    pub(super) async fn start(ground: &Ground, config: &Config, log: Option<logs::Handle>) -> Result<Self, StartError> {
        let store = open_store(ground, config).await?;
        let vault = Arc::new(vault::open(&store, &config.store, &ground.random).await?);
        let operators = Operators::new(store.clone(), ground.clock.clone(), ground.random.clone());
        Ok(Self { store, vault, operators, log })
    }

    /// The parts' own routes, each behind the scope it asks for.
    pub(super) fn routes(&self) -> OpenApiRouter {
        OpenApiRouter::new()
    }

    /// Hands a changed configuration to every part that can take it over while it runs.
    pub(super) fn reload(&self, config: &Config) {
        if let Some(log) = &self.log {
            log.set_level(config.log.level);
        }
    }
}

async fn open_store(ground: &Ground, config: &Config) -> Result<Store, StartError> {
    let (path, clock, life) = (config.store.path.clone(), ground.clock.clone(), ground.life.clone());
    let durability = match config.store.durability {
        config::Durability::Acknowledged => Durability::Acknowledged,
        config::Durability::Interval => Durability::Interval,
    };
    // Opening reads the disk and may take seconds; it spawns tasks too, for which it needs the runtime it came from.
    let runtime = tokio::runtime::Handle::current();
    let opening = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        Store::open(&path, durability, clock, &life)
    });
    match opening.await {
        Ok(store) => Ok(store?),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Err(StoreError::Stopped.into()),
    }
}

//! The users of a store that no server has open, for the command line.

use std::sync::Arc;

use super::{StartError, channels, parts, vault};
use crate::accounts::Tools;
use crate::accounts::people::People;
use crate::clock::Clock;
use crate::config::Config;
use crate::ids::Random;
use crate::outbox::Outbox;
use crate::store::Store;

/// The users in `store`. Mails wait in it for the next start of a server.
pub(crate) async fn people(store: Store, config: &Config, clock: Clock, random: Random) -> Result<People, StartError> {
    let vault = Arc::new(vault::open(&store, &config.store, &random).await?);
    let settings = channels::outbox(config)?;
    let outbox = Outbox::at_rest(store.clone(), vault.clone(), clock.clone(), random.clone(), settings)?;
    Ok(People::at_rest(Tools { store, outbox, vault, clock, random }, parts::account_settings(config)))
}

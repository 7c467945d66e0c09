//! `nightporter accounts keys | rotate-keys`: the keys that sign the users' tokens, asked of the running server.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::exit::{self, Exit, Failure};
use super::{Shared, control, output};
use crate::http::control::audit::KeyList;

/// See and change the keys that sign the users' access tokens.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Accounts {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The keys that count.
    #[command(after_long_help = exit::HELP)]
    Keys {
        #[command(flatten)]
        shared: Shared,
    },
    /// Make a new key. It signs in ten minutes, when everybody who checks tokens knows it; what the old one signed stays good.
    #[command(after_long_help = exit::HELP)]
    RotateKeys {
        /// Now, and what the old keys signed is good no more: they may be in wrong hands. Users stay logged in, each needs a refresh
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        shared: Shared,
    },
}

impl Accounts {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let (keys, shared): (KeyList, Shared) = match self.action {
            Action::Keys { shared } => (control::server(&shared.settings).await?.get("/accounts/keys").await?, shared),
            Action::RotateKeys { now, shared } => {
                let client = control::server(&shared.settings).await?;
                (client.call(Method::POST, "/accounts/keys", Some(&json!({ "at_once": now }))).await?, shared)
            }
        };
        if shared.json {
            output::print_json(&keys)?;
        } else {
            output::print(&show(&keys))?;
        }
        Ok(Exit::Good)
    }
}

fn show(keys: &KeyList) -> String {
    let mut rows = vec![["KEY", "MADE", "SIGNS FROM", "KNOWN UNTIL"].map(str::to_owned).to_vec()];
    for key in &keys.keys {
        let gone = key.gone_at.map_or("its successor".to_owned(), |at| at.local());
        rows.push(vec![key.kid.clone(), key.created_at.local(), key.active_at.local(), gone]);
    }
    output::table(&rows)
}

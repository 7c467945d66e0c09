//! `nightporter token add | list | revoke`: through the running server, or on the store itself when none runs.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use hyper::Method;

use super::control::{self, Client};
use super::exit::{self, Exit, Failure};
use super::{Settings, Shared, output, store};
use crate::clock::Clock;
use crate::config::{self, duration};
use crate::http::control::{MadeToken, NewToken, Tokens};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::operators::{self, OperatorError, Operators, Scope};

/// Make, list and revoke operator tokens. Works on the running server, or on the store itself when none runs; either way
/// it counts from the next request on.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token and print it. It is shown this once: only its hash is kept.
    #[command(after_long_help = exit::HELP)]
    Add {
        /// A name for it, to tell it apart and to revoke it by
        name: String,
        /// What it allows; several, or several times: portals:read portals:relay portals:manage sms flows sessions
        /// realtime watchdog metrics admin
        #[arg(long = "scope", value_name = "SCOPE", required = true, num_args = 1.., value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// How long it lives, such as 90d or 12h; for good without this
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<Duration>,
        #[command(flatten)]
        shared: Shared,
    },
    /// List the live tokens, without the tokens themselves.
    #[command(after_long_help = exit::HELP)]
    List {
        #[command(flatten)]
        shared: Shared,
    },
    /// End a token at once.
    #[command(after_long_help = exit::HELP)]
    Revoke {
        /// Its name or its id
        #[arg(value_name = "NAME|ID")]
        token: String,
        #[command(flatten)]
        shared: Shared,
    },
}

impl Token {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::Add { name, scopes, expires, shared } => {
                let scopes: BTreeSet<Scope> = scopes.into_iter().collect();
                let made = Desk::open(&shared.settings).await?.add(name, scopes, expires).await?;
                if shared.json { output::print_json(&made)? } else { output::print(&format!("{}\n", made.token))? }
            }
            Action::List { shared } => {
                let tokens = Desk::open(&shared.settings).await?.list().await?;
                if shared.json { output::print_json(&tokens)? } else { output::print(&show(&tokens))? }
            }
            Action::Revoke { token, shared } => {
                let revoked = Desk::open(&shared.settings).await?.revoke(&token).await?;
                let line = format!("revoked {} ({})\n", revoked.name, revoked.id);
                if shared.json { output::print_json(&revoked)? } else { output::print(&line)? }
            }
        }
        Ok(Exit::Good)
    }
}

fn show(tokens: &Tokens) -> String {
    let mut rows = vec![["NAME", "ID", "SCOPES", "MADE", "EXPIRES"].map(str::to_owned).to_vec()];
    for token in &tokens.tokens {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let expires = token.expires_at.map_or("never".to_owned(), |at| at.local());
        rows.push(vec![token.name.clone(), token.id.clone(), scopes.join(" "), token.created_at.local(), expires]);
    }
    output::table(&rows)
}

/// Who does it: the running server, or we ourselves.
enum Desk {
    Server(Client),
    Ourselves(Operators, Lifecycle),
}

impl Desk {
    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let config = settings.load()?;
        match control::reach(&config.store.path).await? {
            Some(client) => Ok(Self::Server(client)),
            None => Self::ourselves(&config.store),
        }
    }

    fn ourselves(config: &config::Store) -> Result<Self, Failure> {
        let (clock, life) = (Clock::system(), Lifecycle::new());
        let random = Random::system().context("the system has no randomness to give")?;
        let store = store::open(config, &clock, &life)?;
        Ok(Self::Ourselves(Operators::new(store, clock, random), life))
    }

    async fn add(
        self,
        name: String,
        scopes: BTreeSet<Scope>,
        lifetime: Option<Duration>,
    ) -> Result<MadeToken, Failure> {
        match self {
            Self::Server(client) => {
                let new = NewToken { name, scopes, lifetime_seconds: lifetime.map(|lifetime| lifetime.as_secs()) };
                let body = serde_json::to_value(new).context("request")?;
                client.call(Method::POST, "/tokens", Some(&body)).await
            }
            Self::Ourselves(operators, life) => {
                let added = operators.add(&name, scopes, lifetime).await;
                store::close(operators, &life).await;
                let added = added.map_err(refused)?;
                Ok(MadeToken { token: added.text.expose().to_owned(), about: added.token })
            }
        }
    }

    async fn list(self) -> Result<Tokens, Failure> {
        match self {
            Self::Server(client) => client.get("/tokens").await,
            Self::Ourselves(operators, life) => {
                let tokens = operators.list().await;
                store::close(operators, &life).await;
                Ok(Tokens { tokens: tokens.map_err(refused)? })
            }
        }
    }

    async fn revoke(self, token: &str) -> Result<operators::Token, Failure> {
        match self {
            Self::Server(client) => {
                let encoded = percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC);
                client.call(Method::DELETE, &format!("/tokens/{encoded}"), None).await
            }
            Self::Ourselves(operators, life) => {
                let revoked = operators.revoke(token).await;
                store::close(operators, &life).await;
                Ok(revoked.map_err(refused)?)
            }
        }
    }
}

fn refused(error: OperatorError) -> Failure {
    match error {
        OperatorError::Store(error) => error.into(),
        error => anyhow!(error).into(),
    }
}

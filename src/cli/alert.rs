//! `nightporter alert test`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::exit::{self, Exit, Failure};
use super::{Settings, control, output};
use crate::http::control::Tries;
use crate::outbox::Channel;

/// What can be asked of the alerts.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Alert {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send a test message through every configured channel now, and say how each took it. Needs a running server; ends
    /// with 1 when a channel failed or none is configured.
    #[command(after_long_help = exit::HELP)]
    Test {
        #[command(flatten)]
        settings: Settings,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

impl Alert {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let Action::Test { settings, json } = self.action;
        let config = settings.load()?;
        let Some(client) = control::reach(&config.store.path).await? else {
            let message = format!("no server runs on the store {}", config.store.path.display());
            return Err(Failure::told(Exit::NotRunning, message));
        };
        let Tries { tries } = client.call(Method::POST, "/alerts/test", None).await?;
        if json {
            output::print_json(&tries)?;
        } else if tries.is_empty() {
            return Err(Failure::told(Exit::Failed, "no channel is configured: set alerts.email, telegram or webhook"));
        } else {
            let row = |channel: &Channel, error: Option<&str>| vec![name(channel), error.unwrap_or("sent").to_owned()];
            let rows: Vec<_> = tries.iter().map(|tried| row(&tried.channel, tried.error.as_deref())).collect();
            output::print(&output::table(&rows))?;
        }
        let good = !tries.is_empty() && tries.iter().all(|tried| tried.error.is_none());
        Ok(if good { Exit::Good } else { Exit::Failed })
    }
}

fn name(channel: &Channel) -> String {
    match channel {
        Channel::Mail { to } => format!("mail to {to}"),
        Channel::Telegram => "telegram".to_owned(),
        Channel::Webhook => "webhook".to_owned(),
    }
}

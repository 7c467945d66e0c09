//! `nightporter serve`.

use clap::Args;

use super::exit::{self, Exit, Failure};
use super::{Settings, flag, load_whole};
use crate::app::{self, App, Ended, Setup, Signals};
use crate::clock::Clock;
use crate::http::metrics::Metrics;
use crate::ids::Random;
use crate::logs;
use anyhow::Context;

/// Run the server until SIGTERM or SIGINT; a second one cuts what is under way. SIGHUP reads the configuration again.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Where to serve the API; port 0 lets the system choose [key: server.listen]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// When the store is damaged, put it aside and go on from the newest whole snapshot [key: store.restore_latest]
    #[arg(long)]
    restore_latest: bool,
    /// error, warn, info, debug or trace [key: log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Serve {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let mut signals = Signals::listen().context("signals")?;
        let mut sources = self.settings.sources();
        sources.flags.extend(self.listen.map(|value| flag("--listen", "server.listen", value)));
        sources.flags.extend(self.log_level.map(|value| flag("--log-level", "log.level", value)));
        if self.restore_latest {
            sources.flags.push(flag("--restore-latest", "store.restore_latest", "true".to_owned()));
        }
        let config = load_whole(&sources)?;
        let log = logs::install(config.log).context("log")?;
        let metrics = Metrics::install().context("metrics")?;
        let random = Random::system().context("the system has no randomness to give")?;
        let setup = Setup { sources, config, clock: Clock::system(), random, metrics, log: Some(log) };
        let app = tokio::select! {
            started = App::start(setup) => started?,
            () = signals.stop() => return Ok(Exit::Good),
        };
        match app::run(app, signals).await {
            Ended::Stopped => Ok(Exit::Good),
            // Nothing is waited for any more; what was acknowledged is on the disk.
            Ended::Forced => std::process::exit(Exit::Failed as i32),
            Ended::Failed(reason) => Err(Failure::told(Exit::Failed, reason)),
        }
    }
}

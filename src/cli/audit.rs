//! `nightporter audit verify | list`: through the running server, or on the store itself when none runs.

use clap::{Args, Subcommand};

use super::control::{self, Client};
use super::exit::{self, Exit, Failure};
use super::{Settings, Shared, output, store};
use crate::accounts::audit::{Audit as Log, MAX_PAGE, Numbered, Verdict, Who};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::http::control::audit::Lines;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;

/// Look at the audit log of the accounts: who did what to whom, from where and when.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check that no line was changed, removed or added. Names the first that is not as it was written, and ends with 65 then.
    ///
    /// A store that was put back as a whole to an earlier state looks whole: note the count and the tag that are printed elsewhere, and
    /// compare.
    #[command(after_long_help = exit::HELP)]
    Verify {
        #[command(flatten)]
        shared: Shared,
    },
    /// The last lines, newest first.
    #[command(after_long_help = exit::HELP)]
    List {
        /// Only lines before the one of this number
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
        /// How many
        #[arg(long, value_name = "LINES", default_value_t = 100,
            value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=MAX_PAGE as u64))]
        limit: usize,
        #[command(flatten)]
        shared: Shared,
    },
}

impl Audit {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::Verify { shared } => {
                let verdict = Desk::open(&shared.settings).await?.verify().await?;
                let whole = verdict.broken.is_none();
                if shared.json {
                    output::print_json(&verdict)?;
                } else {
                    output::print(&told(&verdict))?;
                }
                Ok(if whole { Exit::Good } else { Exit::Damaged })
            }
            Action::List { before, limit, shared } => {
                let lines = Desk::open(&shared.settings).await?.list(before, limit).await?;
                if shared.json {
                    output::print_json(&lines)?;
                } else {
                    output::print(&show(&lines))?;
                }
                Ok(Exit::Good)
            }
        }
    }
}

fn told(verdict: &Verdict) -> String {
    let Verdict { lines, last, broken } = verdict;
    match broken {
        None => format!("{lines} lines, all as they were written; the last tag is {last}\n"),
        Some(broken) => format!("broken: line {} {}; the head counts {lines} lines\n", broken.number, broken.fault),
    }
}

fn show(lines: &Lines) -> String {
    let mut rows = vec![["NUMBER", "WHEN", "WHO", "WHAT", "USER", "FROM", "DETAIL"].map(str::to_owned).to_vec()];
    for Numbered { number, line } in &lines.lines {
        let who = match &line.who {
            Who::Nobody => "nobody".to_owned(),
            Who::System => "nightporter".to_owned(),
            Who::User(id) => id.to_string(),
            Who::Operator(name) => format!("operator {name}"),
        };
        let what = serde_json::to_value(line.what).ok().and_then(|what| Some(what.as_str()?.to_owned()));
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            number.to_string(),
            line.at.local(),
            who,
            or_none(what),
            or_none(line.user.map(|user| user.to_string())),
            or_none(line.from.map(|from| from.to_string())),
            or_none(line.detail.clone()),
        ]);
    }
    output::table(&rows)
}

/// Who looks: the running server, or we ourselves.
enum Desk {
    Server(Client),
    Ourselves(Log, Lifecycle),
}

impl Desk {
    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let config = settings.load()?;
        match control::reach(&config.store.path).await? {
            Some(client) => Ok(Self::Server(client)),
            None => Self::ourselves(&config).await,
        }
    }

    async fn ourselves(config: &Config) -> Result<Self, Failure> {
        let (clock, life) = (Clock::system(), Lifecycle::new());
        let random = Random::system().map_err(|error| Failure::told(Exit::Failed, error))?;
        let store = store::open(&config.store, &clock, &life)?;
        let vault = app::open_vault(&store, &config.store, &random).await?;
        Ok(Self::Ourselves(Log::new(store, vault.into(), clock), life))
    }

    async fn verify(self) -> Result<Verdict, Failure> {
        match self {
            Self::Server(client) => client.get("/audit/verify").await,
            Self::Ourselves(log, life) => {
                let verdict = log.verify().await;
                store::close(log, &life).await;
                Ok(verdict?)
            }
        }
    }

    async fn list(self, before: Option<u64>, limit: usize) -> Result<Lines, Failure> {
        match self {
            Self::Server(client) => {
                let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
                client.get(&format!("/audit?limit={limit}{before}")).await
            }
            Self::Ourselves(log, life) => {
                let lines = log.list(before, limit).await;
                store::close(log, &life).await;
                Ok(Lines { lines: lines? })
            }
        }
    }
}

//! `nightporter compact`: gives back the disk that a churned store has grown to.

use anyhow::Context;
use clap::Args;

use super::exit::{self, Exit, Failure};
use super::restore::watched;
use super::{Settings, output, progress, store};
use crate::clock::Clock;
use crate::store::Store;
use crate::store::compact::{self, Compacted, Wishes};

/// Write the store anew without what was deleted and overwritten; no server may run. Worth it when the database is much
/// larger than a snapshot of it: its files grow to about 3.5 times the live records and never shrink.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Compact {
    #[command(flatten)]
    settings: Settings,
    /// Keep the old database beside the new one
    #[arg(long)]
    keep: bool,
    /// Take what is there for the truth, also when its mark is missing or says otherwise
    #[arg(long)]
    accept: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Compact {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let path = self.settings.load()?.store.path.clone();
        store::check_owner(&path)?;
        if !Store::exists(&path) {
            return Err(Failure::told(Exit::Failed, format!("there is no store in {}", path.display())));
        }
        store::check_room(&path)?;
        let wishes = Wishes { keep: self.keep, accept: self.accept, now: Clock::system().now() };
        let compacted = watched(move |watch| compact::compact(&path, wishes, watch)).await?;
        if self.json {
            output::print_json(&compacted).context("result")?;
        } else {
            output::print(&told(&compacted))?;
        }
        Ok(Exit::Good)
    }
}

fn told(compacted: &Compacted) -> String {
    let Compacted { records, before, after, aside } = compacted;
    let (before, after) = (progress::size(*before), progress::size(*after));
    let mut text = format!("{records} records, {before} before, {after} now\n");
    if let Some(aside) = aside {
        text.push_str(&format!("the database before it is in {}\n", aside.display()));
    }
    text
}

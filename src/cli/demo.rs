//! `nightporter demo`: plays the day of `demo::day`.

use anyhow::Context;
use clap::Args;

use super::exit::{Exit, Failure};
use crate::demo::day;

/// Needs Chromium and nothing else; everything happens on loopback and in a temporary directory that is removed afterwards.
/// Ends with 0 when every promise was kept, 1 otherwise.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Leave everything running at the end and print where it is, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let kept = day::play(self.keep).await.context("the demo could not be played to its end")?;
        Ok(if kept { Exit::Good } else { Exit::Failed })
    }
}

//! `nightporter restore`: makes the store from a snapshot, or only says whether that could be done.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::backup::asked_to_stop;
use super::exit::{self, Exit, Failure};
use super::{Shared, output, progress, store};
use crate::app::KEY_FILE;
use crate::clock::Clock;
use crate::store::snapshot::{self, Existing, Manifest, Progress, Restored, Stage, Watch};

/// Make the store from a snapshot that `nightporter backup` or the server has written. The whole file is verified first; no
/// server may run. The database that was there is put aside, never deleted; the key and whatever else lies in the store's
/// directory stay as they are.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Restore {
    /// The snapshot
    file: PathBuf,
    /// Also when the store holds records, or does not open
    #[arg(long)]
    force: bool,
    /// Only read the file and check all of it
    #[arg(long, visible_alias = "dry-run")]
    verify: bool,
    #[command(flatten)]
    shared: Shared,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    file: PathBuf,
    restored: bool,
    /// Where the old database is.
    aside: Option<PathBuf>,
    #[serde(flatten)]
    manifest: Manifest,
}

impl Restore {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let done = if self.verify {
            let file = self.file.clone();
            let manifest = watched(move |watch| snapshot::verify_file(&file, watch)).await?;
            Done { file: self.file, restored: false, aside: None, manifest }
        } else {
            self.restore().await?
        };
        if self.shared.json {
            output::print_json(&done)?;
        } else {
            output::print(&told(&done))?;
        }
        Ok(Exit::Good)
    }

    async fn restore(&self) -> Result<Done, Failure> {
        let config = self.shared.settings.load()?.store;
        store::check_owner(&config.path)?;
        store::check_room(&config.path)?;
        let now = Clock::system().now();
        let existing = if self.force { Existing::Aside(now) } else { Existing::Refuse(now) };
        let (file, path) = (self.file.clone(), config.path.clone());
        let restoring = watched(move |watch| snapshot::restore_into(&file, &path, existing, watch));
        let Restored { manifest, aside } = restoring.await?;
        if config.key.is_none() && !config.path.join(KEY_FILE).exists() {
            let key = config.path.join(KEY_FILE).display().to_string();
            output::complain(&format!(
                "note: the store's key is not in a snapshot: put it back as {key} before the start\n"
            ));
        }
        Ok(Done { file: self.file.clone(), restored: true, aside, manifest })
    }
}

fn told(done: &Done) -> String {
    let Done { file, restored, aside, manifest } = done;
    let (records, at, program) = (manifest.records, manifest.created_at.local(), &manifest.program);
    let verdict = if *restored { "restored" } else { "whole" };
    let mut text = format!("{}: {verdict}, {records} records as of {at}, by version {program}\n", file.display());
    if let Some(aside) = aside {
        text.push_str(&format!("the database before it is in {}\n", aside.display()));
    }
    text
}

/// Runs `work` off the runtime with its progress on the terminal, until it is done or a signal ends it.
pub(super) async fn watched<T: Send + 'static, E: Into<Failure> + Send + 'static>(
    work: impl FnOnce(&mut Watch<'_>) -> Result<T, E> + Send + 'static,
) -> Result<T, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut working = tokio::task::spawn_blocking(move || {
        let mut line = progress::Line::new();
        work(&mut |progress| {
            line.say(|| show(progress));
            !stopped.load(Ordering::Relaxed)
        })
    });
    let worked = tokio::select! {
        worked = &mut working => worked,
        _ = asked_to_stop() => {
            stop.store(true, Ordering::Relaxed);
            // It ends at the next look, or it was done already and says so.
            working.await
        }
    };
    worked.context("the work ended early")?.map_err(Into::into)
}

fn show(progress: Progress) -> String {
    let Progress { stage, done, total } = progress;
    let doing = match stage {
        Stage::Verifying => "verifying",
        Stage::Writing => "writing",
        Stage::Comparing => "comparing",
    };
    match total {
        0 => format!("{doing}: {done} records so far"),
        _ => format!("{doing} {} %", done * 100 / total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_what_has_no_known_end_is_a_count() {
        let at = |done, total| show(Progress { stage: Stage::Writing, done, total });
        assert_eq!(
            (at(1024, 0), at(1024, 4096)),
            ("writing: 1024 records so far".to_owned(), "writing 25 %".to_owned())
        );
    }
}

//! `nightporter completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::{self, Exit, Failure};
use super::{Cli, output};

/// Print a completion script for a shell, to be read by it at its start.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        // Collected first: the generator panics when its writer fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Good)
    }
}

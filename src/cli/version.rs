//! `nightporter version`.

use clap::Args;

use super::exit::{self, Exit, Failure};
use super::output;

/// Print the version.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Version {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        if self.json {
            output::print_json(&serde_json::json!({ "name": name, "version": version }))?;
        } else {
            output::print(&format!("{name} {version}\n"))?;
        }
        Ok(Exit::Good)
    }
}

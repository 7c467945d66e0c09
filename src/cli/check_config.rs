//! `nightporter check-config`.

use clap::Args;

use super::exit::{self, Exit, Failure};
use super::{Settings, output};
use crate::app::INSPECTORS;
use crate::config;

/// Check a configuration with every recipe and flow it references, and show what counts. Shows no secret.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: Settings,
    /// As JSON, problems included, on standard output
    #[arg(long)]
    json: bool,
}

impl CheckConfig {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let report = config::check(&self.settings.sources(), &INSPECTORS);
        if self.json {
            output::print_json(&report)?;
        } else if report.is_good() {
            output::print(&report.to_string())?;
        } else {
            output::complain(&report.to_string());
        }
        Ok(if report.is_good() { Exit::Good } else { Exit::Config })
    }
}

//! The command line: reads arguments, runs one subcommand, turns its outcome into an exit code. Results go to standard
//! output, everything else to standard error. Works through the other rooms; keeps no rule of its own.

mod accounts;
mod alert;
mod audit;
mod backup;
mod check_config;
mod compact;
mod completions;
mod control;
mod demo;
mod doctor;
mod exit;
mod flow;
mod output;
mod portal;
mod progress;
mod restore;
mod serve;
mod sms;
mod status;
mod store;
mod token;
mod user;
mod version;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::app;
use crate::config::{Config, Flag, Sources};
use exit::{Exit, Failure};

/// How long what still blocks may hold up the end of the process.
const RUNTIME_LIMIT: Duration = Duration::from_secs(2);

/// Keeps logged-in sessions alive and true: one binary on one VPS.
#[derive(Debug, Parser)]
#[command(name = "nightporter", version, after_long_help = exit::HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Serve),
    /// Play a day with a built-in portal, phone and mailbox: every promise shown on the terminal.
    Demo(demo::Demo),
    /// Say how the running server is doing.
    Status(status::Status),
    /// See and steer the portals of the running server, and try a recipe.
    Portal(portal::Portal),
    /// See the flows of the running server, and try again what has failed.
    Flow(flow::Flow),
    /// Send a test alert through every configured channel.
    Alert(alert::Alert),
    /// Make, list and revoke operator tokens.
    Token(token::Token),
    /// See the users of the accounts, and shut out, let in, export or delete one.
    User(user::User),
    /// See and change the keys that sign the users' access tokens.
    Accounts(accounts::Accounts),
    /// Look at the audit log of the accounts.
    Audit(audit::Audit),
    /// Write a snapshot of the store to a file, while the server runs or not.
    Backup(backup::Backup),
    /// Make the store from a snapshot, or only check one.
    Restore(restore::Restore),
    /// Show how an SMS is read.
    Sms(sms::Sms),
    /// Write the store anew without what was deleted and overwritten, to give back disk.
    Compact(compact::Compact),
    /// Check a configuration with every recipe and flow it references.
    CheckConfig(check_config::CheckConfig),
    /// Look whether this machine has what Nightporter needs, and say what to do about what is missing.
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Print the version.
    Version(version::Version),
}

/// Where the configuration comes from, for every command that needs one.
#[derive(Debug, Default, Args)]
struct Settings {
    /// The configuration file; without it, NIGHTPORTER_CONFIG may name one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store's directory [key: store.url]
    #[arg(long, value_name = "DIRECTORY")]
    store: Option<String>,
}

/// What a command takes that asks or tells, and nothing more.
#[derive(Debug, Args)]
struct Shared {
    #[command(flatten)]
    settings: Settings,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Settings {
    /// The sources that these arguments and the process's environment make.
    fn sources(&self) -> Sources {
        let mut flags = Vec::new();
        if let Some(store) = &self.store {
            let value = if store.starts_with("sled:") { store.clone() } else { format!("sled:{store}") };
            flags.push(flag("--store", "store.url", value));
        }
        // Names and values that are no text cannot be settings of ours.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        Sources {
            file: self.config.clone(),
            env: std::env::vars_os().filter_map(text).collect(),
            flags,
            credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }

    /// The configuration, without looking into recipes and flows: all that a command needs to find the server and the store.
    fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.sources())?)
    }
}

fn flag(name: &str, key: &str, value: String) -> Flag {
    Flag { name: name.to_owned(), key: key.to_owned(), value }
}

/// Runs the command that the process's arguments ask for.
pub fn main() -> ExitCode {
    // Prints help, version and usage errors by itself, and ends with 0 or 2.
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(serve) => on_runtime(serve.run()),
        Command::Demo(demo) => on_runtime(demo.run()),
        Command::Status(status) => on_runtime(status.run()),
        Command::Portal(portal) => on_runtime(portal.run()),
        Command::Flow(flow) => on_runtime(flow.run()),
        Command::Alert(alert) => on_runtime(alert.run()),
        Command::Token(token) => on_runtime(token.run()),
        Command::User(user) => on_runtime(user.run()),
        Command::Accounts(accounts) => on_runtime(accounts.run()),
        Command::Audit(audit) => on_runtime(audit.run()),
        Command::Backup(backup) => on_runtime(backup.run()),
        Command::Restore(restore) => on_runtime(restore.run()),
        Command::Compact(compact) => on_runtime(compact.run()),
        Command::Sms(sms) => sms.run(),
        Command::CheckConfig(check) => check.run(),
        Command::Doctor(doctor) => on_runtime(doctor.run()),
        Command::Completions(completions) => completions.run(),
        Command::Version(version) => version.run(),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

fn on_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(RUNTIME_LIMIT);
    outcome
}

/// The configuration with every recipe in it, as the server uses it.
fn load_whole(sources: &Sources) -> Result<Config, Failure> {
    Ok(app::load(sources)?)
}

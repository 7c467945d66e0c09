//! `nightporter portal …`: what an operator sees of the portals and wishes for, asked of the running server. `try` is the
//! exception: it logs in by itself.

mod attempt;
mod show;

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::exit::{self, Exit, Failure};
use super::{Settings, Shared, control, output};

/// See and steer the portals of the running server, and try a recipe.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Portal {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All portals with their states.
    #[command(after_long_help = exit::HELP)]
    List(Shared),
    /// Everything about one portal.
    #[command(after_long_help = exit::HELP)]
    Show(One),
    /// Stop checks and logins; sessions that live go on serving.
    #[command(after_long_help = exit::HELP)]
    Pause(One),
    /// Take checks and logins up again.
    #[command(after_long_help = exit::HELP)]
    Resume(One),
    /// Let the standby take over now.
    #[command(after_long_help = exit::HELP)]
    Failover(One),
    /// Log in anew, whatever the state; the new session becomes the active one.
    #[command(after_long_help = exit::HELP)]
    Reauth(One),
    /// Give a code to the login that waits for one. The code is read from standard input, or asked for.
    #[command(after_long_help = exit::HELP)]
    Code(One),
    /// Save a picture of the portal's start page as a session sees it, with secrets masked.
    #[command(after_long_help = exit::HELP)]
    Screenshot {
        #[command(flatten)]
        one: Name,
        /// Where to write the PNG
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Whose eyes: active or standby
        #[arg(long, value_name = "SLOT", default_value = "active", value_parser = ["active", "standby"])]
        slot: String,
    },
    /// What happened, newest first.
    #[command(after_long_help = exit::HELP)]
    Events(One),
    /// Log in once with a recipe and show each step. It is a real login: the portal counts it, and may send an SMS.
    #[command(after_long_help = attempt::HELP)]
    Try(attempt::Attempt),
}

/// One portal.
#[derive(Debug, Args)]
struct Name {
    /// Its name in the configuration
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct One {
    #[command(flatten)]
    one: Name,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Portal {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::List(Shared { settings, json }) => {
                let answer: Value = ask(&settings, Method::GET, "", None).await?;
                print(&answer, json, show::list)?;
            }
            Action::Show(One { one, json }) => print(&one.ask(Method::GET, "", None).await?, json, show::portal)?,
            Action::Pause(one) => one.wish("pause", "is paused").await?,
            Action::Resume(one) => one.wish("resume", "goes on").await?,
            Action::Failover(one) => one.wish("failover", "is served by the session that stood by").await?,
            Action::Reauth(one) => one.wish("reauth", "will log in anew").await?,
            Action::Code(One { one, json }) => {
                let code = read_code(&one.name)?;
                let answer = one.ask(Method::POST, "/code", Some(&json!({ "code": code.trim() }))).await?;
                print(&answer, json, |_| format!("the login of {} has the code\n", one.name))?;
            }
            Action::Screenshot { one, output, slot } => {
                let picture = one.fetch(Method::GET, &format!("/screenshot?slot={slot}")).await?;
                save(&output, &picture)?;
                output::print(&format!("{}\n", output.display()))?;
            }
            Action::Events(One { one, json }) => {
                print(&one.ask(Method::GET, "/events", None).await?, json, show::events)?;
            }
            Action::Try(attempt) => return attempt.run().await,
        }
        Ok(Exit::Good)
    }
}

impl One {
    async fn wish(&self, what: &str, told: &str) -> Result<(), Failure> {
        let answer = self.one.ask(Method::POST, &format!("/{what}"), None).await?;
        print(&answer, self.json, |view| {
            format!("portal {} {told}; its state is {}\n", self.one.name, view["state"].as_str().unwrap_or("unknown"))
        })
    }
}

impl Name {
    fn path(&self, rest: &str) -> String {
        let name = percent_encoding::utf8_percent_encode(&self.name, percent_encoding::NON_ALPHANUMERIC);
        format!("/{name}{rest}")
    }

    async fn ask(&self, method: Method, rest: &str, body: Option<&Value>) -> Result<Value, Failure> {
        match ask(&self.settings, method, &self.path(rest), body).await {
            Err(failure) => Err(self.explain(failure).await),
            answer => answer,
        }
    }

    async fn fetch(&self, method: Method, rest: &str) -> Result<bytes::Bytes, Failure> {
        let client = control::server(&self.settings).await?;
        match client.fetch(method, &format!("/api/portals{}", self.path(rest)), None).await {
            Err(failure) => Err(self.explain(failure).await),
            answer => answer,
        }
    }

    /// A name that nobody knows is answered with those that are known.
    async fn explain(&self, failure: Failure) -> Failure {
        if failure.refused().is_none_or(|refused| refused.code != "unknown_portal") {
            return failure;
        }
        let Ok(all) = ask(&self.settings, Method::GET, "", None).await else { return failure };
        let names: Vec<&str> = show::portals(&all).filter_map(|portal| portal["portal"].as_str()).collect();
        unknown(&self.name, &names)
    }
}

/// That no portal has this name, and which have one.
fn unknown(name: &str, known: &[&str]) -> Failure {
    let known = if known.is_empty() { "none is configured".to_owned() } else { format!("known: {}", known.join(", ")) };
    Failure::told(Exit::Failed, format!("no portal is called {name}; {known}"))
}

async fn ask(settings: &Settings, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    control::server(settings).await?.call(method, &format!("/api/portals{path}"), body).await
}

fn print(answer: &Value, json: bool, show: impl Fn(&Value) -> String) -> Result<(), Failure> {
    let printed = if json { output::print_json(answer) } else { output::print(&show(answer)) };
    Ok(printed?)
}

/// One line from standard input; who sits at a terminal is asked for it.
fn read_code(name: &str) -> Result<zeroize::Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        output::complain(&format!("Code for {name}: "));
    }
    let mut line = zeroize::Zeroizing::new(String::new());
    stdin.lock().read_line(&mut line).context("standard input")?;
    if line.trim().is_empty() {
        return Err(Failure::told(Exit::Failed, "no code was given on standard input"));
    }
    Ok(line)
}

/// Writes a picture for nobody but us to read: it shows an account.
fn save(path: &Path, picture: &[u8]) -> anyhow::Result<()> {
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = open.and_then(|mut file| file.write_all(picture));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

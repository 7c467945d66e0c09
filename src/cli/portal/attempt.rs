//! `nightporter portal try`: one login with a recipe that is being written, each step shown as it goes. Keeps nothing of the
//! login but the picture of the step that failed.

mod screen;
mod source;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{Settings, save};
use crate::app::{Bench, Signals};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{exit, output};
use crate::clock::Hours;
use crate::config::{self, Config, unknown};
use crate::lifecycle::Lifecycle;
use crate::portals::check::Verdict;
use crate::portals::recipe::Recipe;
use crate::portals::trial::{Failed, LoggedIn, Progress, Trial, watch};
use crate::secret::{self, Secret};
use screen::Screen;
use source::Source;

/// What the long help ends with.
pub(super) const HELP: &str = exit::HELP;

/// Lines typed ahead of a login that does not want them yet.
const AHEAD: usize = 4;

/// Log in once with a recipe and show each step.
///
/// It is a real login: the portal counts it, and may send an SMS. A running server that keeps the portal takes it out of the
/// account's budget and lends its phone; a code can be typed in any case. The account is that of --portal, or of the only
/// portal in the configuration that uses this recipe, or is given by the flags, which changes nothing about its budget. Ends with 0 only if the login went well and
/// the recipe's check can tell.
#[derive(Debug, Args)]
pub(super) struct Attempt {
    /// The recipe
    recipe: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// The portal in the configuration whose account is used
    #[arg(long, value_name = "NAME", conflicts_with = "username")]
    portal: Option<String>,
    /// The account's name, for a portal that is in no configuration yet
    #[arg(long, value_name = "USER", requires = "password_file")]
    username: Option<String>,
    /// The file with its password
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// The file with the key of its authenticator app, in base32
    #[arg(long, value_name = "FILE", requires = "username")]
    totp_secret_file: Option<PathBuf>,
    /// Where the picture of a step that failed is written
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pictures: PathBuf,
}

/// How a trial ended.
enum End {
    LoggedIn(LoggedIn),
    Failed(Failed),
    Interrupted,
}

impl Attempt {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let recipe = Recipe::load(&self.recipe).map_err(|error| {
            warn(&error.warnings);
            Failure::new(Exit::Config, error)
        })?;
        warn(&recipe.warnings);
        room_for_pictures(&self.pictures)?;
        let config = self.settings.load()?;
        let (name, account) = self.account(&config, &recipe)?;
        if recipe.needs_totp() && account.totp_secret.is_none() {
            let message = "the recipe types an authenticator's code, but no totp_secret is set for this account";
            return Err(Failure::told(Exit::Config, message));
        }
        output::print(&format!("Trying {} at {} as {}.\n", self.recipe.display(), recipe.base_url, account.username))?;
        output::print("This is a real login: the portal counts it, and may send an SMS.\n")?;
        if account.sessions != config::Sessions::Parallel {
            output::print("The portal tolerates one session: this login may end the one that serves.\n")?;
        }
        let source = Source::open(&config.store.path, name.as_deref(), &self.recipe, recipe.needs_phone()).await?;
        let bench = Bench::set(&config.browser)?;
        let end = match Trial::new(bench.tools().clone(), &account) {
            Ok(trial) => watched(&trial, source, bench.life()).await,
            Err(error) => Err(Failure::new(Exit::Failed, error)),
        };
        bench.clear().await;
        match end? {
            End::LoggedIn(logged_in) => verdict(&logged_in),
            End::Failed(failed) => self.failed(&failed),
            End::Interrupted => Err(Failure::told(Exit::Failed, "interrupted; nothing is kept")),
        }
    }

    /// The account to log in with, and the portal of the configuration that it belongs to.
    fn account(&self, config: &Config, tried: &Recipe) -> Result<(Option<String>, config::Portal), Failure> {
        if let Some(username) = &self.username {
            let given = |path: &Option<PathBuf>| path.as_deref().map(read_secret).transpose();
            let totp_secret = given(&self.totp_secret_file)?;
            if totp_secret.as_ref().is_some_and(|key| secret::base32(key.expose()).is_none()) {
                return Err(Failure::told(Exit::Config, "--totp-secret-file holds no base32 text"));
            }
            let password = given(&self.password_file)?.context("--username needs --password-file")?;
            let (recipe, username) = (self.recipe.clone(), username.clone());
            let (quiet_hours, drill, phones) = (Hours::default(), None, Vec::new());
            let known = same_account(config, tried, &username);
            let sessions = known.map_or(config::Sessions::Parallel, |(_, portal)| portal.sessions);
            let account =
                config::Portal { recipe, phones, username, password, totp_secret, sessions, quiet_hours, drill };
            return Ok((known.map(|(name, _)| name.clone()), account));
        }
        let name = match &self.portal {
            Some(name) => name.clone(),
            None => self.only_user(config)?,
        };
        let Some(portal) = config.portals.get(&name) else {
            let known: Vec<&str> = config.portals.keys().map(String::as_str).collect();
            return Err(Failure::told(Exit::Failed, unknown(&format!("portal \"{name}\""), &name, &known)));
        };
        Ok((Some(name), config::Portal { recipe: self.recipe.clone(), ..portal.clone() }))
    }

    /// The one portal that uses this recipe.
    fn only_user(&self, config: &Config) -> Result<String, Failure> {
        let same =
            |path: &Path| path.canonicalize().is_ok_and(|path| self.recipe.canonicalize().is_ok_and(|r| r == path));
        let users: Vec<&String> =
            config.portals.iter().filter(|(_, portal)| same(&portal.recipe)).map(|(name, _)| name).collect();
        match users[..] {
            [name] => Ok(name.clone()),
            [] => Err(Failure::told(
                Exit::Failed,
                "no portal of the configuration uses this recipe: say whose account it is, with --config and --portal, or \
                 with --username and --password-file",
            )),
            _ => Err(Failure::told(Exit::Failed, "several portals use this recipe: say which one with --portal")),
        }
    }

    fn failed(&self, failed: &Failed) -> Result<Exit, Failure> {
        output::print(&format!("\nNot logged in: {}\n{}\n", failed.cause, failed.detail))?;
        let stem = self.recipe.file_stem().unwrap_or_default().to_string_lossy();
        let place = failed.step.map_or_else(|| "end".to_owned(), |step| format!("step-{step}"));
        let keep = |what: &str, ending: &str, bytes: Option<&[u8]>| -> Result<(), Failure> {
            let Some(bytes) = bytes else { return Ok(output::print(&format!("{what} could not be kept.\n"))?) };
            let path = self.pictures.join(format!("{stem}-{place}.{ending}"));
            save(&path, bytes)?;
            Ok(output::print(&format!("{what}: {}\n", path.display()))?)
        };
        keep("The page as it was", "png", failed.picture.as_deref())?;
        keep("Its document, without what was typed", "html", failed.page.as_deref().map(str::as_bytes))?;
        Ok(Exit::Failed)
    }
}

/// The portal of the configuration that keeps this account logged in, whose budget it is.
fn same_account<'a>(config: &'a Config, tried: &Recipe, username: &str) -> Option<(&'a String, &'a config::Portal)> {
    let there = |portal: &config::Portal| {
        Recipe::load(&portal.recipe).is_ok_and(|kept| kept.base_url.origin() == tried.base_url.origin())
    };
    config.portals.iter().find(|(_, portal)| portal.username == username && there(portal))
}

fn warn(warnings: &[config::Problem]) {
    for warning in warnings {
        output::complain(&format!("warning: {warning}\n"));
    }
}

/// That pictures can be written to `directory`: the login costs something, and must not fail in vain.
fn room_for_pictures(directory: &Path) -> Result<(), Failure> {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let open = std::fs::read_dir(directory).and_then(|_| Ok(rustix::fs::access(directory, access)?));
    open.map_err(|error| Failure::told(Exit::Failed, format!("--pictures {}: {error}", directory.display())))
}

fn read_secret(path: &Path) -> Result<Secret, Failure> {
    config::secret_from_file(path).map_err(|reason| Failure::told(Exit::Config, reason))
}

/// Makes the login; shows its steps, and hands it the codes that come.
async fn watched(trial: &Trial, mut source: Source, life: &Lifecycle) -> Result<End, Failure> {
    let (trace, mut news) = watch();
    let (mut screen, mut handed) = (Screen::new(trial.recipe()), false);
    output::print("\n")?;
    let mut typed: Option<mpsc::Receiver<Zeroizing<String>>> = None;
    let mut signals = Signals::listen().context("signals")?;
    let mut running = std::pin::pin!(trial.run(trace));
    loop {
        tokio::select! {
            biased;
            Some(progress) = news.recv() => {
                if progress == Progress::AwaitsCode {
                    if std::mem::take(&mut handed) {
                        continue;
                    }
                    if typed.is_none() {
                        typed = Some(hand(life)?);
                    }
                }
                screen.show(&progress)?;
            }
            () = signals.stop() => return Ok(End::Interrupted),
            done = &mut running => {
                while let Ok(progress) = news.try_recv() {
                    screen.show(&progress)?;
                }
                return Ok(done.map_or_else(End::Failed, End::LoggedIn));
            }
            line = next_line(&mut typed) => match trial.type_code(&Secret::new(line.trim())) {
                Ok(()) => {}
                Err(refused) => screen.say(&format!("{refused}; type it again"))?,
            },
            code = source.code() => match code {
                Ok(code) => {
                    screen.say(&format!("the code came by the phone {}", source.phone()))?;
                    handed = true;
                    if let Err(refused) = trial.type_code(&code) {
                        screen.say(&refused.to_string())?;
                    }
                }
                Err(why) => screen.say(&format!("no code from the phone: {why}"))?,
            },
        }
    }
}

/// Reads standard input line by line, on a thread that ends with the process: nothing can wake it from a terminal.
fn hand(life: &Lifecycle) -> Result<mpsc::Receiver<Zeroizing<String>>, Failure> {
    let (lines, typed) = mpsc::channel(AHEAD);
    let reading = move || {
        let stdin = std::io::stdin();
        loop {
            let mut line = Zeroizing::new(String::new());
            if !matches!(stdin.lock().read_line(&mut line), Ok(1..)) || lines.blocking_send(line).is_err() {
                return;
            }
        }
    };
    life.thread("standard input", reading).context("standard input")?;
    Ok(typed)
}

/// The next line that somebody typed; waits for ever when there is nobody.
async fn next_line(typed: &mut Option<mpsc::Receiver<Zeroizing<String>>>) -> Zeroizing<String> {
    if let Some(lines) = typed
        && let Some(line) = lines.recv().await
    {
        return line;
    }
    std::future::pending().await
}

/// What the check says, and whether it can be relied on.
fn verdict(logged_in: &LoggedIn) -> Result<Exit, Failure> {
    let LoggedIn { check, stranger, saved } = logged_in;
    let saved = if saved.is_empty() { "nothing".to_owned() } else { saved.join(", ") };
    let mut text = format!("\nThe steps went through. Saved: {saved}.\n");
    let (good, told) = match check {
        Verdict::Alive => (true, "alive, as it should".to_owned()),
        Verdict::Expired(why) => (false, format!("expired ({why}), though the login has just been made")),
        Verdict::Unknown(why) => (false, format!("neither alive nor expired ({why}): mend [check] alive")),
    };
    text.push_str(&format!("The check says of this session: {told}.\n"));
    let (sound, told) = match stranger {
        Verdict::Expired(why) => (true, format!("expired ({why}), as it should")),
        Verdict::Alive => (false, "alive: it would never notice an expiry; mend [check]".to_owned()),
        Verdict::Unknown(why) => {
            (false, format!("neither alive nor expired ({why}): an expiry would go unnoticed; mend [check] expired"))
        }
    };
    text.push_str(&format!("The check says of somebody logged out: {told}.\n"));
    text.push_str(if good { "\nLogged in.\n" } else { "\nNot known to be logged in.\n" });
    output::print(&text)?;
    Ok(if good && sound { Exit::Good } else { Exit::Failed })
}

//! Configuration: what the operator wants, read once, typed and checked before anything acts on it.
//!
//! Flag over environment over file over default. Every problem names file, line (or variable, or flag) and key, and all
//! of them are told at once. A [`Config`] is a plain value: it is compared with the next one at a reload and never
//! reaches back to where it came from. Nothing here reads the process's environment, and nothing prints a secret.

use std::collections::BTreeMap;
use std::sync::Arc;

mod accounts;
mod backup;
mod channels;
mod check;
pub mod duration;
mod flows;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod limits;
mod network;
mod problem;
mod read;
mod secrets;
mod server;
mod sites;
mod sources;
#[cfg(test)]
mod tests;
mod tree;
mod words;

pub use accounts::{Accounts, Locale};
pub use backup::Backup;
pub use channels::{Alerts, Mail, MailLogin, MailSecurity, Telegram, Webhook};
pub use check::{Inspectors, Report, check};
pub use flows::{Flow, FlowCheck, SecretUse};
pub use limits::Limits;
pub use network::Email;
pub use problem::{Place, Problem};
pub use read::Setting;
pub use server::{Browser, Durability, Log, LogFormat, Server, SessionSettings, Store, Tls};
pub use sites::{Forwarder, Phone, Portal, RecipeCheck, Sessions, SilentAfter};
pub use sources::{Flag, Sources};
pub use words::is_name;

pub(crate) use network::{is_loopback, origin};
pub(crate) use problem::unknown;
pub(crate) use read::{Field, Reading, Section};
pub(crate) use secrets::from_file as secret_from_file;
pub(crate) use server::program;
pub(crate) use sources::read as read_file;
pub(crate) use tree::parse as parse_tree;
pub(crate) use words::{boolean, choice, integer, text};

/// The whole configuration, checked. Cloning shares the sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The edge.
    pub server: Arc<Server>,
    /// Where records live.
    pub store: Arc<Store>,
    /// The snapshots that are taken of them.
    pub backup: Arc<Backup>,
    /// How the process tells what it does.
    pub log: Log,
    /// The mail server, when mail is wanted.
    pub mail: Option<Arc<Mail>>,
    /// Who is told, and how often.
    pub alerts: Arc<Alerts>,
    /// What one token may use.
    pub limits: Limits,
    /// The Chromium that logs in.
    pub browser: Arc<Browser>,
    /// What applications may keep here.
    pub sessions: SessionSettings,
    /// Phones by name.
    pub phones: Arc<BTreeMap<String, Phone>>,
    /// Portals by name.
    pub portals: Arc<BTreeMap<String, Portal>>,
    /// Flows by name.
    pub flows: Arc<BTreeMap<String, Flow>>,
    /// The team's own users.
    pub accounts: Arc<Accounts>,
    /// What works, but the operator should know; not part of what a reload compares by section.
    pub warnings: Arc<Vec<Problem>>,
}

/// A configuration that cannot be used; its text is one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    /// Everything that is wrong, never empty.
    pub problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// Reads the configuration of `sources`, without looking into the files that it references; [`check()`] does both.
    ///
    /// # Errors
    /// Every problem found: what is not TOML, unknown keys, wrong types, values out of range, missing secrets.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let (config, problems, ..) = assemble(sources, &Inspectors::none());
        config.ok_or(ConfigError { problems })
    }

    /// The keys in which `next` differs that a running process cannot take over: they wait for a restart.
    pub fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let changed = [
            ("server.listen", self.server.listen != next.server.listen),
            ("server.metrics_listen", self.server.metrics_listen != next.server.metrics_listen),
            ("server.tls", self.server.tls != next.server.tls),
            ("server.trusted_proxies", self.server.trusted_proxies != next.server.trusted_proxies),
            ("server.max_connections", self.server.max_connections != next.server.max_connections),
            ("server.max_body", self.server.max_body != next.server.max_body),
            ("server.drain", self.server.drain != next.server.drain),
            ("store.url", self.store.path != next.store.path),
            ("store.durability", self.store.durability != next.store.durability),
            ("store.reserve", self.store.reserve != next.store.reserve),
            ("store.key", self.store.key != next.store.key),
            ("log.format", self.log.format != next.log.format),
            ("browser", self.browser != next.browser),
            ("sessions", self.sessions != next.sessions),
            ("accounts.password_memory", self.accounts.password_memory != next.accounts.password_memory),
            ("accounts.password_passes", self.accounts.password_passes != next.accounts.password_passes),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}

type Assembled = (Option<Config>, Vec<Problem>, Vec<Problem>, Vec<Setting>);

/// Reads every section. The configuration is there exactly when there are no problems.
fn assemble(sources: &Sources, inspect: &Inspectors<'_>) -> Assembled {
    let (tree, found) = sources.tree();
    let directory = sources.config_file().and_then(|file| file.parent().map(ToOwned::to_owned)).unwrap_or_default();
    let reading = Reading::new(directory, sources.credentials_dir.clone());
    // What is not TOML says nothing about its settings: guesses about them would only bury the real problem.
    let broken = !found.is_empty();
    reading.problems(found);
    if broken {
        let (problems, warnings, settings) = reading.finish();
        return (None, problems, warnings, settings);
    }
    let config = sections(&Section::root(&reading, tree), inspect);
    let (problems, warnings, settings) = reading.finish();
    let complete = config.filter(|_| problems.is_empty());
    let config = complete.map(|config| Config { warnings: Arc::new(warnings.clone()), ..config });
    (config, problems, warnings, settings)
}

fn sections(root: &Section<'_>, inspect: &Inspectors<'_>) -> Option<Config> {
    let server = server::server(root);
    let store = server::store(root);
    let backup = backup::backup(root, store.as_ref().map(|store| store.path.as_path()));
    let log = server::log(root);
    let mail = channels::mail(root);
    let alerts = channels::alerts(root);
    let limits = limits::limits(root);
    let browser = server::browser(root);
    let sessions = server::sessions(root);
    let phones = sites::phones(root);
    let portals = sites::portals(root, inspect.recipe);
    let flows = flows::flows(root, inspect.flow);
    let accounts = accounts::accounts(root);
    root.finish();
    let config = Config {
        server: Arc::new(server?),
        store: Arc::new(store?),
        backup: Arc::new(backup?),
        log: log?,
        mail: mail?.map(Arc::new),
        alerts: Arc::new(alerts?),
        limits: limits?,
        browser: Arc::new(browser?),
        sessions: sessions?,
        phones: Arc::new(phones?),
        portals: Arc::new(portals?),
        flows: Arc::new(flows?),
        accounts: Arc::new(accounts?),
        warnings: Arc::default(),
    };
    let deaf = config.alerts.email.is_empty() && config.alerts.telegram.is_none() && config.alerts.webhook.is_none();
    if deaf && !config.portals.is_empty() {
        root.reading().warning(root.place(), "alerts", "no channel is set: nobody is told when a portal stays down");
    }
    Some(config)
}

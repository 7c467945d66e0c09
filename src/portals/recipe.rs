//! Recipes: how to log in at one portal and how to tell that the login still holds, written by an operator in TOML.
//!
//! A recipe is read once and checked completely: what it names exists, every way through its steps makes sense, and
//! every problem is told with file, line and key. Nothing here talks to a portal or a browser.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use url::Url;

use super::code::Rules;
use super::inbox::NotTyped;
use crate::config::{
    self, Field, Problem, Reading, RecipeCheck, Section, boolean, duration, integer, is_loopback, origin, program, text,
};
use crate::secret::{self, Secret};

mod cached;
mod calls;
mod cause;
mod paths;
mod selector;
mod step;
mod steps;
mod template;
#[cfg(test)]
mod tests;

pub use crate::calls::{Answer, Predicate, Rendered, Target};
pub use cached::Cached;
pub use calls::{Check, Refresh, Relay, Request, Via};
pub use cause::{Cause, UnknownCause};
pub use step::{Action, Arm, Step, Then};
pub use template::{MissingValue, Template, Variable};

/// The limits of the waits in a recipe.
const WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(1800);

/// The largest pattern for codes, compiled, in bytes.
const PATTERN_SIZE: usize = 256 * 1024;

/// How to keep a session at one portal.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The portal's origin.
    pub base_url: Url,
    /// What its browser needs.
    pub browser: Browser,
    /// How to log in.
    pub login: Login,
    /// How to find the code in an SMS; there when a step needs one.
    pub code: Option<Code>,
    /// How to tell whether the session lives.
    pub check: Check,
    /// How calls are sent.
    pub relay: Relay,
    /// What the portal may be asked for.
    pub limits: Limits,
    /// SHA-256 of the text, in hex: tells whether a recipe has changed.
    pub fingerprint: String,
    /// What works, but the operator should know.
    pub warnings: Vec<Problem>,
}

/// `[browser]`: what this portal needs from its browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Browser {
    /// Whether the tab stays open after the login, for portals that live in `sessionStorage`.
    pub keep_tab: bool,
    /// Another program than the one of the configuration: its own two processes, shared by the portals that name it.
    pub binary: Option<PathBuf>,
    /// What the browser calls itself.
    pub user_agent: Option<String>,
    /// Other origins that the login may go to.
    pub allowed_origins: Vec<Url>,
}

/// `[login]`: the way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// How long the whole login may take. Default 3 min.
    pub timeout: Duration,
    /// What is done, in order. Never empty.
    pub steps: Vec<Step>,
}

/// `[code]`: how to find the code in an SMS.
#[derive(Clone, Debug)]
pub struct Code {
    /// Its number of digits, 4 to 10. Default 6.
    pub length: u8,
    /// Who may send it; empty means anybody.
    pub senders: Vec<String>,
    /// Words that stand near it.
    pub anchors: Vec<String>,
    /// Finds it in place of length and anchors: the capture group, or the whole match without one.
    pub pattern: Option<Regex>,
    /// How long a login waits for it. Default 2 min.
    pub timeout: Duration,
}

impl Code {
    /// The rules by which a code for the portal at `base_url` is found.
    pub fn rules(&self, base_url: &Url) -> Rules {
        Rules {
            length: usize::from(self.length),
            anchors: self.anchors.clone(),
            pattern: self.pattern.clone(),
            host: base_url.host_str().map(str::to_owned),
        }
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        let pattern = |code: &Self| code.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
        (self.length, &self.senders, &self.anchors, self.timeout, pattern(self))
            == (other.length, &other.senders, &other.anchors, other.timeout, pattern(other))
    }
}

impl Code {
    /// Whether a code that a person types can be one of this portal's. With a pattern of the operator's own only the portal
    /// can tell.
    ///
    /// # Errors
    /// [`NotTyped::Length`].
    pub fn admit(&self, typed: &Secret) -> Result<(), NotTyped> {
        let typed = typed.expose().trim();
        let fits = typed.len() == usize::from(self.length) && typed.bytes().all(|byte| byte.is_ascii_digit());
        if fits || self.pattern.is_some() { Ok(()) } else { Err(NotTyped::Length(self.length)) }
    }
}

/// `[limits]`: what the account may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Logins within an hour, across restarts. Default 5.
    pub logins_per_hour: u32,
    /// Attempts of one recovery. Default 3.
    pub attempts: u32,
    /// The wait before the second attempt, doubled with each. Default 5 s.
    pub backoff: Duration,
}

/// A recipe that cannot be used; its text is one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct RecipeError {
    /// Everything that is wrong, never empty.
    pub problems: Vec<Problem>,
    /// What the operator should know besides.
    pub warnings: Vec<Problem>,
}

/// Looks into the recipe at `path` for [`config::check`].
pub fn inspect(path: &Path) -> RecipeCheck {
    match Recipe::load(path) {
        Ok(recipe) => {
            let (needs_phone, needs_totp) = (recipe.needs_phone(), recipe.needs_totp());
            RecipeCheck { problems: Vec::new(), warnings: recipe.warnings, needs_phone, needs_totp }
        }
        Err(RecipeError { problems, warnings }) => RecipeCheck { problems, warnings, ..RecipeCheck::default() },
    }
}

impl Recipe {
    /// Reads the recipe in a file.
    ///
    /// # Errors
    /// Every problem found, the unreadable file included.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let text =
            config::read_file(path).map_err(|problem| RecipeError { problems: vec![problem], warnings: Vec::new() })?;
        Self::parse(&text, path)
    }

    /// Reads a recipe; `name` is the file that messages name, and relative paths start beside it.
    ///
    /// # Errors
    /// Every problem found.
    pub fn parse(text: &str, name: &Path) -> Result<Self, RecipeError> {
        let tree = config::parse_tree(text, name).map_err(|problems| RecipeError { problems, warnings: Vec::new() })?;
        let reading = Reading::new(name.parent().map(Path::to_owned).unwrap_or_default(), None);
        let recipe = read(&Section::root(&reading, tree), text, name);
        let (problems, warnings, _) = reading.finish();
        match recipe {
            Some(recipe) if problems.is_empty() => Ok(Self { warnings, ..recipe }),
            _ => Err(RecipeError { problems, warnings }),
        }
    }

    /// Whether the login can come to a step that waits for an SMS.
    pub fn needs_phone(&self) -> bool {
        self.login.steps.iter().any(|step| matches!(step.action, Action::Code { .. }))
    }

    /// Whether the login can come to a step that types the code of an authenticator app.
    pub fn needs_totp(&self) -> bool {
        self.login.steps.iter().any(|step| matches!(step.action, Action::Totp { .. }))
    }

    /// The `save` steps of a name, to find its value in a page again.
    pub fn saves<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Step> {
        self.login
            .steps
            .iter()
            .filter(move |step| matches!(&step.action, Action::Save { name: saved, .. } if saved == name))
    }
}

fn read(root: &Section<'_>, text: &str, file: &Path) -> Option<Recipe> {
    let base_url = root.required("base_url", origin);
    if let (Some(url), Some(field)) = (&base_url, root.field("base_url"))
        && url.scheme() == "http"
        && !url.host_str().is_some_and(is_loopback)
    {
        field.warning("http:// sends the password in the clear");
    }
    let browser = browser(root);
    // Without a base URL paths cannot be judged, but everything else can.
    let stand_in = || Url::parse("http://portal.invalid").ok();
    let base = base_url.clone().or_else(stand_in)?;
    let allowed = browser.as_ref().map(|browser| browser.allowed_origins.clone()).unwrap_or_default();
    let site = steps::Site { base: &base, allowed: &allowed };
    let login = login(root, &site);
    let saved = steps::saved(root);
    let check = calls::check(root, &site, &saved);
    let relay = calls::relay(root, &site, &saved);
    let code = code(root);
    let limits = limits(root);
    if let Some(login) = &login {
        paths::check(&login.steps, root.reading(), file);
        code_agrees(root, login, code.as_ref().and_then(Option::as_ref));
    }
    if let (Some(browser), Some(check), Some(relay)) = (&browser, &check, &relay) {
        calls::agree(root, browser, check, relay);
    }
    root.finish();
    Some(Recipe {
        base_url: base_url?,
        browser: browser?,
        code: code?,
        check: check?,
        relay: relay?,
        limits: limits?,
        fingerprint: secret::fingerprint(text.as_bytes()),
        warnings: Vec::new(),
        login: login?,
    })
}

fn browser(root: &Section<'_>) -> Option<Browser> {
    let section = root.section_or_empty("browser")?;
    let keep_tab = section.or("keep_tab", "false", boolean);
    let binary = section.optional("binary", program);
    let user_agent = section.optional("user_agent", |field| {
        let agent = text(field)?;
        if agent.is_ascii() { Ok(agent) } else { Err("a user agent is printable ASCII".to_owned()) }
    });
    let allowed_origins = section.list("allowed_origins", origin);
    section.finish();
    Some(Browser { keep_tab: keep_tab?, binary, user_agent, allowed_origins: allowed_origins? })
}

fn login(root: &Section<'_>, site: &steps::Site<'_>) -> Option<Login> {
    let Some(field) = root.field("login") else {
        root.problem("the section [login] is missing: how to log in");
        return None;
    };
    let section = field.read(Field::section)?;
    let timeout = section.or("timeout", "3m", duration::within(WAIT));
    let steps = steps::read(&section, site);
    section.finish();
    Some(Login { timeout: timeout?, steps: steps? })
}

fn code(root: &Section<'_>) -> Option<Option<Code>> {
    let Some(field) = root.field("code") else { return Some(None) };
    let section = field.read(Field::section)?;
    let length = section.or("length", "6", integer(4..=10));
    let senders = section.list("senders", text);
    let anchors = section.list("anchors", text);
    let pattern = section.optional("pattern", pattern);
    let timeout = section.or("timeout", "2m", duration::within(WAIT));
    section.finish();
    let length = u8::try_from(length?).ok()?;
    Some(Some(Code { length, senders: senders?, anchors: anchors?, pattern, timeout: timeout? }))
}

fn pattern(field: &Field<'_>) -> Result<Regex, String> {
    let text = field.text()?;
    let built = regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
    let regex = built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
        // The library draws the pattern over several lines; its last line says what is wrong.
        other => format!("not a regular expression: {}", other.to_string().lines().last().unwrap_or_default()),
    })?;
    match regex.captures_len() - 1 {
        0 | 1 => Ok(regex),
        groups => Err(format!("at most one group can be the code, got {groups}; write (?:…) for the others")),
    }
}

/// The `[code]` section and the steps that need it must be there together.
fn code_agrees(root: &Section<'_>, login: &Login, code: Option<&Code>) {
    let waits = login.steps.iter().position(|step| matches!(step.action, Action::Code { .. }));
    match (waits, code) {
        (Some(index), None) if !root.has("code") => {
            let place = config::Place::File { file: file_of(root), line: login.steps[index].line };
            let reason = "waits for a code, but there is no [code] section that tells what it looks like";
            root.reading().problem(&place, &format!("login.steps[{index}]"), reason);
        }
        (None, Some(_)) => root.warning("[code] is not used: no step waits for a code"),
        (Some(_), Some(code)) if code.timeout >= login.timeout => {
            root.warning("login.timeout ends before code.timeout: the login gives up before the code is late");
        }
        _ => {}
    }
}

fn file_of(root: &Section<'_>) -> PathBuf {
    if let config::Place::File { file, .. } = root.place() { file.clone() } else { PathBuf::new() }
}

fn limits(root: &Section<'_>) -> Option<Limits> {
    let section = root.section_or_empty("limits")?;
    let logins_per_hour = section.or("logins_per_hour", "5", integer(1..=60));
    let attempts = section.or("attempts", "3", integer(1..=10));
    let backoff = section.or("backoff", "5s", duration::within(Duration::from_millis(100)..=Duration::from_secs(3600)));
    section.finish();
    Some(Limits { logins_per_hour: logins_per_hour?, attempts: attempts?, backoff: backoff? })
}

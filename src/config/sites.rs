//! The sections about portals and the phones that get their codes: `[phones.NAME]` and `[portals.NAME]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::Problem;
use super::read::{Field, Section};
use super::server::existing_file;
use super::words::{self, BAD_NAME};
use super::{duration, secrets, words::is_name};
use crate::clock::{Hours, InvalidHours};
use crate::secret::{self, Secret};

/// `[phones.NAME]`: a phone that forwards its SMS here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone {
    /// The app on it, which decides format and signature.
    pub forwarder: Forwarder,
    /// What it signs with, or carries as a bearer token.
    pub secret: Secret,
    /// After how long without a word it counts as silent. Default [`SilentAfter::Learned`].
    pub silent_after: SilentAfter,
}

/// When a phone that says nothing is missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SilentAfter {
    /// When pings that used to come stay away; a phone that never pinged is not missed.
    #[default]
    Learned,
    /// After this time without a ping or an SMS.
    Time(Duration),
    /// Never.
    Off,
}

/// The apps that can forward SMS here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// capcom6/android-sms-gateway: signed JSON.
    Capcom6,
    /// httpSMS: CloudEvents with a signed token.
    HttpSms,
    /// pppscn/SmsForwarder: a form or JSON with a signed timestamp.
    SmsForwarder,
    /// bogkonstantin's SMS to URL forwarder: JSON with a bearer token.
    Bogkonstantin,
    /// textbee: signed JSON.
    TextBee,
    /// Twilio: a signed form.
    Twilio,
    /// Plain `{"from","text","received_at"}` with a bearer token.
    Json,
}

impl Forwarder {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        FORWARDERS.iter().find(|(_, forwarder)| *forwarder == self).map_or("", |(name, _)| name)
    }

    /// Whether its signature covers the public address that it was told.
    const fn signs_address(self) -> bool {
        matches!(self, Self::HttpSms | Self::Twilio)
    }
}

/// `[portals.NAME]`: an account at somebody else's site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// The recipe that tells how to log in.
    pub recipe: PathBuf,
    /// The phones that its codes may come from, the first one first; none for portals without SMS.
    pub phones: Vec<String>,
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// The key of its authenticator app, in base32; for recipes with a `totp` step.
    pub totp_secret: Option<Secret>,
    /// How many sessions the portal tolerates. Default [`Sessions::Parallel`].
    pub sessions: Sessions,
    /// When logins are made that can wait, in the host's zone. Default `02:00-05:00`.
    pub quiet_hours: Hours,
    /// How often the standby is logged in afresh to know that it works; None: never. Default weekly.
    pub drill: Option<Duration>,
}

/// What a portal tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Two logins at once: an active and a standby.
    Parallel,
    /// A second login ends the first: the standby logs in only when the active is gone, from a place kept ready for it.
    ColdStandby,
    /// One session, no standby.
    Single,
}

impl Sessions {
    /// Its word in the configuration.
    pub fn name(self) -> &'static str {
        SESSIONS.iter().find(|(_, sessions)| *sessions == self).map_or("", |(name, _)| name)
    }
}

const FORWARDERS: &[(&str, Forwarder)] = &[
    ("capcom6", Forwarder::Capcom6),
    ("httpsms", Forwarder::HttpSms),
    ("smsforwarder", Forwarder::SmsForwarder),
    ("bogkonstantin", Forwarder::Bogkonstantin),
    ("textbee", Forwarder::TextBee),
    ("twilio", Forwarder::Twilio),
    ("json", Forwarder::Json),
];

/// A phone that is busy with something else for a moment is not silent.
const SHORTEST_SILENCE: Duration = Duration::from_secs(10 * 60);
/// What is known about a phone is forgotten after 90 days.
const LONGEST_SILENCE: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// A login holds all its phones at once, and each of them serves one login at a time.
const MOST_PHONES: usize = 4;

const SESSIONS: &[(&str, Sessions)] =
    &[("parallel", Sessions::Parallel), ("cold-standby", Sessions::ColdStandby), ("single", Sessions::Single)];

/// Shorter drills would spend SMS for nothing, longer ones find out too late.
const DRILL: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(90 * 86_400);

/// What is known about one recipe file.
#[derive(Clone, Debug, Default)]
pub struct RecipeCheck {
    /// Why it cannot be used.
    pub problems: Vec<Problem>,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// Whether its login waits for an SMS.
    pub needs_phone: bool,
    /// Whether its login types the code of an authenticator app.
    pub needs_totp: bool,
}

pub(super) fn phones(root: &Section<'_>) -> Option<BTreeMap<String, Phone>> {
    let public = root.section_or_empty("server")?.has("public_url");
    named(root, "phones", |section| {
        let forwarder = section.required("forwarder", words::choice(FORWARDERS));
        let secret = secrets::required(section, "secret");
        let silent_after = section.or("silent_after", "learned", silent_after);
        section.finish();
        if let Some(forwarder) = forwarder.filter(|forwarder| forwarder.signs_address() && !public) {
            let name = forwarder.name();
            section.problem(format!("{name} signs the address that it sends to: set server.public_url"));
        }
        Some(Phone { forwarder: forwarder?, secret: secret?, silent_after: silent_after? })
    })
}

fn silent_after(field: &Field<'_>) -> Result<SilentAfter, String> {
    match field.text() {
        Ok("learned") => Ok(SilentAfter::Learned),
        Ok("off") => Ok(SilentAfter::Off),
        _ => duration::within(SHORTEST_SILENCE..=LONGEST_SILENCE)(field)
            .map(SilentAfter::Time)
            .map_err(|reason| format!("{reason}; or \"learned\" or \"off\"")),
    }
}

/// Reads the portals; `inspect` looks into each recipe.
pub(super) fn portals(root: &Section<'_>, inspect: &dyn Fn(&Path) -> RecipeCheck) -> Option<BTreeMap<String, Portal>> {
    let known: Vec<String> = root.section_or_empty("phones")?.entries().into_iter().map(|(name, _)| name).collect();
    named(root, "portals", |section| {
        let recipe = section.required("recipe", existing_file);
        let phones = portal_phones(section, &known);
        let username = section.required("username", words::text);
        let password = secrets::required(section, "password");
        let totp_secret = secrets::optional(section, "totp_secret");
        if totp_secret.as_ref().is_some_and(|key| secret::base32(key.expose()).is_none()) {
            section.problem("totp_secret is no base32 text, as portals show it beside the QR code");
        }
        let sessions = section.or("sessions", "parallel", words::choice(SESSIONS));
        let quiet_hours = section.or("quiet_hours", "02:00-05:00", hours);
        let drill = section.or("drill", "7d", duration::within_or_off(DRILL));
        warn_of_idle_keys(section, sessions, drill.flatten());
        section.finish();
        let recipe = recipe?;
        let checked = inspect(&recipe);
        section.reading().problems(checked.problems);
        section.reading().warnings(checked.warnings);
        if checked.needs_phone && !section.has("phone") && phones.as_ref().is_some_and(Vec::is_empty) {
            section.problem(format!("{} waits for an SMS, but no phone is set", recipe.display()));
        }
        if checked.needs_totp && totp_secret.is_none() {
            section.problem(format!("{} types an authenticator's code, but no totp_secret is set", recipe.display()));
        }
        let (username, password, sessions) = (username?, password?, sessions?);
        let (quiet_hours, drill, phones) = (quiet_hours?, drill?, phones?);
        Some(Portal { recipe, phones, username, password, totp_secret, sessions, quiet_hours, drill })
    })
}

fn hours(field: &Field<'_>) -> Result<Hours, String> {
    let text = field.text()?;
    text.parse().map_err(|error: InvalidHours| format!("{error}, got \"{text}\""))
}

/// Where one session is tolerated, a login that is not needed would end the one that serves: there is no drill and no
/// renewal, whatever is set.
fn warn_of_idle_keys(section: &Section<'_>, sessions: Option<Sessions>, drill: Option<Duration>) {
    let Some(word) = sessions.filter(|sessions| *sessions != Sessions::Parallel).map(Sessions::name) else { return };
    let idle = [("drill", drill.is_some()), ("quiet_hours", true)].into_iter().filter(|(_, set)| *set);
    for field in idle.filter_map(|(key, _)| section.has(key).then(|| section.field(key)).flatten()) {
        field.warning(format!(
            "does nothing with sessions = \"{word}\": a login that is not needed would end the session that serves"
        ));
    }
}

/// The phones of a portal: `phone = "office"`, or `phones = ["office", "backup"]`.
fn portal_phones(section: &Section<'_>, known: &[String]) -> Option<Vec<String>> {
    let phone = |field: &Field<'_>| {
        let name = words::name(field)?;
        if known.contains(&name) {
            return Ok(name);
        }
        Err(super::problem::unknown(&format!("phone \"{name}\""), &name, known))
    };
    let single = section.optional("phone", phone);
    let several = section.list("phones", phone)?;
    if section.has("phone") && section.has("phones") {
        section.problem_of("phones", "phone and phones are both set; keep one");
        return None;
    }
    if several.len() > MOST_PHONES {
        section.problem_of("phones", format!("{} phones, a portal has at most {MOST_PHONES}", several.len()));
        return None;
    }
    if let Some(twice) = several.iter().enumerate().find(|(place, name)| several[..*place].contains(name)) {
        section.problem_of("phones", format!("\"{}\" is there twice", twice.1));
        return None;
    }
    Some(single.into_iter().chain(several).collect())
}

/// Reads a table of named sections.
pub(super) fn named<T>(
    root: &Section<'_>,
    key: &str,
    read: impl Fn(&Section<'_>) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let entries = root.section_or_empty(key)?.entries();
    let count = entries.len();
    let one = |(name, field): (String, Field<'_>)| {
        if !is_name(&name) {
            field.problem(BAD_NAME);
            return None;
        }
        Some((name, read(&field.read(Field::section)?)?))
    };
    let good: BTreeMap<String, T> = entries.into_iter().filter_map(one).collect();
    (good.len() == count).then_some(good)
}

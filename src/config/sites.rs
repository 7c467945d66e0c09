//! The sections about portals and the phones that get their codes: `[phones.NAME]` and `[portals.NAME]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{Problem, list};
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
}

/// The apps that can forward SMS here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// capcom6/android-sms-gateway: signed JSON.
    Capcom6,
    /// Plain `{"from","text","received_at"}` with a bearer token.
    Json,
}

/// `[portals.NAME]`: an account at somebody else's site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// The recipe that tells how to log in.
    pub recipe: PathBuf,
    /// The phone that its codes go to; none for portals without SMS.
    pub phone: Option<String>,
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

/// Every name of the contract, with what it means here; `None` is known but not built yet.
const FORWARDERS: &[(&str, Option<Forwarder>)] = &[
    ("capcom6", Some(Forwarder::Capcom6)),
    ("httpsms", None),
    ("smsforwarder", None),
    ("bogkonstantin", None),
    ("textbee", None),
    ("twilio", None),
    ("json", Some(Forwarder::Json)),
];

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
    named(root, "phones", |section| {
        let forwarder = section.required("forwarder", forwarder);
        let secret = secrets::required(section, "secret");
        section.finish();
        Some(Phone { forwarder: forwarder?, secret: secret? })
    })
}

fn forwarder(field: &Field<'_>) -> Result<Forwarder, String> {
    words::choice(FORWARDERS)(field)?.ok_or_else(|| {
        let quoted = |(name, built): &(&str, Option<Forwarder>)| built.map(|_| format!("\"{name}\""));
        let supported: Vec<String> = FORWARDERS.iter().filter_map(quoted).collect();
        let name = field.text().unwrap_or_default();
        format!("\"{name}\" is not supported yet; supported are {}", list(&supported))
    })
}

/// Reads the portals; `inspect` looks into each recipe.
pub(super) fn portals(root: &Section<'_>, inspect: &dyn Fn(&Path) -> RecipeCheck) -> Option<BTreeMap<String, Portal>> {
    let phones = root.section_or_empty("phones")?;
    named(root, "portals", |section| {
        let recipe = section.required("recipe", existing_file);
        let phone = section.optional("phone", |field| {
            let name = words::name(field)?;
            let known: Vec<String> = phones.entries().into_iter().map(|(name, _)| name).collect();
            if known.contains(&name) {
                return Ok(name);
            }
            Err(super::problem::unknown(&format!("phone \"{name}\""), &name, &known))
        });
        let username = section.required("username", words::text);
        let password = secrets::required(section, "password");
        let totp_secret = secrets::optional(section, "totp_secret");
        if totp_secret.as_ref().is_some_and(|key| secret::base32(key.expose()).is_none()) {
            section.problem("totp_secret is no base32 text, as portals show it beside the QR code");
        }
        let sessions = section.or("sessions", "parallel", words::choice(SESSIONS));
        let quiet_hours = section.or("quiet_hours", "02:00-05:00", hours);
        let drill = section.or("drill", "7d", drill);
        section.finish();
        let recipe = recipe?;
        let checked = inspect(&recipe);
        section.reading().problems(checked.problems);
        section.reading().warnings(checked.warnings);
        if checked.needs_phone && !section.has("phone") {
            section.problem(format!("{} waits for an SMS, but no phone is set", recipe.display()));
        }
        if checked.needs_totp && totp_secret.is_none() {
            section.problem(format!("{} types an authenticator's code, but no totp_secret is set", recipe.display()));
        }
        let (username, password, sessions) = (username?, password?, sessions?);
        let (quiet_hours, drill) = (quiet_hours?, drill?);
        Some(Portal { recipe, phone, username, password, totp_secret, sessions, quiet_hours, drill })
    })
}

fn hours(field: &Field<'_>) -> Result<Hours, String> {
    let text = field.text()?;
    text.parse().map_err(|error: InvalidHours| format!("{error}, got \"{text}\""))
}

fn drill(field: &Field<'_>) -> Result<Option<Duration>, String> {
    if field.text().is_ok_and(|text| text == "off") {
        return Ok(None);
    }
    duration::within(DRILL)(field).map(Some).map_err(|reason| format!("{reason}; \"off\" for none"))
}

/// Reads a table of named sections.
fn named<T>(root: &Section<'_>, key: &str, read: impl Fn(&Section<'_>) -> Option<T>) -> Option<BTreeMap<String, T>> {
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

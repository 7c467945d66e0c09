//! Forwarders: what the apps that forward a phone's SMS send, and how they prove that it was them.
//!
//! One file a format. A forwarder authenticates first and parses afterwards, so that a stranger learns nothing about the
//! format, and says what it read in one word: a message, a sign of life, or something else that is none of our business.
//! Nothing here decides what a message is good for, touches the store, or logs: a text is secret from the first byte on.

mod bogkonstantin;
mod capcom6;
mod form;
mod httpsms;
mod json;
mod smsforwarder;
mod stamp;
#[cfg(test)]
mod tests;
mod textbee;
mod twilio;

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

pub use bogkonstantin::Bogkonstantin;
pub use capcom6::Capcom6;
pub use httpsms::HttpSms;
pub use json::Json;
pub use smsforwarder::SmsForwarder;
pub use textbee::TextBee;
pub use twilio::Twilio;

use crate::clock::Time;
use crate::secret::{Secret, same};

/// How far a signed timestamp may be from our clock, either way: what capcom6 and its like document. Long enough for a
/// phone's clock, short enough that a recorded request is worthless soon.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);

/// The longest kind of an ignored event that is kept for the log, in characters.
const MAX_KIND: usize = 40;

/// A request as it came from a forwarder.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// Looks a header up by its lowercase name; None when it is absent, there twice, or not visible ASCII.
    pub header: &'a (dyn Fn(&str) -> Option<&'a str> + Sync),
    /// Path and query as they were asked for: one of the signatures covers them.
    pub target: &'a str,
    /// The body, byte for byte: signatures cover it.
    pub body: &'a [u8],
    /// When it arrived, on our clock.
    pub now: Time,
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body is an SMS and a header may be the secret.
        f.debug_struct("Incoming").field("bytes", &self.body.len()).field("now", &self.now).finish_non_exhaustive()
    }
}

/// A format that SMS come in.
pub trait Forwarder: fmt::Debug + Send + Sync {
    /// Authenticates and reads one request.
    ///
    /// # Errors
    /// [`Rejected::Signature`] and [`Rejected::Window`] for who is not the phone or not now, always before
    /// [`Rejected::Malformed`].
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected>;
}

/// What an authentic request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The phone received an SMS.
    Sms(Message),
    /// The phone says that it is there.
    Ping,
    /// The forwarder's server says that it has lost the phone.
    Gone,
    /// Anything else, by the forwarder's own name for it; to be acknowledged and ignored. It may come from a server that
    /// stands between, so it proves nothing about the phone.
    Other(String),
}

/// An SMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it: a number or an alphanumeric name, as the phone shows it.
    pub from: String,
    /// What it says.
    pub text: Secret,
    /// When the carrier took it, by the carrier's clock; often in whole seconds. None: the forwarder does not tell.
    pub sent_at: Option<Time>,
    /// The forwarder's id of this delivery, for the log. One SMS may come under several.
    pub event_id: Option<String>,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The signature or token is missing or wrong: 401.
    #[error("the signature or token is missing or wrong")]
    Signature,
    /// The signature is right and its timestamp further than [`WINDOW`] from our clock: 401. A replay, or a wrong clock.
    #[error("the signed timestamp is more than five minutes from the server's clock")]
    Window,
    /// Authentic, but not in the format: 400.
    #[error("{field} is missing or not what the format says")]
    Malformed {
        /// The field by its path, `body` when the whole is not JSON.
        field: String,
    },
}

impl Rejected {
    fn field(name: &str) -> Self {
        Self::Malformed { field: name.to_owned() }
    }
}

/// Whether the request carries `token` as `Authorization: Bearer`.
fn bears(request: &Incoming<'_>, token: &Secret) -> Result<(), Rejected> {
    proven(token, token.expose().as_bytes(), bearer(request)?.as_bytes())
}

/// What the request carries as `Authorization: Bearer`.
fn bearer<'a>(request: &Incoming<'a>) -> Result<&'a str, Rejected> {
    let header = (request.header)("authorization").ok_or(Rejected::Signature)?;
    let (scheme, token) = header.split_once(' ').ok_or(Rejected::Signature)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Rejected::Signature) }
}

/// Whether `given` is the proof that only who has `key` could make, in time that depends on lengths only.
fn proven(key: &Secret, expected: &[u8], given: &[u8]) -> Result<(), Rejected> {
    // Without a key anybody could make it.
    if !key.expose().is_empty() && same(expected, given) { Ok(()) } else { Err(Rejected::Signature) }
}

/// Whether something signed at `signed` counts at `now`.
fn in_window(signed: Time, now: Time) -> Result<(), Rejected> {
    if now.since(signed).max(signed.since(now)) > WINDOW { Err(Rejected::Window) } else { Ok(()) }
}

/// Reads a JSON body; a refusal names the field and never the content.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Rejected> {
    // serde would read a list as a struct as well, field by field.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Rejected::field("body"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        // A doubled field has no path yet when it is noticed; serde names it in its message.
        let message = inner.to_string();
        let doubled = message.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next());
        let field = doubled.or_else(|| (inner.is_data() && path != "." && path != "?").then_some(&path));
        Rejected::Malformed { field: field.map_or_else(|| "body".to_owned(), brief) }
    })?;
    json.end().map_err(|_| Rejected::field("body"))?;
    Ok(read)
}

/// The first characters of a name that a stranger chose, without what could break a log line.
fn brief(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_KIND).collect()
}

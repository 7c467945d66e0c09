//! httpSMS: CloudEvents from its server, with a JSON Web Token of the webhook's signing key.
//!
//! The token says who sends, to which webhook, and until when; it does not cover the body, so TLS has to keep that as it
//! was. It lives ten minutes: within them a recorded request can come again, and the memory of messages makes it count
//! once. Unknown fields are ignored. An end-to-end encrypted message cannot be read here, and the answer says so.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use super::stamp::Stamp;
use super::{Event, Forwarder, Incoming, Message, Rejected, WINDOW, bearer, brief, parse};
use crate::clock::Time;
use crate::secret::Secret;

/// Who makes the tokens.
const ISSUER: &str = "api.httpsms.com";
/// How long a token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(10 * 60);

/// The forwarder; its secret is the webhook's signing key.
#[derive(Clone, Debug)]
pub struct HttpSms {
    key: Secret,
    url: String,
}

#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970.
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
struct CloudEvent {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    contact: Option<String>,
    content: Option<Secret>,
    timestamp: Option<Stamp>,
    encrypted: Option<bool>,
}

impl HttpSms {
    /// A forwarder that signs with `key` for the webhook at `url`, as it was entered there.
    pub const fn new(key: Secret, url: String) -> Self {
        Self { key, url }
    }

    fn authenticate(&self, request: &Incoming<'_>) -> Result<(), Rejected> {
        let token = bearer(request)?;
        if self.key.expose().is_empty() {
            return Err(Rejected::Signature);
        }
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[&self.url]);
        rules.set_required_spec_claims(&["iss", "aud", "exp"]);
        // By our clock, below.
        (rules.validate_exp, rules.validate_nbf) = (false, false);
        let key = DecodingKey::from_secret(self.key.expose().as_bytes());
        let claims = decode::<Claims>(token, &key, &rules).map_err(|_| Rejected::Signature)?.claims;
        let (ends, begins) = (moment(claims.exp), claims.nbf.map(moment));
        let far = ends.since(request.now) > TOKEN_LIFE + WINDOW;
        let early = begins.is_some_and(|begins| begins.since(request.now) > WINDOW);
        if ends <= request.now || far || early { Err(Rejected::Window) } else { Ok(()) }
    }
}

/// A claim's time; what lies before 1970 or beyond all clocks is taken to their ends.
fn moment(seconds: f64) -> Time {
    Time::from_millis((seconds * 1000.0) as u64)
}

impl Forwarder for HttpSms {
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected> {
        self.authenticate(request)?;
        let event: CloudEvent = parse(request.body)?;
        match event.kind.as_deref() {
            Some("message.phone.received") => {}
            Some("phone.heartbeat.online") => return Ok(Event::Ping),
            Some("phone.heartbeat.offline") => return Ok(Event::Gone),
            Some(other) => return Ok(Event::Other(brief(other))),
            None => return Err(Rejected::field("type")),
        }
        let data = event.data.ok_or_else(|| Rejected::field("data"))?;
        if data.encrypted == Some(true) {
            return Err(Rejected::field("data.encrypted"));
        }
        Ok(Event::Sms(Message {
            from: data.contact.ok_or_else(|| Rejected::field("data.contact"))?,
            text: data.content.ok_or_else(|| Rejected::field("data.content"))?,
            sent_at: data.timestamp.and_then(|stamp| stamp.0),
            event_id: event.id.as_deref().map(brief),
        }))
    }
}

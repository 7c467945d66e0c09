//! Phones: which forwarder speaks for each, and what becomes of what it brings.

pub(super) mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use url::Url;

use super::forwarders::{
    Bogkonstantin, Capcom6, Event, Forwarder, HttpSms, Incoming, Json, Rejected, SmsForwarder, TextBee, Twilio,
};
use super::inbox::{Inbox, InboxError, PhoneState, Reason, Receipt};
use crate::clock::Time;
use crate::config::{self, Config};

/// The configured phones.
#[derive(Clone, Debug, Default)]
pub struct Phones(BTreeMap<String, Phone>);

#[derive(Clone, Debug)]
struct Phone {
    app: config::Forwarder,
    forwarder: Arc<dyn Forwarder>,
    /// The portals whose codes it gets.
    portals: Vec<String>,
}

/// The answer to an authentic request, always with status 200 so that the forwarder does not send it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = SmsReceipt)]
pub struct Answer {
    /// Whether a login has, or will get, the code.
    pub success: bool,
    /// True: the code is kept for a login that does not wait for it yet. Absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffered: Option<bool>,
    /// Why the message was of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
}

/// A phone for clients.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PhoneReport)]
pub struct Report {
    /// Its name in the configuration.
    pub name: String,
    /// The app on it: `capcom6`, `httpsms`, `smsforwarder`, `bogkonstantin`, `textbee`, `twilio` or `json`.
    pub forwarder: &'static str,
    /// `proven`: a login accepted a code from it within 30 days. `silent`: a login waited for it in vain, or it should
    /// have been heard of by now. Else `unproven`.
    #[schema(value_type = String)]
    pub state: PhoneState,
    /// When anything authentic last came from it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Time>,
    /// When it last forwarded an SMS, of use or not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_sms_at: Option<Time>,
    /// When a login last accepted a code from it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub proven_at: Option<Time>,
    /// The portals whose codes it gets.
    pub portals: Vec<String>,
}

/// Why a request from a phone is refused.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// No phone has that name.
    #[error("no phone is called {0}")]
    Unknown(String),
    /// It is not from the phone, or not readable.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It could not be kept, so that the forwarder shall send it again, or not be looked up.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}

impl Phones {
    /// The phones of a configuration.
    pub fn new(config: &Config) -> Self {
        let public_url = config.server.public_url.as_ref();
        let phone = |(name, phone): (&String, &config::Phone)| {
            let users = config.portals.iter().filter(|(_, portal)| portal.phones.contains(name));
            let portals = users.map(|(portal, _)| portal.clone()).collect();
            let forwarder = forwarder(name, phone, public_url)?;
            Some((name.clone(), Phone { app: phone.forwarder, forwarder, portals }))
        };
        Self(config.phones.iter().filter_map(phone).collect())
    }

    /// Takes in a request that claims to come from the phone `name`.
    ///
    /// # Errors
    /// [`PhoneError`]; nothing of the request is kept then.
    pub async fn receive(&self, name: &str, request: &Incoming<'_>, inbox: &Inbox) -> Result<Answer, PhoneError> {
        let event = self.phone(name)?.forwarder.read(request)?;
        let answer = |success, buffered, reason| Ok(Answer { success, buffered, reason });
        let message = match event {
            Event::Sms(message) => message,
            Event::Ping => {
                inbox.ping(name).await?;
                return answer(true, None, None);
            }
            Event::Gone => {
                inbox.gone(name).await?;
                return answer(true, None, None);
            }
            Event::Other(kind) => {
                tracing::debug!(phone = name, kind, "phone {name} told of {kind}, which is none of our business");
                return answer(true, None, None);
            }
        };
        let receipt = inbox.receive(name, &message).await?;
        count(name, &receipt);
        match receipt {
            Receipt::Handed { .. } => answer(true, Some(false), None),
            Receipt::Buffered { .. } => answer(true, Some(true), None),
            Receipt::Refused(reason) => answer(false, None, Some(reason)),
        }
    }

    /// All phones in the order of their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The portals whose codes the phone gets; none for one that is not configured.
    pub(super) fn portals_of(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], |phone| &phone.portals)
    }

    /// What is known about the phone `name`.
    ///
    /// # Errors
    /// [`PhoneError::Unknown`], or when its record cannot be read.
    pub fn report(&self, name: &str, inbox: &Inbox) -> Result<Report, PhoneError> {
        let phone = self.phone(name)?;
        let status = inbox.phone(name)?;
        Ok(Report {
            name: name.to_owned(),
            forwarder: phone.app.name(),
            state: status.state,
            last_seen_at: status.last_seen_at,
            last_sms_at: status.last_sms_at,
            proven_at: status.proven_at,
            portals: phone.portals.clone(),
        })
    }

    fn phone(&self, name: &str) -> Result<&Phone, PhoneError> {
        self.0.get(name).ok_or_else(|| PhoneError::Unknown(name.to_owned()))
    }
}

/// The address of the phone `name`, as its app was told it.
fn address(public_url: &Url, name: &str) -> String {
    format!("{}/api/phones/{name}/sms", public_url.origin().ascii_serialization())
}

/// None when the address is missing that the format signs; a checked configuration has it.
fn forwarder(name: &str, phone: &config::Phone, public_url: Option<&Url>) -> Option<Arc<dyn Forwarder>> {
    let secret = phone.secret.clone();
    Some(match phone.forwarder {
        config::Forwarder::Capcom6 => Arc::new(Capcom6::new(secret)),
        config::Forwarder::HttpSms => Arc::new(HttpSms::new(secret, address(public_url?, name))),
        config::Forwarder::SmsForwarder => Arc::new(SmsForwarder::new(secret)),
        config::Forwarder::Bogkonstantin => Arc::new(Bogkonstantin::new(secret)),
        config::Forwarder::TextBee => Arc::new(TextBee::new(secret)),
        config::Forwarder::Twilio => Arc::new(Twilio::new(secret, public_url?)),
        config::Forwarder::Json => Arc::new(Json::new(secret)),
    })
}

/// Counts a message by what became of it. The phone is one of the configuration, so the series are bounded.
fn count(phone: &str, receipt: &Receipt) {
    let outcome = match receipt {
        Receipt::Handed { .. } => "handed".to_owned(),
        Receipt::Buffered { .. } => "buffered".to_owned(),
        Receipt::Refused(reason) => reason.to_string(),
    };
    ::metrics::counter!("nightporter_sms_total", "phone" => phone.to_owned(), "outcome" => outcome).increment(1);
}

//! Phones: which forwarder speaks for each, and what becomes of what it brings.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::forwarders::{Capcom6, Event, Forwarder, Incoming, Json, Rejected};
use super::inbox::{Inbox, InboxError, Reason, Receipt};
use crate::config;

/// The configured phones.
#[derive(Clone, Debug, Default)]
pub struct Phones(BTreeMap<String, Arc<dyn Forwarder>>);

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

/// Why a request from a phone is refused.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// No phone has that name.
    #[error("no phone is called {0}")]
    Unknown(String),
    /// It is not from the phone, or not readable.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It could not be kept; the forwarder shall send it again.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}

impl Phones {
    /// The phones of a configuration.
    pub fn new(phones: &BTreeMap<String, config::Phone>) -> Self {
        let forwarder = |phone: &config::Phone| -> Arc<dyn Forwarder> {
            match phone.forwarder {
                config::Forwarder::Capcom6 => Arc::new(Capcom6::new(phone.secret.clone())),
                config::Forwarder::Json => Arc::new(Json::new(phone.secret.clone())),
            }
        };
        Self(phones.iter().map(|(name, phone)| (name.clone(), forwarder(phone))).collect())
    }

    /// Takes in a request that claims to come from the phone `name`.
    ///
    /// # Errors
    /// [`PhoneError`]; nothing of the request is kept then.
    pub async fn receive(&self, name: &str, request: &Incoming<'_>, inbox: &Inbox) -> Result<Answer, PhoneError> {
        let forwarder = self.0.get(name).ok_or_else(|| PhoneError::Unknown(name.to_owned()))?;
        let event = forwarder.read(request)?;
        let answer = |success, buffered, reason| Answer { success, buffered, reason };
        let Event::Sms(message) = event else {
            inbox.seen(name).await?;
            return Ok(answer(true, None, None));
        };
        let receipt = inbox.receive(name, &message).await?;
        count(name, &receipt);
        Ok(match receipt {
            Receipt::Handed { .. } => answer(true, Some(false), None),
            Receipt::Buffered { .. } => answer(true, Some(true), None),
            Receipt::Refused(reason) => answer(false, None, Some(reason)),
        })
    }
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

//! textbee: signed JSON webhooks from its server.
//!
//! `X-Signature` is the lowercase hex HMAC-SHA256 of the raw body. There is no timestamp in it, so a recorded request
//! stays valid; that it counts once is the business of the memory of messages. Unknown fields are ignored.

use serde::Deserialize;

use super::stamp::Stamp;
use super::{Event, Forwarder, Incoming, Message, Rejected, brief, parse, proven};
use crate::secret::{Secret, hmac_sha256};

/// The forwarder; its secret is the webhook's signing secret.
#[derive(Clone, Debug)]
pub struct TextBee {
    key: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    webhook_event: Option<String>,
    sms_id: Option<String>,
    sender: Option<String>,
    message: Option<Secret>,
    received_at: Option<Stamp>,
}

impl TextBee {
    /// A forwarder that signs with `key`.
    pub const fn new(key: Secret) -> Self {
        Self { key }
    }
}

impl Forwarder for TextBee {
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected> {
        let given = (request.header)("x-signature").ok_or(Rejected::Signature)?;
        let tag = hmac_sha256(self.key.expose().as_bytes(), &[request.body]);
        proven(&self.key, data_encoding::HEXLOWER.encode(&tag).as_bytes(), given.as_bytes())?;
        let webhook: Webhook = parse(request.body)?;
        match webhook.webhook_event.as_deref() {
            Some("MESSAGE_RECEIVED") => {}
            Some(other) => return Ok(Event::Other(brief(other))),
            None => return Err(Rejected::field("webhookEvent")),
        }
        Ok(Event::Sms(Message {
            from: webhook.sender.ok_or_else(|| Rejected::field("sender"))?,
            text: webhook.message.ok_or_else(|| Rejected::field("message"))?,
            sent_at: webhook.received_at.and_then(|stamp| stamp.0),
            event_id: webhook.sms_id.as_deref().map(brief),
        }))
    }
}

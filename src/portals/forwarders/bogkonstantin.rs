//! bogkonstantin/android_income_sms_gateway_webhook ("Incoming SMS to URL forwarder"): plain JSON from a template.
//!
//! The app signs nothing. The operator adds the header `Authorization: Bearer SECRET` in the app; what is recorded on its
//! way can be sent again, so only TLS and the memory of messages keep a replay out. Fields beyond the template are ignored.

use serde::Deserialize;

use super::stamp::Stamp;
use super::{Event, Forwarder, Incoming, Message, Rejected, bears, parse};
use crate::secret::Secret;

/// The forwarder; its secret is the bearer token.
#[derive(Clone, Debug)]
pub struct Bogkonstantin {
    token: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    from: Option<String>,
    text: Option<Secret>,
    /// By the carrier's clock.
    sent_stamp: Option<Stamp>,
    /// By the phone's.
    received_stamp: Option<Stamp>,
}

impl Bogkonstantin {
    /// A forwarder that carries `token`.
    pub const fn new(token: Secret) -> Self {
        Self { token }
    }
}

impl Forwarder for Bogkonstantin {
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected> {
        bears(request, &self.token)?;
        let body: Body = parse(request.body)?;
        // Some phones write 0 for a carrier's time that they were not told.
        let stamps = [body.sent_stamp, body.received_stamp];
        Ok(Event::Sms(Message {
            from: body.from.ok_or_else(|| Rejected::field("from"))?,
            text: body.text.ok_or_else(|| Rejected::field("text"))?,
            sent_at: stamps.into_iter().flatten().find_map(|stamp| stamp.0),
            event_id: None,
        }))
    }
}

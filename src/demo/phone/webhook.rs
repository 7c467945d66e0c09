//! What happens on the phone, and the POST that tells of it. Decides nothing about when or how often.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::format::{Sender, Webhook};
use super::{Settings, Sms};
use crate::clock::{self, Time};
use crate::ids::Random;

/// How long one POST may take, as in the app.
const POST_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER: usize = 64 << 10;

/// What happened on the phone.
pub(super) enum Event {
    Sms { id: String, message_id: String, sms: Sms, received_at: Time },
    Ping { id: String, at: Time },
}

impl Event {
    pub(super) fn sms(id: String, sms: &Sms, received_at: Time) -> Self {
        let message_id = message_id(sms);
        Self::Sms { id, message_id, sms: sms.clone(), received_at }
    }

    pub(super) fn ping(id: String, at: Time) -> Self {
        Self::Ping { id, at }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sms { .. } => "sms:received",
            Self::Ping { .. } => "system:ping",
        }
    }

    pub(super) fn id(&self) -> &str {
        match self {
            Self::Sms { id, .. } | Self::Ping { id, .. } => id,
        }
    }

    pub(super) fn message_id(&self) -> &str {
        match self {
            Self::Sms { message_id, .. } => message_id,
            Self::Ping { .. } => "",
        }
    }

    pub(super) fn sms_of(&self) -> Option<&Sms> {
        match self {
            Self::Sms { sms, .. } => Some(sms),
            Self::Ping { .. } => None,
        }
    }
}

/// A 32-bit hash in hex, as the app makes it from the message's fields: equal for equal SMS, and sometimes for others.
fn message_id(sms: &Sms) -> String {
    let time = sms.sent_at.as_millis().to_le_bytes();
    let bytes = sms.from.bytes().chain(sms.text.bytes()).chain(time);
    let hash = bytes.fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{hash:x}")
}

/// What the appliance said.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) json: Value,
}

/// The app's HTTP client with the ids that it was installed with.
pub(super) struct Courier {
    client: Client<HttpConnector, Full<Bytes>>,
    device: String,
    webhook: String,
}

impl Courier {
    pub(super) fn new(random: &Random) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            device: random.session_id(),
            webhook: random.session_id(),
        }
    }

    /// What the app posts for `event` as of `now`, told that it reaches the appliance at `address`. None for a ping that it
    /// does not know.
    pub(super) fn webhook(&self, address: &str, settings: &Settings, event: &Event, now: Time) -> Option<Webhook> {
        let address = settings.public_url.as_deref().unwrap_or(address).trim_end_matches('/');
        Sender { settings, device: &self.device, webhook: &self.webhook, address }.webhook(event, now)
    }

    /// Posts one webhook to the appliance at `base`.
    pub(super) async fn post(&self, base: &str, webhook: Webhook) -> Result<Answer, String> {
        let request = Request::builder().method(Method::POST).uri(format!("{base}{}", webhook.path));
        let request = webhook.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = request.body(Full::from(webhook.body)).map_err(|error| error.to_string())?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { status, json: serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null) })
        };
        clock::within(POST_LIMIT, exchange).await.unwrap_or_else(|deadline| Err(deadline.to_string()))
    }
}

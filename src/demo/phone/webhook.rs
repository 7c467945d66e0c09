//! The bytes of a forwarder's webhook: the JSON, the signature, the POST. Decides nothing about when or how often.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::{Format, Settings, Sms};
use crate::clock::{self, Time};
use crate::ids::Random;
use crate::secret;

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

    fn capcom6(&self, device: &str, webhook: &str, number: &str) -> Value {
        let payload = match self {
            // The app's "receivedAt" is the carrier's stamp, however late the phone got or forwarded the message.
            Self::Sms { message_id, sms, .. } => json!({
                "messageId": message_id,
                "message": sms.text,
                "sender": sms.from,
                "recipient": number,
                "simNumber": 1,
                "phoneNumber": sms.from,
                "receivedAt": korean(sms.sent_at),
            }),
            Self::Ping { at, .. } => json!({"health": {"status": "pass", "timestamp": korean(*at)}}),
        };
        json!({
            "deviceId": device,
            "event": self.name(),
            "id": self.id(),
            "webhookId": webhook,
            "payload": payload,
        })
    }

    /// The `json` format; a ping has none.
    fn plain(&self) -> Value {
        match self {
            Self::Sms { sms, received_at, .. } => {
                json!({"from": sms.from, "text": sms.text, "received_at": received_at})
            }
            Self::Ping { .. } => Value::Null,
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

/// A time as a phone in Korea writes it: `2026-11-20T17:31:28.000+09:00`.
fn korean(time: Time) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let seoul = jiff::tz::TimeZone::fixed(jiff::tz::offset(9));
    let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    moment.to_zoned(seoul).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// `X-Signature` of android-sms-gateway: lowercase hex of HMAC-SHA256 over the raw body and the timestamp.
pub(super) fn signature(key: &[u8], body: &[u8], timestamp: &str) -> String {
    data_encoding::HEXLOWER.encode(&secret::hmac_sha256(key, &[body, timestamp.as_bytes()]))
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

    /// Posts one event, as of `now`: the timestamp of a retry is its own.
    pub(super) async fn post(
        &self,
        base: &str,
        settings: &Settings,
        event: &Event,
        now: Time,
    ) -> Result<Answer, String> {
        let request = self.request(base, settings, event, now).map_err(|error| error.to_string())?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { status, json: serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null) })
        };
        clock::within(POST_LIMIT, exchange).await.unwrap_or_else(|deadline| Err(deadline.to_string()))
    }

    fn request(
        &self,
        base: &str,
        settings: &Settings,
        event: &Event,
        now: Time,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let key = settings.secret.expose();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{base}/api/phones/{}/sms", settings.name))
            .header(CONTENT_TYPE, "application/json");
        match settings.format {
            Format::Capcom6 => {
                let body = event.capcom6(&self.device, &self.webhook, &settings.number).to_string();
                let timestamp = (now.as_millis() / 1000).to_string();
                request
                    .header(USER_AGENT, "me.capcom.smsgateway/1.50.0")
                    .header("X-Signature", signature(key.as_bytes(), body.as_bytes(), &timestamp))
                    .header("X-Timestamp", timestamp)
                    .body(Full::from(body))
            }
            Format::Json => {
                let body = event.plain().to_string();
                request.header(AUTHORIZATION, format!("Bearer {key}")).body(Full::from(body))
            }
        }
    }
}

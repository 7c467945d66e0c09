//! What each app posts: its body, its signature, its headers. Written from the apps' side, so that nothing the appliance
//! reads by is used here but the hash functions. Decides nothing about when or how often.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::webhook::Event;
use super::{Format, Settings, Sms};
use crate::clock::Time;
use crate::secret::{hmac_sha1, hmac_sha256};

/// How long a token of httpSMS lives, in seconds.
const TOKEN_LIFE: u64 = 600;

/// A request as an app makes it, to be sent or to be tampered with.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The path that it goes to.
    pub path: String,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("path", &self.path).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Who posts: the ids that the app was installed with, and the address that it was told.
pub(super) struct Sender<'a> {
    pub(super) settings: &'a Settings,
    pub(super) device: &'a str,
    pub(super) webhook: &'a str,
    /// Scheme and host, as the operator entered them in the app.
    pub(super) address: &'a str,
}

impl Sender<'_> {
    /// What the app posts for `event` as of `now`; None for a ping that it does not know.
    pub(super) fn webhook(&self, event: &Event, now: Time) -> Option<Webhook> {
        let key = self.settings.secret.expose();
        let (headers, body) = match self.settings.format {
            Format::Capcom6 => {
                let body = self.capcom6(event).to_string();
                let timestamp = (now.as_millis() / 1000).to_string();
                let signature = signature(key.as_bytes(), body.as_bytes(), &timestamp);
                let agent = ("user-agent", "me.capcom.smsgateway/1.50.0".to_owned());
                (vec![agent, ("x-signature", signature), ("x-timestamp", timestamp)], body)
            }
            Format::HttpSms => (vec![bearer(&self.token(now))], self.cloud_event(event).to_string()),
            Format::SmsForwarder => (Vec::new(), self.signed_form(event.sms_of()?, now)),
            Format::Bogkonstantin => {
                let Event::Sms { sms, received_at, .. } = event else { return None };
                let (sent, received) = (sms.sent_at.as_millis(), received_at.as_millis().to_string());
                let body = json!({"from": sms.from, "text": sms.text, "sentStamp": sent, "receivedStamp": received, "sim": "sim1"});
                (vec![bearer(key)], body.to_string())
            }
            Format::TextBee => {
                let body = self.textbee(event)?.to_string();
                let tag = hmac_sha256(key.as_bytes(), &[body.as_bytes()]);
                (vec![("x-signature", data_encoding::HEXLOWER.encode(&tag))], body)
            }
            Format::Twilio => {
                let (signature, body) = self.twilio(event)?;
                (vec![("x-twilio-signature", signature)], body)
            }
            Format::Json => {
                let Event::Sms { sms, received_at, .. } = event else { return None };
                let body = json!({"from": sms.from, "text": sms.text, "received_at": received_at});
                (vec![bearer(key)], body.to_string())
            }
        };
        let form = matches!(self.settings.format, Format::SmsForwarder | Format::Twilio);
        let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        let headers = headers.into_iter().chain([("content-type", kind.to_owned())]).collect();
        Some(Webhook { path: self.path(), headers, body: body.into_bytes() })
    }

    fn path(&self) -> String {
        format!("/api/phones/{}/sms", self.settings.name)
    }

    fn capcom6(&self, event: &Event) -> Value {
        let payload = match event {
            // The app's "receivedAt" is the carrier's stamp, however late the phone got or forwarded the message.
            Event::Sms { message_id, sms, .. } => json!({
                "messageId": message_id,
                "message": sms.text,
                "sender": sms.from,
                "recipient": self.settings.number,
                "simNumber": 1,
                "phoneNumber": sms.from,
                "receivedAt": korean(sms.sent_at),
            }),
            Event::Ping { at, .. } => json!({"health": {"status": "pass", "timestamp": korean(*at)}}),
        };
        json!({
            "deviceId": self.device,
            "event": event.name(),
            "id": event.id(),
            "webhookId": self.webhook,
            "payload": payload,
        })
    }

    fn cloud_event(&self, event: &Event) -> Value {
        let (kind, at, data) = match event {
            Event::Sms { message_id, sms, received_at, .. } => {
                let data = json!({"message_id": message_id, "user_id": self.device, "owner": self.settings.number,
                    "encrypted": false, "contact": sms.from, "timestamp": sms.sent_at, "content": sms.text, "sim": "SIM1"});
                ("message.phone.received", received_at, data)
            }
            Event::Ping { at, .. } => ("phone.heartbeat.online", at, json!({"owner": self.settings.number})),
        };
        json!({"specversion": "1.0", "id": event.id(), "source": "/v1/messages/receive", "type": kind, "time": at,
            "datacontenttype": "application/json", "data": data})
    }

    /// The JSON Web Token that httpSMS makes for each event.
    fn token(&self, now: Time) -> String {
        let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let seconds = now.as_millis() / 1000;
        let claims = json!({"iss": "api.httpsms.com", "aud": [format!("{}{}", self.address, self.path())],
            "exp": seconds + TOKEN_LIFE, "iat": seconds, "nbf": seconds.saturating_sub(TOKEN_LIFE), "sub": self.device});
        let head = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(&claims));
        let tag = hmac_sha256(self.settings.secret.expose().as_bytes(), &[head.as_bytes()]);
        format!("{head}.{}", data_encoding::BASE64URL_NOPAD.encode(&tag))
    }

    fn signed_form(&self, sms: &Sms, now: Time) -> String {
        let (key, timestamp) = (self.settings.secret.expose().as_bytes(), now.as_millis().to_string());
        let tag = hmac_sha256(key, &[timestamp.as_bytes(), b"\n", key]);
        // Encoded by the signing function already, and by the form once more.
        let sign = encoded(&data_encoding::BASE64.encode(&tag));
        form(&[("from", &sms.from), ("content", &sms.text), ("timestamp", &timestamp), ("sign", &sign)])
    }

    fn textbee(&self, event: &Event) -> Option<Value> {
        let sms = event.sms_of()?;
        Some(json!({"smsId": event.id(), "sender": sms.from, "message": sms.text, "receivedAt": sms.sent_at,
            "deviceId": self.device, "webhookSubscriptionId": self.webhook, "webhookEvent": "MESSAGE_RECEIVED"}))
    }

    /// The signature over address and fields, and the form.
    fn twilio(&self, event: &Event) -> Option<(String, String)> {
        let sms = event.sms_of()?;
        let id = format!("SM{:0>32}", event.message_id());
        // In the order of their names.
        let fields = [
            ("AccountSid", self.device),
            ("Body", &sms.text),
            ("From", &sms.from),
            ("MessageSid", &id),
            ("NumMedia", "0"),
            ("To", &self.settings.number),
        ];
        let signed: String = fields.iter().flat_map(|(name, value)| [*name, *value]).collect();
        let message = format!("{}{}{signed}", self.address, self.path());
        let tag = hmac_sha1(self.settings.secret.expose().as_bytes(), message.as_bytes());
        Some((data_encoding::BASE64.encode(&tag), form(&fields)))
    }
}

/// `X-Signature` of android-sms-gateway: lowercase hex of HMAC-SHA256 over the raw body and the timestamp.
pub(super) fn signature(key: &[u8], body: &[u8], timestamp: &str) -> String {
    data_encoding::HEXLOWER.encode(&hmac_sha256(key, &[body, timestamp.as_bytes()]))
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

/// A time as a phone in Korea writes it: `2026-11-20T17:31:28.000+09:00`.
fn korean(time: Time) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let seoul = jiff::tz::TimeZone::fixed(jiff::tz::offset(9));
    let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    moment.to_zoned(seoul).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

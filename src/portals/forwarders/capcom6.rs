//! capcom6/android-sms-gateway ("SMS Gateway for Android"): signed JSON webhooks.
//!
//! `X-Signature` is the lowercase hex HMAC-SHA256 of the raw body followed by `X-Timestamp` (Unix seconds). Fields that
//! are not named here are ignored: the app adds new ones with its versions, and a request that is refused comes again
//! fifteen times.

use serde::Deserialize;

use super::stamp::Stamp;
use super::{Event, Forwarder, Incoming, Message, Rejected, brief, in_window, parse, proven};
use crate::clock::Time;
use crate::secret::{Secret, hmac_sha256};

/// The forwarder; its secret is the webhook signing key of the app.
#[derive(Clone, Debug)]
pub struct Capcom6 {
    key: Secret,
}

#[derive(Deserialize)]
struct Webhook {
    event: Option<String>,
    id: Option<String>,
    payload: Option<Payload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    message: Option<Secret>,
    sender: Option<String>,
    /// What `sender` was called before the app could tell the recipient too.
    phone_number: Option<String>,
    received_at: Option<Stamp>,
}

impl Capcom6 {
    /// A forwarder that signs with `key`.
    pub const fn new(key: Secret) -> Self {
        Self { key }
    }

    fn authenticate(&self, request: &Incoming<'_>) -> Result<(), Rejected> {
        let header = |name| (request.header)(name).ok_or(Rejected::Signature);
        let (timestamp, signature) = (header("x-timestamp")?, header("x-signature")?);
        let tag = hmac_sha256(self.key.expose().as_bytes(), &[request.body, timestamp.as_bytes()]);
        proven(&self.key, data_encoding::HEXLOWER.encode(&tag).as_bytes(), signature.as_bytes())?;
        let seconds: u64 = timestamp.parse().map_err(|_| Rejected::Window)?;
        in_window(Time::from_millis(seconds.saturating_mul(1000)), request.now)
    }
}

impl Forwarder for Capcom6 {
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected> {
        self.authenticate(request)?;
        let webhook: Webhook = parse(request.body)?;
        let event = webhook.event.ok_or_else(|| Rejected::field("event"))?;
        match event.as_str() {
            "sms:received" => {
                let payload = webhook.payload.ok_or_else(|| Rejected::field("payload"))?;
                payload.message(webhook.id.as_deref()).map(Event::Sms)
            }
            "system:ping" => Ok(Event::Ping),
            other => Ok(Event::Other(brief(other))),
        }
    }
}

impl Payload {
    fn message(self, event_id: Option<&str>) -> Result<Message, Rejected> {
        Ok(Message {
            from: self.sender.or(self.phone_number).ok_or_else(|| Rejected::field("payload.sender"))?,
            text: self.message.ok_or_else(|| Rejected::field("payload.message"))?,
            sent_at: self.received_at.and_then(|stamp| stamp.0),
            event_id: event_id.map(brief),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_763_627_488_000;

    fn sign(key: &str, body: &str, timestamp: &str) -> String {
        data_encoding::HEXLOWER.encode(&hmac_sha256(key.as_bytes(), &[body.as_bytes(), timestamp.as_bytes()]))
    }

    fn read(body: &str, timestamp: &str, signature: Option<&str>, now: u64) -> Result<Event, Rejected> {
        let header = |name: &str| match name {
            "x-timestamp" => Some(timestamp),
            "x-signature" => signature,
            _ => None,
        };
        let request = Incoming { header: &header, target: "", body: body.as_bytes(), now: Time::from_millis(now) };
        Capcom6::new(Secret::new("testkey1")).read(&request)
    }

    fn signed(body: &str) -> Result<Event, Rejected> {
        let timestamp = (NOW / 1000).to_string();
        read(body, &timestamp, Some(&sign("testkey1", body, &timestamp)), NOW)
    }

    const RECEIVED: &str = r#"{"deviceId":"d","event":"sms:received","id":"Ey6ECgOkVVFjz3CL48B8C","webhookId":"w","payload":{
        "messageId":"abc","message":"[Web발신] 인증번호 [572913] 를 입력해 주세요.\n","sender":"15881234","recipient":"+8210",
        "simNumber":1,"receivedAt":"2025-11-20T17:31:28.000+09:00"}}"#;

    #[test]
    fn the_published_check_passes_the_signature() {
        let body = r#"{"event":"sms:received"}"#;
        let published = "5b28e05f025d90ee09f676000cc2a76de9fc7eed8c2c46dec37bffbe22233854";
        let answer = read(body, "1700000000", Some(published), 1_700_000_000_000);
        // Signed rightly, and without a payload nothing to read.
        assert_eq!(answer, Err(Rejected::field("payload")));
    }

    #[test]
    fn a_received_sms_is_read_with_the_carriers_time() {
        let expected = Message {
            from: "15881234".to_owned(),
            text: Secret::new("[Web발신] 인증번호 [572913] 를 입력해 주세요.\n"),
            sent_at: Some(Time::from_millis(NOW)),
            event_id: Some("Ey6ECgOkVVFjz3CL48B8C".to_owned()),
        };
        assert_eq!(signed(RECEIVED), Ok(Event::Sms(expected.clone())));
        let older = RECEIVED.replace("\"sender\"", "\"phoneNumber\"");
        assert_eq!(signed(&older), Ok(Event::Sms(expected)));
    }

    #[test]
    fn pings_and_other_events_are_told_apart() {
        assert_eq!(
            signed(r#"{"event":"system:ping","id":"x","payload":{"health":{"status":"pass"}}}"#),
            Ok(Event::Ping)
        );
        let sent = signed(r#"{"event":"sms:sent","payload":{"phoneNumber":"010"}}"#);
        assert_eq!(sent, Ok(Event::Other("sms:sent".to_owned())));
    }

    #[test]
    fn a_wrong_missing_or_foreign_signature_is_refused_before_parsing() {
        let timestamp = (NOW / 1000).to_string();
        let good = sign("testkey1", RECEIVED, &timestamp);
        for signature in
            [None, Some(""), Some(&good.to_uppercase()), Some(&good[1..]), Some(&sign("other", RECEIVED, &timestamp))]
        {
            let signature = signature.map(|text: &str| text);
            assert_eq!(read(RECEIVED, &timestamp, signature, NOW), Err(Rejected::Signature), "{signature:?}");
        }
        let later = (NOW / 1000 + 1).to_string();
        assert_eq!(read(RECEIVED, &later, Some(&good), NOW), Err(Rejected::Signature));
        assert_eq!(read("not JSON", &timestamp, Some(&good), NOW), Err(Rejected::Signature));
    }

    #[test]
    fn a_signature_counts_for_five_minutes_either_way() {
        let timestamp = (NOW / 1000).to_string();
        let signature = sign("testkey1", RECEIVED, &timestamp);
        let at = |now| read(RECEIVED, &timestamp, Some(&signature), now);
        assert!(at(NOW + 300_000).is_ok() && at(NOW - 300_000).is_ok());
        assert_eq!(at(NOW + 300_001), Err(Rejected::Window));
        assert_eq!(at(NOW - 300_001), Err(Rejected::Window));
        let endless = "9".repeat(40);
        assert_eq!(read("{}", &endless, Some(&sign("testkey1", "{}", &endless)), NOW), Err(Rejected::Window));
    }

    #[test]
    fn what_is_malformed_is_named_and_not_quoted() {
        let field = |body: &str| match signed(body) {
            Err(Rejected::Malformed { field }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field("not JSON"), "body");
        assert_eq!(field("{}"), "event");
        assert_eq!(field(&RECEIVED.replace("\"message\":\"", "\"was\":\"")), "payload.message");
        assert_eq!(field(&RECEIVED.replace("\"15881234\"", "15881234")), "payload.sender");
        assert_eq!(field(&RECEIVED.replace("\"sender\"", "\"from\"")), "payload.sender");
        assert_eq!(field(&RECEIVED.replace("2025-11-20T", "yesterday ")), "payload.receivedAt");
        assert_eq!(field(&format!("{RECEIVED} trailing")), "body");
    }
}

//! `json`: the plain format for scripts and for apps whose template the operator writes.
//!
//! `{"from","text","received_at"}`, the secret as `Authorization: Bearer`. It is our own format, so it is read strictly:
//! a field that is not in it is an error. `received_at` may be absent; then the moment of arrival has to do.

use serde::Deserialize;

use super::{Event, Forwarder, Incoming, Message, Rejected, bears, parse};
use crate::clock::Time;
use crate::secret::Secret;

/// The forwarder; its secret is the bearer token.
#[derive(Clone, Debug)]
pub struct Json {
    token: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    from: Option<String>,
    text: Option<Secret>,
    received_at: Option<Time>,
}

impl Json {
    /// A forwarder that carries `token`.
    pub const fn new(token: Secret) -> Self {
        Self { token }
    }
}

impl Forwarder for Json {
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected> {
        bears(request, &self.token)?;
        let body: Body = parse(request.body)?;
        Ok(Event::Sms(Message {
            from: body.from.ok_or_else(|| Rejected::field("from"))?,
            text: body.text.ok_or_else(|| Rejected::field("text"))?,
            sent_at: body.received_at,
            event_id: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authorization: Option<&str>, body: &str) -> Result<Event, Rejected> {
        let header = |name: &str| if name == "authorization" { authorization } else { None };
        let request = Incoming { header: &header, target: "", body: body.as_bytes(), now: Time::from_millis(0) };
        Json::new(Secret::new("s3cret")).read(&request)
    }

    #[test]
    fn a_message_is_read_with_and_without_its_time() {
        let message = |sent_at| {
            Ok(Event::Sms(Message {
                from: "15881234".to_owned(),
                text: Secret::new("인증번호 751539"),
                sent_at,
                event_id: None,
            }))
        };
        let body = r#"{"from":"15881234","text":"인증번호 751539","received_at":"2023-11-14T22:13:20Z"}"#;
        assert_eq!(read(Some("Bearer s3cret"), body), message(Some(Time::from_millis(1_700_000_000_000))));
        let body = r#"{"from":"15881234","text":"인증번호 751539"}"#;
        assert_eq!(read(Some("bearer s3cret"), body), message(None));
    }

    #[test]
    fn only_the_token_opens() {
        for header in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer s3cre"),
            Some("Basic s3cret"),
            Some("s3cret"),
        ] {
            assert_eq!(read(header, "{}"), Err(Rejected::Signature), "{header:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let field = |body: &str| match read(Some("Bearer s3cret"), body) {
            Err(Rejected::Malformed { field }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field("[1,2"), "body");
        assert_eq!(field(r#"{"from":"1"}"#), "text");
        assert_eq!(field(r#"{"from":1,"text":"x"}"#), "from");
        assert_eq!(field(r#"{"from":"1","text":"x","received_at":"noon"}"#), "received_at");
        assert_eq!(field(r#"{"from":"1","text":"x","sim":2}"#), "sim");
        assert_eq!(field(r#"{"from":"1","from":"2","text":"x"}"#), "from");
    }
}

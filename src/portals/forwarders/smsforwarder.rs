//! pppscn/SmsForwarder: a web form, or JSON from a template with the same fields.
//!
//! `sign` is the Base64 HMAC-SHA256 of timestamp, newline and secret, URL-encoded by the app once or twice. It covers the
//! timestamp only, not the message: TLS has to keep the message as it was. The timestamp is the moment of forwarding, not
//! the carrier's, and each retry has a new one, so messages count by their arrival.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::form::Form;
use super::stamp::Stamp;
use super::{Event, Forwarder, Incoming, Message, Rejected, in_window, parse, proven};
use crate::secret::{Secret, hmac_sha256};

/// How often a signature may be URL-encoded beyond what the form's own reading undoes. Two were seen; the third is spare.
const ENCODINGS: usize = 3;

/// The forwarder; its secret is the one of the app's webhook sender.
#[derive(Clone, Debug)]
pub struct SmsForwarder {
    key: Secret,
}

/// What proves who sent it.
struct Proof {
    timestamp: String,
    sign: String,
}

#[derive(Deserialize)]
struct JsonProof {
    timestamp: Option<Digits>,
    sign: Option<String>,
}

#[derive(Deserialize)]
struct JsonSms {
    from: Option<String>,
    content: Option<Secret>,
}

/// A number or a text, word for word as it is signed.
#[derive(Deserialize)]
#[serde(untagged)]
enum Digits {
    Number(u64),
    Text(String),
}

/// The two shapes of a body.
enum Body<'a> {
    Json(&'a [u8]),
    Form(Form<'a>),
}

impl SmsForwarder {
    /// A forwarder that signs with `key`.
    pub const fn new(key: Secret) -> Self {
        Self { key }
    }

    fn authenticate(&self, proof: &Proof, request: &Incoming<'_>) -> Result<(), Rejected> {
        let (timestamp, given) = (&proof.timestamp, plain(&proof.sign));
        let key = self.key.expose().as_bytes();
        let tag = hmac_sha256(key, &[timestamp.as_bytes(), b"\n", key]);
        proven(&self.key, data_encoding::BASE64.encode(&tag).as_bytes(), given.as_bytes())?;
        let signed = Stamp::read(timestamp).and_then(|stamp| stamp.0).ok_or(Rejected::Window)?;
        in_window(signed, request.now)
    }
}

impl Forwarder for SmsForwarder {
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected> {
        // The signature lies inside: who has none hears of nothing else that may be wrong.
        let body = Body::read(request.body).map_err(|_| Rejected::Signature)?;
        self.authenticate(&body.proof().ok_or(Rejected::Signature)?, request)?;
        let (from, content) = body.sms()?;
        Ok(Event::Sms(Message {
            from: from.ok_or_else(|| Rejected::field("from"))?,
            text: content.ok_or_else(|| Rejected::field("content"))?,
            sent_at: None,
            event_id: None,
        }))
    }
}

impl<'a> Body<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Rejected> {
        let json = bytes.trim_ascii_start().first() == Some(&b'{');
        if json { Ok(Self::Json(bytes)) } else { Form::read(bytes).map(Self::Form) }
    }

    fn proof(&self) -> Option<Proof> {
        match self {
            Self::Json(bytes) => {
                let JsonProof { timestamp, sign } = parse(bytes).ok()?;
                let timestamp = match timestamp? {
                    Digits::Number(number) => number.to_string(),
                    Digits::Text(text) => text,
                };
                Some(Proof { timestamp, sign: sign? })
            }
            Self::Form(form) => {
                let text = |name| form.optional(name).ok().flatten().map(str::to_owned);
                Some(Proof { timestamp: text("timestamp")?, sign: text("sign")? })
            }
        }
    }

    fn sms(&self) -> Result<(Option<String>, Option<Secret>), Rejected> {
        match self {
            Self::Json(bytes) => parse(bytes).map(|JsonSms { from, content }| (from, content)),
            Self::Form(form) => {
                Ok((form.optional("from")?.map(str::to_owned), form.optional("content")?.map(Secret::new)))
            }
        }
    }
}

/// The Base64 below the URL encodings.
fn plain(sign: &str) -> String {
    let mut text = Cow::Borrowed(sign);
    for _ in 0..ENCODINGS {
        match percent_decode_str(&text).decode_utf8() {
            Ok(decoded) if decoded != text => text = Cow::Owned(decoded.into_owned()),
            _ => break,
        }
    }
    // Base64 has no spaces: where one is, a bare plus was read as a form's space.
    text.replace(' ', "+")
}

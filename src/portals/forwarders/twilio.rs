//! Twilio: a web form for each SMS to a number rented there.
//!
//! `X-Twilio-Signature` is the Base64 HMAC-SHA1 of the whole address that Twilio was told, followed by every field, sorted.
//! Behind a proxy that address is not the one that arrives here, so it is put together from `server.public_url` and the
//! path and query that were asked for. There is neither a timestamp nor a carrier's time: messages count by their arrival,
//! and that a recorded one counts once is the business of the memory of messages.

use url::{Position, Url};

use super::form::Form;
use super::{Event, Forwarder, Incoming, Message, Rejected, brief, proven};
use crate::secret::{Secret, hmac_sha1};

/// The forwarder; its secret is the account's auth token.
#[derive(Clone, Debug)]
pub struct Twilio {
    token: Secret,
    /// Scheme, host and port as Twilio may have written them: the default port was seen both written out and left out.
    origins: [String; 2],
}

impl Twilio {
    /// A forwarder that signs with `token` what it sends to `public_url`.
    pub fn new(token: Secret, public_url: &Url) -> Self {
        let bare = format!("{}://{}", public_url.scheme(), public_url.host_str().unwrap_or_default());
        let port = public_url.port_or_known_default().map(|port| format!("{bare}:{port}"));
        let written = public_url[..Position::AfterPort].to_owned();
        Self { token, origins: [written, port.unwrap_or(bare)] }
    }

    fn authenticate(&self, form: &Form<'_>, request: &Incoming<'_>) -> Result<(), Rejected> {
        let given = (request.header)("x-twilio-signature").ok_or(Rejected::Signature)?;
        let pairs = form.sorted().ok_or(Rejected::Signature)?;
        let fields = Secret::new(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect::<String>());
        let signed = |origin: &String| {
            let message = Secret::new([origin, request.target, fields.expose()].concat());
            let tag = hmac_sha1(self.token.expose().as_bytes(), message.expose().as_bytes());
            proven(&self.token, data_encoding::BASE64.encode(&tag).as_bytes(), given.as_bytes())
        };
        self.origins.iter().map(signed).fold(Err(Rejected::Signature), Result::or)
    }
}

impl Forwarder for Twilio {
    fn read(&self, request: &Incoming<'_>) -> Result<Event, Rejected> {
        let form = Form::read(request.body).map_err(|_| Rejected::Signature)?;
        self.authenticate(&form, request)?;
        Ok(Event::Sms(Message {
            from: form.required("From")?.to_owned(),
            text: Secret::new(form.required("Body")?),
            sent_at: None,
            event_id: form.optional("MessageSid")?.map(brief),
        }))
    }
}

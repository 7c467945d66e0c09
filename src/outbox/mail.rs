//! E-mail over SMTP: the only file that says lettre.
//!
//! One connection a message and one recipient a message, spoken step by step, because what a refusal means depends on
//! the step: before the recipient is named it is about the server or our account and every mail waits; afterwards it is
//! about this mail. Nothing here falls back to an unencrypted connection, and credentials never reach an error.

use std::fmt::{self, Display};
use std::time::{Duration, SystemTime};

use lettre::Address;
use lettre::address::AddressError;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;

use super::channel::{Enclosure, Failure, Outgoing};
use super::settings::{Encryption, MailSettings};
use crate::clock::within;
use crate::secret::fingerprint;

/// The longest that connecting, or the answer to one command, may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends mails through one server.
pub(super) struct Mailer {
    settings: MailSettings,
    from: Mailbox,
    tls: Option<TlsParameters>,
}

/// Whether `text` can stand in a From or To line.
pub(super) fn check_address(text: &str) -> Result<(), AddressError> {
    if text.contains(char::is_control) { Err(AddressError::InvalidUser) } else { text.parse::<Mailbox>().map(|_| ()) }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Mailer {
    /// # Errors
    /// When the operating system's certificates cannot be used.
    pub(super) fn new(settings: MailSettings) -> Result<Self, String> {
        let from = settings.from.parse().map_err(|error| format!("{}: {error}", settings.from))?;
        let tls = match settings.encryption {
            Encryption::None => None,
            Encryption::Tls | Encryption::StartTls => {
                Some(TlsParameters::new_rustls(settings.host.clone()).map_err(|error| error.to_string())?)
            }
        };
        if settings.is_exposed() {
            tracing::warn!(host = settings.host, "mails to {} travel unencrypted: use smtps://", settings.host);
        }
        Ok(Self { settings, from, tls })
    }

    /// Hands one mail to the server.
    pub(super) async fn deliver(&self, to: &str, mail: &Outgoing<'_>) -> Result<(), Failure> {
        let to: Address = to.parse().map_err(|_| Failure::Final(format!("{to:?} is not a mail address")))?;
        let text = self.compose(&to, mail).map_err(|error| Failure::Final(error.to_string()))?;
        let mut server = self.connect().await?;
        let done = self.hand_over(&mut server, to, &text).await;
        // The mail's fate is known; a server that does not say goodbye changes nothing.
        let _ = within(Duration::from_secs(1), server.abort()).await;
        done
    }

    fn compose(&self, to: &Address, mail: &Outgoing<'_>) -> Result<Vec<u8>, lettre::error::Error> {
        let created = SystemTime::UNIX_EPOCH + Duration::from_millis(mail.created_at.as_millis());
        let message = lettre::Message::builder()
            // A hash of the id, so that any id makes a short and valid header, and the same one at every attempt.
            .message_id(Some(format!("<{}@{}>", &fingerprint(mail.id.as_bytes())[..32], self.from.email.domain())))
            .date(created)
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(&mail.content.subject)
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        let (text, html) = (mail.content.text.clone(), &mail.content.html);
        let both = (!html.is_empty()).then(|| MultiPart::alternative_plain_html(text.clone(), html.clone()));
        let message = match (both, mail.files) {
            (None, []) => message.singlepart(SinglePart::plain(text))?,
            (Some(both), []) => message.multipart(both)?,
            (both, files) => {
                let said = match both {
                    Some(both) => MultiPart::mixed().multipart(both),
                    None => MultiPart::mixed().singlepart(SinglePart::plain(text)),
                };
                message.multipart(files.iter().fold(said, |parts, file| parts.singlepart(enclosed(file))))?
            }
        };
        Ok(message.formatted())
    }

    /// Connects, encrypts and logs in as configured; any trouble here concerns every mail.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let hello = ClientId::default();
        let implicit = self.tls.clone().filter(|_| self.settings.encryption == Encryption::Tls);
        let address = (self.settings.host.as_str(), self.settings.port);
        let connect = AsyncSmtpConnection::connect_tokio1(address, Some(LIMIT), &hello, implicit, None);
        let mut server = step("connecting", connect).await.map_err(Refusal::of_channel)?;
        if let Some(tls) = self.tls.clone().filter(|_| self.settings.encryption == Encryption::StartTls) {
            step("STARTTLS", server.starttls(tls, &hello)).await.map_err(Refusal::of_channel)?;
        }
        if let Some((user, password)) = &self.settings.credentials {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            let login = server.auth(&[Mechanism::Plain, Mechanism::Login], &credentials);
            step("logging in", login).await.map_err(Refusal::of_channel)?;
        }
        Ok(server)
    }

    async fn hand_over(&self, server: &mut AsyncSmtpConnection, to: Address, text: &[u8]) -> Result<(), Failure> {
        let from = self.from.email.clone();
        let mut parameters = Vec::new();
        if !(<Address as AsRef<str>>::as_ref(&from).is_ascii() && <Address as AsRef<str>>::as_ref(&to).is_ascii()) {
            if !server.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Failure::Final(format!("the mail server does not take an address like {to}")));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        command(server, "sender", Mail::new(Some(from), parameters)).await.map_err(Refusal::of_channel)?;
        command(server, "recipient", Rcpt::new(to, Vec::new())).await.map_err(Refusal::of_mail)?;
        command(server, "DATA", Data).await.map_err(Refusal::of_mail)?;
        step("text", server.message(text)).await.map_err(Refusal::of_mail)?;
        Ok(())
    }
}

fn enclosed(file: &Enclosure) -> SinglePart {
    let mime = ContentType::parse(&file.mime).or_else(|_| ContentType::parse("application/octet-stream"));
    Attachment::new(file.name.clone()).body(file.bytes.clone(), mime.unwrap_or(ContentType::TEXT_PLAIN))
}

async fn command(
    server: &mut AsyncSmtpConnection,
    name: &'static str,
    command: impl Display,
) -> Result<Response, Refusal> {
    step(name, server.command(command)).await
}

/// One exchange with the server that did not end well.
struct Refusal {
    reason: String,
    code: Option<u16>,
}

impl Refusal {
    fn of_channel(self) -> Failure {
        Failure::Channel { reason: self.reason, retry_after: None }
    }

    /// A refusal once the mail is being discussed: 5xx is the last word on it, 421 and silence are about the server.
    fn of_mail(self) -> Failure {
        match self.code {
            Some(500..) => Failure::Final(self.reason),
            Some(421) | None => self.of_channel(),
            Some(_) => Failure::Message(self.reason),
        }
    }
}

async fn step<T>(
    name: &'static str,
    exchange: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, Refusal> {
    match within(LIMIT, exchange).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Refusal { reason: format!("{name}: {error}"), code: error.status().map(u16::from) }),
        Err(_) => Err(Refusal { reason: format!("{name}: no answer within {} s", LIMIT.as_secs()), code: None }),
    }
}

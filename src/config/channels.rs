//! The sections about telling people: `[mail]` and `[alerts]`.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::network::{self, Email};
use super::read::{Field, Section};
use super::{duration, secrets, words};
use crate::secret::Secret;

/// `[mail]`: the SMTP server that takes our mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// How the connection is protected, from the scheme of `url`.
    pub security: MailSecurity,
    /// Host name or address of the server.
    pub host: String,
    /// Its port; 25, 587 or 465 by scheme when the URL names none.
    pub port: u16,
    /// What the server wants to see, if anything.
    pub login: Option<MailLogin>,
    /// The sender of every mail.
    pub from: Email,
}

/// How a connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// `smtp://`: not at all; for a server on this machine.
    None,
    /// `smtp+starttls://`: TLS is required after the greeting.
    StartTls,
    /// `smtps://`: TLS from the first byte.
    Tls,
}

/// The account at the mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailLogin {
    /// The account's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// `[alerts]`: who is told, and how often at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// The least time between two messages about the same thing. Default 10 min.
    pub cooldown: Duration,
    /// Who gets mail.
    pub email: Vec<Email>,
    /// The Telegram chat that is told.
    pub telegram: Option<Telegram>,
    /// The program that is told.
    pub webhook: Option<Webhook>,
}

/// `[alerts] telegram`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telegram {
    /// The API's origin. Default `https://api.telegram.org`.
    pub api: Url,
    /// The bot's token.
    pub token: Secret,
    /// The chat, a number or `@name`.
    pub chat_id: String,
}

/// `[alerts] webhook`.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where messages are posted.
    pub url: Url,
    /// The key that signs them.
    pub secret: Secret,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &shortened(&self.url)).field("secret", &self.secret).finish()
    }
}

/// A webhook's path is often the only thing that guards it: it is shown as `…`.
fn shortened(url: &Url) -> String {
    format!("{}/…", url.origin().ascii_serialization())
}

pub(super) fn mail(root: &Section<'_>) -> Option<Option<Mail>> {
    let Some(field) = root.field("mail") else { return Some(None) };
    let section = field.read(Field::section)?;
    let server = section.required("url", server);
    let from = section.required("from", network::email);
    let user = section.optional("user", words::text);
    let login = match &user {
        Some(user) => {
            secrets::required(&section, "password").map(|password| Some(MailLogin { user: user.clone(), password }))
        }
        None if secrets::is_given(&section, "password") => {
            section.problem("a password is given, but no user");
            None
        }
        None => Some(None),
    };
    section.finish();
    let (security, host, port) = server?;
    if user.is_some() && security == MailSecurity::None && !network::is_loopback(&host) {
        section.warning("smtp:// sends the password in the clear; use smtps:// or smtp+starttls://");
    }
    Some(Some(Mail { security, host, port, login: login?, from: from? }))
}

fn server(field: &Field<'_>) -> Result<(MailSecurity, String, u16), String> {
    let expected = || "expected smtp://HOST:PORT, smtps://HOST:PORT or smtp+starttls://HOST:PORT".to_owned();
    let url: Url = field.text()?.parse().map_err(|_| expected())?;
    let (security, port) = match url.scheme() {
        "smtp" => (MailSecurity::None, 25),
        "smtp+starttls" => (MailSecurity::StartTls, 587),
        "smtps" => (MailSecurity::Tls, 465),
        _ => return Err(expected()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL must not carry a user or a password; set mail.user and mail.password_file".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(expected());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(expected)?;
    Ok((security, host.to_owned(), url.port().unwrap_or(port)))
}

pub(super) fn alerts(root: &Section<'_>) -> Option<Alerts> {
    let section = root.section_or_empty("alerts")?;
    let cooldown =
        section.or("cooldown", "10m", duration::within(Duration::from_secs(1)..=Duration::from_secs(7 * 86_400)));
    let email = section.list("email", network::email);
    let telegram = section.section("telegram").map(|section| telegram(&section));
    let webhook = section.section("webhook").map(|section| webhook(&section));
    section.finish();
    if email.as_ref().is_some_and(|email| !email.is_empty())
        && !root.has("mail")
        && let Some(field) = section.field("email")
    {
        field.problem("mail cannot be sent without a [mail] section");
    }
    let (telegram, webhook) = (keep(telegram)?, keep(webhook)?);
    Some(Alerts { cooldown: cooldown?, email: email?, telegram, webhook })
}

/// Tells "absent" (fine) from "present and bad" (`None`).
fn keep<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        Some(good) => Some(good),
        None => Some(None),
    }
}

fn telegram(section: &Section<'_>) -> Option<Telegram> {
    let api = section.or("api", "https://api.telegram.org", network::origin);
    let token = secrets::required(section, "token");
    let chat_id = section.required("chat_id", |field| {
        let id = match field.integer() {
            Ok(number) => number.to_string(),
            Err(_) => field.text()?.to_owned(),
        };
        let number = |id: &str| !id.is_empty() && id.len() <= 20 && id.bytes().all(|byte| byte.is_ascii_digit());
        let good =
            number(id.strip_prefix('-').unwrap_or(&id)) || id.strip_prefix('@').is_some_and(|name| name.len() > 1);
        if good { Ok(id) } else { Err("expected the number of a chat, or @name of a channel".to_owned()) }
    });
    section.finish();
    Some(Telegram { api: api?, token: token?, chat_id: chat_id? })
}

fn webhook(section: &Section<'_>) -> Option<Webhook> {
    let url = section.field("url");
    if url.is_none() {
        section.reading().problem(section.place(), &section.path_to("url"), "missing");
    }
    let secret = secrets::required(section, "secret");
    section.finish();
    let field = url?;
    let url = field.read(network::web)?;
    section.reading().setting(field.key(), shortened(&url), field.place());
    Some(Webhook { url, secret: secret? })
}

//! What the channels need to know, checked when it is made: a wrong setting is an error at start, not a mail that never
//! comes. Secrets stay in [`Secret`]; nothing here is printed with an address that may contain one.

use std::net::IpAddr;

use url::Url;

use crate::secret::Secret;

/// The channels that are configured; None: the channel is off and its messages wait.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// E-mail.
    pub mail: Option<MailSettings>,
    /// Telegram.
    pub telegram: Option<TelegramSettings>,
    /// The webhook.
    pub webhook: Option<WebhookSettings>,
}

/// Why a channel's settings cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The mail server's URL is not one.
    #[error("expected smtp://host:port, smtps://host:port or smtp+starttls://host:port")]
    MailUrl,
    /// Only one of user and password is there.
    #[error("a user and a password go together")]
    HalfCredentials,
    /// The password would travel unencrypted.
    #[error("smtp:// would send the password unencrypted to {0}; use smtps:// or smtp+starttls://")]
    PlainCredentials(String),
    /// The sender is not a mail address.
    #[error("{0:?} is not a mail address")]
    From(String),
    /// The address is not usable.
    #[error("expected https://…, or http://… on loopback")]
    Url,
    /// The chat is neither a number nor a @name.
    #[error("a Telegram chat is a number or @name")]
    Chat,
}

/// How the mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all (`smtp://`): for a server on loopback.
    None,
    /// TLS from the first byte (`smtps://`).
    Tls,
    /// TLS after STARTTLS, or nothing is sent (`smtp+starttls://`).
    StartTls,
}

/// The mail server and the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    pub(super) encryption: Encryption,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<(String, Secret)>,
    pub(super) from: String,
}

impl MailSettings {
    /// Settings for the server at `url`, whose port defaults to 25, 465 or 587 by its scheme. `from` is an address or
    /// `Name <address>`.
    ///
    /// # Errors
    /// When they cannot work, or would send a password unencrypted to another machine.
    pub fn new(url: &str, user: Option<String>, password: Option<Secret>, from: &str) -> Result<Self, SettingsError> {
        let url = Url::parse(url).map_err(|_| SettingsError::MailUrl)?;
        let (encryption, port) = match url.scheme() {
            "smtp" => (Encryption::None, 25),
            "smtps" => (Encryption::Tls, 465),
            "smtp+starttls" => (Encryption::StartTls, 587),
            _ => return Err(SettingsError::MailUrl),
        };
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        // Credentials in the URL would end up where URLs are printed.
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(SettingsError::MailUrl);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SettingsError::MailUrl)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let credentials = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => return Err(SettingsError::HalfCredentials),
        };
        if encryption == Encryption::None && credentials.is_some() && !is_loopback(&host) {
            return Err(SettingsError::PlainCredentials(host));
        }
        super::mail::check_address(from).map_err(|_| SettingsError::From(from.to_owned()))?;
        Ok(Self { encryption, host, port: url.port().unwrap_or(port), credentials, from: from.to_owned() })
    }

    /// Whether mails would cross a network unencrypted.
    pub fn is_exposed(&self) -> bool {
        self.encryption == Encryption::None && !is_loopback(&self.host)
    }
}

/// The Telegram bot and the chat it writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelegramSettings {
    pub(super) api: String,
    pub(super) token: Secret,
    pub(super) chat_id: String,
}

impl TelegramSettings {
    /// Settings for the bot `token` at `api` (`https://api.telegram.org`).
    ///
    /// # Errors
    /// When the address would send the token unencrypted, or is none; when the chat is not one.
    pub fn new(api: &str, token: Secret, chat_id: &str) -> Result<Self, SettingsError> {
        check_web(api)?;
        // The token becomes part of a path: it must not be able to leave it.
        let tame = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-');
        if token.expose().is_empty() || !token.expose().chars().all(tame) {
            return Err(SettingsError::Url);
        }
        if chat_id.parse::<i64>().is_err() && !chat_id.starts_with('@') {
            return Err(SettingsError::Chat);
        }
        Ok(Self { api: api.trim_end_matches('/').to_owned(), token, chat_id: chat_id.to_owned() })
    }
}

/// The webhook and the secret that signs what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    // Chat services put a key into the path: the whole address is treated like one.
    pub(super) url: Secret,
    pub(super) secret: Secret,
}

impl WebhookSettings {
    /// Settings for the webhook at `url`.
    ///
    /// # Errors
    /// When the address is not https and not on loopback.
    pub fn new(url: &str, secret: Secret) -> Result<Self, SettingsError> {
        check_web(url)?;
        Ok(Self { url: Secret::new(url), secret })
    }
}

fn check_web(url: &str) -> Result<(), SettingsError> {
    let url = Url::parse(url).map_err(|_| SettingsError::Url)?;
    let host = url.host_str().ok_or(SettingsError::Url)?;
    let safe = match url.scheme() {
        "https" => true,
        "http" => is_loopback(host.trim_start_matches('[').trim_end_matches(']')),
        _ => false,
    };
    if safe && url.username().is_empty() && url.password().is_none() { Ok(()) } else { Err(SettingsError::Url) }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(url: &str) -> Result<MailSettings, SettingsError> {
        MailSettings::new(url, None, None, "porter@example.com")
    }

    #[test]
    fn mail_urls_name_encryption_host_and_port() {
        let plain = mail("smtp://127.0.0.1:2525").unwrap();
        assert_eq!((plain.encryption, plain.host.as_str(), plain.port), (Encryption::None, "127.0.0.1", 2525));
        assert_eq!(mail("smtps://mail.example.com").unwrap().port, 465);
        assert_eq!(mail("smtp+starttls://[::1]").unwrap().host, "::1");
        assert!(mail("smtp://mail.example.com").unwrap().is_exposed());
        for bad in ["mail.example.com", "http://x", "smtp://", "smtp://u:p@x", "smtp://x/path", "smtp://x?tls=none"] {
            assert_eq!(mail(bad), Err(SettingsError::MailUrl), "{bad}");
        }
        let from = |from| MailSettings::new("smtp://[::1]", None, None, from);
        assert!(from("나이트포터 <porter@example.com>").is_ok());
        for bad in ["nobody", "a@b\r\nBcc: c@d", ""] {
            assert_eq!(from(bad), Err(SettingsError::From(bad.to_owned())));
        }
    }

    #[test]
    fn a_password_never_crosses_a_network_in_plain() {
        let with = |url| MailSettings::new(url, Some("u".to_owned()), Some(Secret::new("p")), "porter@example.com");
        assert!(with("smtp://127.0.0.1:25").is_ok() && with("smtps://mail.example.com").is_ok());
        let refused = SettingsError::PlainCredentials("mail.example.com".to_owned());
        assert_eq!(with("smtp://mail.example.com"), Err(refused));
        let half = MailSettings::new("smtps://mail.example.com", Some("u".to_owned()), None, "porter@example.com");
        assert_eq!(half, Err(SettingsError::HalfCredentials));
    }

    #[test]
    fn web_channels_are_https_or_loopback() {
        let hook = |url| WebhookSettings::new(url, Secret::new("s")).is_ok();
        assert!(hook("https://example.com/x") && hook("http://127.0.0.1:9/x") && hook("http://[::1]/x"));
        assert!(!hook("http://example.com/x") && !hook("ftp://127.0.0.1/") && !hook("x"));
        let bot = |token: &str, chat| TelegramSettings::new("https://api.telegram.org/", Secret::new(token), chat);
        assert!(bot("123:AAx_-9", "-100123").is_ok() && bot("1:a", "@ops").is_ok());
        assert_eq!(bot("1:a/../x", "1"), Err(SettingsError::Url));
        assert_eq!(bot("1:a", "ops"), Err(SettingsError::Chat));
    }
}

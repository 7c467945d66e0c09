//! How the configuration's words for mail, Telegram and webhooks become the outbox's and the alerts' settings.

use std::net::IpAddr;

use crate::alerts;
use crate::config::{self, Config, MailSecurity};
use crate::outbox::{self, Channel, MailSettings, SettingsError, TelegramSettings, WebhookSettings};

/// The channels themselves.
///
/// # Errors
/// When one cannot work as it is configured.
pub(super) fn outbox(config: &Config) -> Result<outbox::Settings, SettingsError> {
    let alerts = &config.alerts;
    let mail = config.mail.as_deref().map(mail).transpose()?;
    let telegram = alerts
        .telegram
        .as_ref()
        .map(|telegram| TelegramSettings::new(telegram.api.as_str(), telegram.token.clone(), &telegram.chat_id));
    let webhook =
        alerts.webhook.as_ref().map(|webhook| WebhookSettings::new(webhook.url.as_str(), webhook.secret.clone()));
    Ok(outbox::Settings { mail, telegram: telegram.transpose()?, webhook: webhook.transpose()? })
}

fn mail(mail: &config::Mail) -> Result<MailSettings, SettingsError> {
    let scheme = match mail.security {
        MailSecurity::None => "smtp",
        MailSecurity::StartTls => "smtp+starttls",
        MailSecurity::Tls => "smtps",
    };
    // In a URL an IPv6 address stands in brackets.
    let host = match mail.host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => mail.host.clone(),
    };
    let (user, password) = mail.login.clone().map(|login| (login.user, login.password)).unzip();
    MailSettings::new(&format!("{scheme}://{host}:{}", mail.port), user, password, &mail.from.to_string())
}

/// Who is told, and how often.
pub(super) fn alerts(config: &Config) -> alerts::Settings {
    let mut channels: Vec<_> =
        config.alerts.email.iter().map(|address| Channel::Mail { to: address.to_string() }).collect();
    channels.extend(config.alerts.telegram.as_ref().map(|_| Channel::Telegram));
    channels.extend(config.alerts.webhook.as_ref().map(|_| Channel::Webhook));
    let public_url = config.server.public_url.as_ref().map(ToString::to_string);
    alerts::Settings { cooldown: config.alerts.cooldown, channels, public_url }
}

//! The channels as configured now, and what an attempt through one of them can mean.

use super::mail::Mailer;
use super::settings::Settings;
use super::telegram::Telegram;
use super::web::Web;
use super::webhook::Webhook;
use super::{Channel, Content};
use crate::clock::{Clock, Time};

use std::time::Duration;

/// A message on its way out, with its files in hand.
pub(super) struct Outgoing<'a> {
    pub(super) id: &'a str,
    pub(super) content: &'a Content,
    pub(super) files: &'a [Enclosure],
    pub(super) created_at: Time,
}

/// A file on its way out.
pub(super) struct Enclosure {
    pub(super) name: String,
    pub(super) mime: String,
    pub(super) bytes: Vec<u8>,
}

/// Why an attempt did not deliver, and whom that concerns.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// This message will never be taken.
    Final(String),
    /// This message is not taken now; others may be.
    Message(String),
    /// The channel takes nothing now.
    Channel {
        /// What happened.
        reason: String,
        /// How long the other side asked us to wait.
        retry_after: Option<Duration>,
    },
}

/// The senders for the channels that are configured.
#[derive(Debug)]
pub(super) struct Channels {
    mail: Option<Result<Mailer, String>>,
    telegram: Option<Telegram>,
    webhook: Option<Webhook>,
}

impl Channels {
    pub(super) fn new(settings: Settings, web: &Web, clock: &Clock) -> Self {
        Self {
            mail: settings.mail.map(Mailer::new),
            telegram: settings.telegram.map(|settings| Telegram::new(settings, web.clone())),
            webhook: settings.webhook.map(|settings| Webhook::new(settings, web.clone(), clock.clone())),
        }
    }

    /// Makes one attempt. Ends by itself: every exchange inside has a limit.
    pub(super) async fn deliver(&self, channel: &Channel, message: &Outgoing<'_>) -> Result<(), Failure> {
        let unconfigured = |what: &str| Failure::Channel { reason: format!("no {what} is set"), retry_after: None };
        match channel {
            Channel::Mail { to } => match &self.mail {
                Some(Ok(mailer)) => mailer.deliver(to, message).await,
                Some(Err(reason)) => Err(Failure::Channel { reason: reason.clone(), retry_after: None }),
                None => Err(unconfigured("mail server")),
            },
            Channel::Telegram => match &self.telegram {
                Some(telegram) => telegram.deliver(message).await,
                None => Err(unconfigured("Telegram bot")),
            },
            Channel::Webhook => match &self.webhook {
                Some(webhook) => webhook.deliver(message).await,
                None => Err(unconfigured("alert webhook")),
            },
        }
    }
}

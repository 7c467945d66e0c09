//! What is sent, to whom, and how a record carries it until the outbox has it.
//!
//! Texts are sealed wherever they rest: an operator's mail names portals and people, a user's mail carries a code. Nothing
//! here prints a text; `Debug` leaves it out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::files::File;
use super::{Outbox, OutboxError};
use crate::clock::Time;
use crate::secret::{Vault, fingerprint};

/// The longest text in bytes that the outbox takes; longer ones are cut with a note. With its envelope and its subject a
/// message stays far below the size of a record.
pub const MAX_TEXT: usize = 32 * 1024;
/// The longest subject in bytes.
pub const MAX_SUBJECT: usize = 1024;
/// The longest text in HTML in bytes; a longer one is left out, since the plain text says the same.
pub const MAX_HTML: usize = 16 * 1024;

/// Where one message goes: one recipient of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Channel {
    /// One e-mail address.
    Mail {
        /// The address.
        to: String,
    },
    /// The configured Telegram chat.
    Telegram,
    /// The configured webhook.
    Webhook,
}

/// The kinds of channels. Each has a task of its own, so that a dead one delays no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// E-mail.
    Mail,
    /// A Telegram chat.
    Telegram,
    /// A webhook.
    Webhook,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mail, Self::Telegram, Self::Webhook];

    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Telegram => "telegram",
            Self::Webhook => "webhook",
        }
    }
}

impl Channel {
    /// Which kind it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Mail { .. } => Kind::Mail,
            Self::Telegram => Kind::Telegram,
            Self::Webhook => Kind::Webhook,
        }
    }

    /// A short word that tells this recipient from the others of the same message; part of message ids, so it never changes.
    pub fn tag(&self) -> String {
        match self {
            Self::Mail { to } => format!("mail-{}", &fingerprint(to.as_bytes())[..16]),
            Self::Telegram | Self::Webhook => self.kind().name().to_owned(),
        }
    }
}

/// What a message says. Made by [`Content::new`] alone, so that no subject can carry a second header line.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// One line; control characters in it become spaces.
    pub(super) subject: String,
    /// Plain text.
    pub(super) text: String,
    /// The same as a page, for mails; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) html: String,
}

impl Content {
    /// A content within the outbox's limits: a longer text is cut and says so.
    pub fn new(subject: &str, text: impl Into<String>) -> Self {
        Self::within(MAX_TEXT, subject, text)
    }

    /// A content whose text has at most `limit` bytes; a longer one is cut and says so.
    pub fn within(limit: usize, subject: &str, text: impl Into<String>) -> Self {
        let one_line: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let subject = one_line[..one_line.floor_char_boundary(MAX_SUBJECT)].trim().to_owned();
        let mut text = text.into();
        if text.len() > limit {
            text.truncate(text.floor_char_boundary(limit));
            text.push_str("\n(the rest was cut: the text was too long)");
        }
        Self { subject, text, html: String::new() }
    }

    /// The same with the text in HTML beside it, which mails carry as an alternative.
    #[must_use]
    pub fn with_html(self, html: String) -> Self {
        Self { html: if html.len() > MAX_HTML { String::new() } else { html }, ..self }
    }

    /// What stays of it when nobody needs the text any more.
    pub(super) fn into_subject(self) -> Self {
        Self { subject: self.subject, text: String::new(), html: String::new() }
    }

    /// The subject line.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same in HTML; empty when there is none.
    pub fn html(&self) -> &str {
        &self.html
    }

    pub(super) fn seal(&self, vault: &Vault, context: &str) -> Result<Vec<u8>, OutboxError> {
        let json = serde_json::to_vec(self).map_err(|_| OutboxError::Unreadable)?;
        Ok(vault.seal(context, &json)?)
    }

    pub(super) fn open(vault: &Vault, context: &str, sealed: &[u8]) -> Result<Self, OutboxError> {
        let json = vault.open(context, sealed)?;
        serde_json::from_slice(&json).map_err(|_| OutboxError::Unreadable)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

/// One message to one recipient.
#[derive(Clone, Debug)]
pub struct Message {
    /// Decided by whoever sends it, the same however often it asks: the outbox delivers an id once. The mail's Message-ID
    /// and the webhook's Idempotency-Key are made of it.
    pub id: String,
    /// To whom.
    pub channel: Channel,
    /// What it says.
    pub content: Content,
    /// Files staged by [`Outbox::stage`] for this message alone; delivering it removes them.
    pub files: Vec<File>,
    /// When the reason for it arose; attempts end 48 h later at the latest.
    pub created_at: Time,
    /// From when on it is of no use any more and not sent: when the code in it ends.
    pub expires_at: Option<Time>,
}

/// One recipient of a [`Pending`] message, with the files staged for that recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressee {
    /// To whom.
    pub channel: Channel,
    /// Staged for this recipient alone.
    pub files: Vec<File>,
}

/// A message that a record carries until the outbox has taken it over: written in the same change as its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    id: String,
    created_at: Time,
    sealed: Vec<u8>,
    to: Vec<Addressee>,
    expires_at: Option<Time>,
}

impl Pending {
    /// The same, not sent from `moment` on: when the code in it ends.
    #[must_use]
    pub fn expiring(self, moment: Time) -> Self {
        Self { expires_at: Some(moment), ..self }
    }

    /// The id that the messages' ids begin with.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether nobody is to receive it.
    pub fn is_empty(&self) -> bool {
        self.to.is_empty()
    }

    /// All files staged for it.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.to.iter().flat_map(|addressee| &addressee.files)
    }

    /// The place that the sealed content is bound to.
    fn context(id: &str) -> String {
        format!("pending/{id}")
    }
}

impl Outbox {
    /// Seals `content` for `to`, to be put into a record. The id must be the same whenever the same reason is told.
    ///
    /// # Errors
    /// Only when the cryptographic library refuses.
    pub fn pend(
        &self,
        id: String,
        content: &Content,
        to: Vec<Addressee>,
        created_at: Time,
    ) -> Result<Pending, OutboxError> {
        let sealed = content.seal(&self.0.vault, &Pending::context(&id))?;
        Ok(Pending { id, created_at, sealed, to, expires_at: None })
    }

    /// The messages that a pending one stands for, one a recipient.
    pub(super) fn unfold(&self, pending: &Pending) -> Result<Vec<Message>, OutboxError> {
        let content = Content::open(&self.0.vault, &Pending::context(&pending.id), &pending.sealed)?;
        let message = |to: &Addressee| Message {
            id: format!("{}-{}", pending.id, to.channel.tag()),
            channel: to.channel.clone(),
            content: content.clone(),
            files: to.files.clone(),
            created_at: pending.created_at,
            expires_at: pending.expires_at,
        };
        Ok(pending.to.iter().map(message).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_one_subject_line_and_a_bounded_text() {
        let content = Content::new("경고\r\nBcc: evil@example.com", "가".repeat(MAX_TEXT));
        assert_eq!(content.subject, "경고  Bcc: evil@example.com");
        assert!(content.text.len() < MAX_TEXT + 100 && content.text.ends_with("too long)"));
        assert!(!format!("{content:?}").contains("경고"));
    }

    #[test]
    fn a_page_that_is_too_long_is_left_out() {
        let with = |html: String| Content::new("s", "t").with_html(html).html.len();
        assert_eq!((with("가".repeat(MAX_HTML / 3)), with("x".repeat(MAX_HTML + 1))), (MAX_HTML / 3 * 3, 0));
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        use bincode::Options;
        let pending = Pending {
            id: "i-1".to_owned(),
            created_at: Time::from_millis(1_700_000_000_000),
            sealed: vec![1, 2, 3],
            to: vec![Addressee { channel: Channel::Webhook, files: Vec::new() }],
            expires_at: None,
        };
        let bytes = bincode::DefaultOptions::new().serialize(&pending).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), "03692d31fd0068e5cf8b0100000301020301020000");
        assert_eq!(bincode::DefaultOptions::new().deserialize::<Pending>(&bytes).unwrap(), pending);
    }

    #[test]
    fn tags_are_stable_because_ids_are_made_of_them() {
        assert_eq!(Channel::Mail { to: "ops@example.com".to_owned() }.tag(), "mail-af3c82544f648b38");
        assert_eq!(Channel::Webhook.tag(), "webhook");
    }
}

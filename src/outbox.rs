//! The outbox: messages that are delivered whatever happens to the process, the network or the other side.
//!
//! What must be said *with* a change is written into the same record as [`Pending`] and moved here afterwards by
//! [`Outbox::carry`]; [`Outbox::enqueue`] makes a message once by its id, and a delivered one is remembered for 48 h, so
//! neither a repeated change nor a crash in between sends twice. Each kind of channel has a task and a back-off of its
//! own. A message is tried for 48 h, or for as long as it is of use, and then shown as failed. No domain's rule lives here, and what a text says is never
//! logged; only `outbox/mail.rs` says lettre.
//!
//! Delivery is at least once: if the process dies after the recipient's side said yes and before that is on our disk, the
//! message goes out again, with the same Message-ID or Idempotency-Key.

mod channel;
mod courier;
mod files;
mod letter;
mod mail;
mod message;
mod mover;
mod settings;
mod telegram;
mod web;
mod webhook;

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{Mutex, watch};

use crate::clock::{Clock, Time};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::secret::{Vault, VaultError};
use crate::store::{Decision, Expires, Store, StoreError};
use channel::{Channels, Failure, Outgoing};
pub use files::{Attachment, File, MAX_FILE};
use letter::Letter;
pub use letter::State;
pub use message::{Addressee, Channel, Content, Kind, MAX_HTML, MAX_SUBJECT, MAX_TEXT, Message, Pending};
pub use mover::Carrier;
pub use settings::{Encryption, MailSettings, Settings, SettingsError, TelegramSettings, WebhookSettings};
use web::Web;

/// The kinds of records that are kept here.
pub fn kinds() -> Vec<crate::store::Kind> {
    [files::KINDS, letter::KINDS].concat()
}

/// Letters read from the store at a time.
const PAGE: usize = 256;

/// The handle to the outbox; clones share it.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    vault: Arc<Vault>,
    clock: Clock,
    random: Random,
    web: Web,
    channels: watch::Sender<Arc<Channels>>,
    /// Held while messages move from a record to the outbox, or are dropped from it.
    moving: Mutex<()>,
}

/// Why the outbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The store failed; ask again when it works.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text cannot be sealed or opened: the store key is not the one it was sealed with.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A text was opened but is not one.
    #[error("a sealed message holds something else")]
    Unreadable,
    /// The attachment is larger than [`MAX_FILE`].
    #[error("the attachment {name} has {length} bytes, the limit is {MAX_FILE}")]
    FileTooLarge {
        /// Its file name.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// No TLS client can be made in this build.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A message as the operator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// To whom.
    pub channel: Channel,
    /// Its subject line.
    pub subject: String,
    /// When the reason for it arose.
    pub created_at: Time,
    /// Where it stands.
    pub state: State,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, if it waits; a resting channel may make it later.
    pub next_at: Option<Time>,
    /// What the last attempt that failed said.
    pub last_error: Option<String>,
}

impl Entry {
    fn new(id: String, subject: String, letter: Letter) -> Self {
        let waits = matches!(letter.state, State::Queued | State::Sending);
        Self {
            id,
            channel: letter.channel,
            subject,
            created_at: letter.created_at,
            next_at: waits.then_some(letter.next_at),
            state: letter.state,
            attempts: letter.attempts,
            last_error: letter.last_error,
        }
    }
}

impl Outbox {
    /// Starts one delivering task for each kind of channel under `life`, beginning with what the last process left.
    ///
    /// # Errors
    /// [`OutboxError::Tls`] when no TLS client can be made.
    pub fn start(
        store: Store,
        vault: Arc<Vault>,
        clock: Clock,
        random: Random,
        settings: Settings,
        life: &Lifecycle,
    ) -> Result<Self, OutboxError> {
        let outbox = Self::at_rest(store, vault, clock, random, settings)?;
        for kind in Kind::ALL {
            courier::start(outbox.clone(), kind, life);
        }
        Ok(outbox)
    }

    /// The outbox while no server runs: it can be looked at, and delivers nothing.
    ///
    /// # Errors
    /// As [`Outbox::start`].
    pub fn at_rest(
        store: Store,
        vault: Arc<Vault>,
        clock: Clock,
        random: Random,
        settings: Settings,
    ) -> Result<Self, OutboxError> {
        let web = Web::new().map_err(|error| OutboxError::Tls(error.to_string()))?;
        let channels = watch::Sender::new(Arc::new(Channels::new(settings, &web, &clock)));
        let moving = Mutex::default();
        Ok(Self(Arc::new(Inner { store, vault, clock, random, web, channels, moving })))
    }

    /// Uses other settings from now on; a channel that was resting tries again at once.
    pub fn reconfigure(&self, settings: Settings) {
        self.0.channels.send_replace(Arc::new(Channels::new(settings, &self.0.web, &self.0.clock)));
    }

    /// Takes `messages` over for delivery; one whose id is known, delivered or not, is left as it is. When this returns
    /// they are on the disk.
    ///
    /// # Errors
    /// When the store failed; some may have been taken, and asking again is safe.
    pub async fn enqueue(&self, messages: Vec<Message>) -> Result<(), OutboxError> {
        let takes = messages.into_iter().map(|message| async move {
            let sealed = message.content.seal(&self.0.vault, &Letter::context(&message.id))?;
            let letter = Letter { sealed, ..Letter::new(&message) };
            let absent = |old: Option<&_>| match old {
                Some(_) => Decision::Keep(()),
                None => Decision::Put(letter.clone(), Expires::Never, ()),
            };
            self.0.store.update(&message.id, absent).await?;
            Ok::<_, OutboxError>(())
        });
        futures_util::future::try_join_all(takes).await?;
        Ok(())
    }

    /// Makes one attempt now, beside the queue, and tells how it went: how an operator tries a channel. Nothing is kept.
    ///
    /// # Errors
    /// What the channel said, in words for the operator.
    pub async fn try_now(&self, message: &Message) -> Result<(), String> {
        let channels = Arc::clone(&self.0.channels.borrow());
        let outgoing =
            Outgoing { id: &message.id, content: &message.content, files: &[], created_at: message.created_at };
        channels.deliver(&message.channel, &outgoing).await.map_err(|failure| match failure {
            Failure::Final(reason) | Failure::Message(reason) | Failure::Channel { reason, .. } => reason,
        })
    }

    /// All messages that are waiting, delivered within 48 h, or failed within 30 days; newest first.
    ///
    /// # Errors
    /// When the store failed or was sealed with another key.
    pub async fn list(&self) -> Result<Vec<Entry>, OutboxError> {
        Ok(newest_first(self.entries(|_| true).await?))
    }

    /// As [`Outbox::list`], only those to `channel`, with those of `pending` that are on their way here from their record.
    ///
    /// # Errors
    /// As [`Outbox::list`].
    pub async fn list_to(&self, channel: &Channel, pending: &[Pending]) -> Result<Vec<Entry>, OutboxError> {
        let mut entries = self.entries(|to| to == channel).await?;
        for pending in pending {
            for message in self.unfold(pending)?.into_iter().filter(|message| message.channel == *channel) {
                if entries.iter().all(|entry| entry.id != message.id) {
                    let letter = Letter::new(&message);
                    entries.push(Entry::new(message.id, message.content.subject, letter));
                }
            }
        }
        Ok(newest_first(entries))
    }

    async fn entries(&self, wanted: impl Fn(&Channel) -> bool) -> Result<Vec<Entry>, OutboxError> {
        let mut entries = Vec::new();
        for (id, letter) in self.letters().await?.into_iter().filter(|(_, letter)| wanted(&letter.channel)) {
            let content = Content::open(&self.0.vault, &Letter::context(&id), &letter.sealed)?;
            entries.push(Entry::new(id, content.subject, letter));
        }
        Ok(entries)
    }

    /// Drops every message to `channel` whose id begins with `prefix` and whose reason arose at `until` or before, wherever it
    /// stands. One that is being sent in this moment may still arrive.
    ///
    /// # Errors
    /// When the store failed; some may be left, and asking again is safe.
    pub async fn forget(&self, channel: &Channel, prefix: &str, until: Time) -> Result<(), StoreError> {
        // Nobody brings here meanwhile what their record no longer carries.
        let _alone = self.0.moving.lock().await;
        let theirs = |id: &str, letter: &Letter| {
            letter.channel == *channel && id.starts_with(prefix) && letter.created_at <= until
        };
        for (id, letter) in self.letters().await?.into_iter().filter(|(id, letter)| theirs(id, letter)) {
            self.0.store.update::<Letter, _>(&id, |_| Decision::Delete(())).await?;
            self.discard(letter.files).await?;
        }
        Ok(())
    }

    /// Every letter in the store, by id.
    async fn letters(&self) -> Result<Vec<(String, Letter)>, StoreError> {
        let mut letters: Vec<(String, Letter)> = Vec::new();
        loop {
            let page = self.0.store.list::<Letter>(letters.last().map(|(id, _)| id.as_str()), PAGE).await?;
            let full = page.len() == PAGE;
            letters.extend(page.into_iter().map(|(id, stored)| (id, stored.value)));
            if !full {
                return Ok(letters);
            }
        }
    }
}

fn newest_first(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    entries
}

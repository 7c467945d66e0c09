//! Alerts: tells someone, once, that a person is needed, and once that it is over.
//!
//! What goes wrong with one subject ("portal/vroong") is one incident, one record. Raising and resolving are one atomic
//! change of that record, which carries the messages to be sent; the outbox takes them from there. So a crash between
//! the trouble and the mail loses nothing and sends nothing twice, and the cooldown holds across restarts. Nothing here
//! decides what deserves an alert: the domains do.
//!
//! An incident that begins while its cause is cooling down (it failed, was told, recovered, and failed again) is told
//! when the cooldown ends, if it still lasts then: otherwise the last that anyone heard would be that all is well.

mod incident;
mod telling;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Time};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::outbox::{Attachment, Channel, Content, Message, Outbox, OutboxError};
use crate::secret::{Vault, VaultError};
use crate::store::{Store, StoreError};
pub use incident::KINDS;
use incident::{Incident, State};

/// Incidents read from the store at a time.
const PAGE: usize = 256;

/// Whom alerts reach and how often.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The same subject and cause is told at most once in this time. The contract's default is 10 min.
    pub cooldown: Duration,
    /// Every recipient; none: incidents are recorded and nobody is told.
    pub channels: Vec<Channel>,
    /// Where this appliance is reached, named in every message.
    pub public_url: Option<String>,
}

/// Something that needs a person.
#[derive(Clone, Debug)]
pub struct Alert {
    /// A short word that decides what counts as the same: `bad_credentials`.
    pub cause: String,
    /// One line in plain words, which becomes the subject: "vroong: the password was refused".
    pub title: String,
    /// What happened and what to do, in plain words. Times, cause and host are added.
    pub body: String,
    /// Pictures, as a rule. One that is too large is left out, and the message says so.
    pub attachments: Vec<Attachment>,
}

/// What raising an alert came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// Messages are on their way.
    Sent,
    /// The cause was told less than a cooldown ago, in an incident that is over; this one is told at this moment if it
    /// still lasts.
    CoolingDown(Time),
    /// This incident was told less than a cooldown ago.
    Already,
    /// No channel is configured: it is recorded, and nobody is told.
    Unheard,
}

/// What resolving an incident came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It had been told, so its end is being told.
    Sent,
    /// Nobody had heard of it, so nobody hears of its end.
    Quietly,
    /// There was none.
    NothingOpen,
}

/// An incident as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its id; message ids begin with it.
    pub id: String,
    /// What it is about.
    pub subject: String,
    /// Whether it lasts.
    pub open: bool,
    /// When it began.
    pub opened_at: Time,
    /// When it ended.
    pub resolved_at: Option<Time>,
    /// The latest cause.
    pub cause: String,
    /// The latest title.
    pub title: String,
    /// The latest description.
    pub detail: String,
    /// Whether someone was told.
    pub told: bool,
}

/// How a channel took the test message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The channel.
    pub channel: Channel,
    /// What went wrong; None: it was accepted.
    pub error: Option<String>,
}

/// Why an alert could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The store failed; raise again when it works.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text cannot be sealed or opened: the store key is another one.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The messages could not be prepared.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A text was opened but is not one.
    #[error("a sealed incident holds something else")]
    Unreadable,
}

/// The handle to the alerts; clones share it.
#[derive(Clone, Debug)]
pub struct Alerts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    outbox: Outbox,
    vault: Arc<Vault>,
    clock: Clock,
    random: Random,
    settings: RwLock<Arc<Settings>>,
    warned: AtomicBool,
}

impl Alerts {
    /// Starts the alerts under `life`: messages that incidents carry go to `outbox`, those left by the last process first.
    pub fn start(
        store: Store,
        outbox: Outbox,
        vault: Arc<Vault>,
        clock: Clock,
        random: Random,
        settings: Settings,
        life: &Lifecycle,
    ) -> Self {
        let settings = RwLock::new(Arc::new(settings));
        let alerts = Self(Arc::new(Inner { store, outbox, vault, clock, random, settings, warned: false.into() }));
        alerts.0.outbox.carry::<Incident>(life);
        telling::start(alerts.clone(), life);
        alerts
    }

    /// Uses other settings for what is raised and resolved from now on.
    pub fn reconfigure(&self, settings: Settings) {
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.0.warned.store(false, Ordering::Relaxed);
    }

    /// Every subject's latest incident, the one that began last first; resolved ones for 30 days.
    ///
    /// # Errors
    /// When the store failed or was sealed with another key.
    pub async fn list(&self) -> Result<Vec<Report>, AlertError> {
        let mut reports = Vec::new();
        for (subject, incident) in self.incidents().await? {
            let told = self.open(&subject, &incident)?;
            reports.push(Report {
                id: incident.id,
                subject,
                open: incident.state == State::Open,
                opened_at: incident.opened_at,
                resolved_at: match incident.state {
                    State::Open => None,
                    State::Resolved(at) => Some(at),
                },
                cause: incident.cause,
                title: told.subject().to_owned(),
                detail: told.text().to_owned(),
                told: incident.told,
            });
        }
        reports.sort_by(|a, b| (b.opened_at, &b.subject).cmp(&(a.opened_at, &a.subject)));
        Ok(reports)
    }

    /// Sends one test message through every channel now and tells how each took it. Every attempt has a limit of its own,
    /// and they run side by side.
    pub async fn test(&self) -> Vec<Tried> {
        let (settings, now) = (self.settings(), self.0.clock.now());
        let base = self.0.random.uuid(now);
        let text =
            format!("This is a test. Alerts would reach you here.\n\n{}", self.footer(&settings, &[("Sent", now)]));
        let content = Content::new("[Nightporter] Test alert", text);
        let tries = settings.channels.iter().map(|channel| {
            let id = format!("{base}-{}", channel.tag());
            let (channel, content) = (channel.clone(), content.clone());
            let message = Message { id, channel, content, files: Vec::new(), created_at: now, expires_at: None };
            async move { Tried { channel: message.channel.clone(), error: self.0.outbox.try_now(&message).await.err() } }
        });
        futures_util::future::join_all(tries).await
    }

    /// Where this appliance is reached, for links in what is raised.
    pub fn public_url(&self) -> Option<String> {
        self.settings().public_url.clone()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every incident in the store, by subject.
    async fn incidents(&self) -> Result<Vec<(String, Incident)>, StoreError> {
        let mut incidents: Vec<(String, Incident)> = Vec::new();
        loop {
            let page = self.0.store.list::<Incident>(incidents.last().map(|(id, _)| id.as_str()), PAGE).await?;
            let full = page.len() == PAGE;
            incidents.extend(page.into_iter().map(|(id, stored)| (id, stored.value)));
            if !full {
                return Ok(incidents);
            }
        }
    }
}

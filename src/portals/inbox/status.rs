//! What is known about a phone: when it was heard of, whether it can be relied on, and whether somebody should be told.
//! Judges no message and hands out no code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use serde::Serialize;

use super::record::Phone;
use super::signs::{News, Watch};
use super::{Inbox, InboxError};
use crate::clock::Time;
use crate::config::SilentAfter;

/// How many phones are looked at for silence; a team has a handful.
const MOST_LOOKED_AT: usize = 1000;

/// What is known about a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PhoneStatus {
    /// When anything authentic last came from it.
    pub last_seen_at: Option<Time>,
    /// When it last forwarded an SMS.
    pub last_sms_at: Option<Time>,
    /// When a login last accepted a code from it.
    pub proven_at: Option<Time>,
    /// Whether it can be relied on.
    pub state: PhoneState,
}

/// Whether a phone can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneState {
    /// A login accepted a code from it within the last 30 days.
    Proven,
    /// Nothing speaks for or against it.
    Unproven,
    /// The last login that waited for it waited in vain, or it should have been heard of by now.
    Silent,
}

impl Inbox {
    /// Notes that the phone says that it is there.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn ping(&self, phone: &str) -> Result<(), InboxError> {
        let now = self.now();
        let seen = |record: &mut Phone| {
            record.heard(now);
            record.signs.ping(now);
        };
        self.change(phone, seen).await?;
        self.0.news.notify_one();
        Ok(())
    }

    /// Notes that the phone's forwarder has lost it.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn gone(&self, phone: &str) -> Result<(), InboxError> {
        let now = self.now();
        self.change(phone, |record| record.signs.gone(now)).await?;
        self.0.news.notify_one();
        Ok(())
    }

    /// What is known about the phone; nothing, for one that never said anything.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn phone(&self, phone: &str) -> Result<PhoneStatus, InboxError> {
        let record = self.0.store.get::<Phone>(phone)?.map(|stored| stored.value).unwrap_or_default();
        Ok(record.status(self.misses(phone, &record), self.now()))
    }

    /// Whether every one of `phones` should have been heard of by now; false for none at all, and for what cannot be read.
    pub(in crate::portals) fn all_missed(&self, phones: &[String]) -> bool {
        let missed = |phone: &String| {
            let record = self.0.store.get::<Phone>(phone).ok().flatten().map(|stored| stored.value);
            self.misses(phone, &record.unwrap_or_default())
        };
        !phones.is_empty() && phones.iter().all(missed)
    }

    fn misses(&self, phone: &str, record: &Phone) -> bool {
        record.signs.missed(self.watch(phone), record.last_seen_at, self.now())
    }

    /// Says which phones are configured and when each is missed. Others are not.
    pub(in crate::portals) fn watch_over(&self, phones: BTreeMap<String, SilentAfter>) {
        *self.watched() = phones;
        self.0.news.notify_one();
    }

    /// Waits until there may be something to say about a phone.
    pub(in crate::portals) async fn news(&self) {
        self.0.news.notified().await;
    }

    /// Every phone about which something is to be said, with what is known about it.
    pub(in crate::portals) async fn look_round(&self) -> Result<Vec<(String, News, PhoneStatus)>, InboxError> {
        let now = self.now();
        let known = self.0.store.list::<Phone>(None, MOST_LOOKED_AT).await?;
        let names: BTreeSet<String> =
            self.watched().keys().cloned().chain(known.into_iter().map(|(name, _)| name)).collect();
        let mut all = Vec::new();
        for name in names {
            let watch = self.watch(&name);
            let look = |record: &mut Phone| {
                let news = record.signs.look(watch, record.last_seen_at, now);
                news.map(|news| (news, record.status(news == News::Silent, now)))
            };
            all.extend(self.change(&name, look).await?.map(|(news, status)| (name, news, status)));
        }
        Ok(all)
    }

    /// Notes that somebody was told what [`Inbox::look_round`] had to say.
    pub(in crate::portals) async fn told(
        &self,
        phone: &str,
        news: News,
        status: &PhoneStatus,
    ) -> Result<(), InboxError> {
        self.change(phone, |record| record.signs.tell(news, status.last_seen_at)).await
    }

    fn watch(&self, phone: &str) -> Watch {
        let after = self.watched().get(phone).copied().unwrap_or(SilentAfter::Off);
        Watch { after, started: self.0.started }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<String, SilentAfter>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

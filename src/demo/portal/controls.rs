//! The hand on the portal: switches its faults, ends its sessions, reads its counters. What a real portal's operator,
//! and no caller, can do.

use std::fmt;
use std::time::Duration;

use super::{Counters, Faults, Member, Order, Site};
use crate::clock::{self, DeadlineExceeded};
use crate::secret::Secret;

/// The handle for tests and the demo; clones act on the same portal.
#[derive(Clone)]
pub struct Controls(Site);

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Controls").field(&self.0.faults()).finish()
    }
}

/// Which of an account's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The one whose login is the longest ago.
    Oldest,
    /// The one of the latest login.
    Newest,
}

impl Controls {
    pub(super) fn new(site: Site) -> Self {
        Self(site)
    }

    /// Switches faults: `controls.faults(|faults| faults.captcha = true)`. Requests under way see only
    /// [`super::Pace::Held`] being released and [`super::Outage::Closing`].
    pub fn faults(&self, switch: impl FnOnce(&mut Faults)) {
        self.0.0.faults.send_modify(switch);
    }

    /// Switches every fault off.
    pub fn heal(&self) {
        self.0.0.faults.send_replace(Faults::default());
    }

    /// Ends the session with this id; false when it does not live.
    pub fn expire(&self, session: &str) -> bool {
        !self.0.book(|book| book.end_members(|member| member.id == session)).is_empty()
    }

    /// Ends every session; returns their ids.
    pub fn expire_all(&self) -> Vec<String> {
        self.0.book(|book| book.end_members(|_| true))
    }

    /// Ends one session of an account; returns its id, or nothing when none lives.
    pub fn expire_of(&self, user: &str, pick: Pick) -> Option<String> {
        let members = self.sessions(user);
        let id = match pick {
            Pick::Oldest => members.first(),
            Pick::Newest => members.last(),
        }?
        .id
        .clone();
        self.expire(&id).then_some(id)
    }

    /// The live sessions of an account, oldest login first.
    pub fn sessions(&self, user: &str) -> Vec<Member> {
        let now = self.0.0.clock.now();
        let mut members = self.0.book(|book| book.members(now));
        members.retain(|member| member.user == user);
        members
    }

    /// The ids of every completed login of an account, ended ones included, in order (the last 1024).
    pub fn logins(&self, user: &str) -> Vec<String> {
        self.0.book(|book| book.logins(user))
    }

    /// What was counted for an account.
    pub fn counters(&self, user: &str) -> Counters {
        self.0.book(|book| book.counters(user))
    }

    /// Waits, at most `limit` of real time, until an account's counters satisfy `enough`, and returns them.
    ///
    /// # Errors
    /// [`DeadlineExceeded`] when they did not in time.
    pub async fn counted(
        &self,
        user: &str,
        limit: Duration,
        enough: impl Fn(&Counters) -> bool,
    ) -> Result<Counters, DeadlineExceeded> {
        let mut changes = self.0.0.changed.subscribe();
        clock::within(limit, async {
            loop {
                changes.mark_unchanged();
                let counters = self.peek(user);
                if enough(&counters) || changes.changed().await.is_err() {
                    return counters;
                }
            }
        })
        .await
    }

    // Without waking the waiters, of whom the caller is one.
    fn peek(&self, user: &str) -> Counters {
        self.0.0.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner).counters(user)
    }

    /// Replaces the password of an account; its sessions live on.
    pub fn set_password(&self, user: &str, password: Secret) {
        self.0.book(|book| book.set_password(user, password));
    }

    /// Gives the sessions of an account new CSRF tokens: what a caller holds is stale, `/home` shows the new one.
    pub fn renew_tokens(&self, user: &str) {
        self.0.book(|book| book.renew_tokens(user, || self.0.0.random.session_id()));
    }

    /// How often an order was sent in under this `Idempotency-Key`; more than one is a repeat that made no second order.
    pub fn submissions(&self, key: &str) -> u32 {
        self.0.orders().submissions(key)
    }

    /// The newest `limit` orders, newest first.
    pub fn orders(&self, limit: usize) -> Vec<Order> {
        self.0.orders().latest(limit)
    }
}

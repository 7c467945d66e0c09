//! What a portal remembers: its two sessions, its login budget, where recovery stands, and what happened.
//!
//! [`PortalRecord`] is the record; its methods are the rules, pure and synchronous, to be used inside `store::update`.
//! Nothing here waits, logs or looks at a clock.

mod attempts;
mod history;
mod rivalry;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::learning::{Learned, Lives, Pulse};
use super::recipe::Cause;
use super::upkeep::Drill;
use crate::clock::Time;
use crate::store::{Kind, Record};
pub use attempts::{Attempts, Failure, Limits};
pub(super) use attempts::{BUDGET_WINDOW, LONGEST_BACKOFF, SLOW_RETRY};
pub(super) use history::shorten;
pub use history::{Event, EventKind};
pub use rivalry::Rivalry;

/// A portal's durable state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalRecord {
    /// Grows by one with every change of the active session; the fencing token of the relay.
    pub epoch: u64,
    /// The session that serves.
    pub active: Option<Slot>,
    /// The session that waits.
    pub standby: Option<Slot>,
    /// An operator paused checks and logins.
    pub paused: bool,
    /// An operator asked for a fresh login that has not happened yet.
    pub reauth: bool,
    /// The session to be of a login that has begun and not come to its end.
    pub login: Option<String>,
    /// Where the present attempt to get sessions back stands.
    pub recovery: Attempts,
    /// What an operator must be told, or was told.
    pub alert: Option<Alert>,
    /// When logins were attempted within the last hour, oldest first.
    pub logins: Vec<Time>,
    /// The last failed login.
    pub last_failure: Option<Failure>,
    /// What happened, oldest first.
    pub events: Vec<Event>,
    /// How many events there have ever been.
    pub event_count: u64,
    /// How earlier sessions lived and ended.
    pub lives: Lives,
    /// Where logins stand that are made before they are needed.
    pub upkeep: Attempts,
    /// The last of them that came to an end.
    pub last_drill: Option<Drill>,
    /// Whether two sessions get along at this portal.
    pub rivalry: Rivalry,
}

/// The kinds of records that are kept here.
pub(super) const KINDS: &[Kind] = &[Kind::of::<PortalRecord>()];

impl Record for PortalRecord {
    const SPACE: &'static str = "portal";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

/// One of the two places that a session can have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Which session.
    pub session_id: String,
    /// Whether the portal still knows it, as far as we know.
    pub expired: bool,
    /// When it logged in.
    pub authenticated_at: Time,
    /// What is known about its life since.
    pub pulse: Pulse,
}

/// A portal's side of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Why a person is needed.
    pub cause: Cause,
    /// In words.
    pub detail: String,
    /// Handed over to the alerts room.
    pub raised: bool,
}

/// Which place a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It serves.
    Active,
    /// It waits.
    Standby,
}

impl Role {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
        }
    }
}

/// What an expiry led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The standby took over.
    Promoted,
    /// The session was marked; it was not serving, or nothing could take over.
    Marked,
    /// The session had been marked or replaced before.
    Known,
}

impl PortalRecord {
    /// The serving session, if it is alive.
    pub fn serving(&self) -> Option<&Slot> {
        self.active.as_ref().filter(|slot| !slot.expired)
    }

    /// The session that could take over now.
    pub fn ready_standby(&self) -> Option<&Slot> {
        self.standby.as_ref().filter(|slot| !slot.expired)
    }

    /// Whether every wanted session lives; `parallel` says whether a standby is wanted.
    pub fn whole(&self, parallel: bool) -> bool {
        self.serving().is_some() && (!parallel || self.ready_standby().is_some())
    }

    /// What the lives of this portal's sessions teach.
    pub fn learned(&self, now: Time) -> Learned {
        let living = self.slots().filter(|(_, slot)| !slot.expired);
        self.lives.learned(living.map(|(_, slot)| (slot.authenticated_at, &slot.pulse)), now)
    }

    /// The place of a session.
    pub fn role_of(&self, session_id: &str) -> Option<Role> {
        let holds = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.session_id == session_id);
        if holds(&self.active) { Some(Role::Active) } else { holds(&self.standby).then_some(Role::Standby) }
    }

    /// Both slots, as far as filled.
    pub fn slots(&self) -> impl Iterator<Item = (Role, &Slot)> {
        let active = self.active.iter().map(|slot| (Role::Active, slot));
        active.chain(self.standby.iter().map(|slot| (Role::Standby, slot)))
    }

    /// Marks a session as expired, and promotes the standby when it was the active one.
    pub fn expire(&mut self, session_id: &str, why: &str, now: Time) -> Expiry {
        let Some(role) = self.role_of(session_id) else { return Expiry::Known };
        let slot = if role == Role::Active { &mut self.active } else { &mut self.standby };
        match slot {
            Some(slot) if !slot.expired => slot.expired = true,
            _ => return Expiry::Known,
        }
        self.note(now, EventKind::Expired, Some(session_id), why);
        if role == Role::Active && self.promote(now) { Expiry::Promoted } else { Expiry::Marked }
    }

    /// Swaps active and standby if the standby is alive. Returns whether it happened.
    pub fn promote(&mut self, now: Time) -> bool {
        self.promote_because(now, "the standby took over")
    }

    /// As [`PortalRecord::promote`], with what the history says of it.
    pub fn promote_because(&mut self, now: Time, why: &str) -> bool {
        if self.ready_standby().is_none() {
            return false;
        }
        std::mem::swap(&mut self.active, &mut self.standby);
        self.epoch += 1;
        let to = self.active.as_ref().map(|slot| slot.session_id.clone()).unwrap_or_default();
        self.note(now, EventKind::Failover, Some(&to), &format!("{why}, epoch {}", self.epoch));
        true
    }

    /// A second look confirms that a session ended at `at`; `pulse` is what is known about its life.
    pub fn bury(&mut self, session_id: &str, pulse: &Pulse, at: Time) {
        let born = self.slots().find(|(_, slot)| slot.session_id == session_id).map(|(_, slot)| slot.authenticated_at);
        if let Some(born) = born {
            self.lives.ended(born, pulse, at);
        }
    }

    /// Every wanted session lives although recovery had given up: it is over, and the next one starts afresh. Not where
    /// trying again is forbidden until something changes.
    pub fn end_recovery(&mut self, now: Time) {
        if matches!(self.recovery.given_up, Some(Cause::BadCredentials | Cause::Captcha)) {
            return;
        }
        if let Some(cause) = self.recovery.given_up {
            self.note(now, EventKind::Recovered, None, &format!("the sessions live again, after {cause}"));
        }
        self.recovery = Attempts::default();
    }

    /// Whether a moment of the past lies ahead of `now`, by more than clocks are moved in passing.
    pub fn is_ahead(&self, now: Time) -> bool {
        let slots = self.slots().flat_map(|(_, slot)| [slot.authenticated_at, slot.pulse.alive_at]);
        let drill = self.last_drill.iter().map(|drill| drill.at);
        slots.chain(drill).chain(self.logins.iter().copied()).any(|at| at > now + Duration::from_secs(1))
    }

    /// Takes moments that lie ahead of `now` for `now`: the clock has been set back since.
    pub fn not_ahead(&mut self, now: Time) {
        for slot in [&mut self.active, &mut self.standby].into_iter().flatten() {
            slot.authenticated_at = slot.authenticated_at.min(now);
            slot.pulse.alive_at = slot.pulse.alive_at.min(now);
        }
        self.logins.iter_mut().for_each(|at| *at = (*at).min(now));
        self.lives.not_ahead(now);
        if let Some(drill) = &mut self.last_drill {
            drill.at = drill.at.min(now);
        }
    }

    /// A session that was marked expired turned out to be alive.
    pub fn reinstate(&mut self, session_id: &str, how: &str, now: Time) -> bool {
        let slots = [&mut self.active, &mut self.standby];
        let Some(slot) = slots.into_iter().flatten().find(|slot| slot.session_id == session_id && slot.expired) else {
            return false;
        };
        slot.expired = false;
        self.note(now, EventKind::Restored, Some(session_id), how);
        self.take_over_if_nobody_serves(now);
        true
    }

    /// The portal tolerates one session only: whatever serves or could serve stays, the other place is given up.
    pub fn leave_one(&mut self, now: Time) {
        self.take_over_if_nobody_serves(now);
        self.standby = None;
    }

    fn take_over_if_nobody_serves(&mut self, now: Time) {
        if self.serving().is_none() {
            self.promote(now);
        }
    }

    /// Gives a freshly logged-in session its place and ends the recovery; `parallel` says whether the portal tolerates a
    /// second session beside it. Returns the place and the session that lost its own.
    ///
    /// The place is decided here and not when the login began: another session may have come back to life meanwhile.
    pub fn admit(&mut self, session_id: &str, parallel: bool, detail: &str, now: Time) -> (Role, Option<Slot>) {
        let slot =
            Slot { session_id: session_id.to_owned(), expired: false, authenticated_at: now, pulse: Pulse::new(now) };
        let fresh = std::mem::take(&mut self.reauth);
        self.login = None;
        let role = if parallel && !fresh && self.serving().is_some() { Role::Standby } else { Role::Active };
        let replaced = match role {
            Role::Standby => self.standby.replace(slot),
            Role::Active => {
                self.epoch += 1;
                let former = self.active.replace(slot);
                // A living former session is worth more than what stood by; where one alone is tolerated, the portal has
                // just ended it.
                match former {
                    Some(former) if !former.expired && parallel => self.standby.replace(former),
                    other => other,
                }
            }
        };
        self.note(now, EventKind::Authenticated, Some(session_id), detail);
        if self.recovery.given_up.is_some() {
            self.note(now, EventKind::Recovered, Some(session_id), "recovery succeeded");
        }
        if let Some(Slot { expired: false, authenticated_at, pulse, .. }) = &replaced {
            self.lives.replaced(*authenticated_at, pulse, now);
        }
        self.start_over();
        (role, replaced)
    }

    /// Asks for a person.
    pub fn want_alert(&mut self, cause: Cause, detail: &str) {
        self.alert = Some(Alert { cause, detail: shorten(detail), raised: false });
    }
}

#[cfg(test)]
mod tests;

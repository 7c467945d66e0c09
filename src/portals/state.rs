//! What a portal remembers: its two sessions, its login budget, where recovery stands, and what happened.
//!
//! [`PortalRecord`] is the record; its methods are the rules, pure and synchronous, to be used inside `store::update`.
//! Nothing here waits, logs or looks at a clock.

mod rivalry;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::learning::{Learned, Lives, Pulse};
use super::recipe::Cause;
use super::upkeep::{Drill, Upkeep};
use crate::clock::Time;
use crate::store::Record;
pub use rivalry::Rivalry;

/// Events kept per portal; older ones fall out.
const EVENTS: usize = 100;
/// The longest detail of an event or failure in bytes: a hundred of them fit well into a record.
const DETAIL: usize = 240;
/// The window of the login budget.
pub(super) const BUDGET_WINDOW: Duration = Duration::from_secs(3600);
/// The longest pause between two attempts of one recovery.
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
/// How long after giving up recovery is tried again by itself where that spends a login.
pub(super) const SLOW_RETRY: Duration = Duration::from_secs(3600);
/// The same where it spends nothing, because the portal cannot even be reached.
const SLOW_RETRY_FREE: Duration = Duration::from_secs(60);

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
    pub recovery: Recovery,
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
    pub upkeep: Upkeep,
    /// The last of them that came to an end.
    pub last_drill: Option<Drill>,
    /// Whether two sessions get along at this portal.
    pub rivalry: Rivalry,
}

impl Record for PortalRecord {
    const SPACE: &'static str = "portal";
    const SCHEMA: u8 = 1;
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

/// How far recovery has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Failed attempts since the last success.
    pub failures: u32,
    /// No login before this moment.
    pub retry_at: Option<Time>,
    /// Set when recovery has finally failed.
    pub given_up: Option<Cause>,
    /// Fingerprint of credentials and recipe at that moment: when they change, it is tried again.
    pub basis: String,
    /// What an operator must be told, or was told.
    pub alert: Option<Alert>,
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

/// A failed login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What to do about it depends on this.
    pub cause: Cause,
    /// In words, without secrets.
    pub detail: String,
    /// When.
    pub at: Time,
}

/// Something that happened to a portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the portal's history, from 1.
    pub seq: u64,
    /// When.
    pub at: Time,
    /// What.
    pub kind: EventKind,
    /// The session it is about.
    pub session_id: Option<String>,
    /// In words, without secrets.
    pub detail: String,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A login began.
    LoginStarted,
    /// A code was typed.
    CodeUsed,
    /// A session logged in.
    Authenticated,
    /// A saved session was found alive after a restart or a doubt.
    Restored,
    /// The portal does not know a session any more.
    Expired,
    /// The standby became active.
    Failover,
    /// A login failed.
    LoginFailed,
    /// Recovery has finally failed.
    ReauthFailed,
    /// Recovery succeeded after it had finally failed.
    Recovered,
    /// An operator paused the portal.
    Paused,
    /// An operator resumed it.
    Resumed,
    /// An operator asked for a fresh login.
    ReauthRequested,
    /// The browser died, or hung and was killed, and was replaced.
    BrowserReplaced,
    /// The standby was logged in afresh before its learned end.
    Renewed,
    /// That did not succeed; the former standby lives on.
    RenewalFailed,
    /// The standby was logged in afresh, so credentials, phone and recipe work today.
    DrillPassed,
    /// That did not succeed; the former standby lives on.
    DrillFailed,
    /// A person typed a code for a login.
    CodeTyped,
    /// The portal tolerates one session only, so no second one is kept.
    StandbyGivenUp,
    /// The browser had been in use for long enough and was replaced by a fresh one.
    BrowserRecycled,
    /// A login was cut off, by the end of the process for instance.
    Interrupted,
}

impl EventKind {
    /// The word that clients switch on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoginStarted => "login_started",
            Self::CodeUsed => "code_used",
            Self::Authenticated => "authenticated",
            Self::Restored => "restored",
            Self::Expired => "expired",
            Self::Failover => "failover",
            Self::LoginFailed => "login_failed",
            Self::ReauthFailed => "reauth_failed",
            Self::Recovered => "recovered",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::ReauthRequested => "reauth_requested",
            Self::BrowserReplaced => "browser_replaced",
            Self::Renewed => "renewed",
            Self::RenewalFailed => "renewal_failed",
            Self::DrillPassed => "drill_passed",
            Self::DrillFailed => "drill_failed",
            Self::CodeTyped => "code_typed",
            Self::StandbyGivenUp => "standby_given_up",
            Self::BrowserRecycled => "browser_recycled",
            Self::Interrupted => "interrupted",
        }
    }
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

/// How a recipe limits attempts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts before recovery has finally failed.
    pub attempts: u32,
    /// The pause after the first failure; it doubles.
    pub backoff: Duration,
    /// Logins within an hour.
    pub logins_per_hour: u32,
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
        self.recovery = Recovery { alert: self.recovery.alert.take(), ..Recovery::default() };
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

    /// Takes one login out of the hour's budget.
    ///
    /// # Errors
    /// When it is spent: the moment at which one comes back.
    pub fn spend_login(&mut self, per_hour: u32, now: Time) -> Result<(), Time> {
        // A clock that was set back must not keep the account locked until it has caught up.
        self.logins.iter_mut().for_each(|at| *at = (*at).min(now));
        self.logins.retain(|at| now.since(*at) < BUDGET_WINDOW);
        if self.logins.len() >= per_hour as usize {
            let oldest = self.logins.first().copied().unwrap_or(now);
            return Err(oldest + BUDGET_WINDOW);
        }
        self.logins.push(now);
        Ok(())
    }

    /// Puts the login back that was spent at that moment: it turned out that the portal was down.
    pub fn refund_login(&mut self, spent: Time) {
        if let Some(index) = self.logins.iter().rposition(|at| *at == spent) {
            self.logins.remove(index);
        }
    }

    /// Notes that a login begins. With other credentials or another recipe than those that failed, recovery begins anew:
    /// its attempts and pauses are no longer those of the failure.
    pub fn begin_login(&mut self, session_id: &str, detail: &str, basis: &str, now: Time) {
        if self.recovery.given_up.is_some() && self.recovery.basis != basis {
            self.start_over();
        }
        self.login = Some(session_id.to_owned());
        self.note(now, EventKind::LoginStarted, Some(session_id), detail);
    }

    /// A login that had begun was cut off, if there was one.
    pub fn interrupt_login(&mut self, why: &str, now: Time) {
        if let Some(id) = self.login.take() {
            self.note(now, EventKind::Interrupted, Some(&id), why);
        }
    }

    /// Records a failed login and decides when, and whether, the next one comes. `jitter` moves a pause a little.
    /// Returns whether recovery has finally failed with this, for a reason that was not known yet.
    pub fn fail(
        &mut self,
        failure: &Failure,
        limits: Limits,
        basis: &str,
        jitter: impl Fn(Duration) -> Duration,
    ) -> bool {
        let Failure { cause, at, .. } = *failure;
        let detail = shorten(&failure.detail);
        self.login = None;
        self.note(at, EventKind::LoginFailed, None, &format!("{cause}: {detail}"));
        self.recovery.failures += 1;
        let failures = self.recovery.failures;
        let finally = cause.pointless() || failures >= limits.attempts;
        // Asked for, it has its attempts as any other recovery, even while sessions live.
        self.reauth &= !finally;
        let doubled = limits.backoff.saturating_mul(1 << (failures - 1).min(16));
        self.recovery.retry_at = match (finally, cause) {
            (false, _) => Some(at + jitter(doubled.min(LONGEST_BACKOFF))),
            (true, Cause::BadCredentials | Cause::Captcha) => None,
            (true, Cause::BudgetSpent) => self.logins.first().map(|oldest| *oldest + BUDGET_WINDOW),
            (true, Cause::PortalDown) => Some(at + jitter(SLOW_RETRY_FREE)),
            (true, _) => Some(at + jitter(SLOW_RETRY)),
        };
        self.last_failure = Some(Failure { cause, detail: detail.clone(), at });
        // A slow retry that ends as the one before is no news; after a wish or a change it would be.
        let known = self.recovery.given_up == Some(cause) && self.recovery.basis == basis;
        if finally && !known {
            self.recovery.given_up = Some(cause);
            self.recovery.basis = basis.to_owned();
            self.note(at, EventKind::ReauthFailed, None, &gave_up(failures, cause));
            self.want_alert(cause, &detail);
        }
        finally && !known
    }

    /// Asks for a person.
    pub fn want_alert(&mut self, cause: Cause, detail: &str) {
        self.recovery.alert = Some(Alert { cause, detail: shorten(detail), raised: false });
    }

    /// Forgets earlier failures, because an operator asked or something changed.
    pub fn start_over(&mut self) {
        self.upkeep = Upkeep::default();
        self.recovery = Recovery { alert: self.recovery.alert.take(), ..Recovery::default() };
    }

    /// Whether a login may be attempted at `now`, given the present credentials and recipe.
    pub fn may_log_in(&self, now: Time, basis: &str) -> bool {
        if self.paused {
            return false;
        }
        let changed = self.recovery.given_up.is_some() && self.recovery.basis != basis;
        // No pause is that long: the clock has been set back since.
        let impossible = now + SLOW_RETRY * 2;
        let due = self.recovery.retry_at.is_none_or(|at| at <= now || at > impossible);
        changed || (due && (self.recovery.given_up.is_none() || self.recovery.retry_at.is_some()))
    }

    /// Adds to the history.
    pub fn note(&mut self, at: Time, kind: EventKind, session_id: Option<&str>, detail: &str) {
        self.event_count += 1;
        let (seq, session_id) = (self.event_count, session_id.map(str::to_owned));
        self.events.push(Event { seq, at, kind, session_id, detail: shorten(detail) });
        if self.events.len() > EVENTS {
            self.events.remove(0);
        }
    }
}

fn gave_up(failures: u32, cause: Cause) -> String {
    match failures {
        1 => format!("gave up after one attempt: {cause}"),
        _ => format!("gave up after {failures} attempts: {cause}"),
    }
}

pub(super) fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(DETAIL)].to_owned()
}

#[cfg(test)]
mod tests;

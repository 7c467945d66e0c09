//! Logins that are made before they are needed: a renewal, because the standby nears its learned end, and a drill, because
//! nobody should find out in an emergency that the password, the phone or the page is another one by now.
//!
//! They are held to stricter rules than recovery: every session must live, one login of the hour's budget stays for a real
//! recovery, and a failure costs nothing but a second try. Pure rules on the [`PortalRecord`], as in `state`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::recipe::Cause;
use super::state::{
    Attempts, BUDGET_WINDOW, EventKind, Failure, LONGEST_BACKOFF, Limits, PortalRecord, SLOW_RETRY, shorten,
};
use crate::clock::Time;

/// Logins of the hour's budget that upkeep leaves for a recovery.
pub const SPARED: u32 = 1;
/// How long after it has finally failed upkeep is tried again by itself, where that may help.
const NEXT_DAY: Duration = Duration::from_secs(86_400);

/// Why a login is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A place lacks a session, or an operator asked.
    Need,
    /// The standby nears its learned end.
    Renewal,
    /// To know that it works.
    Drill,
}

impl Purpose {
    /// What the history says of such a login when it begins.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Need => "",
            Self::Renewal => "renewal: the standby nears the age at which sessions of this portal end",
            Self::Drill => "drill: to know that credentials, phone and recipe work",
        }
    }
}

/// What a login came to that was made before it was needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// When it ended.
    pub at: Time,
    /// Whether the session was there.
    pub ok: bool,
    /// In words, without secrets.
    pub detail: String,
}

impl PortalRecord {
    /// Whether a login may be made at `now` although none is needed.
    pub fn may_keep_up(&self, limits: Limits, basis: &str, now: Time) -> bool {
        let spent = self.logins.iter().filter(|at| now.since(**at) < BUDGET_WINDOW).count();
        let left = (limits.logins_per_hour as usize).saturating_sub(spent);
        let calm = !self.paused && !self.reauth && self.recovery.failures == 0 && self.recovery.given_up.is_none();
        calm && self.whole(true) && left > SPARED as usize && (self.upkeep_due(now) || self.upkeep.outdated(basis))
    }

    fn upkeep_due(&self, now: Time) -> bool {
        // No pause is that long: the clock has been set back since.
        let impossible = now + NEXT_DAY * 2;
        match self.upkeep.retry_at {
            Some(at) => at <= now || at > impossible,
            None => self.upkeep.given_up.is_none(),
        }
    }

    /// Logins of the hour's budget that a login leaves untouched which was begun for this. One that was not needed then is
    /// the recovery as soon as a session is missing.
    pub fn spares(&self, purpose: Purpose) -> u32 {
        if purpose == Purpose::Need || !self.whole(true) { 0 } else { SPARED }
    }

    /// A login succeeded that was made before it was needed.
    pub fn kept_up(&mut self, purpose: Purpose, session_id: &str, now: Time) {
        let (kind, detail) = match purpose {
            Purpose::Need => return,
            Purpose::Renewal => (EventKind::Renewed, "the standby was renewed: credentials, phone and recipe work"),
            Purpose::Drill => (EventKind::DrillPassed, "credentials, phone and recipe work"),
        };
        self.note(now, kind, Some(session_id), detail);
        self.last_drill = Some(Drill { at: now, ok: true, detail: detail.to_owned() });
    }

    /// A login failed that was made before it was needed; nobody lost a session. `jitter` moves a pause a little. Returns
    /// whether upkeep has finally failed with this.
    pub fn fail_upkeep(
        &mut self,
        purpose: Purpose,
        failure: &Failure,
        limits: Limits,
        basis: &str,
        jitter: impl Fn(Duration) -> Duration,
    ) -> bool {
        let Failure { cause, at, .. } = *failure;
        let detail = shorten(&format!("{cause}: {}", failure.detail));
        self.login = None;
        let kind = if purpose == Purpose::Renewal { EventKind::RenewalFailed } else { EventKind::DrillFailed };
        self.note(at, kind, None, &detail);
        self.last_failure = Some(Failure { cause, detail: shorten(&failure.detail), at });
        self.upkeep.failures += 1;
        let doubled = limits.backoff.saturating_mul(1 << (self.upkeep.failures - 1).min(16));
        // What says nothing about credentials, phone and recipe is put off, however often.
        if matches!(cause, Cause::PortalDown | Cause::BudgetSpent) {
            self.upkeep.failures = 0;
            self.upkeep.retry_at = Some(at + jitter(SLOW_RETRY));
            return false;
        }
        if !cause.pointless() && self.upkeep.failures < limits.attempts {
            self.upkeep.retry_at = Some(at + jitter(doubled.min(LONGEST_BACKOFF)));
            return false;
        }
        self.last_drill = Some(Drill { at, ok: false, detail: detail.clone() });
        let retry_at = (!cause.pointless()).then(|| at + jitter(NEXT_DAY));
        let known = self.upkeep.given_up == Some(cause) && self.upkeep.basis == basis;
        self.upkeep = Attempts { failures: 0, retry_at, given_up: Some(cause), basis: basis.to_owned() };
        if !known {
            let what = if purpose == Purpose::Renewal { "a renewal" } else { "a drill" };
            let told = format!("{what} failed, a login that is not needed yet but soon will be: {detail}");
            self.want_alert(cause, &told);
        }
        !known
    }
}

#[cfg(test)]
mod tests;

//! Attempts to log in: how many an hour has, when the next one may come after one that failed, and when it is given up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EventKind, PortalRecord, shorten};
use crate::clock::Time;
use crate::portals::recipe::Cause;

/// The window of the login budget.
pub(in crate::portals) const BUDGET_WINDOW: Duration = Duration::from_secs(3600);
/// The longest pause between two attempts of one recovery.
pub(in crate::portals) const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
/// How long after giving up recovery is tried again by itself where that spends a login.
pub(in crate::portals) const SLOW_RETRY: Duration = Duration::from_secs(3600);
/// The same where it spends nothing, because the portal cannot even be reached.
const SLOW_RETRY_FREE: Duration = Duration::from_secs(60);

/// How far somebody has come who tries to log in: recovery, or upkeep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failed attempts since the last login that succeeded.
    pub failures: u32,
    /// No login before this moment.
    pub retry_at: Option<Time>,
    /// Set when it has finally failed.
    pub given_up: Option<Cause>,
    /// Fingerprint of credentials and recipe at that moment: when they change, it is tried again.
    pub basis: String,
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

impl Attempts {
    /// Whether it failed with other credentials, or by another recipe.
    pub fn outdated(&self, basis: &str) -> bool {
        self.given_up.is_some() && self.basis != basis
    }

    /// Whether a login is owed: one has failed, and nothing has shown since that it works again.
    pub const fn owed(&self) -> bool {
        self.failures > 0 || self.given_up.is_some()
    }
}

impl PortalRecord {
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
        if self.recovery.outdated(basis) {
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

    /// Forgets earlier failures, because an operator asked or something changed.
    pub fn start_over(&mut self) {
        self.upkeep = Attempts::default();
        self.recovery = Attempts::default();
    }

    /// Whether a login may be attempted at `now`, given the present credentials and recipe.
    pub fn may_log_in(&self, now: Time, basis: &str) -> bool {
        if self.paused {
            return false;
        }
        let changed = self.recovery.outdated(basis);
        // No pause is that long: the clock has been set back since.
        let impossible = now + SLOW_RETRY * 2;
        let due = self.recovery.retry_at.is_none_or(|at| at <= now || at > impossible);
        changed || (due && (self.recovery.given_up.is_none() || self.recovery.retry_at.is_some()))
    }
}

fn gave_up(failures: u32, cause: Cause) -> String {
    match failures {
        1 => format!("gave up after one attempt: {cause}"),
        _ => format!("gave up after {failures} attempts: {cause}"),
    }
}

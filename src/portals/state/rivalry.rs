//! A portal that ends the one session when the other logs in, although two were configured: noticed by the pattern of the
//! deaths, and ended by keeping one session only. Otherwise each would be logged in anew and kick the other out until the
//! hour's logins were spent.

use serde::{Deserialize, Serialize};

use super::{EventKind, PortalRecord};
use crate::clock::Time;
use crate::portals::recipe::Cause;

/// Sessions in a row that died of the other's login before it is believed: one may have died of something else.
const KICKS: u32 = 2;

/// What is known about the sessions' getting along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rivalry {
    /// Sessions in a row that were not seen alive after the other one had logged in.
    kicks: u32,
    /// Set when a second session was given up: the fingerprint of credentials and recipe then.
    conceded: Option<String>,
}

impl PortalRecord {
    /// A session has just been marked as expired. `doubted`: it had not been found alive since another one logged in, which
    /// is asked right after that login. When that happens for the second time in a row while the other lives, the second
    /// place is given up and a person told. Returns whether that happened.
    pub fn died(&mut self, session_id: &str, doubted: bool, basis: &str, now: Time) -> bool {
        let other_lives = self.slots().any(|(_, slot)| slot.session_id != session_id && !slot.expired);
        let kicked = doubted && other_lives;
        self.rivalry.kicks = if kicked { self.rivalry.kicks + 1 } else { 0 };
        if self.rivalry.kicks < KICKS {
            return false;
        }
        self.rivalry = Rivalry { kicks: 0, conceded: Some(basis.to_owned()) };
        self.leave_one(now);
        let told = "each login ended the other session: only one is kept until the configuration changes";
        self.note(now, EventKind::StandbyGivenUp, Some(session_id), told);
        self.want_alert(Cause::OneSession, told);
        true
    }

    /// A session was found alive after the other one had logged in: where both live, they get along, and what ended others
    /// was something else. A portal that tolerates just two may end one of them with each drill.
    pub fn survived(&mut self) {
        if self.whole(true) {
            self.rivalry.kicks = 0;
        }
    }

    /// Whether the portal has shown that it tolerates one session only, with these credentials and this recipe.
    pub fn tolerates_one(&self, basis: &str) -> bool {
        self.rivalry.conceded.as_deref() == Some(basis)
    }

    /// Forgets what was learned when it is about other settings; `single` says that the operator wants one session only.
    pub fn forget_rivalry(&mut self, basis: &str, single: bool) {
        if single || !self.tolerates_one(basis) {
            self.rivalry.conceded = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASIS: &str = "b1";

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_000_000 + seconds * 1000)
    }

    /// The session dies; whether the second place was given up.
    fn dies(record: &mut PortalRecord, id: &str, doubted: bool, now: u64) -> bool {
        record.expire(id, "401", at(now));
        record.died(id, doubted, BASIS, at(now))
    }

    #[test]
    fn two_sessions_that_kick_each_other_out_are_told_from_two_that_die() {
        let mut record = PortalRecord::default();
        record.admit("a", true, "", at(0));
        record.admit("b", true, "", at(10));
        assert!(!dies(&mut record, "a", true, 20), "once is no pattern");
        record.admit("c", true, "", at(30));
        assert!(!dies(&mut record, "b", false, 50), "it had lived beside the other");
        record.admit("d", true, "", at(60));
        assert!(!dies(&mut record, "c", true, 70));
        record.admit("e", true, "", at(80));
        assert!(dies(&mut record, "d", true, 90));
        assert!(record.tolerates_one(BASIS) && !record.tolerates_one("b2"));
        assert_eq!((record.serving().unwrap().session_id.as_str(), &record.standby), ("e", &None));
        assert_eq!(record.alert.as_ref().unwrap().cause, Cause::OneSession);
        record.forget_rivalry(BASIS, false);
        assert!(record.tolerates_one(BASIS), "a restart changes nothing");
        record.forget_rivalry(BASIS, true);
        assert!(!record.tolerates_one(BASIS));
    }

    #[test]
    fn sessions_that_have_lived_side_by_side_are_no_rivals() {
        let mut record = PortalRecord::default();
        record.admit("a", true, "", at(0));
        record.admit("b", true, "", at(10));
        for (round, old, new) in [(1, "a", "c"), (2, "b", "d"), (3, "c", "e")] {
            assert!(!dies(&mut record, old, true, round * 100), "a drill was one login too many");
            record.survived();
            record.admit(new, true, "", at(round * 100 + 10));
            record.survived();
        }
        let mut alone = PortalRecord::default();
        alone.admit("a", true, "", at(0));
        alone.admit("b", true, "", at(10));
        assert!(!dies(&mut alone, "a", true, 20));
        alone.survived();
        alone.admit("c", true, "", at(30));
        assert!(dies(&mut alone, "b", true, 40), "one that is left alone says nothing about two");
    }

    #[test]
    fn sessions_that_all_die_together_say_nothing() {
        let mut record = PortalRecord::default();
        for _ in 0..3 {
            record.admit("a", true, "", at(0));
            record.admit("b", true, "", at(10));
            assert!(!dies(&mut record, "b", false, 20));
            assert!(!dies(&mut record, "a", true, 20), "nobody is left who could have ended it");
        }
    }
}

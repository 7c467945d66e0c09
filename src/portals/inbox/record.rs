//! The record of a phone: what must be known about it after a restart.
//!
//! Pure rules over one small struct; whoever calls them stores the result by compare-and-swap, which is what makes "used
//! once" true. No text is in it: messages and codes are known by keyed fingerprints, the one buffered code is sealed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::signs::Signs;
use super::{PhoneState, PhoneStatus, Reason};
use crate::clock::Time;
use crate::store::{Kind, Record};

/// How long a buffered code lives: what the relay of story 1 settled on. Portals give a code for 2 to 5 minutes.
pub const BUFFER_LIFE: Duration = Duration::from_secs(30);

/// How long a message is remembered, so that it counts once.
const SEEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a rejected code is remembered, beyond its login and across restarts: as long as a message may be on its way.
/// Shorter than for messages, because some day the same digits will be a new code.
const REJECTED_LIFE: Duration = super::OLDEST;

/// How many rejected codes are remembered; an account that has more is stopped by its budget long before.
const REJECTED_MAX: usize = 16;

/// How many messages are remembered; a phone that receives more in a day forgets the oldest first.
const SEEN_MAX: usize = 64;

/// How long an accepted code proves a phone.
const PROOF_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A keyed fingerprint, cut to the 128 bits that suffice to tell messages apart.
pub(super) type Print = [u8; 16];

/// A phone, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Phone {
    /// The messages of the last day, oldest first.
    seen: Vec<Seen>,
    /// Counts the requests for a code; a code belongs to the one it came after.
    window: u64,
    /// The newest code of this window.
    latest: Option<Mark>,
    /// The code that waits for its login.
    code: Option<Held>,
    /// The codes that portals have rejected of late, oldest first.
    rejected: Vec<Seen>,
    /// The last authentic event.
    pub(super) last_seen_at: Option<Time>,
    /// The last SMS, of use or not.
    last_sms_at: Option<Time>,
    /// When a login last accepted a code from this phone.
    pub(super) accepted_at: Option<Time>,
    /// When a login last waited in vain, if no code has come since.
    pub(super) vain_at: Option<Time>,
    /// Whether it should have been heard of.
    pub(super) signs: Signs,
}

/// A message that must not count again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    print: Print,
    at: Time,
}

/// When a message was sent and came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) sent_at: Option<Time>,
    pub(super) arrived_at: Time,
}

/// A code that waits for its login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) sealed: Vec<u8>,
    pub(super) print: Print,
    pub(super) window: u64,
    pub(super) mark: Mark,
}

/// The kinds of records that are kept here.
pub(in crate::portals) const KINDS: &[Kind] = &[Kind::of::<Phone>()];

impl Record for Phone {
    const SPACE: &'static str = "phone";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

impl Phone {
    /// A login is about to ask for a code: what came until now is of no use to it. Returns the new window's number.
    pub(super) fn open_window(&mut self) -> u64 {
        self.window += 1;
        (self.latest, self.code) = (None, None);
        self.window
    }

    /// Takes note of a message and keeps the code that it `offer`s, unless it was here before or is too old.
    pub(super) fn receive(&mut self, print: Print, now: Time, offer: &Result<Held, Reason>) -> Result<(), Reason> {
        self.heard(now);
        self.last_sms_at = Some(now);
        self.code.take_if(|held| now.since(held.mark.arrived_at) >= BUFFER_LIFE);
        self.seen.retain(|seen| now.since(seen.at) < SEEN_LIFE);
        if self.seen.iter().any(|seen| seen.print == print) {
            return Err(Reason::Duplicate);
        }
        // Refused ones as well: a message without a carrier time that comes again in a later login is still an old one.
        self.seen.push(Seen { print, at: now });
        let excess = self.seen.len().saturating_sub(SEEN_MAX);
        self.seen.drain(..excess);
        let held = offer.as_ref().map_err(|reason| *reason)?;
        if self.is_rejected(&held.print, now) {
            return Err(Reason::Duplicate);
        }
        if held.window != self.window || self.latest.is_some_and(|latest| held.mark.older_than(latest)) {
            return Err(Reason::Stale);
        }
        self.latest = Some(held.mark);
        self.code = Some(held.clone());
        Ok(())
    }

    /// Something authentic came from it.
    pub(super) fn heard(&mut self, now: Time) {
        self.last_seen_at = Some(now);
        self.signs.heard();
    }

    /// Gives the code of this window away, once, while it lives. One that the portal has rejected is dropped, and one that
    /// was sent before the last that the login got, from whatever phone.
    pub(super) fn take(&mut self, window: u64, rejected: &[Print], last: Option<Mark>, now: Time) -> Option<Held> {
        let held = self.code.take_if(|held| held.window == window)?;
        let known = rejected.contains(&held.print) || last.is_some_and(|last| held.mark.older_than(last));
        let fresh = now.since(held.mark.arrived_at) < BUFFER_LIFE && !known;
        if fresh {
            self.vain_at = None;
        }
        fresh.then_some(held)
    }

    /// A portal has rejected this code. In whatever message it comes again, it is not to be typed.
    pub(super) fn reject(&mut self, print: Print, now: Time) {
        self.rejected.retain(|rejected| now.since(rejected.at) < REJECTED_LIFE);
        self.rejected.push(Seen { print, at: now });
        let excess = self.rejected.len().saturating_sub(REJECTED_MAX);
        self.rejected.drain(..excess);
    }

    fn is_rejected(&self, print: &Print, now: Time) -> bool {
        self.rejected.iter().any(|rejected| rejected.print == *print && now.since(rejected.at) < REJECTED_LIFE)
    }

    /// What is known about the phone at `now`; `missed`: it should have been heard of.
    pub(super) fn status(&self, missed: bool, now: Time) -> PhoneStatus {
        let proven = self.accepted_at.is_some_and(|at| now.since(at) < PROOF_LIFE);
        let state = match (missed || self.vain_at.is_some(), proven) {
            (true, _) => PhoneState::Silent,
            (false, true) => PhoneState::Proven,
            (false, false) => PhoneState::Unproven,
        };
        let Self { last_seen_at, last_sms_at, accepted_at: proven_at, .. } = *self;
        PhoneStatus { last_seen_at, last_sms_at, proven_at, state }
    }
}

impl Mark {
    /// Whether this was sent before the other. Carriers often tell whole seconds, so within one second, and where one of
    /// them has no carrier time, what arrives later is newer.
    fn older_than(self, other: Self) -> bool {
        match (self.sent_at, other.sent_at) {
            (Some(this), Some(other)) => second(this) < second(other),
            _ => self.arrived_at < other.arrived_at,
        }
    }
}

/// The second that a moment lies in.
pub(super) const fn second(time: Time) -> u64 {
    time.as_millis() / 1000
}

#[cfg(test)]
mod tests {

    use super::*;

    const NOW: Time = Time::from_millis(1_763_627_488_000);

    fn held(window: u64, sent_at: Option<Time>, arrived_at: Time) -> Held {
        Held { sealed: vec![1, 2, 3], print: [7; 16], window, mark: Mark { sent_at, arrived_at } }
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let held = held(3, Some(NOW), NOW);
        let phone = Phone {
            seen: vec![Seen { print: [9; 16], at: NOW }],
            window: 3,
            latest: Some(held.mark),
            code: Some(held),
            rejected: vec![Seen { print: [8; 16], at: NOW }],
            last_seen_at: Some(NOW),
            last_sms_at: Some(NOW),
            accepted_at: None,
            vain_at: Some(NOW),
            signs: Signs::default(),
        };
        let golden = "0109090909090909090909090909090909fd00d363a09a010000\
                      03\
                      0101fd00d363a09a010000fd00d363a09a010000\
                      0103010203070707070707070707070707070707070301fd00d363a09a010000fd00d363a09a010000\
                      0108080808080808080808080808080808fd00d363a09a010000\
                      01fd00d363a09a010000\
                      01fd00d363a09a010000\
                      00\
                      01fd00d363a09a010000\
                      000000000000";
        crate::store::golden::<Phone>(&phone, golden);
    }

    #[test]
    fn a_phone_remembers_a_day_and_no_more_than_its_share() {
        let mut phone = Phone::default();
        let refuse = Err(Reason::NoCode);
        for n in 0..=SEEN_MAX as u8 {
            assert_eq!(phone.receive([n; 16], NOW, &refuse), Err(Reason::NoCode));
        }
        assert_eq!(phone.seen.len(), SEEN_MAX);
        assert_eq!(phone.receive([1; 16], NOW, &refuse), Err(Reason::Duplicate));
        assert_eq!(phone.receive([1; 16], NOW + SEEN_LIFE, &refuse), Err(Reason::NoCode), "forgotten after a day");
        // A full record is far below what a record may hold.
        assert!(bincode::serialize(&phone).unwrap().len() < 4096);
    }

    #[test]
    fn a_code_is_taken_once_in_its_window_and_in_its_time() {
        let mut phone = Phone::default();
        let window = phone.open_window();
        let offer = |n| Ok(held(n, Some(NOW), NOW));
        assert_eq!(phone.receive([1; 16], NOW, &offer(window + 1)), Err(Reason::Stale));
        assert_eq!(phone.receive([2; 16], NOW, &offer(window)), Ok(()));
        assert_eq!(phone.clone().take(window, &[[7; 16]], None, NOW), None, "rejected before");
        assert_eq!(phone.clone().take(window + 1, &[], None, NOW), None);
        assert_eq!(phone.clone().take(window, &[], None, NOW + BUFFER_LIFE), None);
        assert!(phone.take(window, &[], None, NOW + BUFFER_LIFE - Duration::from_millis(1)).is_some());
        assert_eq!(phone.take(window, &[], None, NOW), None);
    }

    #[test]
    fn a_rejected_code_is_refused_in_a_later_login_too_for_a_while() {
        let mut phone = Phone::default();
        let window = phone.open_window();
        phone.reject([7; 16], NOW);
        let offer = |n| Ok(held(n, None, NOW));
        assert_eq!(phone.receive([1; 16], NOW, &offer(window)), Err(Reason::Duplicate));
        let later = phone.open_window();
        assert_eq!(phone.receive([2; 16], NOW, &offer(later)), Err(Reason::Duplicate));
        assert_eq!(phone.receive([3; 16], NOW + REJECTED_LIFE, &offer(later)), Ok(()));
        for n in 0..=REJECTED_MAX as u8 {
            phone.reject([n; 16], NOW);
        }
        assert_eq!(phone.rejected.len(), REJECTED_MAX);
    }

    #[test]
    fn an_older_message_that_comes_later_is_stale() {
        let mut phone = Phone::default();
        let window = phone.open_window();
        let later = NOW + Duration::from_secs(5);
        assert_eq!(phone.receive([1; 16], later, &Ok(held(window, Some(later), later))), Ok(()));
        assert_eq!(phone.receive([2; 16], later, &Ok(held(window, Some(NOW), later))), Err(Reason::Stale));
        assert_eq!(phone.receive([3; 16], later, &Ok(held(window, None, later))), Ok(()));
    }
}

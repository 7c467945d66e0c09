//! Signs of life: whether a phone should have been heard of by now. Pure rules over what a phone's record remembers.
//!
//! A phone that never says anything unless it has an SMS is missed only if the operator says after how long. One whose app
//! pings is missed when the pings that used to come stay away: that is learned from it, slowly forgotten and quickly
//! widened, so that a phone that pings less often than it did is called silent once and not for ever.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::config::SilentAfter;

/// Gaps between pings after which they count as a habit.
const HABIT: u8 = 3;
/// How many usual gaps a phone may miss.
const PATIENCE: u64 = 4;
/// A learned silence is never shorter: phones sleep.
const SHORTEST: u64 = 60 * 60 * 1000;
/// The longest gap that is learned: further apart they are no watch.
const LONGEST_GAP: u64 = 24 * 60 * 60 * 1000;
/// Pings closer than this are one ping, sent again.
const REPEATED: Duration = Duration::from_secs(60);

/// What is remembered of a phone's signs of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signs {
    /// Since when a phone that was never heard of is expected to speak.
    expected_since: Option<Time>,
    last_ping_at: Option<Time>,
    /// Gaps seen, up to [`HABIT`].
    gaps: u8,
    /// The usual gap between two pings, in milliseconds.
    gap: u64,
    /// When its forwarder's server said that it has lost it, if nothing came since.
    gone_at: Option<Time>,
    /// Somebody was told that it is silent.
    told: Option<Told>,
}

/// Of which silence somebody was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    last_seen_at: Option<Time>,
}

/// When a phone is missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) after: SilentAfter,
    /// Since when this process listens.
    pub(super) started: Time,
}

/// What is to be said about a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::portals) enum News {
    /// It has fallen silent.
    Silent,
    /// It is heard of again.
    Heard,
    /// It is as silent as before, but nobody wants to know any more.
    Ignored,
}

impl Signs {
    /// Anything authentic came from it.
    pub(super) fn heard(&mut self) {
        self.gone_at = None;
    }

    /// It says that it is there.
    pub(super) fn ping(&mut self, now: Time) {
        let gap = self.last_ping_at.map(|last| now.since(last));
        if gap.is_some_and(|gap| gap < REPEATED) {
            return;
        }
        self.last_ping_at = Some(now);
        if let Some(gap) = gap {
            let gap = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX).min(LONGEST_GAP);
            self.gap = if gap > self.gap { gap } else { (self.gap * 3 + gap) / 4 };
            self.gaps = (self.gaps + 1).min(HABIT);
        }
    }

    /// Its forwarder's server has lost it.
    pub(super) fn gone(&mut self, now: Time) {
        self.gone_at = Some(now);
    }

    /// Whether it should have been heard of, having last been seen at `seen`.
    pub(super) fn missed(&self, watch: Watch, seen: Option<Time>, now: Time) -> bool {
        let Some(limit) = self.limit(watch.after) else {
            return self.gone_at.is_some() && watch.after != SilentAfter::Off;
        };
        if self.gone_at.is_some() || self.told.is_some_and(|told| told.last_seen_at == seen) {
            return true;
        }
        // While this process was not there nobody could be heard: after a start there is some time to speak up.
        let since = seen.max(self.expected_since);
        since.is_some_and(|since| now.since(since) >= limit) && now.since(watch.started) >= limit / 4
    }

    /// Looks whether there is something to say about it.
    pub(super) fn look(&mut self, watch: Watch, seen: Option<Time>, now: Time) -> Option<News> {
        if seen.is_none() && self.expected_since.is_none() && matches!(watch.after, SilentAfter::Time(_)) {
            self.expected_since = Some(now);
        }
        match (self.missed(watch, seen, now), self.told) {
            (true, None) => Some(News::Silent),
            (false, Some(told)) if told.last_seen_at == seen => Some(News::Ignored),
            (false, Some(_)) => Some(News::Heard),
            _ => None,
        }
    }

    /// Somebody was told.
    pub(super) fn tell(&mut self, news: News, seen: Option<Time>) {
        self.told = (news == News::Silent).then_some(Told { last_seen_at: seen });
    }

    fn limit(&self, after: SilentAfter) -> Option<Duration> {
        match after {
            SilentAfter::Off => None,
            SilentAfter::Time(limit) => Some(limit),
            SilentAfter::Learned => {
                (self.gaps >= HABIT).then(|| Duration::from_millis((self.gap * PATIENCE).max(SHORTEST)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(1_763_627_488_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn watch(after: SilentAfter) -> Watch {
        Watch { after, started: START }
    }

    /// A phone that has pinged every `gap` so often, and when it last did.
    fn pinged(gap: Duration, times: u32) -> (Signs, Time) {
        let mut signs = Signs::default();
        (0..times).for_each(|n| signs.ping(START + gap * n));
        (signs, START + gap * (times - 1))
    }

    #[test]
    fn a_habit_is_learned_and_its_end_is_missed() {
        let learned = watch(SilentAfter::Learned);
        let (signs, last) = pinged(HOUR, 3);
        assert!(!signs.missed(learned, Some(last), last + HOUR * 1000), "twice may be chance");
        let (signs, last) = pinged(HOUR, 4);
        assert!(!signs.missed(learned, Some(last), last + HOUR * 4 - Duration::from_millis(1)));
        assert!(signs.missed(learned, Some(last), last + HOUR * 4));
        assert!(!signs.missed(learned, Some(last + HOUR), last + HOUR * 4), "an SMS is a sign of life as well");
        assert!(!signs.missed(watch(SilentAfter::Off), Some(last), last + HOUR * 1000));
        let (signs, last) = pinged(Duration::from_secs(5), 10);
        assert!(!signs.missed(learned, Some(last), last + HOUR * 1000), "one ping, sent again and again");
        let (signs, last) = pinged(Duration::from_secs(60), 100);
        assert!(!signs.missed(learned, Some(last), last + HOUR / 2), "phones sleep");
    }

    #[test]
    fn a_new_habit_is_learned_at_once_when_it_is_slower() {
        let learned = watch(SilentAfter::Learned);
        let (mut signs, last) = pinged(HOUR / 4, 50);
        let later = last + HOUR * 12;
        assert!(signs.missed(learned, Some(last), later));
        signs.ping(later);
        assert!(!signs.missed(learned, Some(later), later + HOUR * 12), "it is not called silent again");
        (1..40).for_each(|n| signs.ping(later + HOUR / 4 * n));
        let last = later + HOUR / 4 * 39;
        assert!(signs.missed(learned, Some(last), last + HOUR * 2), "and quicker again after a while");
    }

    #[test]
    fn what_the_operator_says_counts_from_the_first_look() {
        let watch = watch(SilentAfter::Time(HOUR));
        let mut signs = Signs::default();
        assert_eq!(signs.look(watch, None, START), None);
        assert_eq!(signs.look(watch, None, START + HOUR), Some(News::Silent), "never heard of at all");
        signs.tell(News::Silent, None);
        assert_eq!(signs.look(watch, None, START + HOUR * 2), None, "told once");
        let off = Watch { after: SilentAfter::Off, ..watch };
        assert_eq!(signs.look(off, None, START + HOUR * 2), Some(News::Ignored), "the operator has switched it off");
        assert_eq!(signs.look(watch, Some(START + HOUR * 2), START + HOUR * 2), Some(News::Heard));
        signs.tell(News::Heard, Some(START + HOUR * 2));
        assert_eq!(signs.look(watch, Some(START + HOUR * 2), START + HOUR * 3), Some(News::Silent));
    }

    #[test]
    fn after_a_start_there_is_time_to_speak_up_but_what_was_told_stays_told() {
        let again = Watch { after: SilentAfter::Time(HOUR), started: START + HOUR * 10 };
        let mut signs = Signs::default();
        assert!(!signs.missed(again, Some(START), START + HOUR * 10));
        assert!(signs.missed(again, Some(START), START + HOUR * 10 + HOUR / 4));
        signs.tell(News::Silent, Some(START));
        assert!(signs.missed(again, Some(START), START + HOUR * 10));
    }

    #[test]
    fn a_phone_that_its_server_has_lost_is_missed_until_it_is_heard() {
        let (mut signs, learned) = (Signs::default(), watch(SilentAfter::Learned));
        signs.gone(START);
        assert!(signs.missed(learned, Some(START), START) && !signs.missed(watch(SilentAfter::Off), None, START));
        signs.heard();
        assert!(!signs.missed(learned, Some(START), START));
    }
}

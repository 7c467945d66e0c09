//! How much may be tried about one address: wrong guesses over all doors, and mails with codes. Both live in the address's
//! record, so a restart refills nothing, and unknown addresses have them as well. Pure rules; nothing here knows what was
//! guessed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// Wrong guesses that one address takes at once. With five tries a code and ten codes a day, luck against six digits stays
/// at 5 in 100,000 a day; NIST SP 800-63B allows 100 failures in a row.
const GUESSES: u32 = 10;
/// After this long one guess comes back.
const RETURNS: Duration = Duration::from_secs(30 * 60);

/// Mails with a code to one address within an hour, and within a day.
const WITHIN: [(usize, Duration); 2] = [(5, Duration::from_secs(3600)), (10, Duration::from_secs(24 * 3600))];

/// The guesses left, as the moment from which all of them are there again: one number says it for every moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Budget {
    full_at: Time,
}

impl Budget {
    /// Takes one guess; when there is none, tells the moment of the next.
    pub(super) fn take(&mut self, now: Time) -> Result<(), Time> {
        let all = RETURNS * GUESSES;
        // A clock that was set back must not lock an address for longer than the budget is.
        let full_at = self.full_at.clamp(now, now + all);
        let taken = full_at + RETURNS;
        if taken > now + all {
            return Err(taken - all);
        }
        self.full_at = taken;
        Ok(())
    }

    /// Whether there is a guess; when there is none, the moment of the next.
    pub(super) fn check(mut self, now: Time) -> Result<(), Time> {
        self.take(now)
    }

    /// Gives back one guess that was right.
    pub(super) fn give_back(&mut self) {
        self.full_at = self.full_at - RETURNS;
    }

    /// From when on this is as good as new.
    pub(super) fn full_at(self) -> Time {
        self.full_at
    }
}

/// The mails with codes that went to one address in the last day, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent(Vec<Time>);

impl Sent {
    /// Takes the place of one mail at `now`, at least `apart` from the one before; when there is none, tells the moment of the next.
    pub(super) fn take(&mut self, now: Time, apart: Duration) -> Result<(), Time> {
        self.forget(now);
        match self.next_at(now, apart) {
            free if free <= now => {
                self.0.push(now);
                Ok(())
            }
            later => Err(later),
        }
    }

    /// When the next mail may go out.
    pub(super) fn next_at(&self, now: Time, apart: Duration) -> Time {
        let after_last = self.0.last().map(|last| *last + apart);
        let in_spans = WITHIN.iter().filter_map(|(count, span)| {
            let nth = self.0.len().checked_sub(*count)?;
            Some(self.0[nth] + *span)
        });
        in_spans.chain(after_last).max().unwrap_or(now)
    }

    /// A code that was used has done its work: it makes no further mail wait.
    pub(super) fn give_back(&mut self) {
        self.0.pop();
    }

    /// Drops what no longer matters. What lies ahead was noted before the clock was set back.
    pub(super) fn forget(&mut self, now: Time) {
        let day = WITHIN[1].1;
        self.0.retain(|sent| *sent <= now && now < *sent + day);
    }

    /// From when on none of them matters.
    pub(super) fn over_at(&self) -> Option<Time> {
        self.0.last().map(|last| *last + WITHIN[1].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: u64) -> Time {
        Time::from_millis(1_800_000_000_000) + MINUTE * u32::try_from(minutes).unwrap()
    }

    #[test]
    fn ten_guesses_are_taken_and_one_returns_every_half_hour() {
        let mut budget = Budget::default();
        for _ in 0..10 {
            budget.take(at(0)).unwrap();
        }
        assert_eq!(budget.take(at(0)), Err(at(30)));
        assert_eq!(budget.check(at(30) - Duration::from_millis(1)), Err(at(30)));
        budget.take(at(30)).unwrap();
        assert_eq!(budget.take(at(30)), Err(at(60)));
        budget.give_back();
        budget.take(at(31)).unwrap();
        assert_eq!(budget.full_at(), at(330));
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let mut budget = Budget::default();
        for _ in 0..10 {
            budget.take(at(100_000)).unwrap();
        }
        assert_eq!(budget.take(at(0)), Err(at(30)));
        let mut sent = Sent::default();
        sent.take(at(100_000), MINUTE).unwrap();
        sent.take(at(0), MINUTE).unwrap();
    }

    #[test]
    fn mails_are_a_minute_apart_five_an_hour_and_ten_a_day() {
        let mut sent = Sent::default();
        sent.take(at(0), MINUTE).unwrap();
        assert_eq!(sent.take(at(1) - Duration::from_millis(1), MINUTE), Err(at(1)));
        for minute in 1..5 {
            sent.take(at(minute), MINUTE).unwrap();
        }
        assert_eq!(sent.take(at(5), MINUTE), Err(at(60)));
        for minute in 60..65 {
            sent.take(at(minute), MINUTE).unwrap();
        }
        assert_eq!(sent.take(at(130), MINUTE), Err(at(1440)));
        sent.give_back();
        sent.take(at(130), MINUTE).unwrap();
        assert_eq!(sent.over_at(), Some(at(130 + 1440)));
        sent.take(at(1440), MINUTE).unwrap();
    }
}

//! How long sessions of a portal live, learned from those that ended and those that did not.
//!
//! A portal may end a session that is too old (an absolute limit), or one that was not used for too long (an idle limit).
//! Which of the two it was is told by the last pause: a session that ended within a pause such as it had survived before
//! was too old; one that ended in a longer pause than any before may have been idle. Neither is believed before it was
//! seen on three occasions, nor while a session is known that did better: a logout by hand, or a portal that ends
//! every session when it is deployed, teaches nothing. Nothing here waits, logs or looks at a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// Lives remembered per portal; the oldest make room.
const LIVES: usize = 24;
/// How often something must have been seen to be believed.
const OCCASIONS: usize = 3;
/// Ends within this time of one another are one occasion: checks of both sessions find what happened to both.
const TOGETHER: Duration = Duration::from_secs(300);
/// Ages that differ by less than this part agree: one in eight.
const AGREE: u64 = 8;
/// How exactly the last proof of life is kept across restarts: a write for every check would be one a minute.
pub const KEPT_EVERY: Duration = Duration::from_secs(600);

/// What is known about one living session's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// When the portal last knew the session; at most [`KEPT_EVERY`] behind the truth.
    pub alive_at: Time,
    /// The longest pause between two proofs of life, in milliseconds.
    pub pause: u64,
}

/// A life that is over, or was given up for a fresher one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    /// How old the session was when it was last known to be alive, in milliseconds like the others.
    age: u64,
    /// The longest pause that it survived.
    pause: u64,
    /// How long after that it was found to be ended; None: it was still alive.
    ended: Option<u64>,
    /// When it was over.
    at: Time,
    /// It ended together with a session of another age: whatever that was, it was no limit.
    swept: bool,
}

/// The lives that a portal remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lives(Vec<Life>);

/// What can be said about how long sessions live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// A session ends at this age, however much it is used.
    pub absolute: Option<Duration>,
    /// A session ends when it is not used for this long, perhaps even sooner.
    pub idle: Option<Duration>,
    /// How many ends were seen.
    pub observations: usize,
}

impl Pulse {
    /// The pulse of a session that logged in at `now`.
    pub const fn new(now: Time) -> Self {
        Self { alive_at: now, pause: 0 }
    }

    /// This pulse with what is known besides: a later proof of life, a longer pause.
    pub fn with(&self, alive_at: Option<Time>, pause: Duration) -> Self {
        let alive_at = alive_at.map_or(self.alive_at, |at| at.max(self.alive_at));
        Self { alive_at, pause: self.pause.max(millis(pause)) }
    }

    /// Whether so much is new in `present` that it is worth a write.
    pub fn is_behind(&self, present: &Self) -> bool {
        present.alive_at.since(self.alive_at) >= KEPT_EVERY || present.pause > self.pause.saturating_add(self.pause / 4)
    }
}

impl Life {
    fn alive(born: Time, pulse: &Pulse, at: Time) -> Self {
        Self { age: millis(pulse.alive_at.since(born)), pause: pulse.pause, ended: None, at, swept: false }
    }

    /// Whether it speaks for an absolute limit: it had survived such a pause before.
    fn by_age(&self) -> bool {
        self.ended.is_some_and(|ended| !self.swept && ended <= self.pause.saturating_add(self.pause / 2))
    }

    /// Whether it may speak for an idle limit.
    fn by_pause(&self) -> bool {
        self.ended.is_some() && !self.swept && !self.by_age()
    }

    fn close_to(&self, other: &Self) -> bool {
        self.at.since(other.at).max(other.at.since(self.at)) <= TOGETHER
    }

    /// Whether both may have ended at the same age; none is known more exactly than to the pause in which it ended.
    fn as_old_as(&self, other: &Self) -> bool {
        let blur = self.ended.unwrap_or(0).max(other.ended.unwrap_or(0));
        self.age.abs_diff(other.age) <= (self.age.max(other.age) / AGREE).max(blur)
    }
}

impl Lives {
    /// A session that logged in at `born` with this pulse was found at `now` to have ended.
    pub fn ended(&mut self, born: Time, pulse: &Pulse, now: Time) {
        let ended = Some(millis(now.since(pulse.alive_at)));
        let mut life = Life { ended, ..Life::alive(born, pulse, now) };
        for other in self.0.iter_mut().filter(|other| other.ended.is_some()) {
            if other.close_to(&life) && !other.as_old_as(&life) {
                (other.swept, life.swept) = (true, true);
            }
        }
        self.push(life);
    }

    /// A living session was given up for a fresher one.
    pub fn replaced(&mut self, born: Time, pulse: &Pulse, now: Time) {
        let life = Life::alive(born, pulse, now);
        // Of the living only the best is worth a place: it says what is no limit.
        let better = |one: &Life, other: &Life| one.age >= other.age && one.pause >= other.pause;
        self.0.retain(|other| other.ended.is_some() || !better(&life, other));
        if !self.0.iter().any(|other| other.ended.is_none() && better(other, &life)) {
            self.push(life);
        }
    }

    fn push(&mut self, life: Life) {
        self.0.push(life);
        let excess = self.0.len().saturating_sub(LIVES);
        self.0.drain(..excess);
    }

    /// What these lives, and those of the `living` sessions (login and pulse), say at `now`.
    pub fn learned<'a>(&self, living: impl Iterator<Item = (Time, &'a Pulse)>, now: Time) -> Learned {
        let present = living.map(|(born, pulse)| Life::alive(born, pulse, now));
        let known: Vec<Life> = self.0.iter().cloned().chain(present).collect();
        Learned {
            absolute: absolute(&known).map(Duration::from_millis),
            idle: idle(&known).map(Duration::from_millis),
            observations: known.iter().filter(|life| life.ended.is_some()).count(),
        }
    }

    /// No time lies ahead of `now`: the clock has been set back since.
    pub fn not_ahead(&mut self, now: Time) {
        self.0.iter_mut().for_each(|life| life.at = life.at.min(now));
    }
}

/// The age at which sessions end: where enough of them agree, the newest first, and none has become clearly older since.
fn absolute(known: &[Life]) -> Option<u64> {
    let ends: Vec<&Life> = known.iter().filter(|life| life.by_age()).collect();
    ends.iter().rev().find_map(|newest| {
        let agreeing: Vec<&Life> = ends.iter().copied().filter(|life| life.as_old_as(newest)).collect();
        let older = |life: &&Life| life.age > newest.age + newest.age / AGREE && !life.as_old_as(newest);
        let outlived = known.iter().filter(older).map(|life| life.at).max();
        let since = agreeing.iter().copied().filter(|life| outlived.is_none_or(|at| life.at > at));
        (occasions(since) >= OCCASIONS).then(|| agreeing.iter().map(|life| life.age).min())?
    })
}

/// The pause after which sessions end: the shortest of those that none has survived.
fn idle(known: &[Life]) -> Option<u64> {
    let survived = known.iter().map(|life| life.pause).max().unwrap_or(0);
    let ends = known.iter().filter(|life| life.by_pause() && life.ended.is_some_and(|ended| ended > survived));
    let ends: Vec<&Life> = ends.collect();
    (occasions(ends.iter().copied()) >= OCCASIONS).then(|| ends.iter().filter_map(|life| life.ended).min())?
}

fn occasions<'a>(lives: impl Iterator<Item = &'a Life>) -> usize {
    let mut count = 0;
    let mut last: Option<&Life> = None;
    for life in lives {
        count += usize::from(last.is_none_or(|last| !last.close_to(life)));
        last = Some(life);
    }
    count
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

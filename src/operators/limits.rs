//! How much of the relay one token may use: so many calls a minute, so many at once. A job that has run wild must not
//! take the relay away from the others; a limit is therefore the token's, whatever address it calls from.
//!
//! Counted in memory only: a restart begins with full measures. Nothing here waits.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::MAX_TOKENS;
use crate::clock::Clock;

const REFUSED: &str = "nightporter_relay_limited_total";

/// Tokens that are counted at once: more than can be alive, so that only long revoked ones make room.
const COUNTED: usize = 2 * MAX_TOKENS;
/// After this long without a call a token's measure is full again, so that forgetting it changes nothing.
const FULL_AGAIN: Duration = Duration::from_secs(60);
/// When a call that found too many others under way may try again.
const SOON: Duration = Duration::from_secs(1);

/// What one token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls within a minute; all of them may come at once.
    pub per_minute: NonZeroU32,
    /// Calls under way at once, from a call's head to the last byte of its answer.
    pub at_once: NonZeroU32,
}

/// Why a call is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limited {
    /// Too many within a minute.
    #[error("this token has made its {limit} calls of this minute")]
    TooOften {
        /// How many it may make.
        limit: NonZeroU32,
        /// When the next one may come.
        retry_after: Duration,
    },
    /// Too many at once.
    #[error("{limit} calls of this token are under way already")]
    TooMany {
        /// How many may be.
        limit: NonZeroU32,
        /// When to try again.
        retry_after: Duration,
    },
}

impl Limited {
    /// When to try again.
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::TooOften { retry_after, .. } | Self::TooMany { retry_after, .. } => *retry_after,
        }
    }
}

/// A call's place among those of its token; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Counts the calls of every token; clones share the counts.
#[derive(Clone, Debug)]
pub struct Limiter {
    clock: Clock,
    // A plain mutex: held for a look into the map, never across an await.
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug)]
struct Counted {
    limits: Limits,
    tokens: HashMap<String, Token>,
}

#[derive(Debug)]
struct Token {
    rate: RateLimiter<NotKeyed, InMemoryState, Clock, NoOpMiddleware<Nanos>>,
    places: Arc<Semaphore>,
    last: Duration,
}

impl Limiter {
    /// Full measures for every token.
    pub fn new(limits: Limits, clock: Clock) -> Self {
        Self { clock, counted: Arc::new(Mutex::new(Counted { limits, tokens: HashMap::new() })) }
    }

    /// Takes over other limits. Calls under way keep their places beside the new ones.
    pub fn reconfigure(&self, limits: Limits) {
        let mut counted = self.lock();
        if counted.limits != limits {
            *counted = Counted { limits, tokens: HashMap::new() };
        }
    }

    /// Lets a call of the token with this id through, for as long as the [`Place`] is held.
    ///
    /// # Errors
    /// [`Limited`]; such a call counts for nothing.
    pub fn admit(&self, id: &str) -> Result<Place, Limited> {
        let admitted = self.judge(id);
        if let Err(limited) = &admitted {
            let reason = if matches!(limited, Limited::TooOften { .. }) { "per_minute" } else { "concurrency" };
            ::metrics::counter!(REFUSED, "reason" => reason).increment(1);
        }
        admitted
    }

    fn judge(&self, id: &str) -> Result<Place, Limited> {
        let now = self.clock.passed();
        let mut counted = self.lock();
        let Counted { limits, tokens } = &mut *counted;
        if !tokens.contains_key(id) {
            if tokens.len() >= COUNTED {
                let all = limits.at_once.get() as usize;
                tokens.retain(|_, token| {
                    token.places.available_permits() < all || now.saturating_sub(token.last) < FULL_AGAIN
                });
            }
            tokens.insert(id.to_owned(), self.token(limits, now));
        }
        let Some(token) = tokens.get_mut(id) else { return Err(too_many(limits)) };
        token.last = now;
        let place = Arc::clone(&token.places).try_acquire_owned().map_err(|_| too_many(limits))?;
        token.rate.check().map_err(|until| Limited::TooOften {
            limit: limits.per_minute,
            retry_after: until.wait_time_from(now.into()),
        })?;
        Ok(Place { _permit: place })
    }

    fn token(&self, limits: &Limits, now: Duration) -> Token {
        Token {
            rate: RateLimiter::direct_with_clock(Quota::per_minute(limits.per_minute), self.clock.clone()),
            places: Arc::new(Semaphore::new(limits.at_once.get() as usize)),
            last: now,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn too_many(limits: &Limits) -> Limited {
    Limited::TooMany { limit: limits.at_once, retry_after: SOON }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    fn limiter(per_minute: u32, at_once: u32) -> (Clock, Limiter) {
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        (clock.clone(), Limiter::new(limits(per_minute, at_once), clock))
    }

    fn limits(per_minute: u32, at_once: u32) -> Limits {
        Limits { per_minute: NonZeroU32::new(per_minute).unwrap(), at_once: NonZeroU32::new(at_once).unwrap() }
    }

    #[test]
    fn a_minute_s_measure_may_come_at_once_and_fills_again_bit_by_bit() {
        let (clock, limiter) = limiter(3, 10);
        for _ in 0..3 {
            limiter.admit("a").unwrap();
        }
        let limited = limiter.admit("a").unwrap_err();
        assert_eq!(limited.retry_after(), Duration::from_secs(20));
        assert!(matches!(limited, Limited::TooOften { .. }));
        limiter.admit("b").expect("another token has a measure of its own");
        clock.advance(Duration::from_millis(19_999));
        assert_eq!(limiter.admit("a").unwrap_err().retry_after(), Duration::from_millis(1));
        clock.advance(Duration::from_millis(1));
        limiter.admit("a").unwrap();
        limiter.admit("a").unwrap_err();
        limiter.reconfigure(limits(3, 10));
        limiter.admit("a").expect_err("the same limits change nothing");
        limiter.reconfigure(limits(4, 10));
        limiter.admit("a").unwrap();
    }

    #[test]
    fn a_place_is_taken_until_it_is_given_back_and_a_refused_call_costs_nothing() {
        let (_, limiter) = limiter(3, 2);
        let first = limiter.admit("a").unwrap();
        let _second = limiter.admit("a").unwrap();
        for _ in 0..5 {
            assert!(matches!(limiter.admit("a").unwrap_err(), Limited::TooMany { .. }));
        }
        drop(first);
        limiter.admit("a").unwrap();
        assert!(matches!(limiter.admit("a").unwrap_err(), Limited::TooOften { .. }));
    }

    #[test]
    fn what_is_counted_stays_bounded_and_forgets_nobody_who_matters() {
        let (clock, limiter) = limiter(1, 1);
        let busy = limiter.admit("busy").unwrap();
        for number in 0..COUNTED - 1 {
            limiter.admit(&number.to_string()).unwrap();
        }
        clock.advance(FULL_AGAIN);
        limiter.admit("recent").unwrap();
        assert_eq!(limiter.lock().tokens.len(), 2);
        assert!(matches!(limiter.admit("busy").unwrap_err(), Limited::TooMany { .. }));
        limiter.admit("recent").unwrap_err();
        drop(busy);
        limiter.admit("busy").unwrap();
    }
}

//! Randomness and identifiers: the one place that draws either.
//!
//! A [`Random`] comes from the operating system, or from a seed in tests. Secrets (tokens, keys, nonces) are always
//! drawn from it as whole bytes; never shorten an id that guards something below 128 bits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::clock::Time;

/// A source of randomness; clones share it.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// A cryptographic generator seeded by the operating system.
    ///
    /// # Errors
    /// When the operating system has no randomness to give; nothing can run safely then.
    pub fn system() -> Result<Self, rand::rngs::SysError> {
        Ok(Self(Arc::new(Mutex::new(StdRng::try_from_rng(&mut rand::rngs::SysRng)?))))
    }

    /// A generator that gives the same sequence for the same seed; for tests and the demo.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.with(|rng| rng.fill_bytes(&mut bytes));
        bytes
    }

    /// A UUID of version 7 for something made at `now`: sorts by time, 74 random bits.
    pub fn uuid(&self, now: Time) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &self.bytes()).into_uuid()
    }

    /// A session id: 128 random bits in lowercase hex, so that its first eight characters tell sessions apart in a log.
    pub fn session_id(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.bytes::<16>())
    }

    /// A decimal code of `digits` digits, each equally likely.
    pub fn code(&self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    /// A number in `0..bound`, each equally likely; `bound` of 0 counts as 1.
    pub fn below(&self, bound: u32) -> u32 {
        let bound = bound.max(1);
        // Rejection keeps the distribution flat: the tail that does not divide evenly is drawn again.
        let zone = u32::MAX - (u32::MAX % bound);
        loop {
            let drawn = self.with(Rng::next_u32);
            if drawn < zone {
                return drawn % bound;
            }
        }
    }

    /// `span` moved by up to `percent` per cent either way, so that timers set together drift apart.
    pub fn jitter(&self, span: Duration, percent: u32) -> Duration {
        let offset = self.below(2 * percent + 1);
        span * (100 - percent.min(100) + offset) / 100
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        // A poisoned generator is still a generator: no invariant spans two draws.
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        assert_eq!(Random::seeded(7).session_id(), Random::seeded(7).session_id());
        assert_ne!(Random::system().unwrap().session_id(), Random::system().unwrap().session_id());
    }

    #[test]
    fn jitter_stays_within_its_share_and_codes_are_digits() {
        let random = Random::seeded(1);
        let base = Duration::from_secs(100);
        for _ in 0..1000 {
            let moved = random.jitter(base, 10);
            assert!(moved >= Duration::from_secs(90) && moved <= Duration::from_secs(110), "{moved:?}");
        }
        let code = random.code(6);
        assert!(code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()));
    }
}

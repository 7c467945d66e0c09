//! How often anybody may ask: one client, about one address, and all together. This keeps the machine free; how many wrong
//! guesses an address takes is another matter, kept with the address (`budget.rs`).
//!
//! Counted in memory only: a restart begins with full measures. Nothing here waits.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::AccountError;
use crate::clock::Clock;

const REFUSED: &str = "nightporter_accounts_limited_total";

/// Clients, and addresses, that are counted at once. Those whose measure is full again are forgotten first; while there are
/// none of these, what is not counted yet is refused: it takes an attack from so many places.
const COUNTED: usize = 100_000;

type Each<K> = RateLimiter<K, HashMapStateStore<K>, Clock, NoOpMiddleware<Nanos>>;
type All = RateLimiter<NotKeyed, InMemoryState, Clock, NoOpMiddleware<Nanos>>;

/// Requests within a minute; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) client: NonZeroU32,
    pub(super) address: NonZeroU32,
    pub(super) total: NonZeroU32,
}

/// Counts requests.
#[derive(Debug)]
pub(super) struct Limiter {
    clock: Clock,
    counts: RwLock<Arc<Counts>>,
}

#[derive(Debug)]
struct Counts {
    rates: Rates,
    clients: Each<IpAddr>,
    addresses: Each<String>,
    total: All,
}

impl Limiter {
    /// Full measures for everybody.
    pub(super) fn new(rates: Rates, clock: Clock) -> Self {
        let counts = RwLock::new(Arc::new(Counts::new(rates, &clock)));
        Self { clock, counts }
    }

    /// Takes over other rates.
    pub(super) fn reconfigure(&self, rates: Rates) {
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        if counts.rates != rates {
            *counts = Arc::new(Counts::new(rates, &self.clock));
        }
    }

    /// Lets a request of `client` through. A client that asks too much takes nothing from the others' measure.
    ///
    /// # Errors
    /// [`AccountError::RateLimited`].
    pub(super) fn admit_client(&self, client: Option<IpAddr>) -> Result<(), AccountError> {
        let counts = self.counts();
        let own = client.map_or(Ok(()), |client| count(&counts.clients, &network(client), &self.clock));
        own.map_err(|wait| refused(Whose::Client, wait))?;
        counts.total.check().map_err(|until| refused(Whose::Everybody, wait(&until, &self.clock)))
    }

    /// Lets a request about the account of that key through.
    ///
    /// # Errors
    /// [`AccountError::RateLimited`].
    pub(super) fn admit_about(&self, account: &str) -> Result<(), AccountError> {
        let counted = count(&self.counts().addresses, &account.to_owned(), &self.clock);
        counted.map_err(|wait| refused(Whose::Address, wait))
    }

    fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Copy)]
enum Whose {
    Client,
    Address,
    Everybody,
}

impl Whose {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Address => "address",
            Self::Everybody => "all",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Client => "from your network address",
            Self::Address => "about this e-mail address",
            Self::Everybody => "altogether",
        }
    }
}

impl Counts {
    fn new(rates: Rates, clock: &Clock) -> Self {
        Self {
            rates,
            clients: RateLimiter::hashmap_with_clock(Quota::per_minute(rates.client), clock.clone()),
            addresses: RateLimiter::hashmap_with_clock(Quota::per_minute(rates.address), clock.clone()),
            total: RateLimiter::direct_with_clock(Quota::per_minute(rates.total), clock.clone()),
        }
    }
}

fn refused(whose: Whose, retry_after: Duration) -> AccountError {
    ::metrics::counter!(REFUSED, "whose" => whose.name()).increment(1);
    AccountError::RateLimited { whose: whose.words(), retry_after }
}

fn wait(until: &NotUntil<Nanos>, clock: &Clock) -> Duration {
    until.wait_time_from(clock.passed().into())
}

fn count<K: Hash + Eq + Clone>(each: &Each<K>, key: &K, clock: &Clock) -> Result<(), Duration> {
    if each.len() >= COUNTED {
        each.retain_recent();
        if each.len() >= COUNTED {
            return Err(Duration::from_secs(60));
        }
    }
    each.check_key(key).map(|_| ()).map_err(|until| wait(&until, clock))
}

/// Who counts as one client: an IPv4 address, or the IPv6 network of 64 bits that a provider gives to one customer.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    #[test]
    fn each_client_each_address_and_everybody_have_a_measure_of_their_own() {
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let rate = |number| NonZeroU32::new(number).unwrap();
        let rates = Rates { client: rate(3), address: rate(2), total: rate(7) };
        let limiter = Limiter::new(rates, clock.clone());
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let admit = |client: &str, account: Option<&str>| match limiter
            .admit_client(ip(client))
            .and_then(|()| account.map_or(Ok(()), |account| limiter.admit_about(account)))
        {
            Ok(()) => None,
            Err(AccountError::RateLimited { whose, retry_after }) => Some((whose, retry_after.as_secs())),
            Err(other) => panic!("{other}"),
        };
        assert_eq!((admit("192.0.2.1", Some("a")), admit("192.0.2.2", Some("a"))), (None, None));
        assert_eq!(admit("192.0.2.3", Some("a")), Some(("about this e-mail address", 30)));
        assert_eq!((admit("2001:db8::1", None), admit("2001:db8::2", None)), (None, None));
        assert_eq!(admit("2001:db8::ffff:1", Some("b")), None);
        assert_eq!(admit("2001:db8::3", Some("b")), Some(("from your network address", 20)));
        assert_eq!(admit("2001:db8:0:1::3", Some("c")), None);
        assert_eq!(admit("192.0.2.4", Some("d")), Some(("altogether", 8)));
        clock.advance(Duration::from_secs(9));
        assert_eq!(admit("192.0.2.4", None), None);
        limiter.reconfigure(Rates { total: rate(1), ..rates });
        assert_eq!(admit("192.0.2.4", None), None);
        assert_eq!(admit("192.0.2.5", None), Some(("altogether", 60)));
    }
}

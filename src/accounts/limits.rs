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

    /// Lets a request of `client` about the account `account` through. A client that asks too much takes nothing from the
    /// others' measures.
    ///
    /// # Errors
    /// [`AccountError::RateLimited`].
    pub(super) fn admit(&self, client: Option<IpAddr>, account: Option<&str>) -> Result<(), AccountError> {
        let counts = Arc::clone(&self.counts.read().unwrap_or_else(PoisonError::into_inner));
        let admitted = self.judge(&counts, client, account);
        if let Err((whose, retry_after)) = admitted {
            ::metrics::counter!(REFUSED, "whose" => whose.name()).increment(1);
            return Err(AccountError::RateLimited { whose: whose.words(), retry_after });
        }
        Ok(())
    }

    fn judge(
        &self,
        counts: &Counts,
        client: Option<IpAddr>,
        account: Option<&str>,
    ) -> Result<(), (Whose, Duration)> {
        let wait = |until: NotUntil<Nanos>| until.wait_time_from(governor::clock::Clock::now(&self.clock));
        if let Some(client) = client {
            count(&counts.clients, &network(client), wait).map_err(|wait| (Whose::Client, wait))?;
        }
        if let Some(account) = account {
            count(&counts.addresses, &account.to_owned(), wait).map_err(|wait| (Whose::Address, wait))?;
        }
        counts.total.check().map_err(|until| (Whose::Everybody, wait(until)))
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

fn count<K: Hash + Eq + Clone>(
    each: &Each<K>,
    key: &K,
    wait: impl Fn(NotUntil<Nanos>) -> Duration,
) -> Result<(), Duration> {
    if each.len() >= COUNTED {
        each.retain_recent();
        if each.len() >= COUNTED {
            return Err(Duration::from_secs(60));
        }
    }
    each.check_key(key).map_err(wait)
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
        let rates = Rates { client: rate(3), address: rate(2), total: rate(6) };
        let limiter = Limiter::new(rates, clock.clone());
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let admit = |client: &str, account| match limiter.admit(ip(client), account) {
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
        assert_eq!(admit("192.0.2.4", Some("d")), Some(("altogether", 10)));
        clock.advance(Duration::from_secs(10));
        assert_eq!(admit("192.0.2.4", None), None);
        limiter.reconfigure(Rates { total: rate(1), ..rates });
        assert_eq!(admit("192.0.2.4", None), None);
        assert_eq!(admit("192.0.2.5", None), Some(("altogether", 60)));
    }
}

//! Single flight: of equal requests at once one is made, and the others wait for what comes of it. Knows neither portals
//! nor answers.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Landing<V> = watch::Receiver<Option<V>>;

/// The requests under way, by what makes them equal; clones share them.
pub(super) struct Flights<K, V>(Arc<Mutex<HashMap<K, Landing<V>>>>);

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The part that a request has in it.
pub(super) enum Seat<K: Eq + Hash, V> {
    /// It is to be made.
    Lead(Lead<K, V>),
    /// An equal one is under way.
    Follow(Follow<V>),
}

/// A request that others may wait for. Dropped before it has landed, it lets one of them take over.
pub(super) struct Lead<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
    landing: watch::Sender<Option<V>>,
}

/// The wait for another's request.
pub(super) struct Follow<V>(Landing<V>);

impl<K: Eq + Hash + Clone, V> Flights<K, V> {
    /// Joins the flight for `key`, or begins it.
    pub(super) fn join(&self, key: &K) -> Seat<K, V> {
        let mut flights = self.lock();
        if let Some(landing) = flights.get(key) {
            return Seat::Follow(Follow(landing.clone()));
        }
        let (landing, wait) = watch::channel(None);
        flights.insert(key.clone(), wait);
        Seat::Lead(Lead { flights: self.clone(), key: key.clone(), landing })
    }
}

impl<K, V> Flights<K, V> {
    // A plain mutex: held for a look into the map, never across an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Landing<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Lead<K, V> {
    /// Tells everybody who waits what came of it; whoever asks from now on begins anew.
    pub(super) fn land(self, what: V) {
        self.landing.send_replace(Some(what));
    }
}

impl<K: Eq + Hash, V> Drop for Lead<K, V> {
    fn drop(&mut self) {
        // Before the sender goes: who is woken by its end must not find the flight again.
        self.flights.lock().remove(&self.key);
    }
}

impl<V: Clone> Follow<V> {
    /// What came of it; None when it was given up.
    pub(super) async fn landed(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Flights<u8, u8>) -> Lead<u8, u8> {
        if let Seat::Lead(lead) = flights.join(&1) { lead } else { panic!("somebody else leads") }
    }

    fn follow(flights: &Flights<u8, u8>) -> Follow<u8> {
        if let Seat::Follow(follow) = flights.join(&1) { follow } else { panic!("nobody leads") }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_get_what_it_got() {
        let flights = Flights::default();
        let first = lead(&flights);
        let others = [follow(&flights), follow(&flights)];
        assert!(matches!(flights.join(&2), Seat::Lead(_)), "another request is another flight");
        first.land(7);
        for other in others {
            assert_eq!(other.landed().await, Some(7));
        }
        drop(lead(&flights));
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_one_that_went_away_can_lead() {
        let flights = Flights::default();
        let first = lead(&flights);
        let other = follow(&flights);
        drop(first);
        assert_eq!(other.landed().await, None);
        lead(&flights).land(1);
    }
}

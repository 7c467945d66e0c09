//! Places for what lasts, such as reading a feed of events: one token never holds all of them, or nobody else could read.
//! Counted in memory only; nothing here waits, and how many there are in all is their owner's business.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places that tokens hold; clones share the counts.
#[derive(Clone, Debug)]
pub struct Places {
    each: usize,
    // A plain mutex: held for a look into the map, never across an await.
    held: Arc<Mutex<HashMap<String, usize>>>,
}

/// A token's place; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    id: String,
    places: Places,
}

impl Places {
    /// Of `all` places one token gets three quarters at most.
    pub fn new(all: usize) -> Self {
        Self { each: (all - all / 4).max(1), held: Arc::default() }
    }

    /// How many one token may hold.
    pub const fn each(&self) -> usize {
        self.each
    }

    /// A place for the token with this id; None when it holds as many as it may.
    pub fn take(&self, id: &str) -> Option<Seat> {
        let mut held = self.lock();
        let count = held.get(id).copied().unwrap_or_default();
        if count >= self.each {
            return None;
        }
        held.insert(id.to_owned(), count + 1);
        Some(Seat { id: id.to_owned(), places: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        match held.get_mut(&self.id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_leaves_a_quarter_to_the_others_and_gives_back_what_it_held() {
        let places = Places::new(8);
        let mut seats: Vec<_> = (0..6).map(|_| places.take("greedy").unwrap()).collect();
        assert!(places.take("greedy").is_none() && places.take("modest").is_some());
        seats.pop();
        seats.push(places.take("greedy").unwrap());
        drop(seats);
        assert!(places.lock().is_empty());
    }
}

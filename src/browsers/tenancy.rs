//! Tenancy: what the contexts in one browser process share with whoever keeps it. How many live there, how many of them
//! serve callers, how much the process has done, and whether they had better move out. Decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One process's side; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tenancy(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tenants: watch::Sender<usize>,
    serving: AtomicUsize,
    navigations: AtomicU64,
    retiring: CancellationToken,
}

impl Tenancy {
    /// Counts one more tenant until the guard is dropped.
    pub(super) fn enter(&self) -> Tenant {
        self.0.tenants.send_modify(|tenants| *tenants += 1);
        Tenant { tenancy: self.clone(), serving: AtomicBool::new(false) }
    }

    /// How many tenants serve callers.
    pub(super) fn serving(&self) -> usize {
        self.0.serving.load(Ordering::Relaxed)
    }

    /// Counts a document that one of its tabs has loaded.
    pub(super) fn navigated(&self) {
        self.0.navigations.fetch_add(1, Ordering::Relaxed);
    }

    /// How many documents its tabs have loaded.
    pub(super) fn navigations(&self) -> u64 {
        self.0.navigations.load(Ordering::Relaxed)
    }

    /// Asks the tenants to move out. Whoever keeps the process lets no new ones in by then.
    pub(super) fn retire(&self) {
        self.0.retiring.cancel();
    }

    /// Whether they were asked to.
    pub(super) fn is_retiring(&self) -> bool {
        self.0.retiring.is_cancelled()
    }

    /// Waits until nobody lives there.
    pub(super) async fn empty(&self) {
        // The sender lives in `self`, so this ends only when the last one has left.
        let _ = self.0.tenants.subscribe().wait_for(|tenants| *tenants == 0).await;
    }
}

/// A tenant's place; dropped when it moves out.
#[derive(Debug)]
pub(super) struct Tenant {
    tenancy: Tenancy,
    serving: AtomicBool,
}

impl Tenant {
    /// Says whether callers are served from what lives here.
    pub(super) fn set_serving(&self, serving: bool) {
        let before = self.serving.swap(serving, Ordering::Relaxed);
        match (before, serving) {
            (false, true) => drop(self.tenancy.0.serving.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.tenancy.0.serving.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// Whether it was asked to move out.
    pub(super) fn is_retiring(&self) -> bool {
        self.tenancy.is_retiring()
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.set_serving(false);
        self.tenancy.0.tenants.send_modify(|tenants| *tenants -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tenants_are_counted_until_they_leave() {
        let tenancy = Tenancy::default();
        let (first, second) = (tenancy.enter(), tenancy.enter());
        first.set_serving(true);
        first.set_serving(true);
        second.set_serving(true);
        second.set_serving(false);
        assert_eq!(tenancy.serving(), 1);
        assert!(!second.is_retiring());
        tenancy.retire();
        assert!(second.is_retiring());
        drop(first);
        assert_eq!(tenancy.serving(), 0);
        let mut leaving = Box::pin(tenancy.empty());
        assert!(futures_util::poll!(&mut leaving).is_pending());
        drop(second);
        leaving.await;
    }
}

//! The mover: brings the lines that records carry into the chain, each once.
//!
//! The head of the chain says which lines of which records were taken last, in the very change that counts them; then
//! they are removed from the records; then the next ones are taken. So whoever finds lines in a record that the head names
//! only removes them: a crash between any two steps neither loses a line nor writes one twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use uuid::Uuid;

use super::chain::{self, Numbered, Taken, Verdict};
use super::{Carrier, Line, Who};
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::secret::Vault;
use crate::store::{Decision, Follower, Store, StoreError, engine::Lease};

/// The right to extend the chain, taken among all processes that share the store.
const LEASE: &str = "audit chain";
/// How often another process's turn is waited for, and how long each time.
const TURNS: usize = 200;
const TURN: Duration = Duration::from_millis(50);
/// The largest page of a list.
pub const MAX_PAGE: usize = 1000;

/// The audit log; clones share it.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    vault: Arc<Vault>,
    clock: Clock,
    turn: Mutex<()>,
}

impl Audit {
    /// The log in `store`, whose tags are made with the key of `vault`.
    pub fn new(store: Store, vault: Arc<Vault>, clock: Clock) -> Self {
        Self(Arc::new(Inner { store, vault, clock, turn: Mutex::default() }))
    }

    /// Notes something that no record carries: an operator's deed. When this returns, the line is on the disk.
    ///
    /// # Errors
    /// When the store failed; the line may be there or not.
    pub async fn append(&self, line: &Line) -> Result<(), StoreError> {
        let Inner { store, vault, turn, .. } = &*self.0;
        let _in_line = turn.lock().await;
        let _alone = self.lease().await?;
        chain::extend(store, vault, &chain::head(store)?, &[line], None).await
    }

    /// Moves the lines of all records of the kind `T` into the chain, those left by the last process first.
    pub fn carry<T: Carrier>(&self, life: &Lifecycle) {
        let (audit, stop) = (self.clone(), life.stopping());
        let following = self.0.store.following::<T>();
        life.supervise(format!("audit mover {}", T::SPACE), async move {
            following.run(&Mover::<T>(audit, std::marker::PhantomData), &stop).await;
        });
    }

    /// Moves the lines of one record into the chain; when this returns they are there.
    ///
    /// # Errors
    /// When the store failed; they move later.
    pub(in crate::accounts) async fn bring<T: Carrier>(&self, record: &str) -> Result<(), StoreError> {
        self.take::<T>(&BTreeSet::from([record.to_owned()])).await
    }

    /// The last lines about a user, or of theirs, newest first, at most `limit`; and whether these are all.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn about(&self, user: Uuid, limit: usize) -> Result<(Vec<Numbered>, bool), StoreError> {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.list(before, MAX_PAGE).await?;
            let Some(last) = page.last() else { return Ok((found, true)) };
            before = Some(last.number);
            let theirs = |line: &Line| line.user == Some(user) || line.who == Who::User(user);
            for numbered in page.into_iter().filter(|numbered| theirs(&numbered.line)) {
                if found.len() == limit {
                    return Ok((found, false));
                }
                found.push(numbered);
            }
        }
    }

    /// Looks at the whole chain: a second for some hundred thousand lines.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn verify(&self) -> Result<Verdict, StoreError> {
        chain::verify(&self.0.store, &self.0.vault).await
    }

    /// Up to `limit` lines, at most [`MAX_PAGE`], before the one numbered `before`, or the last ones; newest first.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn list(&self, before: Option<u64>, limit: usize) -> Result<Vec<Numbered>, StoreError> {
        chain::list(&self.0.store, before, limit.clamp(1, MAX_PAGE)).await
    }

    async fn lease(&self) -> Result<Lease, StoreError> {
        for _ in 0..TURNS {
            if let Some(lease) = self.0.store.lease(LEASE) {
                return Ok(lease);
            }
            self.0.clock.sleep(TURN).await;
        }
        Err(StoreError::Contended { key: LEASE.to_owned() })
    }

    /// Brings the lines of these records into the chain and removes them there.
    async fn take<T: Carrier>(&self, ids: &BTreeSet<String>) -> Result<(), StoreError> {
        let Inner { store, vault, turn, .. } = &*self.0;
        if self.carried::<T>(ids)?.is_empty() {
            return Ok(());
        }
        let _in_line = turn.lock().await;
        let _alone = self.lease().await?;
        let head = chain::head(store)?;
        // What the last process, or the last attempt, has left behind.
        self.clear::<T>(head.taken(T::SPACE)).await?;
        let carried = self.carried::<T>(ids)?;
        let lines: Vec<&Line> = carried.values().flatten().collect();
        if lines.is_empty() {
            return Ok(());
        }
        let taken = |(record, lines): (&String, &Vec<Line>)| Taken {
            record: record.clone(),
            lines: lines.iter().map(|line| line.id).collect(),
        };
        let taken: Vec<Taken> = carried.iter().map(taken).collect();
        chain::extend(store, vault, &head, &lines, Some((T::SPACE, taken.clone()))).await?;
        self.clear::<T>(&taken).await
    }

    /// The lines of those of the records that carry some.
    fn carried<T: Carrier>(&self, ids: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<Line>>, StoreError> {
        let mut carried = BTreeMap::new();
        for id in ids {
            let record = self.0.store.get::<T>(id)?;
            if let Some(record) = record.filter(|record| !record.value.lines().is_empty()) {
                carried.insert(id.clone(), record.value.lines().to_vec());
            }
        }
        Ok(carried)
    }

    async fn clear<T: Carrier>(&self, taken: &[Taken]) -> Result<(), StoreError> {
        let clears = taken.iter().map(|Taken { record, lines }| async move {
            let clear = |old: Option<&crate::store::Stored<T>>| {
                let carries =
                    |old: &&crate::store::Stored<T>| old.value.lines().iter().any(|line| lines.contains(&line.id));
                let Some(old) = old.filter(carries) else { return Decision::Keep(()) };
                let mut next = old.value.clone();
                next.lines_mut().retain(|line| !lines.contains(&line.id));
                let expires = next.expires(self.0.clock.now());
                Decision::Put(next, expires, ())
            };
            self.0.store.update(record, clear).await.map(|_| ())
        });
        futures_util::future::try_join_all(clears).await.map(|_| ())
    }
}

struct Mover<T>(Audit, std::marker::PhantomData<fn() -> T>);

impl<T: Carrier> Follower for Mover<T> {
    async fn look(&self, ids: &BTreeSet<String>) -> Result<(), StoreError> {
        self.0.take::<T>(ids).await
    }
}

#[cfg(test)]
mod tests;

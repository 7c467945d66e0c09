//! Following a kind of records: whoever must know of every change looks at all records once, and then at each that
//! changes. Nothing is missed: the changes are heard before the first look, a receiver that fell behind looks at all again, and so
//! does one whose look failed, after a pause. What a record says is the follower's business.

use std::collections::BTreeSet;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::{Change, Record, Store, StoreError};

/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(5);
/// Records looked at together, when so many have changed.
const BATCH: usize = 64;

/// Who follows a kind of records.
pub trait Follower: Sync {
    /// Looks at the records of these ids, each once, as they are now; some may be gone. At most 64.
    fn look(&self, ids: &BTreeSet<String>) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The changes of the records of the kind `T`, heard from the moment this is made.
#[derive(Debug)]
pub struct Following<T> {
    store: Store,
    changes: broadcast::Receiver<Change>,
    kind: PhantomData<fn() -> T>,
}

impl Store {
    /// Hears of the changes of one kind of records, from now on.
    pub fn following<T: Record>(&self) -> Following<T> {
        Following { store: self.clone(), changes: self.changes(), kind: PhantomData }
    }
}

impl<T: Record> Following<T> {
    /// Shows `follower` every record there is.
    ///
    /// # Errors
    /// The store's, or what the follower met.
    pub async fn all(&self, follower: &impl Follower) -> Result<(), StoreError> {
        let mut last = None;
        while let Some(id) = self.store.next_ids::<T>(last.as_deref(), BATCH).await?.last_shown(follower).await? {
            last = Some(id);
        }
        Ok(())
    }

    /// Shows `follower` every record there is and then each that changes, until `stop`.
    pub async fn run(mut self, follower: &impl Follower, stop: &CancellationToken) {
        loop {
            let looked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                looked = self.all(follower) => looked,
            };
            let looked = match looked {
                Ok(()) => self.changed(follower, stop).await,
                failed => failed,
            };
            if let Err(error) = looked {
                tracing::error!(kind = T::SPACE, %error, "what follows the records of {} waits: {error}", T::SPACE);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.store.0.clock.sleep(PAUSE) => {}
                }
            }
        }
    }

    /// Shows what changes, until `stop`, a failure, or until all must be looked at again.
    async fn changed(&mut self, follower: &impl Follower, stop: &CancellationToken) -> Result<(), StoreError> {
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                change = self.changes.recv() => change,
            };
            let mut ids = BTreeSet::new();
            let mut next = first;
            loop {
                match next {
                    Ok(change) if change.key.space() == T::SPACE => {
                        ids.insert(change.key.id().to_owned());
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Ok(()),
                    // The store that we hold a handle to is not closed before we are.
                    Err(RecvError::Closed) => return Ok(stop.cancelled().await),
                }
                if ids.len() >= BATCH {
                    break;
                }
                match self.changes.try_recv() {
                    Ok(change) => next = Ok(change),
                    Err(broadcast::error::TryRecvError::Empty) => break,
                    Err(broadcast::error::TryRecvError::Lagged(missed)) => next = Err(RecvError::Lagged(missed)),
                    Err(broadcast::error::TryRecvError::Closed) => next = Err(RecvError::Closed),
                }
            }
            if !ids.is_empty() {
                follower.look(&ids).await?;
            }
        }
    }
}

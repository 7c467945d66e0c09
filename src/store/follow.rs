//! Following a kind of records: whoever must know of every change looks at all records once, and then at each that
//! changes. Nothing is missed: the changes are heard before the first look, a receiver that fell behind looks at all again, and so
//! does one whose look failed, after a pause. What a record says is the follower's business.

use std::collections::BTreeSet;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::{Change, Record, Store, StoreError};
use crate::clock;

/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(5);
/// How long changes gather before they are heard: to be woken for those of each flush costs a busy machine more than to hear
/// them, and no reader of a feed notices.
const GATHER: Duration = Duration::from_millis(5);
/// Records looked at together, when so many have changed.
const BATCH: usize = 64;

/// Who follows a kind of records.
pub trait Follower: Sync {
    /// Looks at the records of these ids, each once, as they are now; some may be gone. At most 64.
    fn look(&self, ids: &BTreeSet<String>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The ids of the records that it remembers, because some may have gone while it was not told.
    fn known(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The changes of one kind of records themselves, since this was made, for whoever asks.
#[derive(Debug)]
pub struct Hearing(broadcast::Receiver<Change>);

/// Rings when there is something to hear.
#[derive(Debug)]
pub struct Bell(broadcast::Receiver<Change>);

/// What there is to hear.
#[derive(Debug)]
pub enum Heard {
    /// This.
    Change(Change),
    /// So many changes that they were missed.
    Missed(u64),
}

/// Who looks at the records of the kind `T` when they change. The changes are heard from the moment this is made.
#[derive(Debug)]
pub struct Following<T> {
    store: Store,
    changes: broadcast::Receiver<Change>,
    kind: PhantomData<fn() -> T>,
}

impl Store {
    /// Hears the changes of one kind of records, from now on.
    pub fn hearing<T: Record>(&self) -> Hearing {
        Hearing(self.changes::<T>())
    }

    /// Looks at the records of one kind when they change, from now on.
    pub fn following<T: Record>(&self) -> Following<T> {
        Following { store: self.clone(), changes: self.changes::<T>(), kind: PhantomData }
    }
}

impl Hearing {
    /// The next change; None when all have been heard. A change that somebody has been told of is among them.
    pub fn heard(&mut self) -> Option<Heard> {
        match self.0.try_recv() {
            Ok(change) => Some(Heard::Change(change)),
            Err(TryRecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// Its bell.
    pub fn bell(&self) -> Bell {
        Bell(self.0.resubscribe())
    }
}

impl Bell {
    /// Waits until there is something to hear, and 5 ms for more. False: `stop`.
    pub async fn rung(&mut self, stop: &CancellationToken) -> bool {
        let rung = async {
            if let Err(RecvError::Closed) = self.0.recv().await {
                // The store ends with whoever is to stop.
                std::future::pending::<()>().await;
            }
            clock::pause(GATHER).await;
        };
        let rung = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            () = rung => true,
        };
        // What has come by now is heard now.
        self.0 = self.0.resubscribe();
        rung
    }
}

impl<T: Record> Following<T> {
    /// Shows `follower` every record there is, and those that it knows from before.
    ///
    /// # Errors
    /// The store's, or what the follower met.
    pub async fn all(&self, follower: &impl Follower) -> Result<(), StoreError> {
        for known in follower.known().chunks(BATCH) {
            follower.look(&known.iter().cloned().collect()).await?;
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list::<T>(after.as_deref(), BATCH).await?;
            let ids: BTreeSet<String> = page.into_iter().map(|(id, _)| id).collect();
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(last.clone());
            follower.look(&ids).await?;
        }
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
            let mut ids = BTreeSet::new();
            let mut next = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                change = self.changes.recv() => match change {
                    Ok(change) => Ok(change),
                    Err(RecvError::Lagged(missed)) => Err(TryRecvError::Lagged(missed)),
                    Err(RecvError::Closed) => Err(TryRecvError::Closed),
                },
            };
            loop {
                match next {
                    Ok(change) => ids.extend([change.key.id().to_owned()]),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Lagged(_)) => return Ok(()),
                    // The store that we hold a handle to is not closed before we are.
                    Err(TryRecvError::Closed) => {
                        stop.cancelled().await;
                        return Ok(());
                    }
                }
                if ids.len() >= BATCH {
                    break;
                }
                next = self.changes.try_recv();
            }
            follower.look(&ids).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::clock::{Clock, Time};
    use crate::lifecycle::Lifecycle;
    use crate::store::{Decision, Durability, Expires};

    #[derive(Clone, Serialize, Deserialize)]
    struct Guest(u32);
    impl Record for Guest {
        const SPACE: &'static str = "guest";
        const SCHEMA: u8 = 1;
    }

    /// Sees the records as they are.
    struct Eyes {
        store: Store,
        seen: Mutex<std::collections::BTreeMap<String, u32>>,
    }

    impl Follower for Eyes {
        async fn look(&self, ids: &BTreeSet<String>) -> Result<(), StoreError> {
            assert!(ids.len() <= BATCH);
            for id in ids {
                let found = self.store.get::<Guest>(id)?;
                let mut seen = self.seen.lock().unwrap();
                match found {
                    Some(guest) => seen.insert(id.clone(), guest.value.0),
                    None => seen.remove(id),
                };
            }
            Ok(())
        }

        fn known(&self) -> Vec<String> {
            self.seen.lock().unwrap().keys().cloned().collect()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_missed_of_what_was_there_changes_goes_or_comes_faster_than_it_is_heard() {
        let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let store = Store::open(dir.path(), Durability::Acknowledged, clock, &life).unwrap();
        let put = async |id: String, n: u32| {
            store.update::<Guest, _>(&id, |_| Decision::Put(Guest(n), Expires::Never, ())).await.unwrap();
        };
        futures_util::future::join_all((0..200).map(|n| put(format!("{n:04}"), 0))).await;
        let eyes = Eyes { store: store.clone(), seen: Mutex::default() };
        // As after having fallen behind: it believes in one that has gone.
        eyes.seen.lock().unwrap().insert("gone".to_owned(), 7);
        let following = store.following::<Guest>();
        let stop = life.stopping();
        let changes = async {
            futures_util::future::join_all((100..5000).map(|n| put(format!("{n:04}"), 1))).await;
            store.update::<Guest, _>("0000", |_| Decision::Delete(())).await.unwrap();
            let whole = || {
                let seen = eyes.seen.lock().unwrap();
                seen.len() == 4999 && seen.values().filter(|n| **n == 1).count() == 4900 && !seen.contains_key("gone")
            };
            while !whole() {
                clock::pause(Duration::from_millis(1)).await;
            }
            stop.cancel();
        };
        let both = async { tokio::join!(following.run(&eyes, &stop), changes) };
        clock::within(Duration::from_secs(60), both).await.expect("something was missed");
    }
}

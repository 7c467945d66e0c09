//! The mover: takes what records carry as pending over into the outbox.
//!
//! First the messages are made in the outbox, then they are removed from the record that carried them. A crash between
//! the two makes them again under the same ids, which does nothing.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use super::{Outbox, OutboxError, Pending};
use crate::lifecycle::Lifecycle;
use crate::store::{Decision, Expires, Follower, Record, StoreError};

/// A record that carries messages until the outbox has them.
pub trait Carrier: Record + Clone + Sync {
    /// What it carries.
    fn pending(&self) -> &[Pending];
    /// Where it carries it.
    fn pending_mut(&mut self) -> &mut Vec<Pending>;
}

impl Outbox {
    /// Moves the pending messages of all records of the kind `T` on, those left by the last process first.
    pub fn carry<T: Carrier>(&self, life: &Lifecycle) {
        let (outbox, stop) = (self.clone(), life.stopping());
        let following = self.0.store.following::<T>();
        life.supervise(format!("outbox mover {}", T::SPACE), async move {
            following.run(&Mover::<T>(outbox, PhantomData), &stop).await;
        });
    }

    async fn move_one<T: Carrier>(&self, id: &str) -> Result<(), StoreError> {
        let _alone = self.0.moving.lock().await;
        let Some(record) = self.0.store.get::<T>(id)? else { return Ok(()) };
        let mut moved = Vec::new();
        for pending in record.value.pending() {
            let messages = self.unfold(pending);
            match async { self.enqueue(messages?).await }.await {
                Ok(()) => moved.push(pending.id()),
                Err(OutboxError::Store(error)) => return Err(error),
                // It stays where it is: the right store key may come back.
                Err(error) => {
                    let key = format!("{}/{id}", T::SPACE);
                    tracing::error!(key, %error, "a message of {key} cannot be sent: {error}");
                }
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        let clear = |old: Option<&crate::store::Stored<T>>| {
            let Some(mut record) = old.map(|old| old.value.clone()) else { return Decision::Keep(()) };
            record.pending_mut().retain(|pending| !moved.contains(&pending.id()));
            Decision::Put(record, Expires::Unchanged, ())
        };
        self.0.store.update(id, clear).await.map(|_| ())
    }
}

struct Mover<T>(Outbox, PhantomData<fn() -> T>);

impl<T: Carrier> Follower for Mover<T> {
    async fn look(&self, ids: &BTreeSet<String>) -> Result<(), StoreError> {
        for id in ids {
            self.0.move_one::<T>(id).await?;
        }
        Ok(())
    }
}

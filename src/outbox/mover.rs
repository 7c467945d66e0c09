//! The mover: takes what records carry as pending over into the outbox.
//!
//! First the messages are made in the outbox, then they are removed from the record that carried them. A crash between
//! the two makes them again under the same ids, which does nothing.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{Outbox, OutboxError, PAGE, Pending};
use crate::lifecycle::Lifecycle;
use crate::store::{Decision, Expires, Record, StoreError};

/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(5);

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
        life.supervise(format!("outbox mover {}", T::SPACE), async move { outbox.run_mover::<T>(&stop).await });
    }

    async fn run_mover<T: Carrier>(&self, stop: &CancellationToken) {
        let mut changes = self.0.store.changes();
        let mut look_at_all = true;
        loop {
            let moved = if look_at_all { self.move_all::<T>().await } else { Ok(()) };
            look_at_all = false;
            let moved = match moved {
                Ok(()) => tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    change = changes.recv() => match change {
                        Ok(change) if change.key.space() == T::SPACE => self.move_one::<T>(change.key.id()).await,
                        Ok(_) => Ok(()),
                        Err(RecvError::Lagged(_)) => { look_at_all = true; Ok(()) }
                        // The store that we hold a handle to is not closed before we are.
                        Err(RecvError::Closed) => return stop.cancelled().await,
                    },
                },
                failed => failed,
            };
            if let Err(error) = moved {
                tracing::error!(kind = T::SPACE, %error, "messages of {} wait for the store: {error}", T::SPACE);
                look_at_all = true;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.0.clock.sleep(PAUSE) => {}
                }
            }
        }
    }

    async fn move_all<T: Carrier>(&self) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.0.store.list::<T>(after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let carrying = page.into_iter().filter(|(_, record)| !record.value.pending().is_empty());
            for id in carrying.map(|(id, _)| id).collect::<Vec<_>>() {
                self.move_one::<T>(&id).await?;
            }
        }
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

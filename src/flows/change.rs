//! Changing a flow: the one way. A pure decision in one compare-and-swap, after which the flow's readers are told and the
//! calls that nobody wants any more are cut. Messages that no longer fit move to a page with the next change, so that no
//! version is spent on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::record::{FlowRecord, Page};
use super::transition::Outcome;
use super::{Flow, FlowError, Flows};
use crate::clock::{self, Time};
use crate::store::{Decision, Expires, StoreError, Stored};

/// Between two attempts to note something on a full disk.
const AGAIN: Duration = Duration::from_secs(1);

/// What a change of a record comes to.
pub(super) enum Verdict<R> {
    /// Store this; answer `R`.
    Put(Box<FlowRecord>, R),
    /// Leave it; answer `R`.
    Keep(R),
    /// Remove it; answer `R`.
    Delete(R),
}

impl<R> Verdict<R> {
    pub(super) fn put(record: FlowRecord, answer: R) -> Self {
        Self::Put(Box::new(record), answer)
    }
}

/// What one attempt at a change came to.
enum Attempt<R> {
    Done(R),
    /// These messages must move to a page first: the page's number and what is on it.
    Crowded(u32, Page),
}

impl Flows {
    pub(super) async fn changed(
        &self,
        flow: &str,
        id: &str,
        decide: impl FnMut(Option<&FlowRecord>, Time) -> Verdict<Result<(), FlowError>> + Send + 'static,
    ) -> Result<Arc<Flow>, FlowError> {
        let (flow, answer) = self.change(flow, id, None, decide).await?;
        answer?;
        flow.ok_or(FlowError::Absent)
    }

    /// As [`Flows::changed`], of what a call has come to: where the disk takes nothing at all any more, again until it does,
    /// so that the call need not be made again. Ends with the flow, and with the process.
    pub(super) async fn noted(
        &self,
        flow: &str,
        id: &str,
        decide: impl FnMut(Option<&FlowRecord>, Time) -> Verdict<Result<(), FlowError>> + Clone + Send + 'static,
    ) -> Result<Arc<Flow>, FlowError> {
        let (stop, mut told) = (self.0.life.stopping(), false);
        loop {
            let full = match self.changed(flow, id, decide.clone()).await {
                Err(FlowError::Store(error)) if matches!(*error, StoreError::Full { .. }) => error,
                noted => return noted,
            };
            if !told {
                tracing::error!(flow, id, %full, "flow {flow} {id} cannot note what its call has come to: {full}");
                told = true;
            }
            tokio::select! {
                () = clock::pause(AGAIN) => {}
                () = stop.cancelled() => return Err(FlowError::Store(full)),
            }
        }
    }

    pub(super) async fn change<R: Send + 'static>(
        &self,
        flow: &str,
        id: &str,
        ttl: Option<Duration>,
        mut decide: impl FnMut(Option<&FlowRecord>, Time) -> Verdict<R> + Send + 'static,
    ) -> Result<(Option<Arc<Flow>>, R), FlowError> {
        self.change_at(flow, id, ttl, move |old, now| decide(old.map(|old| &old.value), now)).await
    }

    /// Changes a flow in one step and tells its readers. It goes on when whoever asked leaves, so that no version that is
    /// stored stays untold.
    pub(super) async fn change_at<R: Send + 'static>(
        &self,
        flow: &str,
        id: &str,
        ttl: Option<Duration>,
        decide: impl FnMut(Option<&Stored<FlowRecord>>, Time) -> Verdict<R> + Send + 'static,
    ) -> Result<(Option<Arc<Flow>>, R), FlowError> {
        let key = key(flow, id).ok_or(FlowError::Absent)?;
        let (this, flow, id) = (self.clone(), flow.to_owned(), id.to_owned());
        let (tell, told) = oneshot::channel();
        self.0.life.spawn("change of a flow", async move {
            let changed = this.carry_out(&key, ttl, decide).await;
            let changed = changed.map(|(stored, put, answer)| {
                let seen = stored.map(|stored| this.seen(&flow, &id, stored));
                if let Some(seen) = seen.as_ref().filter(|_| put) {
                    this.0.running.cut(&key, |token| seen.record.wants(token));
                    this.0.feed.publish(&key, Arc::clone(seen));
                }
                (seen, answer)
            });
            if changed.is_err() {
                this.0.feed.lose(&key);
            }
            // Nobody waits for it any more if whoever asked has left.
            let _ = tell.send(changed);
        });
        told.await.unwrap_or(Err(FlowError::Stopping))
    }

    /// Also tells whether a version was stored.
    async fn carry_out<R>(
        &self,
        key: &str,
        ttl: Option<Duration>,
        mut decide: impl FnMut(Option<&Stored<FlowRecord>>, Time) -> Verdict<R>,
    ) -> Result<(Option<Stored<FlowRecord>>, bool, R), FlowError> {
        let (clock, mut moved) = (&self.0.clock, None);
        loop {
            let mut put = false;
            let attempt = |old: Option<&Stored<FlowRecord>>| {
                let now = clock.now();
                let lighter = match (old, moved) {
                    (Some(old), Some((page, count))) => {
                        Some(Stored { value: old.value.without(page, count), ..old.clone() })
                    }
                    _ => None,
                };
                let old = lighter.as_ref().or(old);
                match decide(old, now) {
                    Verdict::Keep(answer) => Decision::Keep(Attempt::Done(answer)),
                    Verdict::Delete(answer) => Decision::Delete(Attempt::Done(answer)),
                    Verdict::Put(record, answer) => match old.and_then(|old| old.value.surplus()) {
                        Some(page) => Decision::Keep(Attempt::Crowded(record.pages, page)),
                        None => {
                            put = true;
                            let expires = ttl.map_or(Expires::Unchanged, |ttl| Expires::At(now + ttl));
                            Decision::Put(*record, expires, Attempt::Done(answer))
                        }
                    },
                }
            };
            let updated = self.0.store.update::<FlowRecord, _>(key, attempt).await?;
            match updated.answer {
                Attempt::Done(answer) => return Ok((updated.record, put, answer)),
                Attempt::Crowded(page, surplus) => {
                    let Some(flow) = updated.record else { continue };
                    moved = Some((page, self.turn_page(key, page, surplus, flow.expires).await?));
                }
            }
        }
    }

    /// Writes a page, unless somebody has; tells how many messages are on it.
    async fn turn_page(&self, key: &str, page: u32, surplus: Page, expires: Option<Time>) -> Result<usize, FlowError> {
        let expires = expires.map_or(Expires::Never, Expires::At);
        let write = |old: Option<&Stored<Page>>| match old {
            Some(old) => Decision::Keep(old.value.0.len()),
            None => Decision::Put(surplus.clone(), expires, surplus.0.len()),
        };
        Ok(self.0.store.update::<Page, _>(&page_key(key, page), write).await?.answer)
    }
}

/// What a decided wish comes to.
pub(super) fn decided(outcome: Result<Outcome, FlowError>) -> Verdict<Result<(), FlowError>> {
    match outcome {
        Ok(Outcome::Changed(record)) => Verdict::Put(record, Ok(())),
        Ok(Outcome::Repeated | Outcome::Left) => Verdict::Keep(Ok(())),
        Err(error) => Verdict::Keep(Err(error)),
    }
}

/// The key of a flow's record; None for ids that no flow has.
pub(super) fn key(flow: &str, id: &str) -> Option<String> {
    let ours = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ours.then(|| format!("{flow}/{id}"))
}

pub(super) fn page_key(key: &str, page: u32) -> String {
    format!("{key}/{page:08}")
}

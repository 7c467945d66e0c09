//! What a process that died has left behind: calls that were claimed and never settled, and work in the background.
//! Looked for at the start, and again every minute for what fell out of the queue. Also tells the feed which flows are gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::feed::Ended;
use super::metrics::{self, Numbers};
use super::record::FlowRecord;
use super::{Flow, FlowError, Flows};
use crate::store::{Change, ChangeKind, Heard, StoreError};

/// Flows read in one hop.
const AT_ONCE: usize = 64;
/// Between two looks at all flows.
const EVERY: Duration = Duration::from_secs(60);

impl Flows {
    /// Looks after what was left behind, until the process stops.
    pub(super) fn recover(&self) {
        let (this, stop) = (self.clone(), self.0.life.stopping());
        self.0.life.supervise("flow recovery", async move {
            let mut shown = BTreeSet::new();
            loop {
                let look = async {
                    if let Err(error) = this.look(&mut shown).await {
                        tracing::error!(%error, "flows that were left behind could not be looked for: {error}");
                    }
                    tokio::select! {
                        () = this.0.clock.sleep(EVERY) => {}
                        // What waited for a kind that is back can go on.
                        () = this.0.applied.notified() => {}
                    }
                };
                tokio::select! {
                    () = look => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Looks at all flows once, and shows how many there are.
    async fn look(&self, shown: &mut BTreeSet<(String, String)>) -> Result<(), StoreError> {
        let (mut after, mut numbers) = (None::<String>, Numbers::default());
        loop {
            let page = self.0.store.list::<FlowRecord>(after.as_deref(), AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, stored) in page {
                let Some((kind, id)) = key.split_once('/') else { continue };
                let flow = self.seen(kind, id, stored);
                numbers.add(&flow);
                let open = flow.record.claim.is_some() || flow.record.job.is_some();
                if open && flow.declared.is_some() {
                    self.schedule(&flow);
                    self.take_over(flow, &key).await;
                }
            }
        }
        numbers.show(shown);
        Ok(())
    }

    /// Takes a claim over that nobody works on.
    async fn take_over(&self, flow: Arc<Flow>, key: &str) {
        let Some(claim) = flow.record.claim.clone() else { return };
        if self.is_full() {
            return;
        }
        let Some(under) = self.0.running.begin(key, claim.token) else { return };
        // The claim may have been settled between the look and this.
        let Ok(Some(flow)) = self.find(&flow.flow, &flow.id).await else { return };
        if flow.record.claim.as_ref() != Some(&claim) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.0.workers).acquire_owned().await else { return };
        let this = self.clone();
        self.0.life.spawn("takeover of a flow", async move {
            let taken = this.carry_on_after(&flow, &under).await;
            drop((under, permit));
            metrics::count_transition(&flow.flow, &claim.transition, &taken);
            match taken {
                Ok(_) | Err(FlowError::Provider { .. } | FlowError::Absent) => {}
                Err(error) => {
                    let (kind, id) = (&flow.flow, &flow.id);
                    tracing::error!(flow = %kind, id = %id, %error, "flow {kind} {id} is taken over later: {error}");
                }
            }
        });
    }

    /// Follows the store: flows that are gone need no calls any more, and their readers are told.
    pub(super) fn listen(&self) {
        let (this, stop, mut hearing) = (self.clone(), self.0.life.stopping(), self.0.store.hearing::<FlowRecord>());
        let mut bell = hearing.bell();
        let hear = move |heard| match heard {
            Heard::Change(Change { key, kind: ChangeKind::Deleted { .. } }) => this.ended(key.id(), Ended::Deleted),
            Heard::Change(Change { key, kind: ChangeKind::Expired { .. } }) => this.ended(key.id(), Ended::Expired),
            Heard::Change(Change { kind: ChangeKind::Put { .. }, .. }) => {}
            Heard::Missed(missed) => {
                tracing::warn!(missed, "the feed of flows missed {missed} changes; its readers start anew");
                this.0.feed.lose_all();
            }
        };
        self.0.life.supervise("flow feed", async move {
            while bell.rung(&stop).await {
                std::iter::from_fn(|| hearing.heard()).for_each(&hear);
            }
        });
    }

    fn ended(&self, id: &str, how: Ended) {
        self.0.running.cut(id, |_| false);
        self.0.feed.end(id, how);
    }
}

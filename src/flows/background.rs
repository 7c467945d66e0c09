//! Work in the background: the calls of a transition, made one after the other while the flow waits in its target state.
//!
//! What is to be done is in the record: which call is next, how often it has failed, when it is due. The queue here only
//! wakes a worker for it; a queue that is lost with its process is filled again from the records. A call may be sent
//! twice when a process dies in it: whoever calls something that must happen once gives it an `Idempotency-Key`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::definition::{Background, Definition, Transition, Values};
use super::provider::{Failure, Saved};
use super::record::{FlowRecord, Job};
use super::{Declared, Flow, FlowError, Flows, Kind, Verdict, metrics, transition};
use crate::clock::Time;
use crate::secret;

/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(600);
/// Flows that can wait in memory; further ones are found in the store when the queue has grown short.
const QUEUE: usize = 100_000;

/// Which flows want a worker, and when; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    due: Mutex<BTreeSet<(Time, String)>>,
    news: Notify,
}

impl Queue {
    // Held for set operations only, never across an await.
    fn due(&self) -> MutexGuard<'_, BTreeSet<(Time, String)>> {
        self.0.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, due: Time, key: String) {
        let mut waiting = self.due();
        if waiting.len() < QUEUE {
            waiting.insert((due, key));
        }
        metrics::show_queue(waiting.len());
        drop(waiting);
        self.0.news.notify_one();
    }

    /// The first that is due, or when the first will be.
    fn take(&self, now: Time) -> Result<String, Option<Time>> {
        let mut waiting = self.due();
        match waiting.first() {
            Some((due, _)) if *due <= now => {
                let first = waiting.pop_first();
                metrics::show_queue(waiting.len());
                first.map(|(_, key)| key).ok_or(None)
            }
            first => Err(first.map(|(due, _)| *due)),
        }
    }
}

impl Flows {
    /// Hands what a flow does in the background to the workers.
    pub(super) fn schedule(&self, flow: &Flow) {
        if let Some(job) = &flow.record.job {
            self.0.queue.put(job.due, format!("{}/{}", flow.flow, flow.id));
        }
    }

    /// Begins to work; at most so many calls at once as there are workers.
    pub(super) fn work(&self) {
        let (this, stop) = (self.clone(), self.0.life.stopping());
        self.0.life.supervise("flow workers", async move {
            tokio::select! {
                () = this.hand_out() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn hand_out(&self) {
        let (queue, clock) = (&self.0.queue, &self.0.clock);
        loop {
            // The permit first: what is taken from the queue is begun.
            let Ok(permit) = Arc::clone(&self.0.workers).acquire_owned().await else { return };
            let key = loop {
                self.room().await;
                match queue.take(clock.now()) {
                    Ok(key) => break key,
                    Err(None) => queue.0.news.notified().await,
                    Err(Some(due)) => {
                        tokio::select! {
                            () = clock.sleep(due.since(clock.now())) => {}
                            () = queue.0.news.notified() => {}
                        }
                    }
                }
            };
            let this = self.clone();
            self.0.life.spawn("work for a flow", async move {
                if let Err(error) = this.step(&key, permit).await {
                    tracing::error!(key, %error, "the work for flow {key} is tried again later: {error}");
                }
            });
        }
    }

    /// Waits until there is room for what a call brings: what it brings is noted whatever the disk, so on a full one no call
    /// is begun.
    async fn room(&self) {
        let mut room = self.0.store.room();
        if room.borrow().low {
            tracing::warn!("work for flows waits: the disk is nearly full");
            // The store, which tells it, lives as long as this.
            let _ = room.wait_for(|room| !room.low).await;
            tracing::info!("work for flows goes on: the disk has room");
        }
    }

    /// Makes the next call of a flow.
    async fn step(&self, key: &str, permit: OwnedSemaphorePermit) -> Result<(), FlowError> {
        let Some((kind, id)) = key.split_once('/') else { return Ok(()) };
        // A kind that is not configured any more may be again.
        let Ok(declared) = self.declared(kind) else { return Ok(()) };
        let Some(flow) = self.find(kind, id).await? else { return Ok(()) };
        let Some(job) = flow.record.job.clone() else { return Ok(()) };
        if job.due > self.0.clock.now() {
            self.schedule(&flow);
            return Ok(());
        }
        let Some(under) = self.0.running.begin(key, job.token) else { return Ok(()) };
        let call = declared.definition.transition(&job.transition).and_then(Transition::background);
        let call = call.and_then(|background| background.calls.get(job.call as usize));
        let outcome = match call {
            None => Err(Failure::Undefined),
            Some(call) => {
                let values = Values { data: flow.data(), secrets: &declared.secrets, id, key: &call_key(&job) };
                match self.attempt(kind, call, &values, &under).await {
                    Some(outcome) => outcome,
                    // It is not wanted any more, or the next process goes on.
                    None => return Ok(()),
                }
            }
        };
        if let Err(failure) = &outcome {
            let (host, code) = (call.map(super::definition::Call::host).unwrap_or_default(), failure.code());
            let transition = &job.transition;
            tracing::warn!(
                flow = kind,
                id,
                transition,
                host,
                code,
                "{transition} of {kind} {id}: a call failed: {failure}"
            );
        }
        let noted = self.note(&flow, job, outcome, declared).await;
        drop((under, permit));
        noted?;
        // Only now: what was begun anew while the call still counted as under way was not begun by anybody.
        if let Some(after) = self.find(kind, id).await? {
            self.schedule(&after);
        }
        Ok(())
    }

    /// Notes how a call went, unless the flow has gone on without it.
    async fn note(
        &self,
        flow: &Flow,
        job: Job,
        outcome: Result<Saved, Failure>,
        declared: Arc<Declared>,
    ) -> Result<(), FlowError> {
        let jitter = self.0.random.below(20);
        let note = move |old: Option<&FlowRecord>, now: Time| {
            let still = old.filter(|old| old.job.as_ref().is_some_and(|held| *held == job));
            let Some(old) = still else { return Verdict::Keep(Ok(())) };
            let background = declared.definition.transition(&job.transition).and_then(Transition::background);
            Verdict::put(noted(old, &job, background, &outcome, now, jitter), Ok(()))
        };
        match self.noted(&flow.flow, &flow.id, note).await {
            Ok(_) | Err(FlowError::Absent) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The key of a job's present call: the same for each of its attempts, and for no other call.
fn call_key(job: &Job) -> String {
    let key = secret::hmac_sha256(&job.token, &[&job.call.to_le_bytes()]);
    data_encoding::HEXLOWER.encode(&key[..16])
}

/// The record after a call of its job.
fn noted(
    old: &FlowRecord,
    job: &Job,
    background: Option<&Background>,
    outcome: &Result<Saved, Failure>,
    now: Time,
    jitter: u32,
) -> FlowRecord {
    let Some(background) = background else { return failed(old, job, None, &Failure::Undefined, now) };
    match outcome {
        Ok(saved) => match transition::kept(old, saved) {
            Ok(data) => went_on(FlowRecord { data, updated_at: now, ..old.clone() }, job, background, now),
            Err(_) => failed(old, job, Some(background), &Failure::TooLarge, now),
        },
        Err(failure) if failure.is_final() || job.failures + 1 >= background.attempts => {
            failed(old, job, Some(background), failure, now)
        }
        Err(failure) => {
            let mut record = FlowRecord { updated_at: now, ..old.clone() };
            let wait = background.backoff.saturating_mul(2_u32.saturating_pow(job.failures)).min(LONGEST);
            let wait = wait + wait * jitter / 100;
            let failures = job.failures + 1;
            record.say(now, Kind::Warning, &format!("attempt {failures} of {}: {failure}", background.attempts));
            record.job = Some(Job { failures, due: now + wait, ..job.clone() });
            record
        }
    }
}

/// The next call, or the end of the job.
fn went_on(mut record: FlowRecord, job: &Job, background: &Background, now: Time) -> FlowRecord {
    let (done, all) = (job.call as usize + 1, background.calls.len());
    if done < all {
        record.say(now, Kind::Info, &format!("step {done} of {all} is done"));
        record.job = Some(Job { call: job.call + 1, failures: 0, due: now, ..job.clone() });
        return record;
    }
    record.job = None;
    record.move_to(&background.done, now);
    record.set(&background.set);
    if let Some(note) = &background.message {
        record.say(now, note.kind, &note.text);
    }
    record
}

/// The end of a job that cannot be done. Without a definition that says where it leads, the state stays.
fn failed(old: &FlowRecord, job: &Job, background: Option<&Background>, failure: &Failure, now: Time) -> FlowRecord {
    let mut record = FlowRecord { job: None, failed: Some(job.clone()), updated_at: now, ..old.clone() };
    if let Some(background) = background {
        record.move_to(&background.failed, now);
    }
    let own = background.and_then(|background| background.failure.clone());
    record.say(now, Kind::Error, &own.unwrap_or_else(|| format!("{} failed: {failure}", job.transition)));
    record
}

/// The record with its failed job under way again; None when it has none that the definition still knows.
pub(super) fn retried(old: &FlowRecord, definition: &Definition, now: Time) -> Option<FlowRecord> {
    let job = old.failed.as_ref().filter(|_| old.claim.is_none())?;
    let transition = definition.transition(&job.transition)?;
    transition.background()?;
    let mut record = FlowRecord { failed: None, updated_at: now, ..old.clone() };
    record.move_to(&transition.to, now);
    record.say(now, Kind::Info, &format!("{} is tried again", transition.name));
    record.job = Some(Job { failures: 0, due: now, since: now, ..job.clone() });
    Some(record)
}

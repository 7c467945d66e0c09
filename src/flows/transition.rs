//! What a transition does to a record: pure decisions, made inside one compare-and-swap each. Status, message, flags and
//! data change together here or not at all. Nothing here calls anybody or reads a clock.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::definition::{Call, Definition, Transition, Unfilled, Values, Work};
use super::record::{Claim, FlowRecord, Job, Token};
use super::{FlowError, Kind};
use crate::clock::Time;
use crate::document;
use crate::secret::Secret;

/// Bytes of data that a flow holds, what is sent with a claimed transition included. A record's 63 KiB less the messages
/// that stay in it (8 KiB and one of 4 KiB), 256 remembered keys and 64 flags; `the_largest_flow_fits_into_a_record` adds
/// it up. What is kept of a provider's answer must fit in as well.
pub(super) const MAX_DATA: usize = 44 * 1024;

/// One wish for a transition.
#[derive(Clone)]
pub(super) struct Wish<'a> {
    pub(super) definition: &'a Definition,
    pub(super) transition: &'a Transition,
    /// What was sent with it, as JSON text.
    pub(super) sent: &'a str,
    /// The request's idempotency key.
    pub(super) once: Option<u64>,
    pub(super) token: Token,
    pub(super) now: Time,
}

/// What becomes of a wish.
pub(super) enum Outcome {
    /// The record as it shall be.
    Changed(Box<FlowRecord>),
    /// It was carried out before, for the same request.
    Repeated,
    /// It was claimed by the same request, in a process that has died.
    Left,
}

impl Wish<'_> {
    /// Carries out a transition that needs no call first; what it does in the background is due at once.
    pub(super) fn pass(&self, old: &FlowRecord) -> Result<Outcome, FlowError> {
        if old.has_applied(self.once) {
            return Ok(Outcome::Repeated);
        }
        legal(old, self.definition, self.transition)?;
        let data = merged(&old.data, self.sent)?;
        let mut record = arrive(old, self.transition, data, self.now)?;
        record.remember(self.once);
        if let Work::Background(_) = self.transition.work {
            let (token, transition) = (self.token, self.transition.name.clone());
            record.job = Some(Job { token, transition, call: 0, failures: 0, due: self.now, since: self.now });
        }
        Ok(Outcome::Changed(Box::new(record)))
    }

    /// Claims a transition before its call is made.
    pub(super) fn claim(
        &self,
        old: &FlowRecord,
        call: &Call,
        id: &str,
        secrets: &BTreeMap<String, Secret>,
    ) -> Result<Outcome, FlowError> {
        if old.has_applied(self.once) {
            return Ok(Outcome::Repeated);
        }
        if old.claim.as_ref().is_some_and(|claim| claim.token == self.token) {
            return Ok(Outcome::Left);
        }
        legal(old, self.definition, self.transition)?;
        let data = merged(&old.data, self.sent)?;
        fits(data.len() + self.sent.len())?;
        // What is missing is told before anything has happened.
        call.fill(&Values { data: &data, secrets, id, key: "" })?;
        let mut record = old.clone();
        let (token, transition, sent) = (self.token, self.transition.name.clone(), self.sent.to_owned());
        record.claim = Some(Claim { token, transition, sent, once: self.once, since: self.now });
        record.updated_at = self.now;
        Ok(Outcome::Changed(Box::new(record)))
    }
}

/// Carries out a claimed transition whose call has succeeded, with what was kept of the answer.
pub(super) fn settle(
    old: &FlowRecord,
    claim: &Claim,
    transition: &Transition,
    saved: &[(Vec<String>, Box<RawValue>)],
    now: Time,
) -> Result<FlowRecord, FlowError> {
    if !transition.from.contains(&old.status) {
        return Err(FlowError::Illegal {
            transition: transition.name.clone(),
            status: old.status.clone(),
            legal: Vec::new(),
        });
    }
    let data = keep(merged(&old.data, &claim.sent)?, saved)?;
    let mut record = arrive(old, transition, data, now)?;
    record.remember(claim.once);
    Ok(record)
}

/// Gives a claim up: nothing but a message is left of it.
pub(super) fn release(old: &FlowRecord, text: &str, now: Time) -> FlowRecord {
    let mut record = FlowRecord { claim: None, updated_at: now, ..old.clone() };
    record.say(now, Kind::Error, text);
    record
}

/// Puts what was kept of an answer into the data.
pub(super) fn keep(mut data: String, saved: &[(Vec<String>, Box<RawValue>)]) -> Result<String, FlowError> {
    for (path, value) in saved {
        data = document::put(&data, path, value).ok_or(FlowError::Data)?;
    }
    fits(data.len())?;
    Ok(data)
}

/// The record's data with what was kept of an answer, beside what a claim holds.
pub(super) fn kept(old: &FlowRecord, saved: &[(Vec<String>, Box<RawValue>)]) -> Result<String, FlowError> {
    let data = keep(old.data.clone(), saved)?;
    fits(old.weight() - old.data.len() + data.len())?;
    Ok(data)
}

/// Merges what was sent into the data.
pub(super) fn merged(data: &str, sent: &str) -> Result<String, FlowError> {
    let patch: &RawValue = serde_json::from_str(sent).map_err(|_| FlowError::Data)?;
    if !patch.get().starts_with('{') {
        return Err(FlowError::Data);
    }
    let merged = document::merge(Some(data), patch).ok_or(FlowError::Data)?;
    fits(merged.len())?;
    Ok(merged)
}

pub(super) fn fits(length: usize) -> Result<(), FlowError> {
    if length > MAX_DATA { Err(FlowError::TooLarge { length }) } else { Ok(()) }
}

/// Whether the transition may begin now.
fn legal(record: &FlowRecord, definition: &Definition, transition: &Transition) -> Result<(), FlowError> {
    if let Some(claim) = &record.claim {
        return Err(FlowError::Running { transition: claim.transition.clone() });
    }
    if transition.from.contains(&record.status) {
        return Ok(());
    }
    let legal = definition.legal(&record.status).map(|transition| transition.name.clone()).collect();
    Err(FlowError::Illegal { transition: transition.name.clone(), status: record.status.clone(), legal })
}

/// The record in the transition's target state. What was done in the background before is not wanted any more.
fn arrive(old: &FlowRecord, transition: &Transition, data: String, now: Time) -> Result<FlowRecord, FlowError> {
    let mut record = FlowRecord { data, claim: None, job: None, failed: None, updated_at: now, ..old.clone() };
    for (to, from) in &transition.copy {
        let value = document::within(&record.data, &from.0).filter(|value| value.get() != "null");
        let value = value.ok_or_else(|| FlowError::Lacks(format!("data.{from}")))?.to_owned();
        record.data = keep(record.data, &[(to.0.clone(), value)])?;
    }
    record.move_to(&transition.to, now);
    record.set(&transition.set);
    if let Some(note) = &transition.message {
        record.say(now, note.kind, &note.text);
    }
    Ok(record)
}

impl From<Unfilled> for FlowError {
    fn from(unfilled: Unfilled) -> Self {
        match unfilled {
            Unfilled::Missing(name) => Self::Lacks(name),
            Unfilled::Misfit(name) => Self::Misfit(name),
        }
    }
}

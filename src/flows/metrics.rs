//! What is counted of flows, for whoever watches the process. Labels are names that the operator declared and words of this
//! room: no client can make a new series. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::provider::{Failure, Saved};
use super::{Flow, FlowError};

/// Flows by kind and state.
const FLOWS: &str = "nightporter_flows";
const TRANSITIONS: &str = "nightporter_flow_transitions_total";
const CALLS: &str = "nightporter_flow_calls_total";
/// Flows that wait for a worker, or for their time.
const QUEUE: &str = "nightporter_flow_queue";

/// How many flows are in which state of which kind.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeMap<(String, String), u64>);

impl Numbers {
    pub(super) fn add(&mut self, flow: &Flow) {
        *self.0.entry((flow.flow.clone(), flow.status().to_owned())).or_default() += 1;
    }

    /// Shows them; states that held flows `before` and do not any more are shown as empty.
    pub(super) fn show(self, before: &mut BTreeSet<(String, String)>) {
        for (flow, state) in before.iter().filter(|known| !self.0.contains_key(*known)) {
            metrics::gauge!(FLOWS, "flow" => flow.clone(), "state" => state.clone()).set(0.0);
        }
        for ((flow, state), count) in &self.0 {
            metrics::gauge!(FLOWS, "flow" => flow.clone(), "state" => state.clone()).set(*count as f64);
        }
        before.extend(self.0.into_keys());
    }
}

/// Counts a wish for a declared transition, by what became of it.
pub(super) fn count_transition<T>(flow: &str, transition: &str, taken: &Result<T, FlowError>) {
    let outcome = match taken {
        Ok(_) => "ok",
        Err(FlowError::Illegal { .. }) => "illegal",
        Err(FlowError::Running { .. }) => "running",
        Err(FlowError::Provider { .. }) => "provider_failed",
        Err(FlowError::Store(_) | FlowError::Stopping) => "failed",
        Err(_) => "refused",
    };
    let (flow, transition) = (flow.to_owned(), transition.to_owned());
    metrics::counter!(TRANSITIONS, "flow" => flow, "transition" => transition, "outcome" => outcome).increment(1);
}

/// Counts one attempt of a provider's call.
pub(super) fn count_call(flow: &str, made: &Result<Saved, Failure>) {
    let outcome = made.as_ref().map_or_else(Failure::code, |_| "ok");
    metrics::counter!(CALLS, "flow" => flow.to_owned(), "outcome" => outcome).increment(1);
}

/// Shows how many wait in the queue.
pub(super) fn show_queue(length: usize) {
    metrics::gauge!(QUEUE).set(length as f64);
}

//! What becomes of relayed calls, in numbers. One outcome a call, portals named by the configuration only.

use super::RelayError;
use crate::clock::Stopwatch;

const CALLS: &str = "nightporter_relay_calls_total";
const SECONDS: &str = "nightporter_relay_seconds";

/// One call's numbers. Dropped before it is done, its caller has gone away.
pub(super) struct Meter {
    portal: String,
    watch: Stopwatch,
    outcome: &'static str,
}

impl Meter {
    pub(super) fn new(portal: &str) -> Self {
        Self { portal: portal.to_owned(), watch: Stopwatch::start(), outcome: "ok" }
    }

    /// The call found no session and waits for one.
    pub(super) fn parked(&mut self) {
        self.outcome = "parked";
    }

    /// The session had expired under the call.
    pub(super) fn resent(&mut self) {
        if self.outcome == "ok" {
            self.outcome = "resent";
        }
    }

    /// The answer came from the cache, or from another call's request.
    pub(super) fn spared(&mut self) {
        self.outcome = "cached";
    }

    /// The call has its answer, or will get none.
    pub(super) fn done(mut self, error: Option<&RelayError>) {
        self.outcome = error.map_or(self.outcome, outcome);
        self.count();
        // So that the drop does not count it again.
        self.portal.clear();
    }

    fn count(&self) {
        let portal = self.portal.clone();
        ::metrics::counter!(CALLS, "portal" => portal.clone(), "outcome" => self.outcome).increment(1);
        ::metrics::histogram!(SECONDS, "portal" => portal).record(self.watch.elapsed().as_secs_f64());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.portal.is_empty() {
            self.outcome = "caller_gone";
            self.count();
        }
    }
}

fn outcome(error: &RelayError) -> &'static str {
    match error {
        RelayError::NoLiveSession | RelayError::SessionGone => "no_live_session",
        RelayError::InDoubt(_) => "in_doubt",
        RelayError::Unreachable(_) => "unreachable",
        RelayError::NotReplayable => "session_expired",
        RelayError::StaleEpoch { .. }
        | RelayError::Upgrade
        | RelayError::TooLarge(_)
        | RelayError::Unsupported(_)
        | RelayError::Invalid(_)
        | RelayError::Body(_) => "refused",
        RelayError::Store(_) => "failed",
    }
}

//! The calls that this process is making, so that none is made twice at once, and so that one that is not wanted any more
//! is cut. What the store says is under way and is not here was cut off by a restart. Keeps nothing on disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::record::Token;

/// The calls under way; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Mutex<Calls>>);

/// By flow and id.
type Calls = HashMap<String, Vec<(Token, CancellationToken)>>;

/// One of them; it counts as under way until this is dropped.
#[derive(Debug)]
pub(super) struct Under {
    running: Running,
    key: String,
    token: Token,
    cancelled: CancellationToken,
}

impl Running {
    // Held for map operations only, never across an await.
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call; None when it is under way.
    pub(super) fn begin(&self, key: &str, token: Token) -> Option<Under> {
        let mut calls = self.calls();
        let of_flow = calls.entry(key.to_owned()).or_default();
        if of_flow.iter().any(|(other, _)| *other == token) {
            return None;
        }
        let cancelled = CancellationToken::new();
        of_flow.push((token, cancelled.clone()));
        drop(calls);
        Some(Under { running: self.clone(), key: key.to_owned(), token, cancelled })
    }

    /// Cuts the calls of a flow that are not `wanted`.
    pub(super) fn cut(&self, key: &str, wanted: impl Fn(&Token) -> bool) {
        if let Some(calls) = self.calls().get(key) {
            calls.iter().filter(|(token, _)| !wanted(token)).for_each(|(_, cancelled)| cancelled.cancel());
        }
    }
}

impl Under {
    /// Done when nobody wants the call any more.
    pub(super) async fn cut(&self) {
        self.cancelled.cancelled().await;
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut calls = self.running.calls();
        if let Some(of_flow) = calls.get_mut(&self.key) {
            of_flow.retain(|(token, _)| *token != self.token);
            if of_flow.is_empty() {
                calls.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_under_way_once_and_cut_when_it_is_not_wanted() {
        let running = Running::default();
        let (one, other) = (running.begin("a/1", [1; 16]).unwrap(), running.begin("a/1", [2; 16]).unwrap());
        assert!(running.begin("a/1", [1; 16]).is_none());
        running.cut("a/1", |token| *token == [1; 16]);
        other.cut().await;
        assert!(!one.cancelled.is_cancelled());
        drop((one, other));
        assert!(running.calls().is_empty());
    }
}

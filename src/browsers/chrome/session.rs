//! One attached tab on the pipe: calls that fail at once when the tab has crashed or closed, instead of at their deadline.
//! (A crashed renderer never answers; the browser only tells of it by an event.)

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headless_chrome::protocol::cdp::Target;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::CALL_LIMIT;
use super::connection::{Connection, Event, Message};
use crate::browsers::error::BrowserError;

/// An attached tab; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    connection: Connection,
    id: Arc<str>,
    end: Arc<End>,
}

/// Why the session ended, once it has.
#[derive(Debug, Default)]
struct End {
    reason: OnceLock<BrowserError>,
    came: CancellationToken,
}

impl Session {
    /// Attaches to the tab `target_id`; hands back its events as well.
    pub(super) async fn attach(
        connection: &Connection,
        target_id: String,
    ) -> Result<(Self, mpsc::Receiver<Event>), BrowserError> {
        // "Flattened": the session's messages travel on the same pipe, marked with its id.
        let method = Target::AttachToTarget { target_id, flatten: Some(true) };
        let attached = connection.call(None, &method, CALL_LIMIT).await?;
        let events = connection.subscribe(&attached.session_id);
        let session = Self { connection: connection.clone(), id: attached.session_id.into(), end: Arc::default() };
        Ok((session, events))
    }

    /// Calls `method` in the tab with the usual limit.
    pub(super) async fn call<M: Message>(&self, method: M) -> Result<M::ReturnObject, BrowserError> {
        self.call_within(CALL_LIMIT, method).await
    }

    /// Calls `method` in the tab.
    pub(super) async fn call_within<M: Message>(
        &self,
        limit: Duration,
        method: M,
    ) -> Result<M::ReturnObject, BrowserError> {
        tokio::select! {
            biased;
            () = self.end.came.cancelled() => Err(self.end.reason.get().cloned().unwrap_or(BrowserError::Closed)),
            answer = self.connection.call(Some(&self.id), &method, limit) => answer,
        }
    }

    /// Whether calls can still be answered.
    pub(super) fn is_open(&self) -> bool {
        !self.end.came.is_cancelled() && !self.connection.gone().is_cancelled()
    }

    /// Ends the session for everyone who holds it; the first reason stays. Calls under way return it.
    pub(super) fn end(&self, reason: BrowserError) {
        let _ = self.end.reason.set(reason);
        self.end.came.cancel();
    }

    /// Ends the session because its events have ended: the tab was closed, or the whole browser has gone.
    pub(super) fn end_with_pipe(&self) {
        let gone = self.connection.gone().is_cancelled();
        self.end(if gone { BrowserError::Gone } else { BrowserError::Closed });
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.came.cancel();
    }
}

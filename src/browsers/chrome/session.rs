//! One attached tab on the pipe: calls that fail at once when the tab has crashed or closed, instead of at their deadline.
//! (A crashed renderer never answers; the browser only tells of it by an event.)

use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// Calls that are not answered yet.
    awaited: Arc<AtomicUsize>,
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
        let (connection, id) = (connection.clone(), attached.session_id.into());
        Ok((Self { connection, id, end: Arc::default(), awaited: Arc::default() }, events))
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
        let _awaited = Awaited::one_more(&self.awaited);
        tokio::select! {
            biased;
            () = self.end.came.cancelled() => Err(self.end.reason.get().cloned().unwrap_or(BrowserError::Closed)),
            answer = self.connection.call(Some(&self.id), &method, limit) => answer,
        }
    }

    /// Whether somebody waits for an answer of the tab.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) > 0
    }

    /// Whether calls can still be answered.
    pub(super) fn is_open(&self) -> bool {
        !self.end.came.is_cancelled() && !self.connection.gone().is_cancelled()
    }

    /// Waits until the session has ended.
    pub(super) async fn ended(&self) {
        self.end.came.cancelled().await;
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

/// Counts a call until it is answered or given up.
struct Awaited<'a>(&'a AtomicUsize);

impl<'a> Awaited<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.came.cancel();
    }
}

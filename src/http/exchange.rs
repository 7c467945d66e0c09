//! What the wire and the service of one connection tell each other: which heads came through and how they were judged,
//! and whether a request is still being answered. Holds no bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Frame, SizeHint};

use super::head::{self, Refusal};

/// Shared by the wire, which judges heads in the order they arrive, and the service, which is called once for each head
/// in that same order.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Boxed: hardly ever there, and moved about for every request.
    judged: Mutex<VecDeque<Option<Box<Refusal>>>>,
    busy: AtomicUsize,
    upgraded: AtomicBool,
    reader: AtomicWaker,
}

impl Exchange {
    /// The wire has passed a head on: as it came, or in the place of a refused one.
    pub(super) fn pass(&self, refusal: Option<Refusal>) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.queue().push_back(refusal.map(Box::new));
    }

    /// The service was called: why it must refuse, if it must. The connection counts as busy while the guard lives.
    pub(super) fn take(self: &Arc<Self>) -> (Option<Box<Refusal>>, Busy) {
        let judged = self.queue().pop_front();
        let refusal = judged.unwrap_or_else(|| {
            // A request that the wire has not seen as one: the two read the stream differently. Nothing in it is sound.
            self.busy.fetch_add(1, Ordering::AcqRel);
            Some(Box::new(head::malformed("The request does not begin where the one before it ended.")))
        });
        (refusal, Busy(Arc::clone(self)))
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// The answer switches protocols: from here on the bytes are not HTTP.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Whether the bytes are no longer HTTP.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    /// Wakes `waker` when one of the answers above changes.
    pub(super) fn watch(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Option<Box<Refusal>>>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way, from its head to the last byte of its answer.
#[derive(Debug)]
pub(super) struct Busy(Arc<Exchange>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
        // The reader starts counting idle time from here.
        self.0.reader.wake();
    }
}

/// An answer's body that keeps something, such as its connection, busy until hyper lets go of it.
pub(super) struct Guarded<G = Busy> {
    body: Body,
    _guard: G,
}

impl<G> Guarded<G> {
    pub(super) const fn new(body: Body, guard: G) -> Self {
        Self { body, _guard: guard }
    }
}

impl<G: Unpin> hyper::body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

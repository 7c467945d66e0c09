//! What an answer leaves unread of its request. The connection goes on only when nothing of the body is left on it: a small
//! rest is read and thrown away, and with a larger one the answer says that the connection ends (RFC 9112, 9.6). Left to
//! itself, hyper would end it without a word.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use crate::clock;

/// The longest rest that is worth reading.
const SMALL: u64 = 64 * 1024;
/// How long the answer waits for it: such a rest was sent together with its head.
const PATIENCE: Duration = Duration::from_millis(200);

/// A body in the hands of a handler, which puts it back when it has not read all of it.
pub(super) struct Lent<B: hyper::body::Body> {
    body: Option<B>,
    back: Option<Arc<Mutex<Option<B>>>>,
}

/// Where a handler's body comes back to.
pub(super) struct Leftover<B> {
    back: Option<Arc<Mutex<Option<B>>>>,
    /// The client sends its body only when it is asked to.
    waits: bool,
}

impl<B: hyper::body::Body<Data = Bytes> + Unpin> Leftover<B> {
    /// The body for the handler of a request with these headers, and where the rest of it will be.
    pub(super) fn lend(headers: &HeaderMap, body: B) -> (Lent<B>, Self) {
        let waits = headers.contains_key(header::EXPECT);
        let back = (!body.is_end_stream()).then(|| Arc::new(Mutex::new(None)));
        (Lent { body: Some(body), back: back.clone() }, Self { back, waits })
    }

    /// Makes the connection fit for the next request, or says in `answer` that there will be none.
    pub(super) async fn settle(self, answer: &mut Response) {
        let Some(back) = self.back else { return };
        let rest = back.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(rest) = rest else { return };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS || answer.headers().contains_key(header::CONNECTION) {
            return;
        }
        let small = rest.size_hint().lower() <= SMALL;
        let gone = small && !self.waits && matches!(clock::within(PATIENCE, drain(rest)).await, Ok(true));
        if !gone {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Reads a body to its end, if that is near.
async fn drain(mut body: impl hyper::body::Body<Data = Bytes> + Unpin) -> bool {
    let mut left = SMALL;
    while let Some(frame) = body.frame().await {
        let length = frame.map(|frame| frame.data_ref().map_or(0, Bytes::len) as u64);
        match length.ok().and_then(|length| left.checked_sub(length)) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}

impl<B> hyper::body::Body for Lent<B>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B: hyper::body::Body> Drop for Lent<B> {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        if let Some(back) = &self.back {
            *back.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        }
    }
}

//! Request bodies: at what pace they must arrive, and how they are read into memory. Never reads more than the route's
//! limit.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::RequestExt;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError};
use hyper::body::{Body as _, Frame, SizeHint};

use super::edge::Around;
use super::limits::Limits;
use super::problem::Problem;
use crate::clock;

/// The next piece of a body did not arrive in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request body stalled")]
pub struct Stalled;

/// A body that fails with [`Stalled`] when a reader waits too long for its next piece. Time in which nobody reads does
/// not count, so a slow handler is not the client's fault.
pub(super) struct Paced<B> {
    body: B,
    limit: Duration,
    asked: bool,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<B> Paced<B> {
    pub(super) const fn new(body: B, limit: Duration) -> Self {
        Self { body, limit, asked: false, timer: None }
    }
}

impl<B: hyper::body::Body<Data = Bytes, Error = axum::Error> + Unpin> hyper::body::Body for Paced<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(frame);
        }
        // hyper hands a body out only when somebody has asked for it. What came with the head is there at the next turn,
        // and to set a timer until then costs more than the turn.
        if !std::mem::replace(&mut self.asked, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(clock::pause(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(axum::Error::new(Stalled))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body read as it came, for what is signed over its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read(request).await.map(Self)
    }
}

/// The whole body, within the route's size limit and the time limit.
pub(super) async fn read(request: Request) -> Result<Bytes, Problem> {
    let limit = request.extensions().get::<Around>().map_or(Limits::default(), |around| around.0.limits).body_total;
    let mut body = request.with_limited_body().into_body();
    let first = match soon(body.frame()).await {
        Some(None) => return Ok(Bytes::new()),
        Some(Some(frame)) => data(frame)?,
        None => Bytes::new(),
    };
    if body.is_end_stream() {
        return Ok(first);
    }
    let rest = async {
        let mut bytes = BytesMut::from(first);
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(&data(frame)?);
        }
        Ok(bytes.freeze())
    };
    clock::within(limit, rest).await.unwrap_or_else(|_| Err(too_slow()))
}

/// The bytes of a frame; trailers have none.
fn data(frame: Result<Frame<Bytes>, axum::Error>) -> Result<Bytes, Problem> {
    frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(|error| failure(&error))
}

/// What `work` comes to at this turn or the next, without a timer: see [`Paced`]. None: nothing yet.
async fn soon<F: Future + Unpin>(mut work: F) -> Option<F::Output> {
    let mut asked = false;
    poll_fn(|cx| match Pin::new(&mut work).poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if std::mem::replace(&mut asked, true) => Poll::Ready(None),
        Poll::Pending => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// What a client is told whose body could not be read: 413, 408, or 400 when it broke off.
pub fn failure(error: &(dyn Error + 'static)) -> Problem {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The request body is larger than this route takes.",
            )
            .closing();
        }
        if error.is::<Stalled>() {
            return too_slow();
        }
        cause = error.source();
    }
    Problem::bad_request("incomplete_body", "The request body broke off or is not framed correctly.").closing()
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The request body did not arrive in time.").closing()
}

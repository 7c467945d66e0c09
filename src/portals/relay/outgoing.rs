//! The caller's body on its way out: a small one is kept for a second sending, a large one flows through once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::RelayError;
use crate::portals::upstream::{self, Body};

/// The largest request body that is kept to be sent again after a promotion.
const REPLAYABLE: usize = 256 * 1024;
/// How long the caller may take to send that much.
const REPLAYABLE_TIME: Duration = Duration::from_secs(30);
/// Memory for bodies kept, over all calls of the process.
const KEPT: usize = 64 * 1024 * 1024;

/// A request body, kept or not.
pub(super) enum Outgoing {
    Kept { bytes: Bytes, _memory: Option<OwnedSemaphorePermit> },
    Once(Option<Body>),
}

impl Outgoing {
    /// Whether there is something to be sent, again or for the first time.
    pub(super) fn again(&self) -> bool {
        matches!(self, Self::Kept { .. } | Self::Once(Some(_)))
    }

    /// The body for one sending; None when it can be sent only once, and was.
    pub(super) fn take(&mut self) -> Option<Body> {
        match self {
            Self::Kept { bytes, .. } => Some(Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync()),
            Self::Once(body) => body.take(),
        }
    }
}

/// The memory for bodies that are kept; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Kept(Arc<Semaphore>);

impl Default for Kept {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(KEPT)))
    }
}

impl Kept {
    /// Keeps a small body for a second sending; a large one flows through once.
    pub(super) async fn keep(&self, headers: &HeaderMap, body: Body) -> Result<Outgoing, RelayError> {
        if body.is_end_stream() {
            return Ok(Outgoing::Kept { bytes: Bytes::new(), _memory: None });
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let wanted = length.unwrap_or(REPLAYABLE);
        if wanted > REPLAYABLE {
            return Ok(Outgoing::Once(Some(body)));
        }
        let permits = u32::try_from(wanted).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.0).try_acquire_many_owned(permits) else {
            return Ok(Outgoing::Once(Some(body)));
        };
        let peeked = upstream::peek(body, REPLAYABLE, REPLAYABLE_TIME).await;
        let (seen, whole, ended) = peeked.map_err(RelayError::Body)?;
        Ok(if ended { Outgoing::Kept { bytes: seen, _memory: Some(permit) } } else { Outgoing::Once(Some(whole)) })
    }
}

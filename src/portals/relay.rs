//! The relay: a batch job's request, sent to the portal inside a live session, and the portal's answer sent back.
//!
//! The caller never sees an expiry: an answer that means "logged out" expires the session, the standby takes over, and the
//! request is sent again. Neither the caller's credentials nor the portal's cookies cross over. The request stays on the
//! portal's origin because only its path and query are the caller's. A request whose outcome is unknown is sent again
//! only where that is harmless.

mod headers;
mod outgoing;
mod target;

use std::fmt;
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::{Method, Response, Uri};

use super::check::{self, Verdict};
use super::jar::Merge;
use super::portal::{Picked, Portal};
use super::session::short;
use super::upstream::{self, Body, UpstreamError};
use crate::clock::Time;
use crate::store::StoreError;
use outgoing::Kept;

/// How often one request may be sent: twice through an expiry, once more after refreshed values.
const SENDS: usize = 4;

/// A request on its way through. `Debug` leaves out what may be secret: the query, and headers such as `Authorization`.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query at the portal, beginning with a slash, still encoded as the caller sent it.
    pub path_and_query: String,
    /// The caller's headers.
    pub headers: HeaderMap,
    /// The caller's body.
    pub body: Body,
    /// The session that the caller names.
    pub session: Option<String>,
    /// Whether another one may serve instead.
    pub fallback: bool,
    /// How long to wait for a session.
    pub park: Duration,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next();
        f.debug_struct("Call").field("method", &self.method).field("path", &path).finish_non_exhaustive()
    }
}

/// The portal's answer, and which session got it.
#[derive(Debug)]
pub struct Relayed {
    /// Status, headers and body as the portal sent them, less its cookies.
    pub answer: Response<Body>,
    /// The session that served.
    pub session_id: String,
    /// Whether it is another one than the caller named.
    pub fallback: bool,
    /// The portal's epoch when it was sent.
    pub epoch: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No session came alive in time.
    #[error("no session of the portal is alive; try again later")]
    NoLiveSession,
    /// The session that was named is not alive, and the caller allows no other.
    #[error("the session is not alive, and X-Session-Fallback forbids another")]
    SessionGone,
    /// The request left and no answer came; the portal may have acted on it.
    #[error("whether the portal acted on the request is unknown: {0}")]
    InDoubt(String),
    /// The portal cannot be reached; nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The session expired under a request whose body was too large to keep for a second sending.
    #[error("the session expired and the body is too large to be sent again; send the request again")]
    NotReplayable,
    /// The request asks for a WebSocket.
    #[error("the relay carries HTTP requests and answers only, no WebSocket")]
    Upgrade,
    /// The request cannot be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// The caller's body broke off.
    #[error("the request body broke off")]
    Body(upstream::BoxError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The relay of the process; clones share its memory budget.
#[derive(Clone, Debug, Default)]
pub struct Relay(Kept);

impl Relay {
    /// Sends `call` through a live session of `portal`.
    ///
    /// # Errors
    /// [`RelayError`]; only `InDoubt` leaves open whether the portal has acted.
    pub async fn send(&self, portal: &Portal, call: Call) -> Result<Relayed, RelayError> {
        if headers::wants_websocket(&call.headers) {
            return Err(RelayError::Upgrade);
        }
        let uri = target::target(&portal.recipe().base_url, &call.path_and_query)?;
        let deadline = portal.now() + call.park;
        let harmless = harmless(&call);
        let headers = headers::request_headers(portal, &call);
        let mut body = self.0.keep(&call.headers, call.body).await?;
        let (mut refreshed, mut doubted, mut expiries) = (false, false, 0);
        for _ in 0..SENDS {
            let picked = pick(portal, call.session.as_deref(), call.fallback, deadline).await?;
            let mut headers = headers.clone();
            picked.session.add_headers(&portal.recipe().relay.headers, &mut headers);
            let (expired, answer) = match ask(portal, &picked, &call.method, &uri, headers, body.take()?).await {
                Ok(answered) => answered,
                Err(UpstreamError::InDoubt(_)) if harmless && !doubted && body.again() => {
                    doubted = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(why) = expired {
                // The first verdict costs nothing. A second one for the same request may be about the request: a path that
                // this account may not see must not take every session down.
                expiries += 1;
                if expiries > 1 && is_alive(portal, &picked).await {
                    return Ok(relayed(&picked, answer));
                }
                portal.expire(picked.session.id(), &why).await?;
            } else if !refreshed && wants_refresh(portal, answer.status().as_u16()) && body.again() {
                refreshed = true;
                if !portal.refresh(picked.session.id()).await {
                    return Ok(relayed(&picked, answer));
                }
            } else {
                return Ok(relayed(&picked, answer));
            }
            if !body.again() {
                return Err(RelayError::NotReplayable);
            }
        }
        Err(RelayError::NoLiveSession)
    }
}

impl From<UpstreamError> for RelayError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::NotSent(why) => Self::Unreachable(why),
            UpstreamError::InDoubt(why) => Self::InDoubt(why),
            UpstreamError::Body(cause) => Self::Body(cause),
            UpstreamError::Invalid(why) => Self::Invalid(why),
        }
    }
}

/// Sends the request once. Returns the answer, and why it means "logged out" if it does.
async fn ask(
    portal: &Portal,
    picked: &Picked,
    method: &Method,
    uri: &Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(Option<String>, Response<Body>), UpstreamError> {
    let answer = portal.tools().upstream.send(&picked.session, method.clone(), uri, headers, body).await?;
    if picked.session.unsaved() == Merge::Changed {
        // A value that the portal changed must survive our own death, or the session might not.
        portal.save(&picked.session).await;
    }
    let looked = check::logged_out(portal.recipe(), uri, answer).await;
    looked.map_err(|error| UpstreamError::InDoubt(error.to_string()))
}

/// What the recipe's own check says about the session.
async fn is_alive(portal: &Portal, picked: &Picked) -> bool {
    check::check(&portal.tools().upstream, portal.recipe(), &picked.session).await == Verdict::Alive
}

async fn pick(portal: &Portal, named: Option<&str>, fallback: bool, deadline: Time) -> Result<Picked, RelayError> {
    if named.is_some() && !fallback {
        return portal.pick(named, false).ok_or(RelayError::SessionGone);
    }
    let picked = portal.pick_by(named, fallback, deadline).await.ok_or(RelayError::NoLiveSession)?;
    if let (true, Some(named)) = (picked.fallback, named) {
        let serving = picked.session.id();
        tracing::info!(
            portal = portal.name(),
            "[Session Fallback] requested({}) → active({})",
            short(named),
            short(serving)
        );
    }
    Ok(picked)
}

fn relayed(picked: &Picked, mut answer: Response<Body>) -> Relayed {
    headers::strip_hop_by_hop(answer.headers_mut());
    answer.headers_mut().remove(hyper::header::SET_COOKIE);
    Relayed { answer, session_id: picked.session.id().to_owned(), fallback: picked.fallback, epoch: picked.epoch }
}

/// Whether an answer means that a saved value went stale.
fn wants_refresh(portal: &Portal, status: u16) -> bool {
    portal.recipe().relay.refresh.as_ref().is_some_and(|refresh| refresh.status.contains(&status))
}

/// Sending it twice does no harm, by HTTP's own rules or by the caller's word.
fn harmless(call: &Call) -> bool {
    matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS) || call.headers.contains_key("idempotency-key")
}

//! The relay: a batch job's request, sent to the portal inside a live session, and the portal's answer sent back.
//!
//! The caller never sees an expiry: an answer that means "logged out" expires the session, the standby takes over, and the
//! request is sent again. Neither the caller's credentials nor the portal's cookies cross over. The request stays on the
//! portal's origin because only its path and query are the caller's. A request whose outcome is unknown is sent again
//! only where that is harmless.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::{Method, Response, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::check::{self, Verdict};
use super::jar::Merge;
use super::portal::{Picked, Portal};
use super::session::short;
use super::upstream::{self, Body, UpstreamError};
use super::way::{self, Asked};
use crate::clock::Time;
use crate::store::StoreError;

/// The largest request body that is kept to be sent again after a promotion.
const REPLAYABLE: usize = 256 * 1024;
/// How long the caller may take to send that much.
const REPLAYABLE_TIME: Duration = Duration::from_secs(30);
/// Memory for bodies kept, over all calls of the process.
const KEPT: usize = 64 * 1024 * 1024;
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
    /// The body is larger than the way to this portal carries, in bytes.
    #[error("a request to this portal has a body of at most {0} bytes")]
    TooLarge(usize),
    /// The way to this portal cannot carry such a request.
    #[error("{0}")]
    Unsupported(String),
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
#[derive(Clone, Debug)]
pub struct Relay(Arc<Semaphore>);

impl Default for Relay {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(KEPT)))
    }
}

impl Relay {
    /// Sends `call` through a live session of `portal`.
    ///
    /// # Errors
    /// [`RelayError`]; only `InDoubt` leaves open whether the portal has acted.
    pub async fn send(&self, portal: &Portal, call: Call) -> Result<Relayed, RelayError> {
        if wants_websocket(&call.headers) {
            return Err(RelayError::Upgrade);
        }
        let uri = target(&portal.recipe().base_url, &call.path_and_query)?;
        let deadline = portal.now() + call.park;
        let harmless = harmless(&call);
        let headers = request_headers(portal, &call);
        let mut body = self.keep(&call.headers, call.body).await?;
        let (mut refreshed, mut doubted, mut expiries) = (false, false, 0);
        for _ in 0..SENDS {
            let picked = pick(portal, call.session.as_deref(), call.fallback, deadline).await?;
            let asked = Asked {
                method: call.method.clone(),
                uri: &uri,
                headers: headers.clone(),
                templates: &portal.recipe().relay.headers,
                body: body.take()?,
            };
            let (expired, answer) = match ask(portal, &picked, asked).await {
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

    /// Keeps a small body for a second sending; a large one flows through once.
    async fn keep(&self, headers: &HeaderMap, body: Body) -> Result<Outgoing, RelayError> {
        use hyper::body::Body as _;
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

impl From<UpstreamError> for RelayError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::NotSent(why) => Self::Unreachable(why),
            UpstreamError::InDoubt(why) => Self::InDoubt(why),
            UpstreamError::Body(cause) => Self::Body(cause),
            UpstreamError::TooLarge(limit) => Self::TooLarge(limit),
            UpstreamError::Unsupported(why) => Self::Unsupported(why),
            UpstreamError::Invalid(why) => Self::Invalid(why),
        }
    }
}

/// Sends the request once. Returns the answer, and why it means "logged out" if it does.
async fn ask(
    portal: &Portal,
    picked: &Picked,
    asked: Asked<'_>,
) -> Result<(Option<String>, Response<Body>), UpstreamError> {
    let uri = asked.uri;
    let answer = way::send(portal, &picked.session, asked).await?;
    if picked.session.unsaved() == Merge::Changed {
        // A value that the portal changed must survive our own death, or the session might not.
        portal.save(&picked.session).await;
    }
    let looked = check::logged_out(portal.recipe(), uri, answer).await;
    looked.map_err(|error| UpstreamError::InDoubt(error.to_string()))
}

/// What the recipe's own check says about the session.
async fn is_alive(portal: &Portal, picked: &Picked) -> bool {
    check::check(portal, &picked.session).await == Verdict::Alive
}

/// Other upgrades may be ignored (RFC 9110, 7.8), and must be: some clients offer `h2c` with every request.
fn wants_websocket(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// A request body, kept or not.
enum Outgoing {
    Kept { bytes: Bytes, _memory: Option<OwnedSemaphorePermit> },
    Once(Option<Body>),
}

impl Outgoing {
    fn again(&self) -> bool {
        matches!(self, Self::Kept { .. } | Self::Once(Some(_)))
    }

    fn take(&mut self) -> Result<Body, RelayError> {
        match self {
            Self::Kept { bytes, .. } => Ok(Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync()),
            Self::Once(body) => body.take().ok_or(RelayError::NotReplayable),
        }
    }
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
    strip_hop_by_hop(answer.headers_mut());
    answer.headers_mut().remove(SET_COOKIE);
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

/// Puts the caller's path and query behind the portal's origin, byte for byte, and nowhere else.
fn target(base: &Url, path_and_query: &str) -> Result<Uri, RelayError> {
    let invalid = || RelayError::Invalid("the path must begin with a slash and stay on the portal".to_owned());
    // Never parsed as a reference: "//evil", "/@evil" and "/..;" are paths on the portal here.
    if !path_and_query.starts_with('/') || path_and_query.contains(['\\', '#']) {
        return Err(invalid());
    }
    let authority = &base[url::Position::BeforeHost..url::Position::AfterPort];
    let uri = Uri::builder().scheme(base.scheme()).authority(authority).path_and_query(path_and_query);
    uri.build().map_err(|_| invalid())
}

/// The caller's headers as the portal may see them.
fn request_headers(portal: &Portal, call: &Call) -> HeaderMap {
    let mut headers = call.headers.clone();
    strip_hop_by_hop(&mut headers);
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, HOST, FORWARDED, CONTENT_LENGTH, EXPECT, ORIGIN] {
        headers.remove(name);
    }
    if call.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0") {
        // A body sets its own length; where there is none nothing does, and some servers refuse a POST without one.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let ours = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-session-") || name.starts_with("x-forwarded-") || name == "x-park-timeout"
    };
    let names: Vec<_> = headers.keys().filter(|name| ours(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    let origin = portal.recipe().base_url.origin().ascii_serialization();
    if let Ok(referer) = HeaderValue::try_from(format!("{origin}/")) {
        headers.insert(REFERER, referer);
    }
    if !matches!(call.method, Method::GET | Method::HEAD)
        && let Ok(origin) = HeaderValue::try_from(origin)
    {
        headers.insert(ORIGIN, origin);
    }
    if portal.recipe().check.expiry_needs_body() {
        // The expiry shows in the body, and a compressed one cannot be read on the way.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers
}

/// Removes what belongs to one connection only (RFC 9110, 7.6.1).
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<_> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in [CONNECTION, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_portal() {
        let base = Url::parse("https://acme.example").unwrap();
        for (path, wanted) in [
            ("/api/orders?x=1%2F&y=%EA%B0%80", "https://acme.example/api/orders?x=1%2F&y=%EA%B0%80"),
            ("/a/../b", "https://acme.example/a/../b"),
            ("//evil.example/x", "https://acme.example//evil.example/x"),
            ("/@evil.example", "https://acme.example/@evil.example"),
            ("/https://evil.example/", "https://acme.example/https://evil.example/"),
            ("/a?u=http://evil.example", "https://acme.example/a?u=http://evil.example"),
            ("/a%2e%2e/b%00", "https://acme.example/a%2e%2e/b%00"),
        ] {
            assert_eq!(target(&base, path).unwrap().to_string(), wanted, "{path}");
        }
        for path in ["", "evil.example", "http://evil.example/", "/\\evil.example", "?x", "/a#b"] {
            assert!(target(&base, path).is_err(), "{path}");
        }
    }

    #[test]
    fn hop_by_hop_headers_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, x-mine"), ("x-mine", "1"), ("keep-alive", "5"), ("te", "trailers"), ("x-kept", "1")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-kept"]);
    }
}

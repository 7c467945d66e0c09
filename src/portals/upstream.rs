//! The HTTP client towards portals: one request, one answer, no redirects followed, no cookies kept.
//!
//! It speaks for a session by carrying what the browser would: its cookies and its identity headers. What it does not do
//! is decide: verdicts are `check`'s, retries are `relay`'s. An answer whose framing can be read in two ways leaves here
//! with one.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Body as _;
use hyper::header::{
    ACCEPT, CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use super::session::Session;
use crate::clock;

/// Bytes on their way, either way.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Why a body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

const CONNECT: Duration = Duration::from_secs(10);
/// How long the portal may take to begin its answer, and how long it may pause within it.
pub(super) const ANSWER: Duration = Duration::from_secs(60);
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Kept connections per portal: enough for a batch job's workers.
const IDLE_CONNECTIONS: usize = 64;
/// How long a connection may have been idle for [`Reuse::Any`] and [`Reuse::Young`]. Servers close idle connections after
/// 5 s (Apache, Node) to 75 s (nginx); 2 s leaves the shortest of them room for a slow network.
const IDLE_ANY: Duration = Duration::from_secs(30);
const IDLE_YOUNG: Duration = Duration::from_secs(2);

type Connections = Client<HttpsConnector<HttpConnector>, Body>;

/// A client with its own connections; clones share them.
#[derive(Clone, Debug)]
pub struct Upstream {
    any: Connections,
    young: Connections,
    new: Connections,
}

/// Which connection a request may go out on. A portal may close an idle one just as a request leaves on it; whether it
/// has read the request is unknown then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Any that is kept: for what may be sent again.
    Any,
    /// Only one that was in use a moment ago, which no portal closes yet: for what may not.
    Young,
    /// None: for what has met a dead one.
    Never,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The request never left: nobody listens, no such name, TLS refused. Sending again is safe.
    #[error("the portal cannot be reached: {0}")]
    NotSent(String),
    /// The connection broke, or no answer came in time, after the request had left. Whether the portal acted is unknown.
    #[error("the portal did not answer: {0}")]
    InDoubt(String),
    /// The caller's body broke off while it was passed on: the portal has no complete request.
    #[error("the request body broke off")]
    Body(#[source] BoxError),
    /// The body is larger than the way to this portal carries, in bytes.
    #[error("this portal is called by a browser (via = \"browser\"), which carries a body of at most {} MiB", .0 >> 20)]
    TooLarge(usize),
    /// The way to this portal cannot carry such a request.
    #[error("{0}")]
    Unsupported(String),
    /// The request cannot be expressed in HTTP.
    #[error("the request cannot be sent: {0}")]
    Invalid(String),
}

impl Upstream {
    /// A client that trusts the host's certificate authorities.
    ///
    /// # Errors
    /// When the host has no readable certificate store.
    pub fn new() -> std::io::Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = |idle, connections| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(idle)
                .pool_max_idle_per_host(connections)
                .build(https.clone())
        };
        Ok(Self {
            any: client(IDLE_ANY, IDLE_CONNECTIONS),
            young: client(IDLE_YOUNG, IDLE_CONNECTIONS),
            new: client(IDLE_YOUNG, 0),
        })
    }

    /// Sends a request in the name of `session` and returns the answer's head with its body still to come. The answer's
    /// cookies are merged into the jar and taken off the answer.
    ///
    /// # Errors
    /// [`UpstreamError`], told apart by whether sending again is safe.
    pub async fn send_on(
        &self,
        reuse: Reuse,
        session: &Session,
        method: Method,
        uri: &Uri,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, UpstreamError> {
        let url = Url::parse(&uri.to_string()).map_err(|error| invalid(&error))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        identify(session, request.headers_mut());
        let (cookies, asked) = session.jar().header(&url);
        if let Some(cookies) = cookies {
            let value = HeaderValue::try_from(cookies).map_err(|error| invalid(&error))?;
            request.headers_mut().insert(COOKIE, value);
        }
        let connections = match reuse {
            Reuse::Any => &self.any,
            Reuse::Young => &self.young,
            Reuse::Never => &self.new,
        };
        let answer = match clock::within(ANSWER, connections.request(request)).await {
            Ok(answer) => answer.map_err(failure)?,
            Err(_) => return Err(UpstreamError::InDoubt(format!("no answer within {} s", ANSWER.as_secs()))),
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpstreamError::InDoubt("it switched to another protocol, unasked".to_owned()));
        }
        let (mut head, body) = answer.into_parts();
        let set = head.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        session.merged(session.jar().merge(&url, asked, set));
        head.headers.remove(SET_COOKIE);
        if head.headers.contains_key(TRANSFER_ENCODING) {
            // RFC 9112, 6.3: the length beside it is wrong, and whoever believed it would take the rest for an answer.
            head.headers.remove(CONTENT_LENGTH);
        }
        // What the portal speaks is between it and us.
        head.version = Version::HTTP_11;
        Ok(Response::from_parts(head, bounded_in_time(body)))
    }
}

/// What a failure says about whether the request has left.
fn failure(error: hyper_util::client::legacy::Error) -> UpstreamError {
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    if error.is_connect() || cause.is_some_and(hyper::Error::is_canceled) {
        // Canceled: the connection was closed before the request was written to it.
        return UpstreamError::NotSent(root_cause(&error));
    }
    if cause.is_some_and(hyper::Error::is_user) {
        // Not the portal failed but the body that we were to send.
        return UpstreamError::Body(error.into());
    }
    UpstreamError::InDoubt(root_cause(&error))
}

/// Adds what the browser of the session says about itself. What a caller accepts is the caller's to say.
fn identify(session: &Session, headers: &mut HeaderMap) {
    for (name, value) in &session.identity().fetch {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { continue };
        if name != ACCEPT || !headers.contains_key(ACCEPT) {
            headers.insert(name, value);
        }
    }
}

fn invalid(error: &dyn std::fmt::Display) -> UpstreamError {
    UpstreamError::Invalid(error.to_string())
}

/// The innermost error: "connection refused" rather than "client error (Connect)".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A body without bytes.
pub fn no_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Ends a body with an error when the portal pauses too long in it. It does not tell its size: where the portal says one,
/// a header does, and an answer to HEAD has a size that its body has not.
fn bounded_in_time(body: hyper::body::Incoming) -> Body {
    let frames = stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match clock::within(IDLE, body.frame()).await {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => Some((Err(BoxError::from(error)), None)),
            Ok(None) => None,
            Err(late) => Some((Err(BoxError::from(late)), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Reads up to `limit` bytes, at most for `time`. Returns them with a body that yields everything, those bytes included,
/// and whether the body ended within them.
///
/// # Errors
/// When the body breaks off.
pub async fn peek(body: Body, limit: usize, time: Duration) -> Result<(Bytes, Body, bool), BoxError> {
    let mut body = body;
    let mut seen = Vec::new();
    let mut frames = Vec::new();
    let mut ended = false;
    let mut beyond = false;
    // Frames are collected outside the timed part, so that running out of time loses none.
    let read = async {
        while seen.len() < limit {
            let Some(frame) = body.frame().await.transpose()? else {
                ended = true;
                break;
            };
            if let Some(data) = frame.data_ref() {
                let room = limit - seen.len();
                beyond |= data.len() > room;
                seen.extend_from_slice(&data[..data.len().min(room)]);
            }
            frames.push(frame);
        }
        // A body that fills the limit exactly has ended within it.
        ended |= !beyond && body.is_end_stream();
        Ok::<_, BoxError>(())
    };
    if let Ok(result) = clock::within(time, read).await {
        result?;
    }
    // What has ended is not asked again: a stream may panic then, and somebody else may have looked into it before.
    let rest = stream::unfold((!ended).then_some(body), |body| async move {
        let mut body = body?;
        body.frame().await.map(|frame| (frame, Some(body)))
    });
    let whole = futures_util::StreamExt::chain(stream::iter(frames.into_iter().map(Ok)), rest);
    Ok((Bytes::from(seen), StreamBody::new(whole).boxed_unsync(), ended))
}

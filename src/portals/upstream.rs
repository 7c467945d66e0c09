//! The HTTP client towards portals: one request, one answer, no redirects followed, no cookies kept.
//!
//! It speaks for a session by carrying what the browser would: its cookies and its identity headers. What it does not do
//! is decide: verdicts are `check`'s, retries are `relay`'s.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Body as _;
use hyper::header::{ACCEPT, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use hyper::{Method, Request, Response, Uri};
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

/// A client with its own connections; clones share them.
#[derive(Clone, Debug)]
pub struct Upstream(Client<HttpsConnector<HttpConnector>, Body>);

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
    #[error("a request to this portal has a body of at most {0} bytes")]
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
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(https);
        Ok(Self(client))
    }

    /// Sends a request in the name of `session` and returns the answer's head with its body still to come. The answer's
    /// cookies are merged into the jar and taken off the answer.
    ///
    /// # Errors
    /// [`UpstreamError`], told apart by whether sending again is safe.
    pub async fn send(
        &self,
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
        if let Some(cookies) = session.jar().header(&url) {
            let value = HeaderValue::try_from(cookies).map_err(|error| invalid(&error))?;
            request.headers_mut().insert(COOKIE, value);
        }
        let answer = match clock::within(ANSWER, self.0.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => return Err(UpstreamError::NotSent(root_cause(&error))),
            Ok(Err(error)) if is_of_body(&error) => return Err(UpstreamError::Body(error.into())),
            Ok(Err(error)) => return Err(UpstreamError::InDoubt(root_cause(&error))),
            Err(_) => return Err(UpstreamError::InDoubt(format!("no answer within {} s", ANSWER.as_secs()))),
        };
        let (mut head, body) = answer.into_parts();
        let set = head.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        session.merged(session.jar().merge(&url, set));
        head.headers.remove(SET_COOKIE);
        Ok(Response::from_parts(head, bounded_in_time(body)))
    }
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

/// Whether it was not the portal that failed but the body that we were to send.
fn is_of_body(error: &hyper_util::client::legacy::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(hyper::Error::is_user)
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
    let rest = stream::unfold(body, |mut body| async move { body.frame().await.map(|frame| (frame, body)) });
    let whole = futures_util::StreamExt::chain(stream::iter(frames.into_iter().map(Ok)), rest);
    Ok((Bytes::from(seen), StreamBody::new(whole).boxed_unsync(), ended))
}

//! What surrounds every route: request id, log line, metrics, client address, refusals of the wire, caught panics, body
//! limits, and the problems for what is not there. Order matters and is fixed here; routes are the caller's.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tower::{Layer, Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use utoipa_axum::router::OpenApiRouter;

use super::client::TrustedProxies;
use super::head::Refusal;
use super::limits::Limits;
use super::problem::{self, Problem};
use super::request_id;
use super::{metrics, openapi};
use crate::clock::{Clock, Stopwatch};
use crate::ids::Random;
use crate::portals::code_link;

/// Paths that are asked for every few seconds by machines; their log lines are for debugging only.
const QUIET: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// What the edge itself needs, and extractors behind it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Dates new request ids.
    pub clock: Clock,
    /// Draws new request ids.
    pub random: Random,
    /// Whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// Sizes and times of bodies.
    pub limits: Limits,
}

/// The edge around a request, in the extensions of every one that came through it.
#[derive(Clone, Debug)]
pub(super) struct Around(pub(super) Arc<Settings>);

/// A router with everything around it, the only thing that a [`Server`](super::server::Server) serves.
#[derive(Clone, Debug)]
pub struct Edge(Router);

impl Edge {
    /// Surrounds `routes`, and adds `/openapi.json`, which describes them.
    pub fn new(routes: OpenApiRouter, settings: Settings) -> Self {
        let (router, description) = routes.split_for_parts();
        // One layer: each is cloned and boxed for every request.
        let layers = ServiceBuilder::new()
            .layer(DefaultBodyLimit::max(settings.limits.max_body))
            .layer(Surround(Arc::new(settings)))
            .layer(CatchPanicLayer::custom(on_panic));
        let router = router
            .merge(openapi::route(description))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(layers);
        Self(router)
    }

    /// The plain service, for tests and for what dispatches requests without a socket.
    pub fn into_router(self) -> Router {
        self.0
    }
}

async fn not_found() -> Problem {
    Problem::not_found("not_found", "There is nothing at this path.")
}

// The router adds the Allow header.
async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not take this method.")
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that the layer asks for")]
fn on_panic(panic: Box<dyn Any + Send>) -> Response {
    let message = crate::lifecycle::panic_message(&*panic);
    tracing::error!(message, "a handler panicked: {message}");
    Problem::internal().into_response()
}

/// The layer around every route.
#[derive(Clone, Debug)]
struct Surround(Arc<Settings>);

impl<S> Layer<S> for Surround {
    type Service = Surrounded<S>;

    fn layer(&self, inner: S) -> Surrounded<S> {
        Surrounded { settings: Arc::clone(&self.0), inner }
    }
}

/// A service within [`Surround`].
#[derive(Clone, Debug)]
struct Surrounded<S> {
    settings: Arc<Settings>,
    inner: S,
}

impl<S, B> Service<Request> for Surrounded<S>
where
    S: Service<Request, Response = Response<B>>,
    S::Future: Send + 'static,
    Response<B>: IntoResponse,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let watch = Stopwatch::start();
        let refusal = request.extensions_mut().remove::<Refusal>();
        let id = id_of(&request, refusal.as_ref(), &self.settings);
        let line = Line::new(&request, refusal.is_some());
        let span = tracing::info_span!("request", method = line.method(), path = line.path(), id);
        let refused = match refusal {
            Some(refusal) => Some(refusal.problem()),
            None => check_path(request.uri().path()).err(),
        };
        let within = match refused {
            Some(problem) => Err(problem),
            None => {
                request.extensions_mut().insert(Around(Arc::clone(&self.settings)));
                Ok(span.in_scope(|| self.inner.call(request)).instrument(span.clone()))
            }
        };
        Box::pin(async move {
            let response = match within {
                Err(problem) => problem.into_response(),
                Ok(answering) => answering.await?.into_response(),
            };
            let (mut response, code) = problem::finish(response, &id);
            if let Ok(value) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(request_id::HEADER, value);
            }
            span.in_scope(|| line.write(response.status(), code, watch));
            Ok(response)
        })
    }
}

/// What the client calls the request, or a new name for it.
fn id_of(request: &Request, refusal: Option<&Refusal>, settings: &Settings) -> String {
    let sent = match refusal {
        Some(refusal) => refusal.request_id.clone(),
        None => request_id::sent(request.headers()).map(str::to_owned),
    };
    sent.unwrap_or_else(|| request_id::draw(&settings.random, &settings.clock))
}

/// Refuses percent-encoding that different readers would read differently, and null bytes, which end a string for some.
/// Other bytes that are not UTF-8 may pass: portals of other people use them.
fn check_path(path: &str) -> Result<(), Problem> {
    let bytes = path.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        match bytes.get(at + 1..at + 3) {
            Some(b"00") => return Err(Problem::bad_request("invalid_path", "The path contains a null byte.")),
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {}
            _ => return Err(Problem::bad_request("invalid_path", "The path has an incomplete percent escape.")),
        }
    }
    Ok(())
}

/// A path as the log may show it: what follows the place of one-time links is as good as a password.
fn loggable(path: &str) -> &str {
    if path.starts_with(code_link::PATH) { code_link::PATH } else { path }
}

/// The log line and the metrics of one request; holds what is known before the request is handed on.
struct Line {
    /// None: the request that arrived here only stands for one that could not be read.
    request: Option<(Method, Uri)>,
    route: Option<MatchedPath>,
}

impl Line {
    fn new(request: &Request, refused: bool) -> Self {
        let shown = (!refused).then(|| (request.method().clone(), request.uri().clone()));
        Self { request: shown, route: request.extensions().get::<MatchedPath>().cloned() }
    }

    fn method(&self) -> &str {
        self.request.as_ref().map_or("-", |(method, _)| method.as_str())
    }

    fn path(&self) -> &str {
        self.request.as_ref().map_or("-", |(_, uri)| loggable(uri.path()))
    }

    fn route(&self) -> &str {
        match (&self.request, &self.route) {
            (None, _) => "refused",
            (Some(_), None) => "unmatched",
            (Some(_), Some(route)) => route.as_str(),
        }
    }

    fn write(&self, status: StatusCode, code: Option<&'static str>, watch: Stopwatch) {
        let elapsed = watch.elapsed();
        let (method, path, route) = (self.method(), self.path(), self.route());
        metrics::count(method, route, status.as_u16(), elapsed);
        let (status, millis) = (status.as_u16(), elapsed.as_millis());
        if QUIET.contains(&route) {
            tracing::debug!(status, millis, code, "{method} {path} answered {status} in {millis} ms");
        } else {
            tracing::info!(status, millis, code, "{method} {path} answered {status} in {millis} ms");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_no_token_of_a_link() {
        assert_eq!(loggable("/code/s3cret"), "/code/");
        assert_eq!(loggable("/code/s3cret/more"), "/code/");
        assert_eq!(loggable("/api/portals/a/code"), "/api/portals/a/code");
    }
}

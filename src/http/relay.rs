//! The relay's route: `ANY /api/portals/{portal}/relay/{path}`. Everything but the session headers is passed on, and the
//! path as the client wrote it: decoding and encoding it again would change it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use utoipa::IntoResponses;
use utoipa::openapi::{self, RefOr};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::body;
use super::exchange::Guarded;
use super::portals::{Api, SESSION_EPOCH, SESSION_FALLBACK, SESSION_ID, name_session};
use super::problem::Problem;
use crate::config::duration;
use crate::operators::Principal;
use crate::operators::limits::{Limited, Limiter, Place};
use crate::portals::portal::DEFAULT_PARK;
use crate::portals::relay::{Call, RelayError};
use crate::portals::upstream::BoxError;

/// The longest time that a call may ask to be parked.
const LONGEST_PARK: Duration = Duration::from_secs(600);

/// What may come back instead of the portal's answer, whatever the path.
const PROBLEMS: [(&str, &str); 7] = [
    ("404", "`unknown_portal`, or `no_live_session` with `X-Session-Fallback: never`"),
    ("409", "`stale_epoch`: the portal's epoch is not `X-Session-Epoch`; nothing was sent in another"),
    ("413", "`body_too_large`: the portal is called by a browser, which carries less"),
    ("429", "`rate_limited`: the token has used up `[limits]`; `Retry-After` tells when to come again"),
    (
        "501",
        "`upgrade_not_supported`: no WebSocket; `not_supported`: the portal is called by a browser, which cannot send this",
    ),
    ("502", "`in_doubt`: the portal may have acted on it; `portal_unreachable`: it has not"),
    ("503", "`no_live_session`, or `session_expired`: it did under a body too large to be sent again"),
];

/// The answers of every relayed path.
struct Answers;

impl IntoResponses for Answers {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        const PORTAL: &str = "The portal's answer, with `X-Session-Id`, `X-Session-Fallback` and `X-Session-Epoch`";
        let portal = ("default".to_owned(), RefOr::T(openapi::Response::new(PORTAL)));
        let problem = |(status, why): (&str, &str)| (status.to_owned(), RefOr::T(super::openapi::problem(why)));
        [portal].into_iter().chain(PROBLEMS.map(problem)).collect()
    }
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    // The document can name only the usual methods; the portal decides about every other one.
    OpenApiRouter::new()
        .routes(routes!(relay).map(|methods| methods.fallback(relay)))
        .routes(routes!(relay_root).map(|methods| methods.fallback(relay)))
}

/// Send a request to the portal inside a live session
///
/// The answer is the portal's own status, headers and body. Its cookies never leave, nor do `Authorization` and `Cookie`
/// of this request reach it. An answer that means "logged out" is not shown: the standby takes over and the request is
/// sent again. Every method passes but TRACE, those included that this description has no place for. Where the recipe has
/// `[[relay.cache]]`, `X-Cache` says `hit`, `miss` or `shared` and `Age` how old the answer is; `Cache-Control: no-cache`
/// asks the portal. An answer of the portal carries `X-Session-Id`, a problem of the relay itself does not.
#[utoipa::path(
    method(get, head, post, put, patch, delete, options),
    path = "/api/portals/{portal}/relay/{*path}",
    tag = "portals",
    security(("operator" = ["portals:relay"])),
    params(
        ("portal" = String, Path),
        ("path" = String, Path, description = "Path at the portal; the query is passed on as well"),
        ("X-Session-Id" = Option<String>, Header, description = "The session to use"),
        ("X-Session-Fallback" = Option<String>, Header, description = "`never`: no other session than the named one"),
        ("X-Session-Epoch" = Option<u64>, Header,
            description = "Send it in this epoch of the portal only; 409 `stale_epoch` once another session has taken over"),
        ("X-Park-Timeout" = Option<String>, Header,
            description = "How long to wait for a session, `2s` or plain seconds. Default 30 s"),
        ("Idempotency-Key" = Option<String>, Header,
            description = "Passed on; says that the request may be sent again when its outcome is unknown"),
    ),
    responses(Answers)
)]
async fn relay(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    if request.method() == Method::TRACE {
        // The answer would be the request, the session's cookies included.
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "TRACE is not relayed: its answer would hold the portal's cookies.",
        ));
    }
    let portal = api.portal(&portal_name(request.uri().path()))?;
    let place = place(&api.limiter, request.extensions().get())?;
    let call = call(request)?;
    let relayed = api.relay.send(&portal, call).await.map_err(problem)?;
    // Until the last byte of the answer has left, the call is under way.
    let mut answer = relayed.answer.map(|body| Body::new(Guarded::new(Body::new(body), place)));
    name_session(answer.headers_mut(), &relayed.session_id, relayed.fallback, relayed.epoch);
    Ok(answer.into_response())
}

/// Send a request to the portal's root
///
/// As for any other path of it.
#[utoipa::path(
    method(get, head, post, put, patch, delete, options),
    path = "/api/portals/{portal}/relay/",
    tag = "portals",
    security(("operator" = ["portals:relay"])),
    params(("portal" = String, Path)),
    responses(Answers)
)]
async fn relay_root(state: State<Api>, request: Request) -> Result<Response, Problem> {
    relay(state, request).await
}

/// The call's place among those of its token.
fn place(limiter: &Limiter, principal: Option<&Principal>) -> Result<Place, Problem> {
    let limited = |limited: Limited| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", limited.to_string())
            .retry_after(limited.retry_after())
    };
    // The scope's check in front of this route has left the principal there.
    limiter.admit(&principal.ok_or_else(Problem::internal)?.id).map_err(limited)
}

/// The portal that the path names. Not by an extractor: that would refuse a path that is not UTF-8 further on, and old
/// portals have such paths.
fn portal_name(path: &str) -> Cow<'_, str> {
    let name = path.split('/').nth(3).unwrap_or_default();
    percent_encoding::percent_decode_str(name).decode_utf8_lossy()
}

fn call(request: Request) -> Result<Call, Problem> {
    let (head, body) = request.into_parts();
    let session = text(&head.headers, SESSION_ID.as_str())?;
    let fallback = match text(&head.headers, SESSION_FALLBACK.as_str())?.as_deref() {
        None | Some("auto") => true,
        Some("never") => false,
        Some(_) => return Err(invalid("X-Session-Fallback", "expected `never` or `auto`")),
    };
    let epoch = match text(&head.headers, SESSION_EPOCH.as_str())? {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("X-Session-Epoch", "expected a whole number"))?),
    };
    let park = match text(&head.headers, "x-park-timeout")? {
        None => DEFAULT_PARK,
        Some(text) => park(&text).ok_or_else(|| invalid("X-Park-Timeout", "expected `2s` or seconds, at most 10m"))?,
    };
    // "/api/portals/{portal}/relay" has four slashes before what is the portal's.
    let path = head.uri.path().splitn(6, '/').nth(5).unwrap_or_default();
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let body = body.map_err(BoxError::from).boxed_unsync();
    Ok(Call {
        method: head.method,
        path_and_query: format!("/{path}{query}"),
        headers: head.headers,
        body,
        session,
        fallback,
        park,
        epoch,
    })
}

fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| invalid(name, "expected visible ASCII"))?;
    Ok(Some(text.to_owned()))
}

fn park(text: &str) -> Option<Duration> {
    let span = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => duration::parse(text).ok()?,
    };
    (span <= LONGEST_PARK).then_some(span)
}

fn invalid(name: &str, expected: &str) -> Problem {
    Problem::bad_request("invalid_header", format!("{name}: {expected}.")).field(name.to_owned())
}

fn problem(error: RelayError) -> Problem {
    let detail = error.to_string();
    let bad_gateway = |code, detail| Problem::new(StatusCode::BAD_GATEWAY, code, detail);
    match error {
        RelayError::NoLiveSession => Problem::unavailable("no_live_session", detail, Duration::from_secs(5)),
        RelayError::SessionGone => Problem::not_found("no_live_session", detail),
        RelayError::StaleEpoch { now, .. } => Problem::conflict("stale_epoch", detail).with("epoch", now),
        RelayError::InDoubt(_) => bad_gateway("in_doubt", detail),
        RelayError::Unreachable(_) => bad_gateway("portal_unreachable", detail),
        RelayError::NotReplayable => Problem::unavailable("session_expired", detail, Duration::from_secs(1)),
        RelayError::Upgrade => Problem::new(StatusCode::NOT_IMPLEMENTED, "upgrade_not_supported", detail),
        RelayError::TooLarge(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).closing(),
        RelayError::Unsupported(_) => Problem::new(StatusCode::NOT_IMPLEMENTED, "not_supported", detail),
        RelayError::Invalid(_) => Problem::bad_request("invalid_path", detail),
        RelayError::Body(error) => body::failure(&*error),
        RelayError::Store(error) => Problem::store(&error, "the relay"),
    }
}

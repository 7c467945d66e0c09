//! What is behind the login: the orders, and endpoints that show what a relay does to a request and an answer.
//! Every one of them needs a live session.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::book::NotAMember;
use super::login::{SID, login_required_page};
use super::orders::Wish;
use super::{LoggedOut, Member, Site, cookie, cookies};
use crate::clock;

/// The rotating cookie.
const TICKET: &str = "TICKET";
/// The largest body that `/api/echo` and `/api/orders` read.
const BODY: usize = 2 << 20;
/// One piece of `/api/big`.
const PIECE: u64 = 64 << 10;
/// The longest answer of `/api/big`.
const BIG: u64 = 4 << 30;
/// The longest that `/api/slow` takes.
const SLOW: Duration = Duration::from_secs(120);
/// Orders given out at once.
const PAGE: usize = 200;

pub(super) fn routes(site: &Site) -> Router {
    Router::new()
        .route("/api/orders", get(orders).post(place_order))
        .route("/api/orders/{id}", get(order))
        .route("/api/echo", any(echo))
        .route("/api/upload", post(upload))
        .route("/api/big", get(big))
        .route("/api/slow", get(slow))
        .route("/api/redirect", any(redirect))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(site.clone(), members_only))
        .with_state(site.clone())
}

/// A member who was let in, with what the answer has to carry.
#[derive(Clone)]
pub(super) struct Entered {
    pub(super) member: Member,
    pub(super) token: String,
    ticket: Option<String>,
    sid: Option<String>,
}

impl Entered {
    /// Adds the session's id and the renewed ticket to an answer.
    pub(super) fn sign(&self, mut answer: Response) -> Response {
        if let Ok(id) = HeaderValue::from_str(&self.member.id) {
            answer.headers_mut().insert("x-portal-session", id);
        }
        for (name, value) in [(TICKET, &self.ticket), (SID, &self.sid)] {
            let set = value.as_ref().map(|value| format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax"));
            if let Some(Ok(set)) = set.map(HeaderValue::try_from) {
                answer.headers_mut().append(SET_COOKIE, set);
            }
        }
        answer
    }
}

/// Lets a request in by its cookies, or by the token of the app.
///
/// # Errors
/// When they are no live member's.
pub(super) fn enter(site: &Site, headers: &HeaderMap) -> Result<Entered, NotAMember> {
    let shown = bearer(headers).or_else(|| cookie(headers, SID)).ok_or(NotAMember)?;
    let faults = site.faults();
    let ticket = faults.rotating_cookie.then(|| site.0.random.session_id());
    let renewed = faults.rotating_session.then(|| site.0.random.session_id());
    let now = site.0.clock.now();
    site.book(|book| {
        let sid = &book.key(shown);
        let member = book.enter(sid, now)?;
        if let Some(fresh) = &ticket {
            book.rotate(sid, cookie(headers, TICKET), fresh.clone(), now)?;
        }
        if let Some(fresh) = &renewed {
            book.renew(sid, fresh.clone());
        }
        let token = book.visit(sid).map(|visit| visit.token.clone()).ok_or(NotAMember)?;
        Ok(Entered { member, token, ticket, sid: renewed })
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

async fn members_only(State(site): State<Site>, mut request: Request, next: Next) -> Response {
    let Ok(entered) = enter(&site, request.headers()) else { return logged_out(&site) };
    let is_order = request.uri().path().starts_with("/api/orders");
    site.book(|book| {
        book.count(&entered.member.user, |counters| {
            counters.api_calls += 1;
            counters.order_calls += u64::from(is_order);
        });
    });
    request.extensions_mut().insert(entered.clone());
    entered.sign(next.run(request).await)
}

fn logged_out(site: &Site) -> Response {
    let says = json!({"ok": false, "error": "login_required"});
    match site.faults().logged_out {
        LoggedOut::Unauthorized => (StatusCode::UNAUTHORIZED, Json(says)).into_response(),
        LoggedOut::Redirect => (StatusCode::FOUND, [(LOCATION, "/login")]).into_response(),
        LoggedOut::LoginPage => login_required_page(site),
        LoggedOut::PoliteJson => Json(says).into_response(),
    }
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn orders(
    State(site): State<Site>,
    Extension(entered): Extension<Entered>,
    Query(Limit { limit }): Query<Limit>,
) -> Response {
    let latest = site.orders().latest(limit.unwrap_or(20).min(PAGE));
    Json(json!({"ok": true, "session": entered.member.id, "orders": latest})).into_response()
}

async fn order(State(site): State<Site>, Path(id): Path<String>) -> Response {
    let found = site.orders().find(&id);
    match found {
        Some(order) => Json(json!({"ok": true, "order": order})).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"ok": false, "error": "not_found"}))).into_response(),
    }
}

async fn place_order(
    State(site): State<Site>,
    Extension(entered): Extension<Entered>,
    headers: HeaderMap,
    Json(wish): Json<Wish>,
) -> Response {
    let user = &entered.member.user;
    if site.faults().orders_forbidden {
        return (StatusCode::FORBIDDEN, Json(json!({"ok": false, "error": "forbidden"}))).into_response();
    }
    if headers.get("x-csrf").is_none_or(|token| token != entered.token.as_str()) {
        site.book(|book| book.count(user, |counters| counters.csrf_refused += 1));
        return (StatusCode::FORBIDDEN, Json(json!({"ok": false, "error": "csrf"}))).into_response();
    }
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let placed = site.orders().place(wish, key, site.0.clock.now());
    let Ok((order, new)) = placed else {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ok": false, "error": "full"}))).into_response();
    };
    if new {
        site.book(|book| book.count(user, |counters| counters.orders_created += 1));
    }
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    (status, Json(json!({"ok": true, "session": entered.member.id, "order": order}))).into_response()
}

/// Tells what arrived. Of cookies only the names, so that a test that prints the answer prints no session.
async fn echo(
    Extension(entered): Extension<Entered>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut told = Map::new();
    for name in headers.keys().filter(|name| *name != "cookie") {
        let values = headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        told.insert(name.to_string(), values.collect());
    }
    let cookies: Vec<&str> = cookies(&headers).map(|(name, _)| name).collect();
    Json(json!({
        "ok": true,
        "session": entered.member.id,
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query(),
        "headers": told,
        "cookies": cookies,
        "bytes": body.len(),
        "body": String::from_utf8_lossy(&body),
        "crc32": crc32fast::hash(&body),
    }))
    .into_response()
}

/// Swallows a body of any length and tells its length and CRC-32.
async fn upload(Extension(entered): Extension<Entered>, body: Body) -> Response {
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = 0_u64;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else { return StatusCode::BAD_REQUEST.into_response() };
        crc.update(&piece);
        bytes += piece.len() as u64;
    }
    let told: Value = json!({"ok": true, "session": entered.member.id, "bytes": bytes, "crc32": crc.finalize()});
    Json(told).into_response()
}

#[derive(Deserialize)]
struct Size {
    bytes: u64,
    /// Break the connection after so many bytes.
    cut: Option<u64>,
}

/// Streams `bytes` bytes of `x` in pieces, without ever holding more than one of them.
async fn big(Query(Size { bytes, cut }): Query<Size>) -> Response {
    let bytes = bytes.min(BIG);
    let end = cut.map_or(bytes, |cut| cut.min(bytes));
    let piece = Bytes::from(vec![b'x'; PIECE as usize]);
    let sizes = (0..end.div_ceil(PIECE)).map(move |number| (end - number * PIECE).min(PIECE));
    let pieces = sizes.map(move |size| Ok(piece.slice(..usize::try_from(size).unwrap_or(0))));
    let hang_up = stream::iter((end < bytes).then_some(())).then(|()| async {
        // A turn of the loop in which hyper flushes what it has: the cut comes after the answer's head, not before.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    let body = Body::from_stream(stream::iter(pieces).chain(hang_up));
    ([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")], body).into_response()
}

#[derive(Deserialize)]
struct Span {
    ms: u64,
}

async fn slow(State(site): State<Site>, Query(Span { ms }): Query<Span>) -> Response {
    tokio::select! {
        () = async {
            clock::pause(Duration::from_millis(ms).min(SLOW)).await;
            site.pace(|faults| faults.slow).await;
        } => {}
        () = site.0.stop.cancelled() => {}
    }
    Json(json!({"ok": true, "ms": ms})).into_response()
}

#[derive(Deserialize)]
struct Target {
    to: String,
}

/// Redirects wherever it is told, other origins included: a relay must not follow.
async fn redirect(Query(Target { to }): Query<Target>) -> Result<Response, Infallible> {
    let Ok(to) = HeaderValue::try_from(to) else { return Ok(StatusCode::BAD_REQUEST.into_response()) };
    Ok((StatusCode::FOUND, [(LOCATION, to)]).into_response())
}

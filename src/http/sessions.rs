//! The routes of `/api/sessions/{space}`: any application's session records.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth;
use super::etag::{IfMatch, IfNoneMatch, etag, precondition_failed};
use super::feed;
use super::idempotency::{Asked, Idempotency, Once};
use super::json::{self, Json};
use super::params::{Path, Query};
use super::problem::{Problem, ProblemDocument};
use crate::clock::{Clock, Time};
use crate::config::duration;
use crate::operators::places::Places;
use crate::operators::{Operators, Scope};
use crate::sessions::{MAX_PAGE, Session, SessionError, Sessions, Wish};

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// The sessions.
    pub sessions: Sessions,
    /// What was answered to whom.
    pub idempotency: Idempotency,
    /// Who may ask.
    pub operators: Operators,
    /// Who reads changes.
    pub readers: Places,
    /// When readers are looked at again.
    pub clock: Clock,
}

impl Api {
    /// All routes, behind the scope `sessions`.
    pub fn routes(self) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(list, create))
            .routes(routes!(read, replace, merge, delete))
            .routes(routes!(touch))
            .routes(routes!(feed::changes))
            .route_layer(auth::require(&self.operators, Scope::Sessions))
            .with_state(Arc::new(self))
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let detail = error.to_string();
        match error {
            SessionError::Missing => Self::not_found("unknown_session", detail).field("id"),
            SessionError::Changed => precondition_failed(),
            SessionError::Space => Self::bad_request("invalid_path", detail).field("space"),
            SessionError::Id => Self::bad_request("invalid_path", detail).field("id"),
            SessionError::Data => Self::unprocessable("invalid_field", detail).field("data"),
            SessionError::Ttl(_) => Self::unprocessable("invalid_field", detail).field("ttl"),
            SessionError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "record_too_large", detail).field("data")
            }
            SessionError::SpaceFull(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "space_full", detail),
            SessionError::TooManySpaces(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_spaces", detail),
            SessionError::Store(error) => Self::store(&error, "a session's record"),
        }
    }
}

/// A session as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionView {
    id: String,
    version: u64,
    /// The client's object, as it came.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// How long it lives after a touch, as in `"24h"`.
    ttl: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
    /// From this millisecond on it is gone.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        let Session { id, version, data, ttl, created_at, updated_at, expires_at } = session;
        Self { id, version, data, ttl: duration::show(ttl), created_at, updated_at, expires_at }
    }
}

fn answer(status: StatusCode, session: Session) -> Response {
    let tag = etag(session.version);
    (status, [(header::ETAG, tag), (header::CACHE_CONTROL, NO_STORE)], Json(SessionView::from(session))).into_response()
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSession {
    /// A JSON object; kept as it comes, every digit of it. 63 KiB with the record's own fields.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// How long it lives, as in `"30m"`. Default `sessions.ttl`.
    #[serde(default, deserialize_with = "ttl")]
    #[schema(value_type = Option<String>)]
    ttl: Option<Duration>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Renewal {
    /// Another length of life from now on.
    #[serde(default, deserialize_with = "ttl")]
    #[schema(value_type = Option<String>)]
    ttl: Option<Duration>,
}

fn ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| duration::parse(&text).map_err(serde::de::Error::custom)).transpose()
}

/// Make a session
///
/// Under a new id that nobody can guess. With an `Idempotency-Key` a repeated request gets the first one's answer, for a
/// day. One that a crash cut short, or that failed on our side, is carried out when it is repeated, and never makes a
/// second session.
#[utoipa::path(post, path = "/api/sessions/{space}", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path, description = "`[a-z0-9][a-z0-9_-]{0,63}`; made by its first session"),
        ("Idempotency-Key" = Option<String>, Header)),
    request_body = NewSession,
    responses((status = 201, description = "With `Location` and `ETag`", body = SessionView),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large` or `record_too_large`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "A field, or `idempotency_mismatch`: the key was used with another body", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 507, description = "`space_full`, `too_many_spaces` or `storage_full`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn create(State(api): State<Arc<Api>>, Path(space): Path<String>, asked: Asked) -> Response {
    let media_type = json::check_media_type(&asked.method, &asked.headers);
    let (sessions, bytes) = (api.sessions.clone(), asked.body.clone());
    let work = |once: Once| async move {
        let made = async {
            media_type?;
            let new: NewSession = json::parse(&bytes)?;
            let wish = Wish { data: Some(&new.data), ttl: new.ttl };
            Ok::<_, Problem>(make(&sessions, &space, &once, wish).await?)
        };
        match made.await {
            Ok(session) => {
                let location = format!("/api/sessions/{space}/{}", session.id);
                let mut answer = answer(StatusCode::CREATED, session);
                if let Ok(location) = HeaderValue::try_from(location) {
                    answer.headers_mut().insert(header::LOCATION, location);
                }
                answer
            }
            Err(problem) => problem.into_response(),
        }
    };
    api.idempotency.once(&asked, work).await
}

/// Makes the session, or finds the one that an earlier attempt of the same request made before its process died.
async fn make(sessions: &Sessions, space: &str, once: &Once, wish: Wish<'_>) -> Result<Session, SessionError> {
    let Some(seed) = &once.seed else { return sessions.create(space, wish).await };
    let id = data_encoding::HEXLOWER.encode(&seed[..16]);
    match sessions.replace(space, &id, |version| version.is_none(), wish).await {
        Err(SessionError::Changed) => sessions.get(space, &id).await?.ok_or(SessionError::Missing),
        made => made.map(|(session, _)| session),
    }
}

/// Read a session
#[utoipa::path(get, path = "/api/sessions/{space}/{id}", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path), ("id" = String, Path), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, description = "With `ETag`", body = SessionView),
        (status = 304, description = "It is still at the version that `If-None-Match` names"),
        (status = 404, description = "`unknown_session`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn read(
    State(api): State<Arc<Api>>,
    Path((space, id)): Path<(String, String)>,
    none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let session = api.sessions.get(&space, &id).await?.ok_or(SessionError::Missing)?;
    if none_match.has(session.version) {
        let headers = [(header::ETAG, etag(session.version)), (header::CACHE_CONTROL, NO_STORE)];
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok(answer(StatusCode::OK, session))
}

/// Replace a session, or make it under an id of one's own
///
/// Its life begins anew, as long as before unless `ttl` says otherwise. `If-Match` names the version that is replaced,
/// `If-None-Match: *` asks that there be none.
#[utoipa::path(put, path = "/api/sessions/{space}/{id}", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path), ("id" = String, Path, description = "1 to 256 bytes without `/`; not `changes`"),
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body = NewSession,
    responses((status = 200, body = SessionView), (status = 201, description = "It was made", body = SessionView),
        (status = 412, description = "`precondition_failed`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large` or `record_too_large`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 428, description = "`precondition_required`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 507, description = "`space_full`, `too_many_spaces` or `storage_full`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn replace(
    State(api): State<Arc<Api>>,
    Path((space, id)): Path<(String, String)>,
    matches: IfMatch,
    none_match: IfNoneMatch,
    Json(new): Json<NewSession>,
) -> Result<Response, Problem> {
    let matches = if none_match.is_any() { matches } else { matches.required()? };
    let allowed = |version| matches.allows(version) && none_match.allows(version);
    let wish = Wish { data: Some(&new.data), ttl: new.ttl };
    let (session, made) = api.sessions.replace(&space, &id, allowed, wish).await?;
    Ok(answer(if made { StatusCode::CREATED } else { StatusCode::OK }, session))
}

/// Merge into a session
///
/// RFC 7396 on `data`. Without `If-Match` it is merged into whatever is there, atomically; no other writer's change is
/// lost. The end of its life stays where it is unless `ttl` is sent.
#[utoipa::path(patch, path = "/api/sessions/{space}/{id}", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path), ("id" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body = NewSession,
    responses((status = 200, body = SessionView),
        (status = 404, description = "`unknown_session`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large` or `record_too_large`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn merge(
    State(api): State<Arc<Api>>,
    Path((space, id)): Path<(String, String)>,
    matches: IfMatch,
    none_match: IfNoneMatch,
    Json(patch): Json<NewSession>,
) -> Result<Response, Problem> {
    let wish = Wish { data: Some(&patch.data), ttl: patch.ttl };
    let session =
        api.sessions.merge(&space, &id, |version| matches.allows(version) && none_match.allows(version), wish).await?;
    Ok(answer(StatusCode::OK, session))
}

/// Let a session's life begin anew
#[utoipa::path(post, path = "/api/sessions/{space}/{id}/touch", tag = "sessions",
    security(("operator" = ["sessions"])),
    params(("space" = String, Path), ("id" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content = Option<Renewal>, description = "May be left out"),
    responses((status = 200, body = SessionView),
        (status = 404, description = "`unknown_session`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn touch(
    State(api): State<Arc<Api>>,
    Path((space, id)): Path<(String, String)>,
    matches: IfMatch,
    none_match: IfNoneMatch,
    renewal: Option<Json<Renewal>>,
) -> Result<Response, Problem> {
    let ttl = renewal.and_then(|Json(renewal)| renewal.ttl);
    let session =
        api.sessions.touch(&space, &id, |version| matches.allows(version) && none_match.allows(version), ttl).await?;
    Ok(answer(StatusCode::OK, session))
}

/// Remove a session
#[utoipa::path(delete, path = "/api/sessions/{space}/{id}", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path), ("id" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "`unknown_session`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn delete(
    State(api): State<Arc<Api>>,
    Path((space, id)): Path<(String, String)>,
    matches: IfMatch,
    none_match: IfNoneMatch,
) -> Result<StatusCode, Problem> {
    api.sessions.delete(&space, &id, |version| matches.allows(version) && none_match.allows(version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500. Default 100.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
struct SessionList {
    sessions: Vec<SessionView>,
    /// The cursor of the next page; null at the end.
    next: Option<String>,
}

/// The sessions of a space, in the order of their ids
#[utoipa::path(get, path = "/api/sessions/{space}", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path), PageQuery),
    responses((status = 200, description = "A space without sessions is an empty one", body = SessionList)))]
async fn list(
    State(api): State<Arc<Api>>,
    Path(space): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Response, Problem> {
    let limit = page.limit.unwrap_or(100);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request("invalid_query", format!("limit is 1 to {MAX_PAGE}.")).field("limit"));
    }
    let (sessions, next) = api.sessions.list(&space, page.cursor.as_deref(), limit).await.map_err(|error| {
        let cursor = matches!(error, SessionError::Id);
        let problem = Problem::from(error);
        if cursor { problem.recoded(StatusCode::BAD_REQUEST, "invalid_query").field("cursor") } else { problem }
    })?;
    let list = SessionList { sessions: sessions.into_iter().map(SessionView::from).collect(), next };
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(list)).into_response())
}

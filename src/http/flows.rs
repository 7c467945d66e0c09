//! The routes of `/api/flows/{flow}`: verification in several steps.

mod events;
mod view;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth;
use super::etag::{IfMatch, IfNoneMatch, etag, precondition_failed};
use super::idempotency::{Asked, Idempotency, Once};
use super::json::{self, Json};
use super::params::{Path, Query};
use super::problem::{Problem, ProblemDocument};
use crate::clock::Clock;
use crate::config::duration;
use crate::flows::{Filter, Flow, FlowError, Flows, Kind, MAX_PAGE};
use crate::operators::places::Places;
use crate::operators::{Operators, Scope};
use view::{FlowList, FlowSummary, FlowView, KindList, KindView};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// The flows.
    pub flows: Flows,
    /// What was answered to whom.
    pub idempotency: Idempotency,
    /// Who may ask.
    pub operators: Operators,
    /// Who follows flows.
    pub readers: Places,
    /// How old flows are, and when readers are looked at again.
    pub clock: Clock,
}

impl Api {
    /// All routes, behind the scope `flows`.
    pub fn routes(self) -> OpenApiRouter {
        Self::operating()
            .routes(routes!(begin))
            .routes(routes!(merge, delete))
            .routes(routes!(events::events))
            .routes(routes!(append))
            .routes(routes!(take))
            .route_layer(auth::require(&self.operators, Scope::Flows))
            .with_state(self)
    }

    /// What an operator sees and does, with no guard of its own: for the control socket, which hears our own user only.
    pub fn unguarded(self) -> OpenApiRouter {
        Self::operating().with_state(self)
    }

    fn operating() -> OpenApiRouter<Self> {
        OpenApiRouter::new().routes(routes!(kinds)).routes(routes!(list)).routes(routes!(read)).routes(routes!(retry))
    }

    /// Carries out a POST once for its idempotency key.
    async fn once<F>(&self, asked: Asked, body: Body, work: impl FnOnce(Bytes, Once) -> F + Send + 'static) -> Response
    where
        F: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        let bytes = asked.body.clone();
        let media_type = json::check_media_type(&asked.method, &asked.headers);
        let bare = body == Body::MayBeLeftOut && bytes.is_empty();
        let work = |once: Once| async move {
            let checked = if bare { Ok(()) } else { media_type };
            match checked {
                Ok(()) => work(bytes, once).await.unwrap_or_else(IntoResponse::into_response),
                Err(problem) => problem.into_response(),
            }
        };
        self.idempotency.once(&asked, work).await
    }
}

/// Whether a POST must have a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Needed,
    MayBeLeftOut,
}

impl From<FlowError> for Problem {
    fn from(error: FlowError) -> Self {
        let detail = error.to_string();
        match error {
            FlowError::UnknownFlow(_) => Self::not_found("unknown_flow", detail).field("flow"),
            FlowError::Absent => Self::not_found("unknown_flow_id", detail).field("id"),
            FlowError::UnknownTransition(_) => Self::not_found("unknown_transition", detail).field("transition"),
            FlowError::Illegal { status, legal, .. } => {
                Self::conflict("illegal_transition", detail).with("state", status).with("legal", legal)
            }
            FlowError::Running { transition } => Self::conflict("illegal_transition", detail)
                .with("legal", Vec::<String>::new())
                .with("running", transition)
                .retry_after(Duration::from_secs(1)),
            FlowError::Provider { failure, .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "provider_failed", detail).with("cause", failure.code())
            }
            FlowError::Lacks(name) => Self::unprocessable("missing_field", detail).field(name),
            FlowError::Misfit(name) => Self::unprocessable("invalid_field", detail).field(name),
            FlowError::Changed => precondition_failed(),
            FlowError::Data => Self::unprocessable("invalid_field", detail).field("data"),
            FlowError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "record_too_large", detail).field("data")
            }
            FlowError::Text => Self::unprocessable("invalid_field", detail).field("message"),
            FlowError::Crowded(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_flows", detail),
            FlowError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_messages", detail),
            FlowError::NotFailed => Self::conflict("not_failed", detail),
            FlowError::Stopping => Self::unavailable("stopping", detail, Duration::from_secs(1)),
            FlowError::Store(error) => Self::store(&error, "a flow's record"),
        }
    }
}

fn answer(status: StatusCode, flow: &Flow) -> Response {
    let headers = [(header::ETAG, etag(flow.version)), (header::CACHE_CONTROL, NO_STORE)];
    (status, headers, Json(FlowView::new(flow, flow.newest()))).into_response()
}

fn parsed<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() { Ok(T::default()) } else { json::parse(bytes) }
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FlowData {
    /// A JSON object; kept as it comes, every digit of it. 44 KiB in all.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FlowPatch {
    /// A JSON merge patch of the data.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    r#type: MessageType,
    /// 1 to 4096 bytes.
    message: String,
}

#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum MessageType {
    Info,
    Success,
    Warning,
    Error,
}

impl From<MessageType> for Kind {
    fn from(kind: MessageType) -> Self {
        match kind {
            MessageType::Info => Self::Info,
            MessageType::Success => Self::Success,
            MessageType::Warning => Self::Warning,
            MessageType::Error => Self::Error,
        }
    }
}

/// The kinds of flows
#[utoipa::path(get, path = "/api/flows", tag = "flows", security(("operator" = ["flows"])),
    responses((status = 200, description = "By name, with states and transitions", body = KindList)))]
async fn kinds(State(api): State<Api>) -> Response {
    let kinds = api.flows.kinds();
    let flows = kinds.iter().map(|(name, definition)| KindView::new(name, definition)).collect();
    Json(KindList { flows }).into_response()
}

/// Begin a flow
///
/// In its first state, under a new id that nobody can guess; it lives as long as its definition says. With an
/// `Idempotency-Key` a repeated request gets the first one's answer, for a day.
#[utoipa::path(post, path = "/api/flows/{flow}", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body(content = Option<FlowData>, description = "May be left out"),
    responses((status = 201, description = "With `Location` and `ETag`", body = FlowView),
        (status = 404, description = "`unknown_flow`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large` or `record_too_large`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 507, description = "`too_many_flows` of this kind are alive, or `storage_full`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn begin(State(api): State<Api>, Path(flow): Path<String>, asked: Asked) -> Response {
    let flows = api.flows.clone();
    let work = |bytes: Bytes, once: Once| async move {
        let new: FlowData = parsed(&bytes)?;
        let begun = flows.begin(&flow, new.data.as_deref(), once.seed).await?;
        let mut answer = answer(StatusCode::CREATED, &begun);
        if let Ok(location) = HeaderValue::try_from(format!("/api/flows/{flow}/{}", begun.id)) {
            answer.headers_mut().insert(header::LOCATION, location);
        }
        Ok(answer)
    };
    api.once(asked, Body::MayBeLeftOut, work).await
}

/// Read a flow
///
/// With all its messages. Answers to changes, and events, carry the newest of them: all while they are few, and how many
/// there are.
#[utoipa::path(get, path = "/api/flows/{flow}/{id}", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("id" = String, Path), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, description = "With `ETag`", body = FlowView),
        (status = 304, description = "It is still at the version that `If-None-Match` names"),
        (status = 404, description = "`unknown_flow` or `unknown_flow_id`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn read(
    State(api): State<Api>,
    Path((flow, id)): Path<(String, String)>,
    none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let flow = api.flows.get(&flow, &id).await?;
    let headers = [(header::ETAG, etag(flow.version)), (header::CACHE_CONTROL, NO_STORE)];
    if none_match.has(flow.version) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let messages = api.flows.messages(&flow).await?;
    Ok((headers, Json(FlowView::new(&flow, &messages))).into_response())
}

/// Merge into a flow's data
///
/// RFC 7396, at the version that `If-Match` names.
#[utoipa::path(patch, path = "/api/flows/{flow}/{id}", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("id" = String, Path), ("If-Match" = String, Header), ("If-None-Match" = Option<String>, Header)),
    request_body = FlowPatch,
    responses((status = 200, body = FlowView),
        (status = 404, description = "`unknown_flow` or `unknown_flow_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large` or `record_too_large`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 428, description = "`precondition_required`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn merge(
    State(api): State<Api>,
    Path((flow, id)): Path<(String, String)>,
    matches: IfMatch,
    none_match: IfNoneMatch,
    Json(patch): Json<FlowPatch>,
) -> Result<Response, Problem> {
    let matches = matches.required()?;
    let merged = api
        .flows
        .merge(&flow, &id, move |version| matches.allows(version) && none_match.allows(version), &patch.data)
        .await?;
    Ok(answer(StatusCode::OK, &merged))
}

/// Remove a flow
///
/// What it does in the background is cut, and its event streams end.
#[utoipa::path(delete, path = "/api/flows/{flow}/{id}", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("id" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "`unknown_flow` or `unknown_flow_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn delete(
    State(api): State<Api>,
    Path((flow, id)): Path<(String, String)>,
    matches: IfMatch,
    none_match: IfNoneMatch,
) -> Result<StatusCode, Problem> {
    api.flows.delete(&flow, &id, move |version| matches.allows(version) && none_match.allows(version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Append a message to a flow
///
/// Those of any number of writers all survive, in one order.
#[utoipa::path(post, path = "/api/flows/{flow}/{id}/messages", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = NewMessage,
    responses((status = 201, description = "The flow with its newest messages, and `ETag`", body = FlowView),
        (status = 404, description = "`unknown_flow` or `unknown_flow_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 507, description = "`too_many_messages` or `storage_full`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn append(State(api): State<Api>, Path((flow, id)): Path<(String, String)>, asked: Asked) -> Response {
    let flows = api.flows.clone();
    let work = |bytes: Bytes, once: Once| async move {
        let NewMessage { r#type, message } = json::parse(&bytes)?;
        let appended = flows.append(&flow, &id, (r#type.into(), message), once.seed).await?;
        Ok(answer(StatusCode::CREATED, &appended))
    };
    api.once(asked, Body::Needed, work).await
}

/// Take a transition
///
/// Status, message, flags and data change in one step. Data that is sent is merged into the flow's (RFC 7396), before the
/// provider's call is filled in; when the call fails it is not. A transition is claimed before its call is made: equal
/// requests at once make one call, and the others are told 409 with `running`.
#[utoipa::path(post, path = "/api/flows/{flow}/{id}/{transition}", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("id" = String, Path),
        ("transition" = String, Path, description = "One of those that the flow's `transitions` name"),
        ("Idempotency-Key" = Option<String>, Header)),
    request_body(content = Option<FlowData>, description = "May be left out"),
    responses((status = 200, description = "With `ETag`", body = FlowView),
        (status = 202, description = "The state has changed, and the work in the background has begun", body = FlowView),
        (status = 404, description = "`unknown_flow`, `unknown_flow_id` or `unknown_transition`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`illegal_transition`, with the `legal` ones; `idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large` or `record_too_large`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 502, description = "`provider_failed`, with its `cause`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn take(
    State(api): State<Api>,
    Path((flow, id, transition)): Path<(String, String, String)>,
    asked: Asked,
) -> Response {
    let flows = api.flows.clone();
    let work = |bytes: Bytes, once: Once| async move {
        let sent: FlowData = parsed(&bytes)?;
        let taken = flows.take(&flow, &id, &transition, sent.data.as_deref(), once.seed).await?;
        let status = if flows.works_in_background(&flow, &transition) { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok(answer(status, &taken))
    };
    api.once(asked, Body::MayBeLeftOut, work).await
}

/// Try again what has failed in the background
///
/// From the call that failed; those before it are not made again.
#[utoipa::path(post, path = "/api/flows/{flow}/{id}/retry", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("id" = String, Path)),
    responses((status = 202, body = FlowView),
        (status = 404, description = "`unknown_flow` or `unknown_flow_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`not_failed`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn retry(State(api): State<Api>, Path((flow, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let flow = api.flows.retry(&flow, &id).await?;
    Ok(answer(StatusCode::ACCEPTED, &flow))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only those in this state.
    status: Option<String>,
    /// Only those that have been in their state for so long, as in `30m`.
    older_than: Option<String>,
    /// Only those that are stuck.
    #[serde(default)]
    stuck: bool,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500. Default 100.
    limit: Option<usize>,
}

/// The flows of a kind, for operators
///
/// In the order of their ids, without data: state, age, what is under way, and why one is stuck.
#[utoipa::path(get, path = "/api/flows/{flow}", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ListQuery),
    responses((status = 200, body = FlowList),
        (status = 404, description = "`unknown_flow`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn list(
    State(api): State<Api>,
    Path(flow): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let ListQuery { status, older_than, stuck, cursor, limit } = query;
    let invalid = |name: &str, detail: String| Problem::bad_request("invalid_query", detail).field(name);
    let older_than = older_than.map(|text| duration::parse(&text)).transpose();
    let older_than = older_than.map_err(|error| invalid("older_than", format!("older_than: {error}.")))?;
    let limit = limit.unwrap_or(100);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid("limit", format!("limit is 1 to {MAX_PAGE}.")));
    }
    let plain = |cursor: &String| cursor.len() <= 64 && cursor.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if cursor.as_ref().is_some_and(|cursor| !plain(cursor)) {
        return Err(invalid("cursor", "cursor is not one of this list.".to_owned()));
    }
    let filter = Filter { status, older_than, stuck };
    let (flows, next) = api.flows.list(&flow, &filter, cursor.as_deref(), limit).await?;
    let now = api.clock.now();
    let flows = flows.iter().map(|flow: &Arc<Flow>| FlowSummary::new(flow, now)).collect();
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(FlowList { flows, next })).into_response())
}

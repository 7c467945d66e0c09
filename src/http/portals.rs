//! The routes of portals: `/api/portals/…`; those of phones are put beside them.

mod evidence;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth;
use super::json::Json;
use super::params::{Path, Query};
use super::phones;
use super::problem::{Problem, ProblemDocument};
use super::relay;
use crate::clock::{Clock, Time};
use crate::operators::limits::Limiter;
use crate::operators::{Operators, Scope};
use crate::portals::Portals;
use crate::portals::inbox::{InboxError, NotTyped};
use crate::portals::portal::{By, Portal, PortalError, View};
use crate::portals::relay::Relay;
use crate::portals::state::{Event, Role};
use crate::secret::Secret;

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// The portals and phones.
    pub portals: Portals,
    /// The way through to portals.
    pub relay: Relay,
    /// How much of it a token may use.
    pub limiter: Limiter,
    /// When a phone's request arrived.
    pub clock: Clock,
}

impl Api {
    /// All routes, each behind the scope that it needs. Phones prove themselves by their forwarder's signature.
    pub fn routes(self, operators: &Operators) -> OpenApiRouter {
        let behind = |router: OpenApiRouter<Self>, scope| router.route_layer(auth::require(operators, scope));
        behind(Self::reading().merge(phones::read()), Scope::PortalsRead)
            .merge(behind(Self::managing(), Scope::PortalsManage))
            .merge(behind(relay::routes(), Scope::PortalsRelay))
            .merge(phones::receive())
            .with_state(self)
    }

    /// What reads and manages portals, with no guard of its own: for the control socket, which hears our own user only.
    pub fn unguarded(self) -> OpenApiRouter {
        Self::reading().merge(Self::managing()).with_state(self)
    }

    fn reading() -> OpenApiRouter<Self> {
        OpenApiRouter::new()
            .routes(routes!(list))
            .routes(routes!(show))
            .routes(routes!(session))
            .routes(routes!(events))
            .routes(routes!(screenshot))
            .merge(evidence::routes())
    }

    fn managing() -> OpenApiRouter<Self> {
        OpenApiRouter::new()
            .routes(routes!(reauth))
            .routes(routes!(failover))
            .routes(routes!(pause))
            .routes(routes!(resume))
            .routes(routes!(type_code))
    }

    pub(super) fn portal(&self, name: &str) -> Result<Portal, Problem> {
        let missing = || Problem::not_found("unknown_portal", "No portal of that name is configured.").field("portal");
        self.portals.get(name).ok_or_else(missing)
    }
}

impl From<PortalError> for Problem {
    fn from(error: PortalError) -> Self {
        let detail = error.to_string();
        match error {
            PortalError::NoLiveSession(_) => Self::not_found("no_live_session", detail),
            PortalError::NoStandby(_) => Self::conflict("no_standby", detail),
            PortalError::BudgetSpent { .. } => Self::conflict("budget_spent", detail),
            PortalError::Code(NotTyped::NotWaiting) => Self::conflict("no_login_waiting", detail),
            PortalError::Code(NotTyped::Malformed | NotTyped::Length(_)) => {
                Self::unprocessable("invalid_field", detail).field("code")
            }
            PortalError::NoPicture(_) => Self::unavailable("no_picture", detail, std::time::Duration::from_secs(10)),
            PortalError::Store(error) | PortalError::Inbox(InboxError::Store(error)) => {
                Self::store(&error, "a portal's record")
            }
            PortalError::Inbox(_) | PortalError::Evidence(_) => {
                tracing::error!(%error, "a portal's record: {error}");
                Self::internal()
            }
        }
    }
}

#[derive(Serialize, ToSchema)]
struct PortalList {
    portals: Vec<View>,
}

/// All portals
#[utoipa::path(get, path = "/api/portals", tag = "portals", security(("operator" = ["portals:read"])),
    responses((status = 200, description = "In the order of their names", body = PortalList)))]
async fn list(State(api): State<Api>) -> Result<Json<PortalList>, Problem> {
    let portals = api.portals.all().iter().map(Portal::view).collect::<Result<_, _>>()?;
    Ok(Json(PortalList { portals }))
}

/// A portal's state
#[utoipa::path(get, path = "/api/portals/{portal}", tag = "portals", security(("operator" = ["portals:read"])),
    params(("portal" = String, Path, description = "Its name in the configuration")),
    responses((status = 200, body = View),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn show(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<View>, Problem> {
    Ok(Json(api.portal(&name)?.view()?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SessionQuery {
    /// Whether another session may be named instead. Default true.
    fallback: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct FoundSession {
    session_id: String,
    requested_id: String,
    fallback_used: bool,
    epoch: u64,
}

/// The session to use in place of one
///
/// The same rule as the relay's: the session itself if it lives, else the active one.
#[utoipa::path(get, path = "/api/portals/{portal}/sessions/{id}", tag = "portals",
    security(("operator" = ["portals:read"])),
    params(("portal" = String, Path), ("id" = String, Path), SessionQuery),
    responses((status = 200, body = FoundSession),
        (status = 404, description = "`no_live_session` or `unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn session(
    State(api): State<Api>,
    Path((name, id)): Path<(String, String)>,
    Query(query): Query<SessionQuery>,
) -> Result<Json<FoundSession>, Problem> {
    let portal = api.portal(&name)?;
    let fallback = query.fallback.unwrap_or(true);
    let picked = portal.find(&id, fallback).await.ok_or_else(|| PortalError::NoLiveSession(name.clone()))?;
    let session_id = picked.session.id().to_owned();
    Ok(Json(FoundSession { session_id, requested_id: id, fallback_used: picked.fallback, epoch: picked.epoch }))
}

#[derive(Serialize, ToSchema)]
#[schema(as = PortalEvent)]
struct EventView {
    /// Its place in the portal's history, from 1.
    seq: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Time,
    /// `login_started`, `code_used`, `authenticated`, `restored`, `expired`, `failover`, `login_failed`, `reauth_failed`,
    /// `recovered`, `paused`, `resumed`, `reauth_requested`, `browser_replaced`, `browser_recycled`, `interrupted`, `renewed`,
    /// `renewal_failed`, `drill_passed`, `drill_failed`, `code_typed` or `standby_given_up`.
    kind: &'static str,
    session_id: Option<String>,
    detail: String,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let Event { seq, at, kind, session_id, detail } = event;
        Self { seq, at, kind: kind.as_str(), session_id, detail }
    }
}

#[derive(Serialize, ToSchema)]
struct EventList {
    events: Vec<EventView>,
}

/// What happened, newest first
#[utoipa::path(get, path = "/api/portals/{portal}/events", tag = "portals", security(("operator" = ["portals:read"])),
    params(("portal" = String, Path)),
    responses((status = 200, description = "The last 100", body = EventList),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn events(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<EventList>, Problem> {
    let events = api.portal(&name)?.events().into_iter().map(EventView::from).collect();
    Ok(Json(EventList { events }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PictureQuery {
    /// `active` or `standby`. Default `active`.
    #[param(value_type = Option<String>)]
    slot: Option<Role>,
}

/// The portal's start page as a session sees it, with passwords masked
#[utoipa::path(get, path = "/api/portals/{portal}/screenshot", tag = "portals",
    security(("operator" = ["portals:read"])), params(("portal" = String, Path), PictureQuery),
    responses((status = 200, content_type = "image/png", body = Vec<u8>),
        (status = 404, description = "`no_live_session` or `unknown_portal`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`no_picture`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn screenshot(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<PictureQuery>,
) -> Result<Response, Problem> {
    let picture = api.portal(&name)?.screenshot(query.slot.unwrap_or(Role::Active)).await?;
    let headers = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, picture).into_response())
}

/// Log in anew
///
/// Whatever the state of the sessions, the back-off or an earlier failure. The new session becomes the active one.
#[utoipa::path(post, path = "/api/portals/{portal}/reauth", tag = "portals",
    security(("operator" = ["portals:manage"])), params(("portal" = String, Path)),
    responses((status = 202, description = "It will be tried", body = View),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn reauth(State(api): State<Api>, Path(name): Path<String>) -> Result<(StatusCode, Json<View>), Problem> {
    let portal = api.portal(&name)?;
    portal.reauth(By::Operator).await?;
    Ok((StatusCode::ACCEPTED, Json(portal.view()?)))
}

/// Promote the standby
#[utoipa::path(post, path = "/api/portals/{portal}/failover", tag = "portals",
    security(("operator" = ["portals:manage"])), params(("portal" = String, Path)),
    responses((status = 200, body = View),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`no_standby`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn failover(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<View>, Problem> {
    let portal = api.portal(&name)?;
    portal.failover().await?;
    Ok(Json(portal.view()?))
}

/// Stop checks and logins
///
/// Sessions that live go on serving.
#[utoipa::path(post, path = "/api/portals/{portal}/pause", tag = "portals",
    security(("operator" = ["portals:manage"])), params(("portal" = String, Path)),
    responses((status = 200, body = View),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn pause(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<View>, Problem> {
    set_paused(&api, &name, true).await
}

/// Resume checks and logins
#[utoipa::path(post, path = "/api/portals/{portal}/resume", tag = "portals",
    security(("operator" = ["portals:manage"])), params(("portal" = String, Path)),
    responses((status = 200, body = View),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn resume(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<View>, Problem> {
    set_paused(&api, &name, false).await
}

async fn set_paused(api: &Api, name: &str, paused: bool) -> Result<Json<View>, Problem> {
    let portal = api.portal(name)?;
    portal.pause(paused).await?;
    Ok(Json(portal.view()?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TypedCode {
    /// 1 to 16 letters and digits.
    #[schema(value_type = String)]
    code: Secret,
}

/// Type a code by hand into the login that is under way
#[utoipa::path(post, path = "/api/portals/{portal}/code", tag = "portals",
    security(("operator" = ["portals:manage"])), params(("portal" = String, Path)), request_body = TypedCode,
    responses((status = 202, description = "The login has it", body = View),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`no_login_waiting`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn type_code(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(typed): Json<TypedCode>,
) -> Result<(StatusCode, Json<View>), Problem> {
    let portal = api.portal(&name)?;
    portal.type_code(&typed.code, By::Operator).await?;
    Ok((StatusCode::ACCEPTED, Json(portal.view()?)))
}

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
pub(super) const SESSION_FALLBACK: HeaderName = HeaderName::from_static("x-session-fallback");
pub(super) const SESSION_EPOCH: HeaderName = HeaderName::from_static("x-session-epoch");

/// Sets which session served.
pub(super) fn name_session(headers: &mut HeaderMap, id: &str, fallback: bool, epoch: u64) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(SESSION_ID, id);
    }
    headers.insert(SESSION_FALLBACK, HeaderValue::from_static(if fallback { "true" } else { "false" }));
    headers.insert(SESSION_EPOCH, HeaderValue::from(epoch));
}

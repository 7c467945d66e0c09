//! The routes of those who have logged in: who am I, stay, leave, and my other sessions; and the keys with which others check our
//! tokens themselves.

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Guest;
use super::entry::Entered;
use super::granted::{Granted, forgotten, granted, refresh_cookie};
use super::{Api, UserView, present};
use crate::accounts::{AccountError, Device, MAX_AGE, SessionId, SessionView};
use crate::clock::Time;
use crate::http::json::Json;
use crate::http::params::Path;
use crate::http::problem::{Problem, ProblemDocument};
use crate::secret::Secret;

/// All but the key set.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(logout_all))
        .routes(routes!(list))
        .routes(routes!(end))
}

/// What anybody may keep for a while.
pub(super) fn open_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(key_set))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// Left out by browsers, which have it as a cookie.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    refresh_token: Option<Secret>,
}

/// A request with a refresh token, in the body or as a cookie.
struct Refreshing {
    token: Option<Secret>,
    device: Device,
}

impl FromRequest<Api> for Refreshing {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Guest(device) = Guest::from_request_parts(&mut parts, api).await?;
        Ok(Self { token: refresh_token(Request::from_parts(parts, body), api).await?, device })
    }
}

async fn refresh_token(request: Request, api: &Api) -> Result<Option<Secret>, Problem> {
    let cookie = refresh_cookie(request.headers()).map(Secret::new);
    let body = Option::<Json<Refresh>>::from_request(request, api).await?;
    let Refresh { refresh_token } = body.map(|Json(body)| body).unwrap_or_default();
    Ok(refresh_token.or(cookie))
}

#[derive(Serialize, ToSchema)]
#[schema(as = LoginSession)]
struct LoginView {
    id: String,
    /// What the device calls itself.
    device: String,
    /// Where it was at the login.
    ip: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    last_used_at: Time,
    /// When it ends if nobody refreshes it.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
    /// Whether this request came with it.
    current: bool,
}

impl From<SessionView> for LoginView {
    fn from(session: SessionView) -> Self {
        let SessionView { id, begun_at, used_at, ends_at, device: Device { ip, agent }, current } = session;
        let (id, ip) = (id.to_string(), ip.map(|ip| ip.to_string()));
        Self { id, device: agent, ip, created_at: begun_at, last_used_at: used_at, expires_at: ends_at, current }
    }
}

#[derive(Serialize, ToSchema)]
struct LoginList {
    /// The latest first.
    sessions: Vec<LoginView>,
}

/// Who am I
#[utoipa::path(get, path = "/api/auth/me", tag = "accounts", security(("user" = [])),
    responses((status = 200, body = UserView),
        (status = 401, description = "`unauthorized` or `invalid_token`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn me(State(api): State<Api>, entered: Entered) -> Result<Json<UserView>, Problem> {
    Ok(Json(api.accounts.profile(&entered.visitor).await?.into()))
}

/// Get the next tokens
///
/// The token that came is used up. Asked again with it within ten seconds, the same successor is answered; later the session is
/// ended, because two hold it, and its owner gets a mail.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "accounts",
    request_body(content = Refresh, description = "Not needed where the cookie comes along"),
    responses((status = 200, body = Granted),
        (status = 401, description = "`unauthorized` without a token, `invalid_token`: log in again", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`cross_site`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn refresh(State(api): State<Api>, asked: Refreshing) -> Result<Response, Problem> {
    let missing = || Problem::unauthorized("Send the refresh token as `refresh_token`.");
    let token = asked.token.ok_or_else(missing)?;
    Ok(granted(&api.accounts.refresh(token.expose(), &asked.device).await?))
}

/// Log out
///
/// Ends the session of the access token, or of the refresh token where the other has expired.
#[utoipa::path(post, path = "/api/auth/logout", tag = "accounts", security(("user" = []), ()),
    request_body(content = Refresh, description = "Not needed with a good access token, or a cookie"),
    responses((status = 204, description = "From now on none of its tokens is good"),
        (status = 401, description = "`unauthorized` or `invalid_token`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`cross_site`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`, with `Retry-After`: without a good access token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn logout(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let entered = Entered::from_request_parts(&mut parts, &api).await;
    let request = Request::from_parts(parts, body);
    match entered {
        // No rate keeps anybody in who has shown who they are.
        Ok(Entered { visitor, device }) => {
            refresh_token(request, &api).await?;
            match api.accounts.end_session(&visitor, visitor.session, &device).await {
                // Another request of the same page was faster.
                Ok(()) | Err(AccountError::UnknownSession | AccountError::LoggedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(problem) => {
            let Refreshing { token, device } = Refreshing::from_request(request, &api).await?;
            api.accounts.leave(token.ok_or(problem)?.expose(), &device).await?;
        }
    }
    Ok(forgotten(StatusCode::NO_CONTENT.into_response()))
}

/// Log out everywhere
#[utoipa::path(post, path = "/api/auth/logout-all", tag = "accounts", security(("user" = [])),
    responses((status = 204, description = "From now on no token of the user is good"),
        (status = 401, description = "`unauthorized` or `invalid_token`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`cross_site`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn logout_all(State(api): State<Api>, entered: Entered) -> Result<Response, Problem> {
    api.accounts.end_all_sessions(&entered.visitor, &entered.device).await?;
    Ok(forgotten(StatusCode::NO_CONTENT.into_response()))
}

/// My sessions
#[utoipa::path(get, path = "/api/auth/sessions", tag = "accounts", security(("user" = [])),
    responses((status = 200, body = LoginList),
        (status = 401, description = "`unauthorized` or `invalid_token`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn list(State(api): State<Api>, entered: Entered) -> Result<Json<LoginList>, Problem> {
    let sessions = api.accounts.sessions(&entered.visitor).await?;
    Ok(Json(LoginList { sessions: sessions.into_iter().map(LoginView::from).collect() }))
}

/// End one of my sessions
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", tag = "accounts", security(("user" = [])),
    params(("id" = String, Path)),
    responses((status = 204, description = "From now on none of its tokens is good"),
        (status = 401, description = "`unauthorized` or `invalid_token`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`cross_site`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_session`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn end(State(api): State<Api>, entered: Entered, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id: SessionId = id.parse().map_err(|_| AccountError::UnknownSession)?;
    api.accounts.end_session(&entered.visitor, id, &entered.device).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The keys that sign access tokens
///
/// A JSON Web Key Set (RFC 7517), for services that check our tokens themselves. A new key is in it ten minutes before it signs.
/// Whoever checks a token by it does not learn that its session has ended: that is what the ten minutes of a token are for.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "accounts",
    responses((status = 200, description = "May be kept for five minutes", body = Object)))]
async fn key_set(State(api): State<Api>) -> Response {
    let cached = format!("public, max-age={}", MAX_AGE.as_secs());
    let cached = HeaderValue::try_from(cached).unwrap_or(HeaderValue::from_static("no-cache"));
    ([(header::CACHE_CONTROL, cached)], Json(api.accounts.key_set())).into_response()
}

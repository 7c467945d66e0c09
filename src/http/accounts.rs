//! The routes of `/api/auth`: the team's own users sign up, log in and prove who they are. No answer of theirs may be kept by
//! anybody on its way.

mod asked;
mod entry;
mod granted;
mod login;
mod passwords;
mod registration;
mod visits;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::idempotency::Idempotency;
use super::problem::Problem;
use crate::accounts::{AccountError, Accounts, Mailed, User, Verified};
use crate::clock::Time;

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// The accounts.
    pub accounts: Accounts,
    /// What was answered to whom.
    pub idempotency: Idempotency,
}

impl Api {
    /// All routes.
    pub fn routes(self) -> OpenApiRouter {
        let public_url = self.accounts.public_url();
        let origins = entry::origins(public_url.as_deref());
        OpenApiRouter::new()
            .merge(registration::routes())
            .merge(login::routes())
            .merge(passwords::routes())
            .merge(visits::routes())
            .route_layer(middleware::from_fn_with_state(origins, entry::same_site))
            .route_layer(middleware::map_response_with_state(https_only(public_url.as_deref()), unkept))
            .merge(visits::open_routes())
            .with_state(self)
    }
}

/// What a browser must not do with an answer about users: keep it, take it for something else, show it in a frame, tell others
/// where it came from, and ask without encryption next time where `https` is how users come.
pub(super) async fn unkept(State(https): State<bool>, mut response: Response) -> Response {
    let rules = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let always_https = (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains");
    for (name, value) in rules.into_iter().chain(https.then_some(always_https)) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether users come by HTTPS alone.
pub(super) fn https_only(public_url: Option<&str>) -> bool {
    public_url.is_some_and(|url| url.starts_with("https://"))
}

/// A user, as the user sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct UserView {
    #[schema(value_type = String)]
    id: Uuid,
    /// The canonical address.
    email: String,
    full_name: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    verified_at: Time,
}

impl From<Verified> for UserView {
    fn from(Verified { address, user }: Verified) -> Self {
        let User { id, full_name, created_at, verified_at, .. } = user;
        Self { id, email: address.as_str().to_owned(), full_name, created_at, verified_at }
    }
}

/// A code that is on its way, if the address is one that gets it.
#[derive(Serialize, ToSchema)]
struct Sent {
    /// From this millisecond on the code counts no more.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
    /// Seconds until another one may be asked for.
    resend_after: u64,
}

impl From<Mailed> for Sent {
    fn from(Mailed { expires_at, resend_after }: Mailed) -> Self {
        Self { expires_at, resend_after: resend_after.as_secs() }
    }
}

/// A field that may be left out, but is not null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let detail = error.to_string();
        match error {
            AccountError::Address(_) => Self::unprocessable("invalid_field", detail).field("email"),
            AccountError::Name => Self::unprocessable("invalid_field", detail).field("full_name"),
            AccountError::Password(_) => Self::unprocessable("invalid_password", detail).field("password"),
            AccountError::Malformed => Self::unprocessable("invalid_field", detail).field("code"),
            AccountError::InvalidCode { tries_left: None } => Self::unprocessable("invalid_code", detail),
            AccountError::InvalidCode { tries_left: Some(left) } => {
                Self::unprocessable("invalid_code", detail).with("tries_left", left)
            }
            AccountError::CodeSpent => Self::unprocessable("code_spent", detail),
            AccountError::InvalidCredentials => {
                Self::unauthorized(detail).recoded(StatusCode::UNAUTHORIZED, "invalid_credentials")
            }
            AccountError::LoggedOut => Self::invalid_token(detail),
            AccountError::UnknownSession => Self::not_found("unknown_session", detail).field("id"),
            AccountError::Disabled => Self::forbidden("account_disabled", detail),
            AccountError::TooManyGuesses { until, retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_guesses", detail)
                    .with("until", until.to_string())
                    .retry_after(retry_after)
            }
            AccountError::TooManyCodes { until, retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_codes", detail)
                    .with("until", until.to_string())
                    .retry_after(retry_after)
            }
            AccountError::RateLimited { retry_after, .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(retry_after)
            }
            AccountError::Busy { retry_after } => Self::unavailable("busy", detail, retry_after),
            AccountError::NoMail => Self::new(StatusCode::SERVICE_UNAVAILABLE, "mail_not_configured", detail),
            AccountError::Store(error) => Self::store(&error, "an account's record"),
            AccountError::Audit(_) => Self::unavailable("busy", detail, std::time::Duration::from_secs(1)),
            AccountError::Outbox(_) | AccountError::Unsigned(_) | AccountError::Damaged(_) => {
                tracing::error!(%error, "an account cannot be changed: {error}");
                Self::internal()
            }
        }
    }
}

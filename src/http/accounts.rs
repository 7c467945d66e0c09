//! The routes of `/api/auth`: the team's own users sign up, log in and prove who they are. No answer of theirs may be kept by
//! anybody on its way.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;

use super::idempotency::Idempotency;
use super::problem::Problem;
use crate::accounts::{AccountError, Accounts};

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
        OpenApiRouter::new().layer(axum::middleware::map_response(unkept)).with_state(self)
    }
}

async fn unkept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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
            AccountError::Outbox(_) | AccountError::Damaged(_) => {
                tracing::error!(%error, "an account cannot be changed: {error}");
                Self::internal()
            }
        }
    }
}

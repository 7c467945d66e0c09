//! The routes that set a new password: with a code that came by mail, or for who is logged in and knows the old one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Post;
use super::entry::Entered;
use super::granted::forgotten;
use super::{Api, Sent};
use crate::accounts::AccountError;
use crate::http::idempotency::Once;
use crate::http::json::Json;
use crate::http::problem::{Problem, ProblemDocument};
use crate::secret::Secret;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(forgot)).routes(routes!(reset)).routes(routes!(change))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Forgot {
    email: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reset {
    email: String,
    /// Six digits.
    #[schema(value_type = String)]
    code: Secret,
    /// 8 to 1024 bytes, taken byte for byte; not one of the common ones.
    #[schema(value_type = String)]
    new_password: Secret,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    #[schema(value_type = String)]
    current_password: Secret,
    /// 8 to 1024 bytes, taken byte for byte; not one of the common ones.
    #[schema(value_type = String)]
    new_password: Secret,
}

/// Ask for a code that sets a new password
///
/// What is answered does not tell whether the address has an account.
#[utoipa::path(post, path = "/api/auth/password/forgot", tag = "accounts",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Forgot,
    responses((status = 202, body = Sent),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_codes` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`mail_not_configured`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn forgot(State(api): State<Api>, post: Post) -> Response {
    let (accounts, device) = (api.accounts.clone(), post.device.clone());
    let work = |asked: Forgot, _: Once| async move {
        let sent = accounts.forgot_password(&asked.email, &device).await?;
        Ok((StatusCode::ACCEPTED, Json(Sent::from(sent))).into_response())
    };
    post.once(&api, work).await
}

/// Set a new password with the code that was sent
///
/// Every login ends with it, and the owner gets a mail.
#[utoipa::path(post, path = "/api/auth/password/reset", tag = "accounts",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Reset,
    responses((status = 204, description = "It counts from now on"),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_code`, `invalid_password`, a field, or `idempotency_mismatch`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_guesses` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn reset(State(api): State<Api>, post: Post) -> Response {
    let (accounts, device) = (api.accounts.clone(), post.device.clone());
    let work = |asked: Reset, _: Once| async move {
        let Reset { email, code, new_password } = &asked;
        accounts.reset_password(email, code, new_password, &device).await.map_err(of_new)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    post.once(&api, work).await
}

/// Change the password
///
/// Every login ends with it, the present one as well, and the owner gets a mail. A wrong `current_password` costs one of the guesses
/// of the address.
#[utoipa::path(post, path = "/api/auth/password/change", tag = "accounts", security(("user" = [])),
    request_body = Change,
    responses((status = 204, description = "It counts from now on; log in again"),
        (status = 401, description = "`unauthorized` or `invalid_token`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`wrong_password`: the current one; `cross_site`; `account_disabled`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_password`, or a field", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_guesses` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn change(State(api): State<Api>, entered: Entered, post: Post) -> Result<Response, Problem> {
    let Change { current_password, new_password } = post.json()?;
    let (accounts, Entered { visitor, device }) = (api.accounts.clone(), entered);
    // As with a login: a guess is taken meanwhile.
    let work = async move {
        match accounts.change_password(visitor.user, &current_password, &new_password, &device).await {
            Ok(()) => forgotten(StatusCode::NO_CONTENT.into_response()),
            Err(error) => of_change(error).into_response(),
        }
    };
    Ok(api.idempotency.to_its_end(work).await)
}

/// The token is good, so a wrong password is no 401, which programs take for a lost login.
fn of_change(error: AccountError) -> Problem {
    match error {
        AccountError::InvalidCredentials => {
            Problem::forbidden("wrong_password", "The current password is wrong.").field("current_password")
        }
        error => of_new(error),
    }
}

/// What is wrong with a new password is said of its field.
fn of_new(error: AccountError) -> Problem {
    let of_password = matches!(error, AccountError::Password(_));
    let problem = Problem::from(error);
    if of_password { problem.field("new_password") } else { problem }
}

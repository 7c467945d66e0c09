//! The routes that make an account: register, verify, and another code.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Post;
use super::{Api, Sent, UserView, present};
use crate::accounts::{AccountError, Wish};
use crate::http::idempotency::Once;
use crate::http::json::Json;
use crate::http::problem::{Problem, ProblemDocument};
use crate::secret::Secret;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(register)).routes(routes!(verify)).routes(routes!(resend))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    /// Canonical in every answer: lower case, the host as DNS has it.
    email: String,
    /// 8 to 1024 bytes, taken byte for byte; not one of the common ones. Left out: logs in with codes alone.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// 1 to 200 characters.
    full_name: String,
}

#[derive(Serialize, ToSchema)]
struct Registered {
    /// The ticket: who holds it has five tries at the code, whatever others do to the address.
    registration_id: String,
    #[serde(flatten)]
    sent: Sent,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    email: String,
    /// Six digits.
    #[schema(value_type = String)]
    verification_code: Secret,
    /// Without it the code counts only while one registration of the address is pending.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    registration_id: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Resend {
    email: String,
    /// Without it the code is for the only registration of the address that is pending.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    registration_id: Option<String>,
}

/// Register
///
/// A code of six digits goes to the address. The answer is the same for an address that has an account; its owner gets a
/// mail that says so.
#[utoipa::path(post, path = "/api/auth/register", tag = "accounts",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Register,
    responses((status = 202, body = Registered),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "A field, `invalid_password`, or `idempotency_mismatch`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_codes` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`mail_not_configured`, or `busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn register(State(api): State<Api>, post: Post) -> Response {
    let (accounts, device) = (api.accounts.clone(), post.device.clone());
    let work = |wish: Register, once: Once| async move {
        let Register { email, password, full_name } = &wish;
        let wish = Wish { email, password: password.as_ref(), full_name };
        let (registration_id, mailed) = accounts.register(wish, &device, once.seed.as_ref()).await?;
        Ok((StatusCode::ACCEPTED, Json(Registered { registration_id, sent: mailed.into() })).into_response())
    };
    post.once(&api, work).await
}

/// Prove the address
///
/// Makes the user of the registration whose code it is. A wrong code costs a try of the ticket, or, without one, a guess of the
/// address.
#[utoipa::path(post, path = "/api/auth/verify-registration", tag = "accounts",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Verify,
    responses((status = 201, body = UserView),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_code`, with `tries_left` for a ticket; `code_spent`; a field; `idempotency_mismatch`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_guesses` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn verify(State(api): State<Api>, post: Post) -> Response {
    let (accounts, device) = (api.accounts.clone(), post.device.clone());
    let work = |asked: Verify, once: Once| async move {
        let Verify { email, verification_code, registration_id } = &asked;
        let ticket = registration_id.as_deref();
        let made = accounts.verify_registration(email, verification_code, ticket, &device, once.seed.as_ref()).await;
        match made {
            Ok(verified) => Ok((StatusCode::CREATED, Json(UserView::from(verified))).into_response()),
            Err(error @ AccountError::InvalidCode { .. }) if ticket.is_none() => {
                let only_one = "without its registration_id it counts only while one registration is pending";
                Err(Problem::unprocessable("invalid_code", format!("{error}; {only_one}")))
            }
            Err(error @ AccountError::Malformed) => Err(Problem::from(error).field("verification_code")),
            Err(error) => Err(error.into()),
        }
    };
    post.once(&api, work).await
}

/// Ask for another code
///
/// The code before counts no more; the tries stay as they are. The answer is the same whether a registration is pending or not.
#[utoipa::path(post, path = "/api/auth/resend", tag = "accounts",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Resend,
    responses((status = 202, body = Sent),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_codes` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`mail_not_configured`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn resend(State(api): State<Api>, post: Post) -> Response {
    let accounts = api.accounts.clone();
    let work = |asked: Resend, _: Once| async move {
        let sent = accounts.resend(&asked.email, asked.registration_id.as_deref()).await?;
        Ok((StatusCode::ACCEPTED, Json(Sent::from(sent))).into_response())
    };
    post.once(&api, work).await
}

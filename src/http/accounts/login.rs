//! The routes that log in: by password, or by a code that comes by mail. What a login gives is never kept here, not even for an
//! `Idempotency-Key`: a login that is repeated is another login. Asking for a code is one that has an answer to repeat.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Post;
use super::granted::{Granted, granted};
use super::{Api, Sent, present};
use crate::http::idempotency::Once;
use crate::http::json::Json;
use crate::http::problem::{Problem, ProblemDocument};
use crate::secret::Secret;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(login)).routes(routes!(verify))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    /// Left out: a code goes to the address.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginCode {
    email: String,
    /// Six digits.
    #[schema(value_type = String)]
    code: Secret,
}

/// Log in
///
/// With a password: 200 and the tokens. Without one: 202, and a code of six digits goes to the address. What is answered does
/// not tell whether the address has an account.
#[utoipa::path(post, path = "/api/auth/login", tag = "accounts",
    params(("Idempotency-Key" = Option<String>, Header, description = "Counts where a code is asked for")),
    request_body = Login,
    responses((status = 200, body = Granted), (status = 202, description = "A code is on its way", body = Sent),
        (status = 409, description = "`idempotency_running`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "`invalid_credentials`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`account_disabled`, after the right password", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_guesses`, `too_many_codes` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`, or `mail_not_configured`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn login(State(api): State<Api>, post: Post) -> Result<Response, Problem> {
    let Login { email, password } = post.json()?;
    let (accounts, device) = (api.accounts.clone(), post.device.clone());
    if let Some(password) = password {
        // A guess is taken before the password is compared: who leaves meanwhile gets it back as well.
        let work = async move {
            let login = accounts.login(&email, &password, &device).await;
            login.map_or_else(|error| Problem::from(error).into_response(), |grant| granted(&grant))
        };
        return Ok(api.idempotency.to_its_end(work).await);
    }
    let work = |asked: Login, _: Once| async move {
        let sent = accounts.send_login_code(&asked.email, &device).await?;
        Ok((StatusCode::ACCEPTED, Json(Sent::from(sent))).into_response())
    };
    Ok(post.once(&api, work).await)
}

/// Log in with the code that was sent
#[utoipa::path(post, path = "/api/auth/login/verify", tag = "accounts",
    request_body = LoginCode,
    responses((status = 200, body = Granted),
        (status = 403, description = "`account_disabled`, after the right code", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_code`, or a field", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_guesses` or `rate_limited`, with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`busy` with `Retry-After`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn verify(State(api): State<Api>, post: Post) -> Result<Response, Problem> {
    let LoginCode { email, code } = post.json()?;
    Ok(granted(&api.accounts.login_with_code(&email, &code, &post.device).await?))
}

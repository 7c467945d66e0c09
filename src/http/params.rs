//! Parameters from the path and the query, with the same quality of refusal as JSON bodies have: axum's own texts never
//! reach a client.

use std::error::Error;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::json;
use super::problem::Problem;

/// The query, read into `T`, which should `deny_unknown_fields`. What does not fit is a 400 `invalid_query`,
/// `unknown_field`, `missing_field` or `duplicate_field` that names the parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match AxumQuery::<T>::try_from_uri(&parts.uri) {
            Ok(AxumQuery(value)) => Ok(Self(value)),
            Err(rejection) => Err(query_problem(&rejection)),
        }
    }
}

type QueryFault = serde_path_to_error::Error<serde::de::value::Error>;

fn query_problem(rejection: &(dyn Error + 'static)) -> Problem {
    let mut cause = Some(rejection);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<QueryFault>() {
            let problem = json::misfit(&fault.path().to_string(), &fault.inner().to_string());
            let code = if problem.code() == "invalid_field" { "invalid_query" } else { problem.code() };
            return problem.recoded(axum::http::StatusCode::BAD_REQUEST, code);
        }
        cause = error.source();
    }
    Problem::bad_request("invalid_query", "The query cannot be read.")
}

/// The parameters of the route's path, read into `T`. What does not fit is a 400 `invalid_path` that names the
/// parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match AxumPath::<T>::from_request_parts(parts, state).await {
            Ok(AxumPath(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(failed)) => path_problem(failed.into_kind()),
            Err(rejection) => {
                tracing::error!(%rejection, "a route reads path parameters that it does not have: {rejection}");
                Err(Problem::internal())
            }
        }
    }
}

fn path_problem<T>(kind: ErrorKind) -> Result<T, Problem> {
    let invalid = |detail: String| Problem::bad_request("invalid_path", detail);
    Err(match kind {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            invalid(format!("{key} in the path does not fit: expected {expected_type}.")).field(key)
        }
        ErrorKind::InvalidUtf8InPathParam { key } => {
            invalid(format!("{key} in the path is not valid UTF-8.")).field(key)
        }
        ErrorKind::DeserializeError { key, .. } => invalid(format!("{key} in the path does not fit.")).field(key),
        ErrorKind::ParseError { expected_type, .. } | ErrorKind::ParseErrorAtIndex { expected_type, .. } => {
            invalid(format!("A part of the path does not fit: expected {expected_type}."))
        }
        ErrorKind::Message(_) => invalid("A part of the path does not fit.".to_owned()),
        kind => {
            tracing::error!(%kind, "a route reads path parameters that it does not have: {kind}");
            Problem::internal()
        }
    })
}

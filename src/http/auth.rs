//! Who may pass: a bearer token with the scope that a route asks for, judged before body, precondition or anything else
//! of the request is looked at. Decides nothing about records; never logs a token.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use tower::{Layer, Service};

use super::problem::Problem;
use crate::operators::{OperatorError, Operators, Principal, Scope};

/// A layer that lets only holders of `scope` through, for `OpenApiRouter::route_layer` and method routers. The
/// [`Principal`] is in the extensions of every request behind it.
pub fn require(operators: &Operators, scope: Scope) -> Require {
    Require { operators: Arc::new(operators.clone()), scope }
}

/// See [`require`].
#[derive(Clone, Debug)]
pub struct Require {
    /// Shared, because every request clones the layers around its route.
    operators: Arc<Operators>,
    scope: Scope,
}

impl<S> Layer<S> for Require {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { require: self.clone(), inner }
    }
}

/// A service behind [`require`].
#[derive(Clone, Debug)]
pub struct Guard<S> {
    require: Require,
    inner: S,
}

impl<S> Service<Request> for Guard<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match self.require.judge(request.headers()) {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                Either::Left(self.inner.call(request))
            }
            Err(problem) => Either::Right(ready(Ok(problem.into_response()))),
        }
    }
}

impl Require {
    fn judge(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let token = bearer(headers, "Send an operator's token as `Authorization: Bearer npt_…`.")?;
        let authenticated = self.operators.authenticate(token).map_err(|error| match error {
            OperatorError::Store(error) => Problem::store(&error, "a token could not be looked up"),
            error => {
                tracing::error!(%error, "a token could not be looked up: {error}");
                Problem::internal()
            }
        })?;
        let invalid = || Problem::invalid_token("The token is not known, has expired or was revoked.");
        let principal = authenticated.ok_or_else(invalid)?;
        if principal.allows(self.scope) { Ok(principal) } else { Err(insufficient(self.scope)) }
    }
}

/// The token of `Authorization: Bearer …`; `hint` says which one is expected.
pub(super) fn bearer<'a>(headers: &'a HeaderMap, hint: &'static str) -> Result<&'a str, Problem> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (sent.next(), sent.next()) {
        (Some(only), None) => only.to_str().unwrap_or_default(),
        (None, _) => return Err(Problem::unauthorized(hint)),
        (Some(_), Some(_)) => return Err(Problem::invalid_token("The header Authorization is there twice.")),
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim_matches(' ')),
        _ => Err(Problem::unauthorized(format!("Only bearer tokens are understood here. {hint}"))),
    }
}

fn insufficient(scope: Scope) -> Problem {
    let challenge = format!("Bearer realm=\"nightporter\", error=\"insufficient_scope\", scope=\"{scope}\"");
    let problem = Problem::forbidden("insufficient_scope", format!("The token lacks the scope {scope}."))
        .with("scope", scope.as_str());
    match HeaderValue::from_str(&challenge) {
        Ok(value) => problem.header(header::WWW_AUTHENTICATE, value),
        Err(_) => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(lines: &[&str]) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, line.parse().unwrap());
        }
        bearer(&headers, "Send one.").map(str::to_owned).map_err(|problem| problem.code())
    }

    #[test]
    fn a_token_is_taken_from_one_bearer_header_only() {
        assert_eq!(token(&["Bearer abc"]), Ok("abc".to_owned()));
        assert_eq!(token(&["bearer  abc"]), Ok("abc".to_owned()));
        assert_eq!(token(&["Basic abc"]), Err("unauthorized"));
        assert_eq!(token(&["abc"]), Err("unauthorized"));
        assert_eq!(token(&[]), Err("unauthorized"));
        assert_eq!(token(&["Bearer abc", "Bearer abd"]), Err("invalid_token"));
    }

    #[test]
    fn a_lacking_scope_is_named_in_header_and_body() {
        let response = insufficient(Scope::PortalsRelay).render(None);
        let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains("error=\"insufficient_scope\"") && challenge.contains("\"portals:relay\""));
    }
}

//! Who comes in: a bearer token in the header `Authorization`, or else the cookie, judged by the accounts' gate. Never an
//! operator's token: it is none of the gate's.
//!
//! A browser sends cookies with whatever another site makes it send. So a request that is not safe and comes by cookie must say
//! that it comes from a page of ours, by `Sec-Fetch-Site` or `Origin`.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::csrf::{CsrfLayer, ProtectionError};

use super::Api;
use super::asked::device;
use super::granted::{access_cookie, refresh_cookie};
use crate::accounts::{Device, Refused, Visitor};
use crate::http::auth;
use crate::http::problem::Problem;

/// Somebody who has shown a good access token.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) visitor: Visitor,
    pub(super) device: Device,
}

impl FromRequestParts<Api> for Entered {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let token = token(&parts.headers)?;
        let visitor = api.accounts.gate().admit(token).map_err(refused)?;
        Ok(Self { visitor, device: device(parts) })
    }
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    match access_cookie(headers) {
        Some(cookie) if !headers.contains_key(header::AUTHORIZATION) => Ok(cookie),
        _ => auth::bearer(headers, "Log in, and send the access token as `Authorization: Bearer …`."),
    }
}

fn refused(why: Refused) -> Problem {
    Problem::invalid_token(match why {
        Refused::Foreign => "The token is not one of ours.",
        Refused::Expired => "The token has expired; refresh it.",
        Refused::Ended => "The session of the token has ended; log in again.",
    })
}

/// What looks at where requests that come by cookie come from.
pub(super) type Origins = CsrfLayer<fn(ProtectionError) -> Response>;

/// Pages at `public_url` are ours, also where a proxy changes the name of the host; so are those of the host that was asked.
pub(super) fn origins(public_url: Option<&str>) -> Origins {
    let layer = CsrfLayer::new();
    // An address that browsers could never send as an origin was refused when the configuration was read.
    let layer = match public_url.map(|url| CsrfLayer::new().add_trusted_origin(url.trim_end_matches('/'))) {
        Some(Ok(trusting)) => trusting,
        _ => layer,
    };
    layer.with_rejection_response(|_| {
        let detail = "The request comes from a page of another site, with the cookie of this one.";
        Problem::forbidden("cross_site", detail).into_response()
    })
}

/// Refuses what another site has made a browser send.
pub(super) async fn same_site(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let by_cookie = access_cookie(headers).is_some() || refresh_cookie(headers).is_some();
    if !by_cookie || headers.contains_key(header::AUTHORIZATION) {
        return next.run(request).await;
    }
    let inner = service_fn(move |request| {
        let next = next.clone();
        async move { Ok::<_, Infallible>(next.run(request).await) }
    });
    match origins.layer(inner).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

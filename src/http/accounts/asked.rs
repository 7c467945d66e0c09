//! A request of somebody who has not shown yet who they are, read whole: who asks as far as the rates go, then the body, then
//! its key. Such a key counts for one client's address: nobody gets another's answer by guessing a key.

use std::collections::BTreeSet;
use std::future::Future;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::Api;
use crate::accounts::Device;
use crate::http::client::ClientIp;
use crate::http::idempotency::{Asked, Once};
use crate::http::json;
use crate::http::problem::Problem;
use crate::operators::Principal;

/// Where a request comes from, let through as far as the rates go.
#[derive(Debug)]
pub(super) struct Guest(pub(super) Device);

impl FromRequestParts<Api> for Guest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let device = device(parts);
        api.accounts.admit(&device)?;
        Ok(Self(device))
    }
}

/// Where a request comes from.
pub(super) fn device(parts: &Parts) -> Device {
    let ClientIp(ip) = ClientIp::of(parts);
    let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    Device::new(ip, agent)
}

/// A POST with a JSON body that may carry an `Idempotency-Key`.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) device: Device,
    asked: Asked,
}

impl FromRequest<Api> for Post {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let guest = Guest::from_request_parts(&mut parts, api).await;
        let Guest(device) = guest.map_err(IntoResponse::into_response)?;
        let client = device.ip.map_or_else(|| "local".to_owned(), |ip| ip.to_string());
        let principal = Principal { id: format!("client {client}"), name: client, scopes: BTreeSet::new() };
        parts.extensions.insert(principal);
        let asked = Asked::from_request(Request::from_parts(parts, body), api).await?;
        Ok(Self { device, asked })
    }
}

impl Post {
    /// The body.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        json::check_media_type(&self.asked.method, &self.asked.headers)?;
        json::parse(&self.asked.body)
    }

    /// Carries `work` out with the body, or gives the answer that it had before.
    pub(super) async fn once<T, F>(&self, api: &Api, work: impl FnOnce(T, Once) -> F) -> Response
    where
        T: DeserializeOwned + Send,
        F: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        let read = match self.json() {
            Ok(read) => read,
            Err(problem) => return problem.into_response(),
        };
        let work = |once| {
            let work = work(read, once);
            async move { work.await.unwrap_or_else(IntoResponse::into_response) }
        };
        api.idempotency.once(&self.asked, work).await
    }
}

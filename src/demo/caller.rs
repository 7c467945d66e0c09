//! A caller of the appliance's API: the batch job, the operator. Holds a token and speaks plain HTTP on loopback.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::clock::{self, Stopwatch};
use crate::secret::Secret;

/// How long a call may take: parking and a login included.
const LIMIT: Duration = Duration::from_secs(90);
/// The largest answer that is read.
const ANSWER: usize = 4 << 20;

/// Calls one appliance.
#[derive(Clone, Debug)]
pub struct Caller {
    base: String,
    token: Secret,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// From the call to the end of the body.
    pub took: Duration,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Caller {
    /// A caller of the appliance at `base` with an operator's token.
    pub fn new(base: impl Into<String>, token: Secret) -> Self {
        Self { base: base.into(), token, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The token it sends.
    pub const fn token(&self) -> &Secret {
        &self.token
    }

    /// Sends a request without a body, with further `headers`, and reads the answer.
    ///
    /// # Errors
    /// In words, when there was no whole answer within 90 s.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let watch = Stopwatch::start();
        let bearer = format!("Bearer {}", self.token.expose());
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.base)).header(AUTHORIZATION, bearer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| error.to_string())?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), took: watch.elapsed() })
        };
        clock::within(LIMIT, exchange).await.unwrap_or_else(|late| Err(late.to_string()))
    }

    /// As [`Caller::call`] with GET and no further headers.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        self.call(Method::GET, path, &[]).await
    }
}

//! One HTTP POST with a limit on its time and its answer; for the channels that speak HTTP.
//!
//! Addresses carry secrets here (a bot's token, a webhook's key), so no error from this file contains one. Redirects are
//! not followed: what is signed for one address goes nowhere else.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::RETRY_AFTER;
use hyper::{Request, StatusCode};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use super::channel::Failure;
use crate::clock::within;

/// The longest that a POST and its answer may take together.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read; chat services answer with a few hundred.
const ANSWER: usize = 64 * 1024;

/// The client; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Web(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Web {
    /// # Errors
    /// When the cryptographic library offers no TLS version that rustls wants.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            || ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let tls = match builder()?.with_native_roots() {
            Ok(tls) => tls,
            Err(error) => {
                // Channels on loopback work without certificates; https will say what it misses when it is used.
                tracing::warn!(%error, "no trusted certificates on this host, https channels will fail: {error}");
                builder()?.with_root_certificates(RootCertStore::empty())
            }
        };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .build();
        // Messages are rare: a connection kept from the last one would as a rule be dead.
        Ok(Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    pub(super) async fn post(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let exchange = async {
            let (head, body) = self.0.request(request).await.map_err(|error| causes(&error))?.into_parts();
            // An answer that is too long or breaks off still has a status, and that decides.
            let body = Limited::new(body, ANSWER).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Ok(Answer { status: head.status, retry_after: seconds.map(Duration::from_secs), body })
        };
        let answered = within(LIMIT, exchange).await;
        let answered = answered.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs())));
        answered.map_err(|reason| Failure::Channel { reason, retry_after: None })
    }
}

/// An error and what caused it, in one line. hyper's errors name addresses of sockets, never URLs.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

//! The HTTP client towards providers: one request, one answer within its time and size, read as JSON where something is
//! kept of it. No redirects are followed, so that what a call carries goes to nobody but whom it names. No error from here
//! holds an address, a header or a body.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper_rustls::ConfigBuilderExt;
use reqwest::Client;
use rustls::{ClientConfig, RootCertStore};
use serde_json::value::RawValue;

use super::definition::{Call, DataPath, Request};
use super::transition::MAX_DATA;
use crate::calls::Answer;
use crate::clock::within;
use crate::document;

/// Bytes of an answer that are read: providers wrap little in much. What is kept of it must fit into the flow's data.
const ANSWER: usize = 1024 * 1024;
const CONNECT: Duration = Duration::from_secs(10);

/// The client; clones share its connections.
#[derive(Clone, Debug)]
pub(super) struct Provider(Client);

/// Why a call has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection came about: nothing was sent.
    #[error("the provider cannot be reached")]
    Unreachable,
    /// No whole answer came within the call's time.
    #[error("the provider did not answer in time")]
    Timeout,
    /// The connection was lost in the middle.
    #[error("the connection to the provider was lost")]
    Broken,
    /// The answer is not what the definition expects.
    #[error("the provider answered {0}, which is not what was expected")]
    Unexpected(u16),
    /// The answer is larger than is read, or what is kept of it than a flow's data may be.
    #[error("the provider's answer is too large: of {} KiB at most a flow keeps {} KiB, with the data that it has", ANSWER / 1024, MAX_DATA / 1024)]
    TooLarge,
    /// Something is to be kept of an answer that is no JSON.
    #[error("the provider's answer is not JSON")]
    NotJson,
    /// This is to be kept of an answer that does not have it.
    #[error("the provider's answer has nothing at {0}")]
    Absent(String),
    /// The call needs this, and it is not in the data.
    #[error("{0} is needed for the call and not there")]
    Unfilled(String),
    /// The process ended while the call was under way.
    #[error("the call was cut off by a restart, and whether it arrived is unknown")]
    Interrupted,
    /// The definition does not have this transition or call any more.
    #[error("the flow's definition has changed, and this call is not in it any more")]
    Undefined,
}

impl Failure {
    /// The word that programs switch on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken => "connection_lost",
            Self::Unexpected(_) => "unexpected_answer",
            Self::TooLarge => "answer_too_large",
            Self::NotJson => "answer_not_json",
            Self::Absent(_) => "answer_incomplete",
            Self::Unfilled(_) => "data_missing",
            Self::Interrupted => "interrupted",
            Self::Undefined => "undefined",
        }
    }

    /// Whether another attempt may do better, of a call that is `safe` to repeat or not.
    pub(super) const fn is_worth_another(&self, safe: bool) -> bool {
        match self {
            Self::Unreachable => true,
            Self::Timeout | Self::Broken | Self::Unexpected(429 | 500..=599) => safe,
            _ => false,
        }
    }

    /// Whether nothing that waiting brings can mend it.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Unfilled(_) | Self::Undefined)
    }
}

/// What is kept of an answer: where in the data, and the value.
pub(super) type Saved = Vec<(Vec<String>, Box<RawValue>)>;

impl Provider {
    /// # Errors
    /// When the cryptographic library offers no TLS version that rustls wants, in words.
    pub(super) fn new() -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            || ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let tls = match builder().map_err(|error| error.to_string())?.with_native_roots() {
            Ok(tls) => tls,
            Err(error) => {
                // Providers on loopback work without certificates; https will say what it misses when it is used.
                tracing::warn!(%error, "no trusted certificates on this host, https providers will fail: {error}");
                let builder = builder().map_err(|error| error.to_string())?;
                builder.with_root_certificates(RootCertStore::empty())
            }
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls.with_no_client_auth())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // What may be sent again is this room's to say, and what must not be is not sent on a connection that the
            // provider may just be closing.
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT)
            .user_agent(concat!("nightporter/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Self).map_err(|error| error.to_string())
    }

    /// Sends one call, and picks from its answer what `call` says.
    pub(super) async fn send(&self, call: &Call, request: Request) -> Result<Saved, Failure> {
        within(call.timeout, self.exchange(call, request)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&self, call: &Call, request: Request) -> Result<Saved, Failure> {
        let Request { method, url, headers, body } = request;
        let mut sending = self.0.request(method, url);
        for (name, value) in headers {
            sending = sending.header(name, value);
        }
        if let Some(body) = body {
            sending = sending.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        let mut answer = sending
            .send()
            .await
            .map_err(|error| if error.is_connect() { Failure::Unreachable } else { Failure::Broken })?;
        let status = answer.status().as_u16();
        let location =
            answer.headers().get(LOCATION).and_then(|location| answer.url().join(location.to_str().ok()?).ok());
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|_| Failure::Broken)? {
            if body.len() + piece.len() > ANSWER {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&piece);
        }
        if !call.expect.matches(&Answer { status, location: location.as_ref(), body: Some(&body) }) {
            return Err(Failure::Unexpected(status));
        }
        picked(&body, &call.save)
    }
}

/// What is kept of an answer.
fn picked(body: &[u8], save: &[(DataPath, String)]) -> Result<Saved, Failure> {
    if save.is_empty() {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).map_err(|_| Failure::NotJson)?;
    // Also refuses what nests so deep that later readers would.
    serde_json::from_str::<serde_json::Value>(text).map_err(|_| Failure::NotJson)?;
    let one = |(path, pointer): &(DataPath, String)| {
        let value = document::at(text, pointer).ok_or_else(|| Failure::Absent(pointer.clone()))?;
        Ok((path.0.clone(), value.to_owned()))
    };
    save.iter().map(one).collect()
}

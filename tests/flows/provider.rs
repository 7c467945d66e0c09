//! A provider on loopback, like the identity providers of the stories: it can be slow, wrong, huge and down, and remembers
//! what it was asked.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// Only when [`Provider::let_go`] says so.
    Slow,
    /// 500.
    Broken,
    /// 400.
    Refusing,
    /// 200, but no JSON.
    Babbling,
    /// 200 without what is wanted.
    Empty,
    /// Two megabytes.
    Huge,
    /// JSON that fits into no flow.
    Large,
    /// The connection ends without an answer.
    Dying,
    /// To somewhere else.
    Redirecting,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: std::collections::BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// The provider; clones share it.
#[derive(Clone)]
pub(crate) struct Provider(Arc<Inner>);

struct Inner {
    address: String,
    scheme: &'static str,
    moods: Mutex<Vec<Mood>>,
    asked: Mutex<Vec<Asked>>,
    arrived: Semaphore,
    gate: Semaphore,
    count: AtomicUsize,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self::at(listener.local_addr().unwrap().to_string(), "http");
        let router = Router::new().fallback(answer).with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    /// One that speaks TLS alone, with the certificate of the tests for `localhost`.
    pub(crate) async fn encrypted() -> Self {
        let listener = Encrypted::bind().await;
        let provider = Self::at(format!("localhost:{}", listener.listener.local_addr().unwrap().port()), "https");
        let router = Router::new().fallback(answer).with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    fn at(address: String, scheme: &'static str) -> Self {
        Self(Arc::new(Inner {
            address,
            scheme,
            moods: Mutex::new(vec![Mood::Good]),
            asked: Mutex::default(),
            arrived: Semaphore::new(0),
            gate: Semaphore::new(0),
            count: AtomicUsize::new(0),
        }))
    }

    /// Scheme, host and port.
    pub(crate) fn base(&self) -> String {
        format!("{}://{}", self.0.scheme, self.0.address)
    }

    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// Answers like this from now on.
    pub(crate) fn mood(&self, mood: Mood) {
        self.moods(&[mood]);
    }

    /// Answers like these in turn, and like the last of them from then on.
    pub(crate) fn moods(&self, moods: &[Mood]) {
        *self.0.moods.lock().unwrap() = moods.iter().rev().copied().collect();
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.0.asked.lock().unwrap().clone()
    }

    /// Waits for the next request that was not waited for.
    pub(crate) async fn arrived(&self) {
        self.0.arrived.acquire().await.unwrap().forget();
    }

    /// Lets so many slow answers go.
    pub(crate) fn let_go(&self, count: usize) {
        self.0.gate.add_permits(count);
    }
}

/// A listener that hands on connections once they are encrypted.
struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Encrypted {
    async fn bind() -> Self {
        let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
        let certificate = CertificateDer::from_pem_file(file("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        let settings = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(settings)) }
    }
}

impl axum::serve::Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            // Who does not trust the certificate hangs up here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(State(provider): State<Provider>, request: Request) -> Response {
    let inner = &provider.0;
    let path = request.uri().path().to_owned();
    let headers = spelled(request.headers());
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    inner.asked.lock().unwrap().push(Asked { path: path.clone(), headers, body });
    // Before it has arrived: whoever waits for that may change the mood then, which is for the next one.
    let mood = {
        let mut moods = inner.moods.lock().unwrap();
        if moods.len() > 1 { moods.pop().unwrap() } else { moods[0] }
    };
    inner.arrived.add_permits(1);
    let number = inner.count.fetch_add(1, Ordering::SeqCst) + 1;
    let good = json!({"ResultData": {"TxId": format!("tx-{number}"), "결과": "정상"}});
    match mood {
        Mood::Good => axum::Json(good).into_response(),
        Mood::Slow => {
            inner.gate.acquire().await.unwrap().forget();
            axum::Json(good).into_response()
        }
        Mood::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "비밀 열쇠").into_response(),
        Mood::Refusing => StatusCode::BAD_REQUEST.into_response(),
        Mood::Babbling => "안녕".into_response(),
        Mood::Empty => axum::Json(json!({"ResultData": null})).into_response(),
        Mood::Huge => "x".repeat(2 << 20).into_response(),
        Mood::Large => axum::Json(json!({"ResultData": {"TxId": "x".repeat(60_000)}})).into_response(),
        Mood::Dying => {
            let broken = futures_util::stream::iter([Ok("{"), Err(std::io::Error::other("gone"))]);
            Body::from_stream(broken).into_response()
        }
        Mood::Redirecting => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
    }
}

fn spelled(headers: &HeaderMap) -> std::collections::BTreeMap<String, String> {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

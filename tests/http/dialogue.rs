//! A small router behind the real accept loop, and a client that speaks raw bytes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use nightporter::clock::{Clock, Time, within};
use nightporter::http::body::Raw;
use nightporter::http::client::{ClientIp, Peer, TrustedProxies};
use nightporter::http::edge::{Edge, Settings};
use nightporter::http::health::{Health, Readiness};
use nightporter::http::json::Json;
use nightporter::http::limits::Limits;
use nightporter::http::listener::Listener;
use nightporter::http::metrics::Metrics;
use nightporter::http::params::{Path, Query};
use nightporter::http::server::Server;
use nightporter::http::workers::Workers;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

/// What no test waits longer for; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A limit that no test reaches.
pub(crate) const HOURS: Duration = Duration::from_secs(36_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    name: String,
    #[serde(default)]
    free: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    limit: u32,
}

/// Lets a test hold a request in flight.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    pub(crate) entered: Arc<Notify>,
    pub(crate) open: Arc<Notify>,
}

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) life: Lifecycle,
    pub(crate) stop: CancellationToken,
    pub(crate) gate: Gate,
    pub(crate) readiness: Readiness,
}

impl House {
    pub(crate) fn new(limits: Limits) -> Self {
        let (life, stop, gate, readiness) =
            (Lifecycle::new(), CancellationToken::new(), Gate::default(), Readiness::default());
        let settings = Settings {
            clock: Clock::held(Time::from_millis(1_800_000_000_000)),
            random: Random::seeded(1),
            trusted_proxies: TrustedProxies::new(["127.0.0.0/8".parse().unwrap()]),
            limits,
        };
        let health = Health::new(readiness.clone(), &settings.clock);
        let routes = routes(gate.clone()).merge(health.routes()).merge(Metrics::install().unwrap().routes(None));
        let workers = Workers::start().unwrap();
        let server = Server::new(Edge::new(routes, settings), limits, &life, workers, stop.clone());
        Self { server, life, stop, gate, readiness }
    }

    pub(crate) async fn connect(&self) -> Dialogue<TcpStream> {
        self.connect_saying("").await
    }

    /// A client that has said something before the server even accepts it, so that no deadline can come first.
    pub(crate) async fn connect_saying(&self, bytes: &str) -> Dialogue<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Dialogue::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        client.say(bytes).await;
        self.server.serve("test", Listener::Tcp(listener)).unwrap();
        client
    }

    /// Two clients of one listener.
    pub(crate) async fn connect_two(&self) -> (Dialogue<TcpStream>, Dialogue<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = self.server.serve("test", Listener::Tcp(listener)).unwrap();
        let first = TcpStream::connect(address).await.unwrap();
        (Dialogue::new(first), Dialogue::new(TcpStream::connect(address).await.unwrap()))
    }
}

pub(crate) fn routes(gate: Gate) -> OpenApiRouter {
    let wait = async move || {
        gate.entered.notify_one();
        gate.open.notified().await;
        "done"
    };
    OpenApiRouter::new()
        .routes(utoipa_axum::routes!(described))
        .route("/hello", get(async || "hello"))
        .route("/wait", get(wait))
        .route("/order", post(async |Json(order): Json<Order>| format!("{} {}", order.name, order.free)))
        .route("/optional", post(async |order: Option<Json<Order>>| order.map_or("none".to_owned(), |Json(o)| o.name)))
        .route("/raw", post(async |Raw(bytes): Raw| bytes))
        .route("/echo", post(async |request: Request| request.into_body()))
        .route("/ignore", post(async || "ignored"))
        .route("/page", get(async |Query(page): Query<Page>| page.limit.to_string()))
        .route("/number/{n}", get(async |Path(n): Path<u32>| n.to_string()))
        .route("/text/{text}", get(async |Path(text): Path<String>| text))
        .route("/panic", get(async || if true { panic!("the secret reason") } else { "never" }))
        .route("/who", get(who))
        .route("/upgrade", get(upgrade))
        .route("/big", get(async || vec![b'x'; 64 * 1024 * 1024]))
}

#[utoipa::path(
    post,
    path = "/described/{n}",
    params(("n" = u32, Path, description = "Which one")),
    request_body = Value,
    security(("operator" = ["sms"])),
    responses((status = 200, description = "It worked", body = String))
)]
async fn described(Path(n): Path<u32>, Json(order): Json<Order>) -> String {
    format!("{n} {}", order.name)
}

async fn who(ClientIp(ip): ClientIp, request: Request) -> String {
    let peer = request.extensions().get::<Peer>().copied();
    match peer {
        Some(Peer::Unix { uid, .. }) => format!("unix {uid}"),
        _ => format!("{}", ip.unwrap()),
    }
}

/// Answers 101 and then echoes in upper case.
#[expect(clippy::disallowed_methods, reason = "the test's own process has no lifecycle to report to")]
async fn upgrade(mut request: Request) -> axum::response::Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        word.make_ascii_uppercase();
        stream.write_all(&word).await.unwrap();
        stream.flush().await.unwrap();
    });
    let answer = axum::http::Response::builder().status(101).header("connection", "upgrade").header("upgrade", "shout");
    answer.body(Body::empty()).unwrap()
}

/// One end of a connection, speaking raw bytes.
pub(crate) struct Dialogue<S> {
    pub(crate) stream: S,
    pub(crate) seen: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The problem's code, after checking that it is a whole one.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let document: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        assert_eq!(document["type"], "about:blank");
        assert_eq!(document["request_id"].as_str(), self.header("x-request-id"));
        assert!(document["title"].is_string() && document["detail"].is_string());
        document["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.code())
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, seen: Vec::new() }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next answer, whose length must be declared.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.status != 101 {
            let length: usize = answer.header("content-length").unwrap_or("0").parse().unwrap();
            while self.seen.len() < length {
                assert!(self.more().await, "closed within an answer");
            }
            answer.body = self.seen.drain(..length).collect();
        }
        answer
    }

    /// The next answer without its body: all that HEAD gets.
    pub(crate) async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.seen.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.more().await, "closed before an answer: {:?}", String::from_utf8_lossy(&self.seen));
        };
        let head = String::from_utf8(self.seen.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, body: Vec::new() }
    }

    pub(crate) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.say(bytes).await;
        self.answer().await
    }

    /// Reads on; false at the end.
    pub(crate) async fn more(&mut self) -> bool {
        within(PATIENCE, self.stream.read_buf(&mut self.seen)).await.expect("the server hangs").unwrap_or(0) > 0
    }

    /// Waits for the end of the connection, which must come without another byte.
    pub(crate) async fn ended(&mut self) {
        assert!(!self.more().await, "unexpected: {:?}", String::from_utf8_lossy(&self.seen));
        assert!(self.seen.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&self.seen));
    }
}

pub(crate) fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: porter\r\n\r\n")
}

pub(crate) fn post_request(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: porter\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

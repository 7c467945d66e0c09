//! The edge, spoken to byte by byte: real sockets, the real accept loop, a small router. What a strict server must
//! refuse, what it must survive, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use futures_util::FutureExt;
use http_body_util::BodyExt;
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
use nightporter::http::request_id::RequestId;
use nightporter::http::server::Server;
use nightporter::http::tls::Tls;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

/// What no test waits longer for; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A limit that no test reaches.
const HOURS: Duration = Duration::from_secs(36_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    name: String,
    #[serde(default)]
    free: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: u32,
}

/// Lets a test hold a request in flight.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

struct House {
    server: Server,
    life: Lifecycle,
    stop: CancellationToken,
    gate: Gate,
    readiness: Readiness,
}

impl House {
    fn new(limits: Limits) -> Self {
        let (life, stop, gate, readiness) =
            (Lifecycle::new(), CancellationToken::new(), Gate::default(), Readiness::default());
        let settings = Settings {
            clock: Clock::held(Time::from_millis(1_800_000_000_000)),
            random: Random::seeded(1),
            trusted_proxies: TrustedProxies::new(["127.0.0.0/8".parse().unwrap()]),
            limits,
        };
        let health = Health::new(readiness.clone(), &settings.clock);
        let routes = routes(gate.clone()).merge(health.routes()).merge(Metrics::install().unwrap().routes());
        let server = Server::new(Edge::new(routes, settings), limits, &life, stop.clone());
        Self { server, life, stop, gate, readiness }
    }

    async fn connect(&self) -> Dialogue<TcpStream> {
        self.connect_saying("").await
    }

    /// A client that has said something before the server even accepts it, so that no deadline can come first.
    async fn connect_saying(&self, bytes: &str) -> Dialogue<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Dialogue::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        client.say(bytes).await;
        self.server.serve("test", Listener::Tcp(listener)).unwrap();
        client
    }

    /// Two clients of one listener.
    async fn connect_two(&self) -> (Dialogue<TcpStream>, Dialogue<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = self.server.serve("test", Listener::Tcp(listener)).unwrap();
        let first = TcpStream::connect(address).await.unwrap();
        (Dialogue::new(first), Dialogue::new(TcpStream::connect(address).await.unwrap()))
    }
}

fn routes(gate: Gate) -> OpenApiRouter {
    let wait = async move || {
        gate.entered.notify_one();
        gate.open.notified().await;
        "done"
    };
    OpenApiRouter::new()
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
        .route("/id", get(async |id: RequestId| id.as_str().to_owned()))
        .route("/who", get(who))
        .route("/upgrade", get(upgrade))
        .route("/big", get(async || vec![b'x'; 64 * 1024 * 1024]))
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
struct Dialogue<S> {
    stream: S,
    seen: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The problem's code, after checking that it is a whole one.
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let document: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        assert_eq!(document["type"], "about:blank");
        assert_eq!(document["request_id"].as_str(), self.header("x-request-id"));
        assert!(document["title"].is_string() && document["detail"].is_string());
        document["code"].as_str().unwrap().to_owned()
    }

    fn refusal(&self) -> (u16, String) {
        (self.status, self.code())
    }

    fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    fn new(stream: S) -> Self {
        Self { stream, seen: Vec::new() }
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next answer, whose length must be declared.
    async fn answer(&mut self) -> Answer {
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
    async fn head(&mut self) -> Answer {
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

    async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.say(bytes).await;
        self.answer().await
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> bool {
        within(PATIENCE, self.stream.read_buf(&mut self.seen)).await.expect("the server hangs").unwrap_or(0) > 0
    }

    /// Waits for the end of the connection, which must come without another byte.
    async fn ended(&mut self) {
        assert!(!self.more().await, "unexpected: {:?}", String::from_utf8_lossy(&self.seen));
        assert!(self.seen.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&self.seen));
    }
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: porter\r\n\r\n")
}

fn post_request(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: porter\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

async fn refused_at_once(request: impl AsRef<[u8]>) -> (u16, String) {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let answer = client.ask(request).await;
    assert!(answer.closes(), "{answer:?}");
    client.ended().await;
    answer.refusal()
}

#[tokio::test]
async fn heads_that_hyper_would_mend_or_drop_are_refused_with_a_problem() {
    for (lines, code) in [
        ("", "invalid_host"),
        ("Host: a\r\nHost: b\r\n", "invalid_host"),
        ("Host: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n", "ambiguous_length"),
        ("Host: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n", "ambiguous_length"),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n", "ambiguous_length"),
        ("Host: a\r\nno colon\r\n", "malformed_request"),
    ] {
        let request = format!("POST /echo HTTP/1.1\r\n{lines}\r\n0\r\n\r\n");
        assert_eq!(refused_at_once(request).await, (400, code.to_owned()), "{lines:?}");
    }
    for line in ["GET", "GET /", "/ GET HTTP/1.1", "b@d / HTTP/1.1"] {
        assert_eq!(refused_at_once(format!("{line}\r\nHost: a\r\n\r\n")).await, (400, "malformed_request".to_owned()));
    }
    assert_eq!(refused_at_once("GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n").await.0, 400);
    assert_eq!(refused_at_once("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await, (400, "invalid_target".to_owned()));
    assert_eq!(refused_at_once("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await, (400, "invalid_target".to_owned()));
    assert_eq!(refused_at_once("PRI * HTTP/2.0\r\n\r\n").await, (505, "version_not_supported".to_owned()));
    assert_eq!(refused_at_once(b"\x16\x03\x01\x02\x00").await, (400, "malformed_request".to_owned()));
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(33 * 1024));
    assert_eq!(refused_at_once(large).await, (431, "headers_too_large".to_owned()));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(refused_at_once(many).await, (431, "headers_too_large".to_owned()));
    let long = format!("GET /{}", "x".repeat(33 * 1024));
    assert_eq!(refused_at_once(long).await, (414, "target_too_long".to_owned()));
}

#[tokio::test]
async fn a_refused_head_is_answered_in_its_turn_and_keeps_its_id() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let bad = "GET /hello HTTP/1.1\r\nX-Request-Id: job-7\r\n\r\n";
    client.say(format!("{}{bad}{}", get_request("/hello"), get_request("/hello"))).await;
    assert_eq!(client.answer().await.text(), "hello");
    let refused = client.answer().await;
    assert_eq!((refused.refusal().1.as_str(), refused.header("x-request-id")), ("invalid_host", Some("job-7")));
    client.ended().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_with_every_kind_of_body() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let chunked = "POST /raw HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let smuggled = get_request("/panic");
    let framed = format!("{:x};note=1\r\n{smuggled}\r\n0\r\nTrailer: x\r\n\r\n", smuggled.len());
    let sized = format!("POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    let all = [get_request("/hello"), format!("{chunked}{framed}"), sized, get_request("/hello")].concat();
    client.say(&all).await;
    assert_eq!(client.answer().await.text(), "hello");
    assert_eq!(client.answer().await.text(), smuggled);
    assert_eq!(client.answer().await.text(), smuggled);
    assert_eq!(client.answer().await.text(), "hello");
    // The same again, a byte at a time.
    for byte in all.bytes() {
        client.say([byte]).await;
    }
    assert_eq!(client.answer().await.text(), "hello");
    assert_eq!(client.answer().await.text(), smuggled);
    assert_eq!(client.answer().await.text(), smuggled);
    assert_eq!(client.answer().await.text(), "hello");
}

#[tokio::test]
async fn broken_chunks_never_reach_a_second_request() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let head = "POST /raw HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.say(format!("{head}zz\r\n{}", get_request("/hello"))).await;
    assert_eq!(client.answer().await.refusal(), (400, "incomplete_body".to_owned()));
    client.ended().await;
}

#[tokio::test]
async fn old_and_absolute_requests_are_understood() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask("\r\nGET http://porter/hello?x HTTP/1.1\r\nHost: porter\r\n\r\n").await.text(), "hello");
    client.say("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\nHEAD /hello HTTP/1.1\r\n\r\n").await;
    let found = client.head().await;
    assert_eq!((found.status, found.header("content-length")), (200, Some("5")));
    assert_eq!(client.head().await.status, 400);
    client.ended().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask("GET /hello HTTP/1.0\r\n\r\n").await.text(), "hello");
    client.ended().await;
}

#[tokio::test]
async fn a_slow_head_times_out_and_an_idle_connection_is_closed() {
    let short = Duration::from_millis(20);
    let house = House::new(Limits { header_read: short, ..Limits::default() });
    let mut silent = house.connect().await;
    silent.ended().await;
    let mut slow = house.connect_saying("GET /hello HTTP/1.1\r\nHost:").await;
    assert_eq!(slow.answer().await.refusal(), (408, "request_timeout".to_owned()));
    slow.ended().await;

    // The pause between requests has a limit of its own: the head's neither stands in for it nor cuts it short.
    let house = House::new(Limits { keep_alive: short, header_read: HOURS, ..Limits::default() });
    let mut idle = house.connect().await;
    assert_eq!(idle.ask(get_request("/hello")).await.text(), "hello");
    idle.ended().await;
    let house = House::new(Limits { keep_alive: HOURS, header_read: short, ..Limits::default() });
    let mut patient = house.connect_saying(&get_request("/hello")).await;
    assert_eq!(patient.answer().await.text(), "hello");
    house.connect().await.ended().await;
    assert_eq!(patient.ask(get_request("/hello")).await.text(), "hello");
}

#[tokio::test]
async fn a_request_in_flight_is_not_idle() {
    let short = Duration::from_millis(20);
    let house = House::new(Limits { keep_alive: short, ..Limits::default() });
    let mut client = house.connect().await;
    client.say(get_request("/wait")).await;
    house.gate.entered.notified().await;
    let mut other = house.connect().await;
    // By the time that this one has been idle for too long, so would the first have been.
    other.ask(get_request("/hello")).await;
    other.ended().await;
    house.gate.open.notify_one();
    assert_eq!(client.answer().await.text(), "done");
}

#[tokio::test]
async fn bodies_that_stall_or_grow_are_refused() {
    let short = Duration::from_millis(20);
    for limits in [Limits { body_idle: short, ..Limits::default() }, Limits { body_total: short, ..Limits::default() }]
    {
        let house = House::new(limits);
        let mut client = house.connect().await;
        let request = post_request("/order", "{\"name\":\"a\"}");
        let answer = client.ask(&request[..request.len() - 3]).await;
        assert_eq!(answer.refusal(), (408, "request_timeout".to_owned()));
        assert!(answer.closes());
        client.ended().await;
    }
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024));
    let answer = client.ask(post_request("/order", &large)).await;
    assert_eq!(answer.refusal(), (413, "body_too_large".to_owned()));
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_sending() {
    let house = House::new(Limits { linger: HOURS, ..Limits::default() });
    let client = house.connect().await;
    let (read, mut write) = tokio::io::split(client.stream);
    let head = "POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n";
    let sending = async {
        write.write_all(head.as_bytes()).await.unwrap();
        // More than the socket buffers hold, so that some is unread whenever the answer is sent.
        write.write_all(&vec![b'x'; 8_000_000]).await
    };
    let mut reader = Dialogue::new(tokio::io::join(read, tokio::io::sink()));
    let (sent, answer) = tokio::join!(sending, reader.answer());
    assert_eq!(answer.text(), "ignored");
    assert!(sent.is_ok(), "the connection was reset under the sending client: {sent:?}");
}

#[tokio::test]
async fn every_refusal_of_the_router_is_a_problem() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask(get_request("/nowhere")).await.refusal(), (404, "not_found".to_owned()));
    let answer = client.ask(get_request("/order")).await;
    assert_eq!(answer.refusal(), (405, "method_not_allowed".to_owned()));
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = client.ask("BREW /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")));
    let untyped = "POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(client.ask(untyped).await.refusal(), (415, "unsupported_media_type".to_owned()));
    let answer = client.ask(get_request("/panic")).await;
    assert_eq!(answer.refusal(), (500, "internal_error".to_owned()));
    assert!(!answer.text().contains("secret reason"));
    for (path, code) in [
        ("/page", "missing_field"),
        ("/page?limit=1&limit=2", "duplicate_field"),
        ("/page?limit=x", "invalid_query"),
        ("/page?limit=1&more=2", "unknown_field"),
        ("/number/x", "invalid_path"),
        ("/text/%ff", "invalid_path"),
        ("/text/%00", "invalid_path"),
        ("/text/%zz", "invalid_path"),
        ("/text/%4", "invalid_path"),
    ] {
        let answer = client.ask(get_request(path)).await;
        assert_eq!(answer.refusal(), (400, code.to_owned()), "{path} {}", answer.text());
    }
    assert_eq!(client.ask(get_request("/text/%ED%95%9C%EA%B8%80")).await.text(), "한글");
    assert_eq!(client.ask(get_request("/page?limit=7")).await.text(), "7");
    assert!(house.life.failed().now_or_never().is_none(), "a handler's panic must not fail the process");
}

#[tokio::test]
async fn json_is_read_strictly_at_any_depth() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let good = client.ask(post_request("/order", r#"{"name":"김밥","free":{"a":[1]}}"#)).await;
    assert_eq!(good.text(), r#"김밥 {"a":[1]}"#);
    for (body, status, code, field) in [
        (r#"{"name":"a","free":{"x":[{"y":1,"y":2}]}}"#, 400, "duplicate_field", json!("free.x[0].y")),
        (r#"{"name":"a","nam":1}"#, 422, "unknown_field", json!("nam")),
        (r#"{"name":7}"#, 422, "invalid_field", json!("name")),
        ("{}", 422, "missing_field", json!("name")),
        ("{", 400, "invalid_json", Value::Null),
        ("", 400, "empty_body", Value::Null),
    ] {
        let answer = client.ask(post_request("/order", body)).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{body}");
        assert_eq!(serde_json::from_str::<Value>(answer.text()).unwrap()["field"], field, "{body}");
    }
    let nothing = client.ask("POST /optional HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(nothing.text(), "none");
    assert_eq!(client.ask(post_request("/optional", r#"{"name":"b"}"#)).await.text(), "b");
    let untyped = "POST /optional HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(client.ask(untyped).await.refusal().0, 415);
}

#[tokio::test]
async fn request_ids_are_kept_or_made() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let mut ask = async |lines: &str| {
        let answer = client.ask(format!("GET /id HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).await;
        assert_eq!(answer.header("x-request-id"), Some(answer.text()));
        answer.text().to_owned()
    };
    assert_eq!(ask("X-Request-Id: batch.7_a-B\r\n").await, "batch.7_a-B");
    let made = [
        "",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: 가\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
        "X-Request-Id:\r\n",
    ];
    for lines in made {
        let id = ask(lines).await;
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{lines:?} gave {id}");
    }
}

#[tokio::test]
async fn the_peer_and_the_client_behind_a_proxy_are_known() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask(get_request("/who")).await.text(), "127.0.0.1");
    let forwarded = "GET /who HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n\r\n";
    assert_eq!(client.ask(forwarded).await.text(), "203.0.113.9");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    house.server.serve("unix", Listener::Unix(UnixListener::bind(&path).unwrap()));
    let stream = UnixStream::connect(&path).await.unwrap();
    let own = stream.peer_cred().unwrap().uid();
    assert_eq!(Dialogue::new(stream).ask(get_request("/who")).await.text(), format!("unix {own}"));
}

#[tokio::test]
async fn an_upgraded_connection_carries_other_bytes() {
    let short = Duration::from_millis(20);
    let house = House::new(Limits { keep_alive: short, ..Limits::default() });
    let mut client = house.connect().await;
    let request = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n";
    assert_eq!(client.ask(request).await.status, 101);
    let mut idle = house.connect().await;
    idle.ask(get_request("/hello")).await;
    idle.ended().await;
    client.say("\u{7f}abc").await;
    while client.seen.len() < 4 {
        assert!(client.more().await);
    }
    assert_eq!(client.seen, b"\x7fABC");
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_its_turn() {
    let house = House::new(Limits { max_connections: 1, ..Limits::default() });
    let (mut first, mut second) = house.connect_two().await;
    assert_eq!(first.ask(get_request("/hello")).await.text(), "hello");
    second.say(get_request("/hello")).await;
    for _ in 0..10 {
        assert_eq!(first.ask(get_request("/hello")).await.text(), "hello");
    }
    let early = second.stream.try_read(&mut [0]);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "served beyond the limit");
    drop(first);
    assert_eq!(second.answer().await.text(), "hello");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let write_stall = Duration::from_millis(20);
    let house = House::new(Limits { max_connections: 1, write_stall, ..Limits::default() });
    let (mut first, mut second) = house.connect_two().await;
    first.say(get_request("/big")).await;
    // The only place becomes free when the first one is cut.
    assert_eq!(second.ask(get_request("/hello")).await.text(), "hello");
    while first.more().await {}
    assert!(first.seen.len() < 64 * 1024 * 1024);
}

#[tokio::test]
async fn a_head_that_drips_is_not_given_more_time() {
    let limits = Limits { header_read: Duration::from_millis(20), max_head: usize::MAX, ..Limits::default() };
    let house = House::new(limits);
    let mut client = house.connect_saying("GET /hello HTTP/1.1\r\nX: ").await;
    let mut byte = [0];
    let answered = async {
        while client.stream.try_read(&mut byte).is_err() {
            let _ = client.stream.write_all(b"x").await;
            tokio::task::yield_now().await;
        }
    };
    within(PATIENCE, answered).await.expect("every byte bought more time");
    client.seen.extend(byte);
    assert_eq!(client.answer().await.refusal(), (408, "request_timeout".to_owned()));
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let head = "POST /raw HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.say(head).await;
    assert_eq!(client.head().await.status, 100);
    assert_eq!(client.ask("body").await.text(), "body");
    // A refusal comes without the invitation.
    client.say(head.replace("/raw", "/nowhere")).await;
    assert_eq!(client.head().await.status, 404);
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_lets_requests_end() {
    let house = House::new(Limits::default());
    let mut idle = house.connect().await;
    assert_eq!(idle.ask(get_request("/hello")).await.text(), "hello");
    let mut fresh = house.connect().await;
    let mut busy = house.connect().await;
    busy.say(get_request("/wait")).await;
    house.gate.entered.notified().await;
    house.stop.cancel();
    idle.ended().await;
    fresh.ended().await;
    house.gate.open.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.text(), answer.closes()), ("done", true));
    busy.ended().await;
    within(PATIENCE, house.server.drained()).await.unwrap();
    assert!(house.life.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_drain_limit() {
    let house = House::new(Limits { drain: Duration::from_millis(20), ..Limits::default() });
    let mut client = house.connect().await;
    client.say(get_request("/wait")).await;
    house.gate.entered.notified().await;
    house.stop.cancel();
    client.ended().await;
    within(PATIENCE, house.server.drained()).await.unwrap();
}

#[tokio::test]
async fn tls_is_spoken_with_the_files_given_and_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::copy(shipped("cert.pem"), &cert).unwrap();
    std::fs::copy(shipped("key.pem"), &key).unwrap();
    let tls = Tls::load(&cert, &key).unwrap();
    let house = House::new(Limits { handshake: Duration::from_millis(20), ..Limits::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = house.server.serve("tls", Listener::Tls(listener, tls.clone())).unwrap();
    // Nobody shakes hands here: the connection is given up.
    Dialogue::new(TcpStream::connect(address).await.unwrap()).ended().await;

    let house = House::new(Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = house.server.serve("tls", Listener::Tls(listener, tls.clone())).unwrap();
    let mut client = Dialogue::new(handshake(address, &shipped("cert.pem")).await);
    assert_eq!(client.stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.ask(get_request("/hello")).await.text(), "hello");

    std::fs::write(&cert, "broken").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("cert.pem"), "{error}");
    let mut client = Dialogue::new(handshake(address, &shipped("cert.pem")).await);
    assert_eq!(client.ask(get_request("/hello")).await.text(), "hello");
}

async fn handshake(
    address: std::net::SocketAddr,
    trusted: &std::path::Path,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

#[tokio::test]
async fn health_tells_which_part_is_not_ready() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask(get_request("/livez")).await.status, 200);
    assert_eq!(client.ask(get_request("/readyz")).await.status, 200);
    house.readiness.part("store", || Err("still opening".to_owned()));
    house.readiness.part("browser", || Ok(()));
    let answer = client.ask(get_request("/readyz")).await;
    assert_eq!(answer.refusal(), (503, "not_ready".to_owned()));
    let document: Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(document["parts"], json!({"store": "still opening"}));
    assert!(answer.header("retry-after").is_some());
    let report: Value = serde_json::from_str(client.ask(get_request("/api/health")).await.text()).unwrap();
    assert_eq!(report["status"], "not_ready");
    assert_eq!(report["parts"], json!({"store": "still opening", "browser": "ready"}));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["started_at"], "2027-01-15T08:00:00.000Z");
    assert!(report["uptime_seconds"].is_u64());
    house.readiness.part("store", || Ok(()));
    assert_eq!(client.ask(get_request("/readyz")).await.status, 200);
}

#[tokio::test]
async fn metrics_count_by_route_and_never_by_what_a_client_makes_up() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    client.ask(get_request("/number/123456789")).await;
    client.ask(get_request("/invented-by-a-client")).await;
    client.ask("INVENTED /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let page = client.ask(get_request("/metrics")).await;
    let page = page.text();
    assert!(
        page.contains(r#"nightporter_http_requests_total{method="GET",route="/number/{n}",status="200"}"#),
        "{page}"
    );
    assert!(page.contains("nightporter_http_request_seconds_bucket"), "{page}");
    for invented in ["123456789", "invented-by-a-client", "INVENTED"] {
        assert!(!page.contains(invented), "{page}");
    }
}

#[tokio::test]
async fn the_description_names_the_problems_of_every_operation() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let document: Value = serde_json::from_str(client.ask(get_request("/openapi.json")).await.text()).unwrap();
    assert_eq!(document["components"]["securitySchemes"]["operator"]["scheme"], "bearer");
    let problem = &document["components"]["schemas"]["Problem"]["properties"];
    for member in ["type", "title", "status", "detail", "code", "request_id"] {
        assert!(problem[member].is_object(), "{member} in {problem}");
    }
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/readyz") && paths.contains_key("/api/health") && paths.contains_key("/metrics"));
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["responses"]["500"]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_router_also_answers_without_a_socket() {
    let settings = Settings {
        clock: Clock::held(Time::from_millis(0)),
        random: Random::seeded(1),
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
    };
    let router = Edge::new(routes(Gate::default()), settings).into_router();
    let request = axum::http::Request::get("/hello").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

//! The edge, spoken to byte by byte: real sockets, the real accept loop, a small router. What a strict server must
//! refuse, what it must survive, and how it ends.

#[path = "http/dialogue.rs"]
mod dialogue;
#[path = "http/surface.rs"]
mod surface;

use std::sync::Arc;
use std::time::Duration;

use nightporter::clock::within;
use nightporter::http::limits::Limits;
use nightporter::http::listener::Listener;
use nightporter::http::tls::Tls;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::dialogue::*;

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
async fn an_answer_that_comes_before_the_body_says_whether_the_connection_goes_on() {
    let house = House::new(Limits::default());
    let request = |path: &str, lines: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    for path in ["/nowhere", "/hello", "/ignore", "/order"] {
        let mut client = house.connect().await;
        client.say(request(path, "Content-Length: 1000\r\n") + &"x".repeat(1000)).await;
        let small = client.answer().await;
        assert!(!small.closes(), "{path}: {small:?}");
        client.say(request(path, "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n").await;
        assert!(!client.answer().await.closes(), "{path}");
        client.say(get_request("/hello")).await;
        assert_eq!(client.answer().await.text(), "hello", "{path}");
        for rest in
            ["Content-Length: 100000\r\n", "Content-Length: 10\r\nExpect: 100-continue\r\n", "Content-Length: 10\r\n"]
        {
            let mut client = house.connect().await;
            client.say(request(path, rest)).await;
            let early = client.answer().await;
            assert!(early.closes(), "{path} {rest}: {early:?}");
            client.ended().await;
        }
    }
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

//! Nothing goes anywhere but to the portal, and nobody without the scope goes at all.

use std::io::ErrorKind;
use std::net::TcpListener;

use nightporter::clock::within;
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::house::{PATIENCE, PORTAL, held, problem, token};
use super::mirror::{Mirror, call, call_target};

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_to_another_origin() {
    let evil = TcpListener::bind("127.0.0.1:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let there = evil.local_addr().unwrap().to_string();
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    for path in [
        format!("//{there}/x"),
        format!("///{there}/x"),
        format!("/@{there}/x"),
        format!("/http://{there}/x"),
        format!("/:{}@{there}/", mirror.address.port()),
        format!("/%2f%2f{there}/x"),
        format!("/%5c%5c{there}/x"),
        format!("/..//{there}/x"),
        "/%2e%2e/%2e%2e/x".to_owned(),
        "/../../x".to_owned(),
        format!("/x?url=http://{there}/"),
        format!("/x?@{there}"),
        format!("/%0d%0aHost:%20{there}"),
    ] {
        let answer = call(&running, "GET", &path, "", b"").await;
        // The router may take dots for its own and find nothing; what goes out goes to the portal as it was written.
        assert_eq!((answer.status, mirror.seen(&path).len()), (200, 1), "{path}");
        assert_eq!(mirror.seen(&path)[0].all("host"), [mirror.address.to_string()]);
    }
    let before = mirror.count();
    for path in
        [format!("/\\{there}/x"), format!("/\\\\{there}/x"), "/a#b".to_owned(), "/a%00".to_owned(), "/%".to_owned()]
    {
        let answer = call(&running, "GET", &path, "", b"").await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    assert_eq!(mirror.count(), before);
    // A request in the form for proxies is read for its path; the host it names is not ours to go to.
    let target = format!("http://{there}/api/portals/{PORTAL}/relay/absolute");
    assert_eq!(call_target(&running, "GET", &target, "", b"").await.status, 200);
    assert_eq!(mirror.seen("/absolute").len(), 1);
    mirror.answer("/away", format!("HTTP/1.1 302 Found\r\nLocation: http://{there}/\r\nContent-Length: 0\r\n\r\n"));
    let away = call(&running, "GET", "/away", "", b"").await;
    assert_eq!((away.status, away.head.all("location")), (302, vec![format!("http://{there}/").as_str()]));
    assert_eq!(evil.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody came");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_refused_and_other_upgrades_are_ignored() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let handshake = "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let refused = call(&running, "GET", "/ws", handshake, b"").await;
    assert_eq!((refused.status, refused.head.all("content-type")), (501, vec!["application/problem+json"]));
    assert!(refused.text().contains("\"upgrade_not_supported\"") && mirror.count() == 0);
    // Some clients offer HTTP/2 with every request, and must not lose for it.
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(call(&running, "GET", "/h2c", offer, b"").await.status, 200);
    let seen = &mirror.seen("/h2c")[0];
    assert_eq!((seen.all("upgrade"), seen.all("http2-settings")), (vec![], vec![]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_judged_before_the_body_is_wanted() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let read_only = token(&running.app, "reader", &[Scope::PortalsRead]).await;
    for (authorization, status, code) in [
        (String::new(), "401", "unauthorized"),
        ("Authorization: Bearer npt_wrong\r\n".to_owned(), "401", "invalid_token"),
        (format!("Authorization: Bearer {read_only}\r\n"), "403", "insufficient_scope"),
    ] {
        let mut stream = TcpStream::connect(running.app.address()).await.unwrap();
        // A body is promised and never sent: who reads it first would wait for ever.
        let head = format!(
            "POST /api/portals/{PORTAL}/relay/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n\
             Content-Length: 1000000\r\n{authorization}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut got = String::new();
        within(PATIENCE, stream.read_to_string(&mut got)).await.unwrap().unwrap();
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")) && !got.contains("100 Continue"), "{got}");
        assert!(got.to_lowercase().contains("\r\nwww-authenticate: bearer") && got.contains(code), "{got}");
    }
    assert_eq!(mirror.count(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_portal_is_not_found() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    for name in ["other", "%EA%B0%80", "%ff", "VROONG", "vroong%2f"] {
        let url = running.url(&format!("/api/portals/{name}/relay/x"));
        let answer = running.client.request(Method::GET, url).bearer_auth(&running.token).send().await.unwrap();
        assert_eq!(problem(answer).await, (404, "unknown_portal".to_owned()), "{name}");
    }
    // Percent-encoding of the name is the client's choice.
    let url = running.url("/api/portals/vroon%67/relay/x");
    let answer = running.client.get(url).bearer_auth(&running.token).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), mirror.seen("/x").len()), (200, 1));
    let told: Value = running.told("").await;
    assert_eq!((&told["state"], &told["epoch"]), (&"paused".into(), &1.into()));
    running.stop().await;
}

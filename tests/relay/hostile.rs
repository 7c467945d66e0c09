//! Portals that answer wrongly, by accident or on purpose: the caller gets a clear error or an answer that ends, never
//! another's answer and never a hang.

use reqwest::Method;

use super::house::{PORTAL, held, problem};
use super::mirror::{Mirror, call, speak};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_leaves_the_call_in_doubt() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let many = |count: usize| (0..count).map(|at| format!("X-{at}: 1\r\n")).collect::<String>();
    for (what, bytes) in [
        ("nothing", "\r\n".to_owned()),
        ("no HTTP", "220 mail.example ESMTP\r\n\r\n".to_owned()),
        ("another protocol", "HTTP/2.0 200 OK\r\n\r\n".to_owned()),
        ("a switch", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw".to_owned()),
        ("no status", "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc".to_owned()),
        ("no length", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nabc".to_owned()),
        ("a folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a split line", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("too many headers", format!("HTTP/1.1 200 OK\r\n{}\r\n", many(200))),
        ("headers without end", format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(4 << 20))),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le".to_owned()),
    ] {
        mirror.answer("/wrong", bytes);
        let before = mirror.seen("/wrong").len();
        let told = problem(running.relay(Method::POST, "/wrong").body("x").send().await.unwrap()).await;
        assert_eq!((told, mirror.seen("/wrong").len()), ((502, "in_doubt".to_owned()), before + 1), "{what}");
        let told = problem(running.get("/wrong").await).await;
        assert_eq!((told, mirror.seen("/wrong").len()), ((502, "in_doubt".to_owned()), before + 3), "{what}");
    }
    assert_eq!(running.get("/sound").await.status().as_u16(), 200);
    assert_eq!(running.events("expired").await, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_framed_wrongly_breaks_off_and_leaks_nowhere() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    for (what, framing) in [
        ("no size", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"),
        ("a size beyond numbers", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nFFFFFFFFFFFFFFFFFF\r\nx"),
        ("no end", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("less than was said", "Content-Length: 9\r\n\r\nabc"),
    ] {
        mirror.answer("/body", format!("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n{framing}"));
        // Where the answer breaks at once, its head may not have left either.
        let Ok(broken) = running.relay(Method::GET, "/body").send().await else { continue };
        assert_eq!(broken.status().as_u16(), 200, "{what}");
        assert!(broken.bytes().await.is_err(), "{what}: nobody may take half for the whole");
    }
    // A length beside chunks is what answers are smuggled with; the chunks count.
    for both in ["Transfer-Encoding: chunked\r\nContent-Length: 3", "Content-Length: 300\r\nTransfer-Encoding: chunked"]
    {
        mirror.answer("/both", format!("HTTP/1.1 200 OK\r\n{both}\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"));
        let answer = call(&running, "GET", "/both", "", b"").await;
        assert_eq!((answer.text().as_str(), answer.head.all("content-length")), ("abcdef", vec![]), "{both}");
        assert_eq!(answer.head.all("transfer-encoding"), ["chunked"]);
    }
    // What follows an answer belongs to nobody.
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
    mirror.answer("/more", format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc{second}"));
    for _ in 0..3 {
        assert_eq!(running.get("/more").await.text().await.unwrap(), "abc");
        assert_eq!(running.get("/plain").await.text().await.unwrap(), "ok");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_cannot_speak_for_our_origin_or_in_our_name() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let gone = [
        "Set-Cookie",
        "Set-Cookie2",
        "Clear-Site-Data",
        "Strict-Transport-Security",
        "Alt-Svc",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Credentials",
        "Proxy-Authenticate",
        "Report-To",
        "NEL",
        "Service-Worker-Allowed",
    ];
    let lines: String = gone.iter().map(|name| format!("{name}: a=1\r\n")).collect();
    let ours = "X-Session-Id: other\r\nX-Session-Fallback: true\r\nX-Session-Epoch: 99\r\nX-Request-Id: theirs\r\n";
    mirror.answer("/say", format!("HTTP/1.1 200 OK\r\n{lines}{ours}Content-Length: 0\r\n\r\n"));
    let answer = call(&running, "GET", "/say", "", b"").await;
    for name in gone {
        assert_eq!(answer.head.all(name), [""; 0], "{name}");
    }
    assert_eq!((answer.head.all("x-session-id"), answer.head.all("x-session-fallback")), (vec!["a"], vec!["false"]));
    assert_eq!(answer.head.all("x-session-epoch"), ["1"]);
    assert_ne!(answer.head.all("x-request-id"), ["theirs"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_smuggled_in_another() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let inner = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n";
    let length = inner.len();
    for framing in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("X: y\nContent-Length: 0\r\n\r\n{inner}"),
    ] {
        let head = format!(
            "POST /api/portals/{PORTAL}/relay/outer HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n",
            running.token
        );
        let answer = speak(running.app.address(), format!("{head}{framing}").as_bytes()).await;
        assert!([400, 501].contains(&answer.status), "{framing}: {}", answer.text());
    }
    assert_eq!(mirror.count(), 0);
    // As a body it is a body, also where `Connection` would have its length taken away on the way.
    let answer = call(&running, "POST", "/outer", "Connection: content-length, host\r\n", inner.as_bytes()).await;
    assert_eq!((answer.status, mirror.count()), (200, 1));
    assert_eq!((mirror.seen("/outer")[0].body.as_slice(), mirror.seen("/inner").len()), (inner.as_bytes(), 0));
    running.stop().await;
}

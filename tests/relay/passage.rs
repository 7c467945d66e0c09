//! What passes through: everything, both ways, byte for byte, but for what belongs to one side only.

use reqwest::Method;

use super::demo::Demo;
use super::house::{PORTAL, held, problem};
use super::mirror::{Mirror, call, speak};

#[tokio::test(flavor = "multi_thread")]
async fn method_path_query_and_body_arrive_as_they_were_sent() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let target = "/a%20b/%EA%B0%80%2F/../c;d=1?x=1%2F&&y=%ed%95%9c&z&q=a+b?";
    let usual = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let unusual = ["PROPFIND", "REPORT", "MKCOL", "LOCK", "PURGE", "M-SEARCH", "QUERY", "X_Own.1"];
    for method in usual.into_iter().chain(unusual) {
        let answer = call(&running, method, target, "", "한글\0\r\n".as_bytes()).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.head.all("x-session-id"), ["a"]);
        assert_eq!(
            (answer.head.all("x-session-fallback"), answer.head.all("x-session-epoch")),
            (vec!["false"], vec!["1"])
        );
        let seen = mirror.seen(target).pop().unwrap();
        assert_eq!(seen.line, format!("{method} {target} HTTP/1.1"));
        assert_eq!(seen.body, "한글\0\r\n".as_bytes());
    }
    // Old Korean portals have paths in EUC-KR; an empty path is the portal's root.
    for path in ["/%C7%D1%B1%DB?%B0%A1", "/", "/?", "/?a=/b"] {
        let answer = call(&running, "GET", path, "", b"").await;
        assert_eq!((answer.status, mirror.seen(path).len()), (200, 1), "{path}");
    }
    // So does a query of nearly all that a head may hold.
    let long = format!("/long?{}", "가".repeat(9000).bytes().map(|byte| format!("%{byte:02X}")).collect::<String>());
    let long = &long[..30_000];
    assert_eq!((call(&running, "GET", long, "", b"").await.status, mirror.seen(long).len()), (200, 1));
    let before = mirror.count();
    // TRACE would send the session's cookies back to the caller.
    for (method, path, status) in [("TRACE", "/x", 405), ("GET", &*"/x".repeat(20_000), 431), ("CONNECT", "/x", 400)] {
        let answer = call(&running, method, path, "", b"").await;
        // 414 where the line alone was read when it was found too long.
        assert!(answer.status == status || (status, answer.status) == (431, 414), "{method}: {}", answer.status);
    }
    assert_eq!(mirror.count(), before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_portal_sees_its_browser_and_nothing_of_the_caller_s_connection() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let headers = "Cookie: SID=mine; a=b\r\nCookie2: $Version=1\r\nX-Real-IP: 10.0.0.1\r\nVia: 1.1 inner\r\n\
        Proxy-Secret: x\r\nCF-Connecting-IP: 10.0.0.1\r\nTrailer: x-late\r\nX-Session-Epoch: 1\r\nX-Session-Id: a\r\nX-Session-Fallback: never\r\nX-Park-Timeout: 1\r\n\
        Proxy-Authorization: Basic eA==\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: h\r\n\
        Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nUser-Agent: curl/8\r\n\
        Accept-Language: en\r\nAccept: text/csv\r\nAccept-Encoding: br\r\nOrigin: https://evil.example\r\n\
        Referer: https://evil.example/\r\nExpect: 100-continue\r\nX-Mine: 1\r\nX-Mine: 2\r\nIf-None-Match: \"e\"\r\n";
    for method in ["GET", "POST"] {
        assert_eq!(call(&running, method, "/x", headers, b"body").await.status, 200);
        let seen = mirror.seen("/x").pop().unwrap();
        for gone in [
            "authorization",
            "cookie2",
            "x-real-ip",
            "via",
            "proxy-secret",
            "cf-connecting-ip",
            "trailer",
            "x-session-epoch",
            "x-session-id",
            "x-session-fallback",
            "x-park-timeout",
            "proxy-authorization",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-hop",
            "keep-alive",
            "te",
            "expect",
        ] {
            assert_eq!(seen.all(gone), [""; 0], "{gone}");
        }
        let base = format!("http://{}", mirror.address);
        assert_eq!(seen.all("host"), [mirror.address.to_string()]);
        assert_eq!(seen.all("cookie"), ["SID=sid-a"]);
        assert_eq!(seen.all("user-agent"), ["Mozilla/5.0 (X11; Linux x86_64) Porter"]);
        assert_eq!((seen.all("accept-language"), seen.all("accept")), (vec!["ko-KR,ko;q=0.9"], vec!["text/csv"]));
        assert_eq!((seen.all("sec-fetch-site"), seen.all("accept-encoding")), (vec!["same-origin"], vec!["br"]));
        assert_eq!(seen.all("referer"), [format!("{base}/")]);
        let origin = if method == "GET" { vec![] } else { vec![base.as_str()] };
        assert_eq!(seen.all("origin"), origin, "{method}");
        assert_eq!((seen.all("x-mine"), seen.all("if-none-match")), (vec!["1", "2"], vec!["\"e\""]));
        assert_eq!((seen.all("content-length"), seen.body.as_slice()), (vec!["4"], &b"body"[..]));
    }
    // A POST without a body keeps its length: some servers answer 411 without one.
    assert_eq!(call(&running, "POST", "/empty", "Content-Length: 0\r\n", b"").await.status, 200);
    assert_eq!(mirror.seen("/empty")[0].all("content-length"), ["0"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_portal_s_answer_is_the_answer() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    // What a gzip member looks like: nobody on the way may touch it.
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K\xaf\x02\x00\x8f\x6d\x1d\x9d\x02\x00\x00\x00";
    mirror.answer(
        "/gzip",
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\nETag: \"x\"\r\n\r\n", &gzip[..]].concat(),
    );
    let answer = call(&running, "GET", "/gzip", "Accept-Encoding: gzip\r\n", b"").await;
    assert_eq!((answer.head.all("content-encoding"), answer.body), (vec!["gzip"], gzip.to_vec()));
    assert_eq!((answer.head.all("etag"), answer.head.all("content-length")), (vec!["\"x\""], vec!["22"]));

    let chunked = "HTTP/1.1 207 Multi\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\u{ac00}\r\n2\r\nok\r\n0\r\n\r\n";
    mirror.answer("/chunked", chunked);
    let answer = call(&running, "GET", "/chunked", "", b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (207, "가ok"));
    assert_eq!(answer.head.all("transfer-encoding"), ["chunked"]);

    for status in [201_u16, 202, 301, 302, 400, 403, 404, 409, 418, 429, 500, 503, 599] {
        mirror.answer(
            "/status",
            format!(
                "HTTP/1.1 {status} Whatever\r\nContent-Length: 3\r\nLocation: http://evil.example/\r\nX-A: 1\r\nX-A: 2\r\n\
                 Retry-After: 7\r\nSet-Cookie: SID=sid-a2; Path=/\r\nSet-Cookie: other=1\r\nConnection: close, x-hop\r\n\
                 X-Hop: 1\r\nKeep-Alive: timeout=3\r\nUpgrade: h2c\r\n\r\nabc"
            ),
        );
        let answer = call(&running, "GET", "/status", "", b"").await;
        assert_eq!((answer.status, answer.text().as_str()), (status, "abc"));
        assert_eq!(
            (answer.head.all("x-a"), answer.head.all("location")),
            (vec!["1", "2"], vec!["http://evil.example/"])
        );
        assert_eq!(answer.head.all("retry-after"), ["7"]);
        for gone in ["set-cookie", "x-hop", "keep-alive", "upgrade"] {
            assert_eq!(answer.head.all(gone), [""; 0], "{gone}");
        }
    }
    // What the portal set is what it gets.
    let last = mirror.seen("/status").pop().unwrap();
    let mut cookies: Vec<_> = last.all("cookie")[0].split("; ").collect();
    cookies.sort_unstable();
    assert_eq!(cookies, ["SID=sid-a2", "other=1"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_pass_as_bytes_as_often_as_they_are_there_and_with_their_status_line() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    // UTF-8, and EUC-KR, which is no UTF-8.
    let (utf8, euc) = ("한글".as_bytes(), &b"\xc7\xd1\xb1\xdb"[..]);
    let lines = [b"X-Utf8: ", utf8, b"\r\nX-Euc: ", euc, b"\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty: \r\n"].concat();
    mirror.answer(
        "/bytes",
        [&b"HTTP/1.1 207 Own Words\r\n"[..], &lines, b"WWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"].concat(),
    );
    let head = format!(
        "GET /api/portals/{PORTAL}/relay/bytes HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {}\r\n",
        running.token
    );
    let answer = speak(running.app.address(), &[head.as_bytes(), &lines, b"\r\n"].concat()).await;
    let latin = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    assert_eq!(answer.head.line, "HTTP/1.1 207 Own Words");
    for seen in [&answer.head, &mirror.seen("/bytes")[0]] {
        assert_eq!((seen.all("x-utf8"), seen.all("x-euc")), (vec![latin(utf8).as_str()], vec![latin(euc).as_str()]));
        assert_eq!((seen.all("x-twice"), seen.all("x-empty")), (vec!["1", "2"], vec![""]));
    }
    assert_eq!(answer.head.all("www-authenticate"), ["Basic"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_interim_answers_and_old_protocols_come_through() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    mirror.answer("/part", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\nContent-Length: 2\r\n\r\nbc");
    let part = call(&running, "GET", "/part", "Range: bytes=1-2\r\nIf-Range: \"x\"\r\n", b"").await;
    assert_eq!((part.status, part.head.all("content-range"), part.text().as_str()), (206, vec!["bytes 1-2/9"], "bc"));
    let seen = &mirror.seen("/part")[0];
    assert_eq!((seen.all("range"), seen.all("if-range")), (vec!["bytes=1-2"], vec!["\"x\""]));

    let early = "HTTP/1.1 100 Continue\r\n\r\n".repeat(50);
    let early = format!("{early}HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    mirror
        .answer("/interim", format!("HTTP/1.1 102 Wait\r\n\r\n{early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let last = call(&running, "POST", "/interim", "", b"x").await;
    assert_eq!((last.status, last.text().as_str(), last.head.all("link")), (200, "ok", vec![]));

    // Without a length the end of the connection is the end of the answer; the caller's has an end of its own.
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        mirror.answer("/old", format!("{version} 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it"));
        let old = call(&running, "GET", "/old", "", b"").await;
        assert_eq!((old.head.line.as_str(), old.text().as_str()), ("HTTP/1.1 200 OK", "all of it"), "{version}");
        assert_eq!(old.head.all("transfer-encoding"), ["chunked"], "{version}");
    }

    // A trailer stays behind; the body is whole.
    let body = "4\r\nbody\r\n0\r\nX-Late: 1\r\nSet-Cookie: SID=stolen\r\n\r\n";
    mirror.answer("/late", format!("HTTP/1.1 200 OK\r\nTrailer: X-Late\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
    let late = running.relay(Method::GET, "/late").header("te", "trailers").send().await.unwrap();
    assert!(!late.headers().contains_key("trailer"));
    assert_eq!(late.text().await.unwrap(), "body");
    let head = format!(
        "POST /api/portals/{PORTAL}/relay/up HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTrailer: X-Late\r\n\
         Authorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
        running.token
    );
    assert_eq!(speak(running.app.address(), head.as_bytes()).await.status, 200);
    assert_eq!(mirror.seen("/up")[0].body, b"body");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_claim_no_length_of_their_own() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    for (method, head, status, length) in [
        ("HEAD", "200 OK\r\nContent-Length: 12345", 200, vec!["12345"]),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", 200, vec![]),
        ("GET", "204 No Content\r\nX-A: 1", 204, vec![]),
        ("GET", "304 Not Modified\r\nETag: \"x\"", 304, vec![]),
        ("GET", "200 OK\r\nContent-Length: 0", 200, vec!["0"]),
    ] {
        mirror.answer("/none", format!("HTTP/1.1 {head}\r\n\r\n"));
        let answer = call(&running, method, "/none", "", b"").await;
        assert_eq!((answer.status, answer.head.all("content-length")), (status, length), "{method} {head}");
        assert_eq!(answer.text(), "", "{method} {head}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipe_headers_are_added_and_a_changed_cookie_survives_a_restart() {
    let clock = held();
    let demo = Demo::start(&clock).await;
    let house = demo.house(&clock).await;
    let running = house.start().await;
    let order = |running: &super::house::Running, key: &str| {
        let wish = serde_json::json!({"recipient": "홍길동", "item": "떡볶이"});
        running.relay(Method::POST, "/api/orders").header("idempotency-key", key).json(&wish)
    };
    // The CSRF token of the session is the recipe's to add; a caller's own would be replaced.
    let made = order(&running, "k1").header("x-csrf", "wrong").send().await.unwrap();
    assert_eq!((made.status().as_u16(), demo.controls.submissions("k1")), (201, 1));
    demo.controls.faults(|faults| faults.rotating_cookie = true);
    for _ in 0..3 {
        let answer = running.get("/api/echo").await;
        assert!(!answer.headers().contains_key("set-cookie"));
        assert_eq!(answer.status().as_u16(), 200);
    }
    running.stop().await;
    clock.advance(nightporter::demo::portal::TICKET_GRACE);
    // Superseded tickets are void by now: only the newest one opens, and this process knows it from the disk.
    let running = house.start().await;
    let told: serde_json::Value = running.get("/api/echo").await.json().await.unwrap();
    assert_eq!(told["cookies"].as_array().unwrap().len(), 3, "{told}");
    assert_eq!((running.events("expired").await, running.told("").await["epoch"].as_u64()), (0, Some(1)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_value_that_nothing_can_renew_is_told_by_the_portal_itself() {
    let clock = held();
    let demo = Demo::start(&clock).await;
    let running = demo.house(&clock).await.start().await;
    demo.controls.renew_tokens(super::demo::USER);
    let wish = serde_json::json!({"recipient": "홍길동", "item": "떡볶이"});
    let refused = running.relay(Method::POST, "/api/orders").header("x-park-timeout", "0").json(&wish);
    let refused = refused.send().await.unwrap();
    let (status, told): (_, serde_json::Value) = (refused.status().as_u16(), refused.json().await.unwrap());
    assert_eq!((status, told["error"].as_str()), (403, Some("csrf")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_wrong_header_names_it_before_anything_is_sent() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    for (name, value) in [
        ("x-park-timeout", "soon"),
        ("x-park-timeout", ""),
        ("x-park-timeout", "-1"),
        ("x-park-timeout", "601"),
        ("x-session-fallback", "perhaps"),
        ("x-session-fallback", ""),
    ] {
        let refused = running.relay(Method::GET, "/x").header(name, value).send().await.unwrap();
        assert_eq!(problem(refused).await, (400, "invalid_header".to_owned()), "{name}: {value}");
    }
    for value in ["2s", "1", "0", "10m", "500ms"] {
        let answer = running.relay(Method::GET, "/fine").header("x-park-timeout", value).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{value}");
    }
    assert!(mirror.seen("/x").is_empty());
    running.stop().await;
}

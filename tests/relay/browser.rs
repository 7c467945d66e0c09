//! Calls that a page of the session makes, on real Chromium: the contract is the relay's, whatever the way.

use std::collections::BTreeMap;
use std::net::TcpListener;

use futures_util::future::join_all;
use nightporter::clock::Clock;
use nightporter::demo::portal::{Outage, recipe_toml};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::demo::{Demo, USER};
use super::house::{House, Running, Seed, problem};
use super::mirror::{Mirror, call};

/// Appliances with a browser at once.
static PLACES: Semaphore = Semaphore::const_new(2);

/// An appliance that calls the mirror through a browser, in real time: Chromium lives in no other.
async fn at_mirror(mirror: &Mirror) -> (House, Running, SemaphorePermit<'static>) {
    let place = PLACES.acquire().await.unwrap();
    let recipe =
        format!("{}[relay]\nvia = \"browser\"\nheaders = {{ x-csrf = \"{{{{csrf}}}}\" }}\n", mirror.recipe(""));
    let recipe = recipe.replace("{ wait_for = \"#account\" }", "{ save = \"csrf\", selector = \"#csrf\" }");
    let seed = |id: &str| {
        let values = BTreeMap::from([("csrf".to_owned(), format!("t-{id}"))]);
        Seed { values, ..Seed::new(id, &format!("sid-{id}")) }
    };
    let house = House::with_browser(&recipe, &[seed("a"), seed("b")], &Clock::system()).await;
    let running = house.start().await;
    (house, running, place)
}

async fn at_demo(demo: &Demo) -> (House, Running, SemaphorePermit<'static>) {
    let place = PLACES.acquire().await.unwrap();
    let recipe = recipe_toml(&demo.portal.base_url()).replace("via = \"http\"", "via = \"browser\"");
    let house = House::with_browser(&recipe, &demo.seeds, &Clock::system()).await;
    let running = house.start().await;
    (house, running, place)
}

/// Kills every process that works in the house's directory.
fn kill_browsers(house: &House) {
    let directory = house.path("run").display().to_string();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let line = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let ours: Vec<i32> = pids.filter(|pid| line(pid).contains(&directory)).collect();
    assert!(!ours.is_empty());
    // One that has gone meanwhile needs no killing.
    ours.into_iter().for_each(|pid| _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_a_browser_s_with_everything_that_is_the_caller_s() {
    let mirror = Mirror::start().await;
    let (_house, running, _place) = at_mirror(&mirror).await;
    let body = "한글\0\r\n\u{ff}".as_bytes();
    let target = "/a%20b/%EA%B0%80%2F;d=1?x=1%2F&&y=%ed%95%9c&z&q=a+b?";
    let headers = "Content-Type: text/csv\r\nX-Mine: 1\r\nX-Mine: 2\r\nIf-Match: \"e\"\r\nCookie: SID=mine\r\n\
        User-Agent: curl/8\r\nAccept-Language: xx\r\nAccept: text/csv\r\nOrigin: https://evil.example\r\n\
        Referer: https://evil.example/\r\nX-Forwarded-For: 10.0.0.1\r\nX-Csrf: wrong\r\n";
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = call(&running, method, target, headers, body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{method}");
        assert_eq!(answer.head.all("x-session-id"), ["a"]);
        let seen = mirror.seen(target).pop().unwrap();
        assert_eq!((seen.line, seen.body.as_slice()), (format!("{method} {target} HTTP/1.1"), body));
    }
    let seen = mirror.seen(target).pop().unwrap();
    let base = format!("http://{}", mirror.address);
    assert_eq!((seen.all("cookie"), seen.all("x-csrf")), (vec!["SID=sid-a"], vec!["t-a"]));
    assert_eq!((seen.all("origin"), seen.all("referer")), (vec![base.as_str()], vec![format!("{base}/").as_str()]));
    assert_eq!((seen.all("x-mine"), seen.all("if-match")), (vec!["1, 2"], vec!["\"e\""]));
    assert_eq!((seen.all("accept"), seen.all("content-type")), (vec!["text/csv"], vec!["text/csv"]));
    assert!(seen.all("user-agent")[0].contains("Chrome") && seen.all("accept-language") != ["xx"]);
    for gone in ["authorization", "x-forwarded-for", "x-session-id", "x-session-fallback"] {
        assert_eq!(seen.all(gone), [""; 0], "{gone}");
    }
    for (method, path) in [("GET", "/%C7%D1%B1%DB?%B0%A1"), ("GET", "/"), ("OPTIONS", "/x"), ("HEAD", "/x")] {
        assert_eq!(call(&running, method, path, "", b"").await.status, 200, "{method} {path}");
        assert!(mirror.seen(path).pop().unwrap().line.starts_with(method));
    }
    // What a browser cannot send is refused, not changed.
    let refused = call(&running, "GET", "/body", "", b"x").await;
    assert_eq!((refused.status, refused.text().contains("\"not_supported\"")), (501, true), "{}", refused.text());
    let refused = call(&running, "POST", "/body", "", &vec![b'x'; (4 << 20) + 1]).await;
    assert_eq!((refused.status, refused.text().contains("\"body_too_large\"")), (413, true));
    assert!(refused.text().contains("a body of at most 4 MiB"), "{}", refused.text());
    assert_eq!(mirror.seen("/body").len(), 0);
    let largest = vec![0xff; 4 << 20];
    let taken = call(&running, "POST", "/body", "", &largest).await;
    assert_eq!(taken.status, 200, "{}", taken.text());
    assert!(mirror.seen("/body")[0].body == largest);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_the_portal_s_redirects_and_errors_too() {
    let mirror = Mirror::start().await;
    let (_house, running, _place) = at_mirror(&mirror).await;
    for status in [200_u16, 201, 203, 302, 307, 400, 403, 404, 409, 418, 429, 500, 503, 599] {
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Length: 7\r\nLocation: http://evil.example/?a=b\r\nX-A: 1\r\nX-A: 2\r\n\
             X-Korean: 가나\r\nSet-Cookie: SID=sid-a2; Path=/\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\n"
        );
        mirror.answer("/status", [head.as_bytes(), b"a\0b\xffc\r\n"].concat());
        let answer = call(&running, "GET", "/status", "", b"").await;
        let redirect = matches!(status, 302 | 307);
        let body: &[u8] = if redirect { b"" } else { b"a\0b\xffc\r\n" };
        assert_eq!((answer.status, answer.body.as_slice()), (status, body));
        assert_eq!(answer.head.all("location"), ["http://evil.example/?a=b"]);
        assert_eq!((answer.head.all("x-a"), answer.head.all("x-hop")), (vec!["1", "2"], vec![]));
        assert_eq!(answer.head.all("set-cookie"), [""; 0]);
    }
    assert_eq!(
        mirror.seen("/status").pop().unwrap().all("cookie"),
        ["SID=sid-a2"],
        "what the portal set is what it gets"
    );
    for (method, head, status) in
        [("HEAD", "200 OK\r\nContent-Length: 12345", 200), ("GET", "204 No Content\r\nX-A: 1", 204)]
    {
        mirror.answer("/none", format!("HTTP/1.1 {head}\r\n\r\n"));
        let answer = call(&running, method, "/none", "", b"").await;
        assert_eq!((answer.status, answer.text().as_str()), (status, ""), "{method} {head}");
    }
    mirror.answer("/same", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    assert_eq!(call(&running, "GET", "/same", "If-None-Match: \"x\"\r\n", b"").await.status, 304);
    // "hi" as a gzip member: the browser has undone it, and the headers say so.
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xc8\x04\x00\xac\x2a\x93\xd8\x02\x00\x00\x00";
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n";
    mirror.answer("/gzip", [head.as_bytes(), gzip].concat());
    let answer = call(&running, "GET", "/gzip", "", b"").await;
    assert_eq!((answer.text().as_str(), answer.head.all("content-encoding")), ("hi", vec![]));
    // Nobody types a password: the portal's 401 is an answer like others, here of a session that is known to live.
    mirror.answer("/basic", "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno");
    let answer = call(&running, "GET", "/basic", "", b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    // Asked for by both sessions, and once more since the check says that the second one lives.
    assert_eq!((answer.head.all("www-authenticate").len(), mirror.seen("/basic").len()), (1, 3));
    running.stop().await;
}

/// Whether the answer ends before it is whole, with its head or within its body.
async fn breaks(running: &Running, path: &str) -> bool {
    match running.relay(Method::GET, path).send().await {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_stream_broken_ones_break_and_nobody_waits_for_who_left() {
    let mirror = Mirror::start().await;
    let (_house, running, _place) = at_mirror(&mirror).await;
    let demo = Demo::start(&Clock::system()).await;
    drop(running.get("/warm").await);
    let mut endless = running.get("/endless").await;
    assert!(endless.chunk().await.unwrap().is_some());
    // The portal is held back by a caller who takes his time, and let go when he leaves.
    drop(endless);
    mirror.cut().await;
    assert!(mirror.written() < super::mirror::ENDLESS / 2, "{}", mirror.written());
    mirror.answer("/file", "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\nhalf");
    assert!(breaks(&running, "/file").await, "half an answer is no answer");
    mirror.answer("/chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    assert!(breaks(&running, "/chunks").await);
    let left = {
        let held = running.relay(Method::GET, "/hold").send();
        tokio::select! { _ = held => false, () = mirror.entered() => true }
    };
    assert!(left);
    mirror.cut().await;
    running.stop().await;
    let (_house, running, _place2) = at_demo(&demo).await;
    let whole = running.get("/api/big?bytes=50000001").await.bytes().await.unwrap();
    assert!(whole.len() == 50_000_001 && whole.iter().all(|byte| *byte == b'x'));
    running.stop().await;
}

fn order(running: &Running, key: &str) -> reqwest::RequestBuilder {
    let wish = json!({"recipient": "홍길동", "item": "떡볶이"});
    running.relay(Method::POST, "/api/orders").header("idempotency-key", key).json(&wish)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_an_expiry_make_one_promotion_and_cookies_rotate_in_the_browser() {
    let demo = Demo::start(&Clock::system()).await;
    let (house, running, _place) = at_demo(&demo).await;
    assert_eq!(running.get("/api/orders?limit=1").await.status().as_u16(), 200);
    demo.expire(0);
    let keys: Vec<String> = (0..24).map(|number| format!("k{number}")).collect();
    for answer in join_all(keys.iter().map(|key| order(&running, key).send())).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["x-session-id"]), (201, &"second".parse().unwrap()));
    }
    assert!(keys.iter().all(|key| demo.controls.submissions(key) == 1));
    assert_eq!((running.events("expired").await, running.events("failover").await), (1, 1));
    // A stale token is read anew from its page.
    demo.controls.renew_tokens(USER);
    assert_eq!(order(&running, "fresh").send().await.unwrap().status().as_u16(), 201);
    demo.controls.faults(|faults| faults.rotating_cookie = true);
    assert_eq!(running.get("/api/orders?limit=1").await.status().as_u16(), 200);
    for answer in join_all((0..16).map(|_| running.get("/api/orders?limit=1"))).await {
        assert_eq!(answer.json::<Value>().await.unwrap()["ok"], true);
    }
    let echo: Value = running.get("/api/echo").await.json().await.unwrap();
    assert_eq!(
        (&echo["session"], echo["cookies"].as_array().unwrap().len()),
        (&json!(demo.controls.logins(USER)[1]), 3)
    );
    running.stop().await;
    // The last ticket is on disk: a new process, and a new browser, go on with it.
    let running = house.start().await;
    assert_eq!(running.get("/api/echo").await.json::<Value>().await.unwrap()["ok"], true);
    assert_eq!(running.events("expired").await, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_browser_took_with_it_is_in_doubt_and_asked_again_where_harmless() {
    let mirror = Mirror::start().await;
    let (house, running, _place) = at_mirror(&mirror).await;
    assert_eq!(running.get("/warm").await.status().as_u16(), 200);
    let kill = || kill_browsers(&house);
    let asking = async {
        let answer = running.get("/hold").await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "held"));
    };
    let dying = async {
        mirror.entered().await;
        kill();
        mirror.cut().await;
        mirror.entered().await;
        mirror.release();
    };
    tokio::join!(asking, dying);
    let asking = async {
        let answer = running.relay(Method::POST, "/hold").body("x").send().await.unwrap();
        assert_eq!(problem(answer).await, (502, "in_doubt".to_owned()));
    };
    let dying = async {
        mirror.entered().await;
        kill();
        mirror.cut().await;
    };
    tokio::join!(asking, dying);
    assert_eq!((mirror.seen("/hold").len(), running.events("expired").await), (3, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_is_gone_is_told_as_that_and_one_that_cuts_as_doubt() {
    let demo = Demo::start(&Clock::system()).await;
    let (_house, running, _place) = at_demo(&demo).await;
    demo.controls.faults(|faults| faults.outage = Some(Outage::CutAnswers));
    let cut = running.relay(Method::POST, "/api/echo").body("x").send().await.unwrap();
    assert_eq!(problem(cut).await, (502, "in_doubt".to_owned()));
    running.stop().await;
    // Bound, so that nobody else gets the port, and not listening.
    let held = TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = held.local_addr().unwrap();
    let recipe = recipe_toml(&format!("http://{nobody}")).replace("via = \"http\"", "via = \"browser\"");
    let running = House::with_browser(&recipe, &[Seed::new("a", "sid-a")], &Clock::system()).await.start().await;
    let answer = running.relay(Method::POST, "/x").body("x").send().await.unwrap();
    assert_eq!(problem(answer).await, (502, "portal_unreachable".to_owned()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_a_page_to_another_origin() {
    let evil = TcpListener::bind("127.0.0.1:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let there = evil.local_addr().unwrap().to_string();
    let mirror = Mirror::start().await;
    let (_house, running, _place) = at_mirror(&mirror).await;
    for (path, seen) in [
        (format!("//{there}/x"), format!("//{there}/x")),
        (format!("/@{there}/x"), format!("/@{there}/x")),
        (format!("/http://{there}/x"), format!("/http://{there}/x")),
        (format!("/:{}@{there}/", mirror.address.port()), format!("/:{}@{there}/", mirror.address.port())),
        (format!("/%5c%5c{there}/x"), format!("/%5c%5c{there}/x")),
        // As browsers write it: dots are resolved, and never beyond the portal.
        (format!("/..//{there}/y"), format!("//{there}/y")),
        ("/a/%2e%2e/../../b".to_owned(), "/b".to_owned()),
    ] {
        let answer = call(&running, "GET", &path, "", b"").await;
        assert_eq!((answer.status, mirror.seen(&seen).len()), (200, 1), "{path}: {}", answer.text());
        assert_eq!(mirror.seen(&seen)[0].all("host"), [mirror.address.to_string()]);
    }
    let before = mirror.count();
    for path in [format!("/\\{there}/x"), format!("/\\\\{there}/x"), "/a#b".to_owned()] {
        assert_eq!(call(&running, "GET", &path, "", b"").await.status, 400, "{path}");
    }
    assert_eq!(mirror.count(), before);
    for method in ["GET", "POST"] {
        mirror.answer("/away", format!("HTTP/1.1 307 Away\r\nLocation: http://{there}/\r\nContent-Length: 0\r\n\r\n"));
        let away = call(&running, method, "/away", "", b"").await;
        assert_eq!((away.status, away.head.all("location")), (307, vec![format!("http://{there}/").as_str()]));
    }
    assert_eq!(evil.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody came");
    running.stop().await;
}

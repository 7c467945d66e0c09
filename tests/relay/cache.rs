//! Where the recipe allows it, ten jobs that ask the same make one request, and nobody gets what is not theirs or not
//! true any more.

use std::time::Duration;

use futures_util::future::{join, join_all};
use nightporter::clock::{Clock, within};
use reqwest::{Method, Response};

use super::house::{House, PATIENCE, Running, Seed, held, problem};
use super::mirror::{Mirror, call};

async fn start(mirror: &Mirror, clock: &Clock) -> Running {
    let parts = ["/api/orders", "/hold"].map(|path| format!("[[relay.cache]]\npath = \"{path}\"\nttl = \"10s\"\n"));
    let recipe = format!("{}{}", mirror.recipe(""), parts.concat());
    let other = "[portals.other]\nrecipe = \"recipe.toml\"\nusername = \"other\"\npassword = \"x\"";
    let house = House::new(&recipe, &[Seed::new("a", "sid-a"), Seed::new("b", "sid-b")], clock).await;
    house.configured(other).start().await
}

fn told<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("-", |value| value.to_str().unwrap())
}

/// How an answer came about, and how old it is.
async fn get(running: &Running, path: &str, headers: &[(&str, &str)]) -> String {
    let call = running.relay(Method::GET, path);
    let call = headers.iter().fold(call, |call, (name, value)| call.header(*name, *value));
    let answer = call.send().await.unwrap();
    let shown = format!("{} {} {}", answer.status().as_u16(), told(&answer, "x-cache"), told(&answer, "age"));
    answer.bytes().await.unwrap();
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_again_until_it_is_too_old() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = start(&mirror, &clock).await;
    mirror.answer(
        "/api/orders/7?x=1",
        "HTTP/1.1 200 OK\r\nX-Own: 가\r\nAge: 99\r\nX-Cache: theirs\r\nContent-Length: 3\r\n\r\nabc",
    );
    let ask = async |path: &str, headers: &[(&str, &str)]| get(&running, path, headers).await;
    assert_eq!(ask("/api/orders/7?x=1", &[]).await, "200 miss 99");
    clock.advance(Duration::from_millis(9_999));
    let answer = running.get("/api/orders/7?x=1").await;
    assert_eq!((told(&answer, "x-cache"), told(&answer, "age"), told(&answer, "x-session-id")), ("hit", "9", "a"));
    assert_eq!((answer.headers()["x-own"].as_bytes(), told(&answer, "content-length")), ("가".as_bytes(), "3"));
    assert_eq!(answer.text().await.unwrap(), "abc");
    let head = call(&running, "HEAD", "/api/orders/7?x=1", "Accept: */*\r\n", b"").await;
    assert_eq!((head.status, head.head.all("x-cache"), head.head.all("content-length")), (200, vec!["hit"], vec!["3"]));
    assert_eq!((head.text().as_str(), mirror.seen("/api/orders/7?x=1").len()), ("", 1));
    // A promotion loses nothing: both sessions are the same account. Nor does the end of both.
    assert_eq!(running.order("failover").await, 200);
    assert_eq!(ask("/api/orders/7?x=1", &[("x-session-id", "b")]).await, "200 hit 9");
    mirror.log_out(&["sid-a", "sid-b"]);
    assert_eq!(ask("/elsewhere", &[("x-park-timeout", "0")]).await, "503 - -");
    assert_eq!(ask("/api/orders/7?x=1", &[("x-park-timeout", "0")]).await, "200 hit 9");
    // Another portal's callers are another account's.
    let other =
        running.client.get(running.url("/api/portals/other/relay/api/orders/7?x=1")).bearer_auth(&running.token);
    assert_eq!(problem(other.header("x-park-timeout", "0").send().await.unwrap()).await.0, 503);
    clock.advance(Duration::from_millis(1));
    assert_eq!(ask("/api/orders/7?x=1", &[("x-park-timeout", "0")]).await, "503 - -");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_check_has_read_is_kept_too() {
    let mirror = Mirror::start().await;
    let clock = held();
    let part = "[[relay.cache]]\npath = \"/api/orders\"\nttl = \"10s\"\n";
    let recipe = format!("{}{part}", mirror.recipe(r#", { json = { "/error" = "login_required" } }"#));
    let running = House::new(&recipe, &[Seed::new("a", "sid-a")], &clock).await.start().await;
    for (path, head) in
        [("/api/orders/1", "Content-Length: 2\r\n\r\n{}"), ("/api/orders/2", "Connection: close\r\n\r\n{}")]
    {
        mirror.answer(path, format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}"));
        for how in ["200 miss -", "200 hit 0"] {
            assert_eq!(get(&running, path, &[]).await, how, "{path}");
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_portal_would_see_alike_is_the_same() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = start(&mirror, &clock).await;
    let ask = async |path: &str, headers: &[(&str, &str)]| get(&running, path, headers).await;
    for fresh in ["/api/orders", "/api/orders?", "/api/orders?a=1", "/api/orders?a=2", "/api/orders/", "/api/orders/x"]
    {
        assert_eq!(ask(fresh, &[]).await, "200 miss -", "{fresh}");
        assert_eq!(ask(fresh, &[("x-request-id", "r-1"), ("user-agent", "other")]).await, "200 hit 0", "{fresh}");
    }
    for headers in [[("accept", "text/csv")], [("accept", "text/xml")], [("accept-encoding", "br")], [("x-shop", "7")]]
    {
        assert_eq!(ask("/api/orders", &headers).await, "200 miss -", "{headers:?}");
        assert_eq!(ask("/api/orders", &headers).await, "200 hit 0", "{headers:?}");
    }
    // Who wants it fresh, in parts, on a condition or in one session gets it from the portal.
    let before = mirror.seen("/api/orders").len();
    let past = [
        [("cache-control", "no-cache")],
        [("cache-control", "private, MAX-AGE=0")],
        [("pragma", "no-cache")],
        [("range", "bytes=0-1")],
        [("if-none-match", "\"x\"")],
        [("if-modified-since", "Thu, 19 Nov 2026 00:00:00 GMT")],
        [("x-session-epoch", "1")],
        [("idempotency-key", "k")],
    ];
    for headers in past {
        assert_eq!(ask("/api/orders", &headers).await, "200 - -", "{headers:?}");
    }
    assert_eq!(ask("/api/orders", &[("x-session-id", "b"), ("x-session-fallback", "never")]).await, "200 - -");
    assert_eq!(mirror.seen("/api/orders").len(), before + past.len() + 1);
    for outside in ["/api/orders-old", "/api", "/api/Orders"] {
        assert_eq!(ask(outside, &[]).await, "200 - -", "{outside}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plain_success_or_too_large_is_not_kept() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = start(&mirror, &clock).await;
    for head in [
        "404 Not Found",
        "500 Oops",
        "203 Other",
        "206 Part\r\nContent-Range: bytes 0-1/2",
        "200 OK\r\nContent-Range: bytes 0-1/2",
        "200 OK\r\nVary: *",
    ] {
        mirror.answer("/api/orders", format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nok"));
        let before = mirror.seen("/api/orders").len();
        for _ in 0..2 {
            assert!(get(&running, "/api/orders", &[]).await.ends_with(" miss -"), "{head}");
        }
        assert_eq!(mirror.seen("/api/orders").len(), before + 2, "{head}");
    }
    for (size, seen) in [((1 << 20) + 1, 2), (1 << 20, 1)] {
        let path = format!("/api/orders/{size}");
        let body = "x".repeat(size);
        mirror.answer(&path, format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}"));
        for _ in 0..2 {
            assert!(running.get(&path).await.text().await.unwrap() == body, "{size}");
        }
        assert_eq!(mirror.seen(&path).len(), seen, "{size}");
    }
    // No more is kept than there is room for, and whoever asks for more gets it from the portal.
    let body = "y".repeat(1_000_000);
    for number in 0..40 {
        let path = format!("/api/orders/large/{number}");
        mirror.answer(&path, format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{body}"));
        assert_eq!(get(&running, &path, &[]).await, "200 miss -");
    }
    let paths: Vec<_> = (0..40).map(|number| format!("/api/orders/large/{number}")).collect();
    let all = join_all(paths.iter().map(|path| running.get(path))).await;
    let hits = all.iter().filter(|answer| told(answer, "x-cache") == "hit").count();
    assert!((8..=33).contains(&hits), "{hits} of 40 MB fit into 32 MiB");
    // A logged-out answer is nobody's, and what the next session says is kept.
    mirror.log_out(&["sid-a"]);
    assert_eq!(get(&running, "/api/orders/after", &[]).await, "200 miss -");
    assert_eq!(get(&running, "/api/orders/after", &[]).await, "200 hit 0");
    assert_eq!((mirror.seen("/api/orders/after").len(), running.events("expired").await), (2, 1));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_empties_what_it_may_touch() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = start(&mirror, &clock).await;
    for (method, path, empties) in [
        (Method::POST, "/api/orders", true),
        (Method::DELETE, "/api/orders/7", true),
        (Method::PUT, "/api", true),
        (Method::PATCH, "/API/ORDERS/7", true),
        (Method::POST, "/x/%2e%2e/api/orders", true),
        (Method::POST, "/api/orders-old", false),
        (Method::OPTIONS, "/api/orders", false),
        (Method::HEAD, "/api/orders", false),
    ] {
        get(&running, "/api/orders/7", &[]).await;
        assert_eq!(get(&running, "/api/orders/7", &[]).await, "200 hit 0");
        running.relay(method.clone(), path).send().await.unwrap();
        let expected = if empties { "200 miss -" } else { "200 hit 0" };
        assert_eq!(get(&running, "/api/orders/7", &[]).await, expected, "{method} {path}");
    }
    let disguised = running.get("/api/orders?a").await;
    assert_eq!(told(&disguised, "x-cache"), "miss");
    assert_eq!(get(&running, "/api/orders/7", &[("x-http-method-override", "DELETE")]).await, "200 - -");
    assert_eq!(get(&running, "/api/orders?a", &[]).await, "200 miss -");
    // What was asked for before a change and answered after it is not kept.
    let change = async {
        mirror.entered().await;
        running.relay(Method::POST, "/hold/x").send().await.unwrap();
        mirror.release();
    };
    assert_eq!(join(get(&running, "/hold", &[]), change).await.0, "200 miss -");
    let again = async {
        mirror.entered().await;
        mirror.release();
    };
    assert_eq!(join(get(&running, "/hold", &[]), again).await.0, "200 miss -");
    // Nor is what was read while the portal was still at work on the change.
    let read = async {
        mirror.entered().await;
        assert_eq!(get(&running, "/hold/x", &[]).await, "200 miss -");
        assert_eq!(get(&running, "/hold/x", &[]).await, "200 hit 0");
        mirror.release();
    };
    assert_eq!(join(running.relay(Method::POST, "/hold").send(), read).await.0.unwrap().status().as_u16(), 200);
    assert_eq!(get(&running, "/hold/x", &[]).await, "200 miss -");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_are_one_request() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = start(&mirror, &clock).await;
    let release = async {
        mirror.entered().await;
        mirror.release();
    };
    let calls = join_all((0..10).map(|_| get(&running, "/hold", &[])));
    let (shown, ()) = join(calls, release).await;
    // Who came after the answer found it kept; who came before it waited for it.
    assert_eq!(shown.iter().filter(|shown| *shown == "200 miss -").count(), 1, "{shown:?}");
    assert!(
        shown.iter().all(|shown| ["200 miss -", "200 shared 0", "200 hit 0"].contains(&shown.as_str())),
        "{shown:?}"
    );
    assert_eq!(mirror.seen("/hold").len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_goes_away_takes_nobody_with_it() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = start(&mirror, &clock).await;
    let leader = tokio::spawn(running.relay(Method::GET, "/hold").send());
    mirror.entered().await;
    let calls = join_all((0..5).map(|_| get(&running, "/hold", &[])));
    let leave = async {
        leader.abort();
        // The portal sees it hang up; one of those who wait makes the request in its place.
        mirror.cut().await;
        mirror.entered().await;
        mirror.release();
    };
    let (shown, ()) = within(PATIENCE, join(calls, leave)).await.unwrap();
    assert_eq!(shown.iter().filter(|shown| *shown == "200 miss -").count(), 1, "{shown:?}");
    assert!(shown.iter().all(|shown| shown.starts_with("200 ")), "{shown:?}");
    assert_eq!(mirror.seen("/hold").len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_as_what_it_is_and_not_kept() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = start(&mirror, &clock).await;
    // The portal hangs up: one request, sent a second time because that is harmless, for whoever asked meanwhile.
    mirror.answer("/api/orders", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    for answer in join_all((0..5).map(|_| running.get("/api/orders"))).await {
        assert_eq!(problem(answer).await, (502, "in_doubt".to_owned()));
    }
    mirror.answer("/api/orders", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nokay");
    assert_eq!(get(&running, "/api/orders", &[]).await, "200 miss -");
    // Without a session each is parked for as long as it allows itself, whoever asks the portal for all of them.
    mirror.log_out(&["sid-a", "sid-b"]);
    let call = |park: &str| running.relay(Method::GET, "/api/orders/7").header("x-park-timeout", park).send();
    let patient = call("10m");
    let heals = async {
        mirror.has_refused(3).await;
        for answer in join_all((0..3).map(|_| call("0"))).await {
            assert_eq!(problem(answer.unwrap()).await, (503, "no_live_session".to_owned()));
        }
        mirror.log_out(&[]);
        assert_eq!(running.order("resume").await, 200);
    };
    let (patient, ()) = within(PATIENCE, join(patient, heals)).await.unwrap();
    assert_eq!(
        (patient.as_ref().unwrap().status().as_u16(), told(patient.as_ref().unwrap(), "x-cache")),
        (200, "miss")
    );
    running.stop().await;
}

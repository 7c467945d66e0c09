//! What is not known is not repeated unless that is harmless, and what did not leave is told apart from it.

use nightporter::demo::portal::Outage;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpSocket;

use super::demo::{Demo, USER};
use super::house::{House, PORTAL, Seed, held, problem};
use super::mirror::{Mirror, call, speak};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_only_where_that_is_harmless() {
    let clock = held();
    let demo = Demo::start(&clock).await;
    let running = demo.house(&clock).await.start().await;
    demo.controls.faults(|faults| faults.outage = Some(Outage::CutAnswers));
    let calls = || demo.controls.counters(USER).api_calls;
    let wish = json!({"recipient": "홍길동", "item": "떡볶이"});

    let post = running.relay(Method::POST, "/api/orders").json(&wish).send().await.unwrap();
    assert_eq!(problem(post).await, (502, "in_doubt".to_owned()));
    assert_eq!((calls(), demo.controls.counters(USER).orders_created), (1, 1));
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let before = calls();
        let answer = running.relay(method.clone(), "/api/echo").send().await.unwrap();
        assert_eq!((problem(answer).await, calls()), ((502, "in_doubt".to_owned()), before + 1), "{method}");
    }
    // Sent a second time, and no more than that; what is still unknown is told as that.
    for method in [Method::GET, Method::OPTIONS] {
        let before = calls();
        let answer = running.relay(method.clone(), "/api/echo").send().await.unwrap();
        assert_eq!((problem(answer).await, calls()), ((502, "in_doubt".to_owned()), before + 2), "{method}");
    }
    let before = calls();
    let head = running.relay(Method::HEAD, "/api/echo").send().await.unwrap();
    assert_eq!((head.status().as_u16(), calls()), (502, before + 2));
    let keyed = running.relay(Method::POST, "/api/orders").header("idempotency-key", "k").json(&wish);
    assert_eq!(problem(keyed.send().await.unwrap()).await, (502, "in_doubt".to_owned()));
    assert_eq!((demo.controls.submissions("k"), demo.controls.counters(USER).orders_created), (2, 2));

    demo.controls.heal();
    assert_eq!(running.get("/api/orders").await.status().as_u16(), 200);
    assert_eq!(running.events("expired").await, 0, "a portal that is down ends no session");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_while_it_is_looked_at_is_in_doubt_too() {
    let mirror = Mirror::start().await;
    let clock = held();
    let recipe = mirror.recipe(", { body = \"로그인이 필요\" }");
    let house = House::new(&recipe, &[Seed::new("a", "sid-a"), Seed::new("b", "sid-b")], &clock).await;
    let running = house.start().await;
    mirror.answer("/cut", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(problem(running.get("/cut").await).await, (502, "in_doubt".to_owned()));
    assert_eq!(mirror.seen("/cut").len(), 2);
    let post = running.relay(Method::POST, "/cut").body("x").send().await.unwrap();
    assert_eq!((problem(post).await.0, mirror.seen("/cut").len()), (502, 3));
    // What is not looked at is on its way already: the caller sees it break off.
    mirror.answer("/file", "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\nhalf");
    assert!(running.get("/file").await.bytes().await.is_err());
    // The page is looked at although the caller would take it compressed.
    let page = "로그인이 필요한 서비스입니다.";
    let page = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    mirror.answer("/page", page.clone());
    mirror.answer("/check", page);
    let gone = running.relay(Method::GET, "/page").header("accept-encoding", "gzip").header("x-park-timeout", "0");
    assert_eq!(problem(gone.send().await.unwrap()).await, (503, "no_live_session".to_owned()));
    assert_eq!(mirror.seen("/page").len(), 2);
    assert_eq!(mirror.seen("/page")[0].all("accept-encoding"), ["identity"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_cannot_be_reached_is_told_as_that() {
    let clock = held();
    // Bound, so that nobody else gets the port, and not listening.
    let held = TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = held.local_addr().unwrap();
    let recipe = nightporter::demo::portal::recipe_toml(&format!("http://{nobody}"));
    let running = House::new(&recipe, &[Seed::new("a", "sid-a")], &clock).await.start().await;
    for method in [Method::GET, Method::POST] {
        let answer = running.relay(method, "/x").body("x").send().await.unwrap();
        assert_eq!(problem(answer).await, (502, "portal_unreachable".to_owned()));
    }
    assert_eq!(running.events("expired").await, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_body_is_the_caller_s_fault() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let token = &running.token;
    // One that would have been kept, and one that was passed on already when it broke.
    for size in [16, 300 * 1024] {
        let head = format!(
            "POST /api/portals/{PORTAL}/relay/broken HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"
        );
        let bytes = [head.as_bytes(), &vec![b'x'; size], b"\r\nno size\r\n"].concat();
        let answer = speak(running.app.address(), &bytes).await;
        assert_eq!(answer.status, 400, "{size}: {}", answer.text());
        assert!(answer.text().contains("\"incomplete_body\""), "{}", answer.text());
    }
    assert_eq!(mirror.seen("/broken").len(), 0, "no whole request ever came");
    // A sound one in chunks, of a size that is not known beforehand, arrives whole.
    let chunks = "4\r\nwxyz\r\n".repeat(100_000);
    let bytes = format!("{chunks}0\r\n\r\n");
    let head = format!(
        "POST /api/portals/{PORTAL}/relay/chunks HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    assert_eq!(speak(running.app.address(), &[head.as_bytes(), bytes.as_bytes()].concat()).await.status, 200);
    assert_eq!(mirror.seen("/chunks")[0].body.len(), 400_000);
    assert_eq!(call(&running, "GET", "/after", "", b"").await.status, 200);
    running.stop().await;
}

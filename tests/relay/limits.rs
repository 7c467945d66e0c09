//! A token has a measure of calls, and the others do not suffer for it.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use nightporter::clock::within;
use nightporter::operators::Scope;
use reqwest::{Method, Response};

use super::house::{PATIENCE, PORTAL, Running, held, problem, token};
use super::mirror::Mirror;

async fn with(running: &Running, token: &str, path: &str) -> Response {
    let url = running.url(&format!("/api/portals/{PORTAL}/relay{path}"));
    running.client.request(Method::GET, url).bearer_auth(token).send().await.unwrap()
}

/// What a refused call is told.
async fn limited(answer: Response) -> String {
    let after = answer.headers()["retry-after"].to_str().unwrap().to_owned();
    assert!(!answer.headers().contains_key("x-session-id"));
    assert_eq!(problem(answer).await, (429, "rate_limited".to_owned()));
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_made_its_calls_of_the_minute_is_told_when_to_come_again() {
    let mirror = Mirror::start().await;
    let clock = held();
    let house = mirror.house(&clock).await.configured("[limits]\nrelay_per_minute = 3");
    let running = house.start().await;
    let other = token(&running.app, "other", &[Scope::PortalsRelay]).await;
    for _ in 0..3 {
        assert_eq!(running.get("/x").await.status().as_u16(), 200);
    }
    // What was never a call counts for nothing: an unknown portal, a token without the scope.
    let unknown = running.url("/api/portals/other/relay/x");
    assert_eq!(running.client.get(unknown).bearer_auth(&other).send().await.unwrap().status().as_u16(), 404);
    assert_eq!(limited(running.get("/x").await).await, "20");
    for _ in 0..3 {
        assert_eq!(with(&running, &other, "/x").await.status().as_u16(), 200);
    }
    assert_eq!(limited(with(&running, &other, "/x").await).await, "20");
    assert_eq!(mirror.seen("/x").len(), 6);
    clock.advance(Duration::from_secs(20));
    assert_eq!(running.get("/x").await.status().as_u16(), 200);
    assert_eq!(limited(running.get("/x").await).await, "20");
    // A reload takes other limits over.
    let _house = house.configured("relay_concurrency = 7");
    running.app.reload().await.unwrap();
    assert_eq!(running.get("/x").await.status().as_u16(), 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_s_calls_at_once_are_counted_to_the_last_byte_of_the_answer() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.configured("[limits]\nrelay_concurrency = 2").start().await;
    let other = token(&running.app, "other", &[Scope::PortalsRelay]).await;
    // One has its head and not yet its body, one waits for its head.
    let mut flowing = running.get("/endless").await.bytes_stream();
    flowing.next().await.unwrap().unwrap();
    let waiting = running.get("/hold");
    let refused = async {
        mirror.entered().await;
        for answer in join_all((0..3).map(|_| running.get("/x"))).await {
            assert_eq!(limited(answer).await, "1");
        }
        assert_eq!(with(&running, &other, "/x").await.status().as_u16(), 200);
        mirror.release();
    };
    let (waiting, ()) = tokio::join!(waiting, refused);
    assert_eq!(waiting.text().await.unwrap(), "held");
    // A caller that goes away gives its place back.
    drop(flowing);
    mirror.cut().await;
    let both = async {
        while join_all((0..2).map(|_| running.get("/x"))).await.iter().any(|answer| answer.status() != 200) {}
    };
    within(PATIENCE, both).await.unwrap();
    running.stop().await;
}

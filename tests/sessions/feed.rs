//! The stream of changes of a space: in order, resumable, and honest about what it has lost.

use std::time::Duration;

use nightporter::operators::Scope;
use reqwest::Method;

use crate::desk::Desk;
use crate::stream::{Stream, open_many};

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_in_order_and_from_where_one_left_off() {
    let desk = Desk::new("").await;
    let mut stream = desk.follow("a", None).await;
    let (kind, start, _) = stream.next().await;
    assert_eq!(kind, "ready");
    let id = desk.send(Method::POST, "a", r#"{"data":{"비밀":1},"ttl":"1m"}"#).await.id().to_owned();
    let path = format!("a/{id}");
    desk.send(Method::POST, "b", r#"{"data":{}}"#).await;
    desk.send(Method::PATCH, &path, r#"{"data":{"n":1}}"#).await;
    desk.send(Method::DELETE, &path, "").await;
    desk.send_if(Method::PUT, "a/short", r#"{"data":{},"ttl":"1s"}"#, &[("if-none-match", "*")]).await;
    let told = |version: u64| format!(r#"{{"id":"{id}","version":{version}}}"#);
    let mut ids = Vec::new();
    for (kind, data) in [("created", told(1)), ("changed", told(2)), ("deleted", told(2))] {
        let event = stream.next().await;
        assert_eq!((event.0.as_str(), &event.2), (kind, &data));
        ids.push(event.1);
    }
    assert_eq!(stream.next().await.0, "created");
    // The sweeper sleeps on the held clock.
    desk.clock.advance(Duration::from_secs(2));
    let (kind, _, data) = stream.next().await;
    assert_eq!(kind, "expired");
    assert!(data.starts_with(r#"{"id":"short","#), "{data}");

    let mut resumed = desk.follow("a", Some(&ids[0])).await;
    resumed.next().await;
    assert_eq!(resumed.next().await.0, "changed");
    let mut from_start = desk.follow("a", Some(&start)).await;
    from_start.next().await;
    assert_eq!(from_start.next().await.1, ids[0]);
    let bad = desk.ask(Method::GET, "a/changes").header("last-event-id", "7").send().await.unwrap();
    assert_eq!(bad.status().as_u16(), 400);
    desk.stop().await;
    assert!(stream.ended().await, "a stop ends the streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_begins_to_read_after_an_answer_is_not_told_of_it_again() {
    let desk = Desk::new("").await;
    let path = format!("a/{}", desk.send(Method::POST, "a", r#"{"data":{}}"#).await.id());
    for version in (2..40).step_by(2) {
        desk.send(Method::PATCH, &path, r#"{"data":{"n":1}}"#).await;
        let mut stream = desk.follow("a", None).await;
        assert_eq!(stream.next().await.0, "ready");
        desk.send(Method::PATCH, &path, r#"{"data":{"n":2}}"#).await;
        let (kind, _, data) = stream.next().await;
        assert!(kind == "changed" && data.ends_with(&format!(r#""version":{}}}"#, version + 1)), "{version}: {data}");
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_hears_nothing_more() {
    let desk = Desk::new("").await;
    let token = desk.token("reader", &[Scope::Sessions]).await;
    let mut stream = Stream::of(desk.ask_as(&token, Method::GET, "a/changes"), None).await;
    stream.next().await;
    desk.send(Method::POST, "a", r#"{"data":{}}"#).await;
    assert_eq!(stream.next().await.0, "created");
    desk.revoke("reader").await;
    desk.send(Method::POST, "a", r#"{"data":{}}"#).await;
    assert!(stream.ended().await);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_ends_with_its_token_too() {
    let desk = Desk::new("").await;
    let token = desk.token("reader", &[Scope::Sessions]).await;
    let mut stream = Stream::of(desk.ask_as(&token, Method::GET, "a/changes"), None).await;
    assert_eq!(stream.next().await.0, "ready");
    desk.revoke("reader").await;
    assert!(stream.ended_in_time(&desk.clock).await);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_leaves_places_for_the_others() {
    open_many();
    let desk = Desk::new("").await;
    let (greedy, modest) =
        (desk.token("greedy", &[Scope::Sessions]).await, desk.token("modest", &[Scope::Sessions]).await);
    let mut streams = Vec::new();
    for _ in 0..576 {
        streams.push(Stream::of(desk.ask_as(&greedy, Method::GET, "a/changes"), None).await);
    }
    let refused = desk.ask_as(&greedy, Method::GET, "a/changes").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "5"));
    assert!(refused.text().await.unwrap().contains("\"too_many_readers\""));
    Stream::of(desk.ask_as(&modest, Method::GET, "a/changes"), None).await.next().await;
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_missed_too_much_is_told_to_start_anew() {
    let mut desk = Desk::new("").await;
    let mut stream = desk.follow("a", None).await;
    let start = stream.next().await.1;
    drop(stream);
    let path = format!("a/{}", desk.send(Method::POST, "a", r#"{"data":{}}"#).await.id());
    for _ in 0..1000 {
        assert_eq!(desk.send(Method::PATCH, &path, r#"{"data":{}}"#).await.status, 200);
    }
    let mut stream = desk.follow("a", Some(&start)).await;
    stream.next().await;
    let (kind, end, _) = stream.next().await;
    assert_eq!(kind, "reset");
    drop(stream);
    desk.restart().await;
    let mut stream = desk.follow("a", Some(&end)).await;
    stream.next().await;
    assert_eq!(stream.next().await.0, "reset", "another process does not know what this one had told");
    desk.send(Method::PATCH, &path, r#"{"data":{}}"#).await;
    assert_eq!(stream.next().await.0, "changed");
    desk.stop().await;
}

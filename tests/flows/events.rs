//! The stream of a flow's versions: each of them, in order, resumable, and honest about what it has lost.

use std::time::Duration;

use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::Value;

use crate::desk::Desk;
use crate::stream::{Event, Stream, open_many};

/// Who may follow flows at once: half of the connections that there may be.
const READERS: usize = 512;

fn version(event: &Event) -> u64 {
    let flow: Value = serde_json::from_str(&event.2).unwrap();
    assert_eq!(flow["version"].to_string(), event.1, "{event:?}");
    flow["version"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_comes_in_order_and_from_where_one_left_off() {
    let mut desk = Desk::new().await;
    let begun = desk.begin().await;
    let (path, first) = (format!("identity/{}", begun.id()), begun.version());
    let mut stream = desk.follow(&path, None).await;
    let event = stream.next().await;
    assert_eq!((event.0.as_str(), version(&event)), ("version", first));
    let appends = (0..30).map(|number| {
        let body = format!(r#"{{"type":"info","message":"{number}번째"}}"#);
        let (desk, path) = (&desk, &path);
        async move { desk.send(Method::POST, &format!("{path}/messages"), &body).await.status }
    });
    futures_util::future::join_all(appends).await;
    for next in first + 1..=first + 30 {
        let event = stream.next().await;
        assert_eq!((event.0.as_str(), version(&event)), ("version", next));
    }
    let mut resumed = desk.follow(&path, Some(&(first + 10).to_string())).await;
    for next in first + 11..=first + 30 {
        assert_eq!(version(&resumed.next().await), next);
    }
    // Another process has no versions in memory: nothing was missed, or all of it is told at once.
    desk.restart().await;
    assert!(stream.ended().await, "a stop ends the streams");
    let mut current = desk.follow(&path, Some(&(first + 30).to_string())).await;
    let mut behind = desk.follow(&path, Some(&(first + 10).to_string())).await;
    let event = behind.next().await;
    assert_eq!((event.0.as_str(), version(&event)), ("reset", first + 30));
    desk.send(Method::POST, &format!("{path}/messages"), r#"{"type":"info","message":"x"}"#).await;
    for stream in [&mut current, &mut behind] {
        let event = stream.next().await;
        assert_eq!((event.0.as_str(), version(&event)), ("version", first + 31));
    }
    let mut ahead = desk.follow(&path, Some("99999")).await;
    assert_eq!(ahead.next().await.0, "reset", "no such version has been");
    let bad = desk.ask(Method::GET, &format!("{path}/events")).header("last-event-id", "7-7").send().await.unwrap();
    assert_eq!(bad.status().as_u16(), 400);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_missed_too_much_is_given_the_whole_flow() {
    let desk = Desk::new().await;
    let begun = desk.begin().await;
    let path = format!("identity/{}", begun.id());
    for _ in 0..70 {
        desk.send(Method::POST, &format!("{path}/messages"), r#"{"type":"info","message":"x"}"#).await;
    }
    let mut stream = desk.follow(&path, Some(begun.header("etag").trim_matches('"'))).await;
    let event = stream.next().await;
    assert_eq!((event.0.as_str(), version(&event)), ("reset", begun.version() + 70));
    desk.send(Method::POST, &format!("{path}/messages"), r#"{"type":"info","message":"x"}"#).await;
    assert_eq!(version(&stream.next().await), begun.version() + 71);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_flow_and_with_its_token() {
    let desk = Desk::new().await;
    let flows = [desk.begin().await, desk.begin().await, desk.begin().await];
    let path = |number: usize| format!("identity/{}", flows[number].id());
    let (mut deleted, mut expired) = (desk.follow(&path(0), None).await, desk.follow(&path(1), None).await);
    deleted.next().await;
    expired.next().await;
    desk.send(Method::DELETE, &path(0), "").await;
    let end = deleted.next().await;
    assert_eq!((end.0.as_str(), end.2.as_str()), ("end", r#"{"reason":"deleted"}"#));
    assert!(deleted.ended().await);
    let token = desk.token("reader", &[Scope::Flows]).await;
    let mut watched = Stream::of(desk.ask_as(&token, Method::GET, &format!("{}/events", path(2))), None).await;
    watched.next().await;
    desk.revoke("reader").await;
    desk.send(Method::POST, &format!("{}/messages", path(2)), r#"{"type":"info","message":"x"}"#).await;
    assert!(watched.ended().await);
    desk.clock.advance(Duration::from_secs(3601));
    assert_eq!(expired.next().await.2, r#"{"reason":"expired"}"#);
    assert!(expired.ended().await);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_in_its_last_state_is_over() {
    let desk = Desk::new().await;
    let begun = desk.send(Method::POST, "steps", "").await;
    let path = format!("steps/{}", begun.id());
    let mut stream = desk.follow(&path, None).await;
    desk.send(Method::POST, &format!("{path}/go"), "").await;
    let mut last = 0;
    let end = loop {
        let event = stream.next().await;
        if event.0 == "end" {
            break event;
        }
        assert!(last == 0 || version(&event) == last + 1, "none is left out");
        last = version(&event);
    };
    assert_eq!(end.2, r#"{"reason":"final"}"#);
    assert!(stream.ended().await);
    let again = desk.ask(Method::GET, &format!("{path}/events")).header("last-event-id", last.to_string());
    assert_eq!(again.send().await.unwrap().status().as_u16(), 204, "an EventSource stops coming back");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_ends_with_its_token_and_one_token_does_not_take_every_place() {
    open_many();
    let desk = Desk::new().await;
    let begun = desk.begin().await;
    let path = format!("identity/{}", begun.id());
    for method in [Method::PATCH, Method::DELETE] {
        let known = [("if-match", "\"1\""), ("if-none-match", "W/\"1\"")];
        let refused = desk.send_if(method, &path, r#"{"data":{}}"#, &known).await;
        assert_eq!(refused.problem(), (412, "precondition_failed", ""));
    }
    let (token, events) = (desk.token("reader", &[Scope::Flows]).await, format!("{path}/events"));
    let mut streams = Vec::new();
    for _ in 0..READERS - READERS / 4 {
        streams.push(Stream::of(desk.ask_as(&token, Method::GET, &events), None).await);
    }
    let refused = desk.ask_as(&token, Method::GET, &events).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    Stream::of(desk.ask(Method::GET, &events), None).await.next().await;
    let mut quiet = streams.pop().unwrap();
    drop(streams);
    quiet.next().await;
    desk.revoke("reader").await;
    assert!(quiet.ended_in_time(&desk.clock).await);
    desk.stop().await;
}

//! A disk that fills up while calls are under way: what they have come to is kept, and none is made that could not be.

use std::time::Duration;

use nightporter::clock;
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::json;

use crate::desk::{Desk, PATIENCE};
use crate::provider::Mood;
use crate::small::SmallDisk;

const RESERVE: u64 = 16 << 20;

/// Waits for a page of metrics on which a number is as wanted.
async fn until(desk: &Desk, token: &str, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let number = |page: String| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    let look = async {
        loop {
            if let Some(number) = number(desk.metrics(token).await).filter(|number| wanted(*number)) {
                return number;
            }
            tokio::task::yield_now().await;
        }
    };
    clock::within(PATIENCE, look).await.expect("it never came to that")
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_no_call_begins_and_none_is_made_twice() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "64m") else { return };
    let desk = Desk::keeping(dir, &disk.path().join("store"), "reserve = \"16 MiB\"").await;
    let reader = desk.token("prometheus", &[Scope::Metrics]).await;
    let paths = || desk.provider.requests().into_iter().map(|asked| asked.path).collect::<Vec<_>>();
    desk.provider.mood(Mood::Slow);
    let begun = desk.send(Method::POST, "steps", r#"{"data":{"who":"a"}}"#).await;
    let (path, looking) = (format!("steps/{}", begun.id()), desk.begin().await);
    let looking = format!("identity/{}", looking.id());
    assert_eq!(desk.send(Method::POST, &format!("{path}/go"), "").await.status, 202);
    desk.provider.arrived().await;

    // Nearly full: what was begun is noted, nothing begins.
    disk.leave(RESERVE - (1 << 20));
    until(&desk, &reader, "nightporter_store_free_bytes", |free| free < RESERVE as f64).await;
    desk.provider.let_go(1);
    let noted = desk.until(&path, |flow| flow["data"]["one"] == "tx-1").await;
    assert_eq!((&noted["status"], &noted["running"]), (&json!("going"), &json!("go")));
    let listed = desk.get("steps?stuck=true").await;
    assert_eq!(listed.body["flows"][0]["stuck"], "storage_full", "{}", listed.text);
    for (method, rest, body) in [
        (Method::POST, "identity".to_owned(), ""),
        (Method::POST, format!("{looking}/simple-auth"), ""),
        (Method::POST, format!("{looking}/messages"), r#"{"type":"info","message":"x"}"#),
    ] {
        assert_eq!(desk.send(method, &rest, body).await.problem(), (507, "storage_full", ""), "{rest}");
    }
    desk.clock.advance(Duration::from_secs(120));
    assert_eq!(desk.get(&path).await.status, 200);
    assert_eq!(paths(), ["/one"], "no call is made that could not be noted");
    disk.clear();
    desk.provider.arrived().await;

    // Full to the last byte: what the second call has come to waits in memory.
    disk.leave(0);
    until(&desk, &reader, "nightporter_store_free_bytes", |free| free < 4096.0).await;
    let refused = until(&desk, &reader, "nightporter_store_refused_total", |_| true).await;
    desk.provider.let_go(1);
    until(&desk, &reader, "nightporter_store_refused_total", |now| now > refused).await;
    // More than once the time after which what was left behind is looked for.
    desk.clock.advance(Duration::from_secs(120));
    assert_eq!(desk.get("steps?stuck=true").await.body["flows"][0]["stuck"], "storage_full");
    desk.provider.mood(Mood::Good);
    disk.clear();
    let done = desk.until(&path, |flow| flow["status"] == "done").await;
    assert_eq!((&done["data"]["two"], &done["progress"]["done"]), (&json!("tx-2"), &json!(true)));
    assert_eq!(paths(), ["/one", "/two", "/three"], "each was made once");
    desk.stop().await;
}

//! A disk that fills up while calls are under way: what they have come to is kept, and none is made that could not be.

use std::time::Duration;

use nightporter::clock;
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::json;
use tokio::sync::Mutex;

use crate::desk::{Desk, PATIENCE};
use crate::provider::Mood;
use crate::small::SmallDisk;

const RESERVE: u64 = 16 << 20;

/// The refusals that are counted are the process's: only one of these tests may cause some at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Waits until the store has seen so many bytes free.
async fn until_free(desk: &Desk, wanted: impl Fn(u64) -> bool) {
    let room = desk.room();
    let look = async {
        while !wanted(room.borrow().free) {
            tokio::task::yield_now().await;
        }
    };
    clock::within(PATIENCE, look).await.expect("it never came to that");
}

/// How many changes were refused.
async fn refused(desk: &Desk, token: &str) -> u64 {
    let page = desk.metrics(token).await;
    let counted = page.lines().find_map(|line| line.strip_prefix("nightporter_store_refused_total "));
    counted.map_or(0, |count| count.parse().unwrap())
}

/// Lets a slow call's answer go when there is not a byte left, until it was tried to note it.
async fn answer_on_a_full_disk(desk: &Desk, disk: &SmallDisk, reader: &str) {
    disk.leave(0);
    until_free(desk, |free| free == 0).await;
    let before = refused(desk, reader).await;
    desk.provider.let_go(1);
    let tried = async { while refused(desk, reader).await == before {} };
    clock::within(PATIENCE, tried).await.expect("it was tried to note it");
    // More than once the time after which what was left behind is looked for.
    desk.clock.advance(Duration::from_secs(120));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_claimed_call_has_come_to_waits_for_room() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "64m") else { return };
    let desk = Desk::keeping(dir, &disk.path().join("store"), "reserve = \"16 MiB\"").await;
    let reader = desk.token("prometheus", &[Scope::Metrics]).await;
    desk.provider.mood(Mood::Slow);
    let taking = format!("identity/{}/simple-auth", desk.begin().await.id());
    let others = async {
        desk.provider.arrived().await;
        answer_on_a_full_disk(&desk, &disk, &reader).await;
        assert_eq!(desk.get("identity?stuck=true").await.body["flows"][0]["stuck"], "storage_full");
        disk.clear();
    };
    let (taken, ()) = tokio::join!(desk.send(Method::POST, &taking, ""), others);
    assert_eq!((taken.status, &taken.body["data"]["temp_auth_data"]["txId"]), (200, &json!("tx-1")), "{}", taken.text);
    assert_eq!(desk.provider.requests().len(), 1);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_no_call_begins_and_none_is_made_twice() {
    let _alone = ALONE.lock().await;
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
    until_free(&desk, |free| free < RESERVE).await;
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
    answer_on_a_full_disk(&desk, &disk, &reader).await;
    assert_eq!(desk.get("steps?stuck=true").await.body["flows"][0]["stuck"], "storage_full");
    desk.provider.mood(Mood::Good);
    disk.clear();
    let done = desk.until(&path, |flow| flow["status"] == "done").await;
    assert_eq!((&done["data"]["two"], &done["progress"]["done"]), (&json!("tx-2"), &json!(true)));
    assert_eq!(paths(), ["/one", "/two", "/three"], "each was made once");
    desk.stop().await;
}

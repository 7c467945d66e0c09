//! Work in the background: call by call, with attempts and back-off, cut when nobody wants it, and what reloads do to it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::provider::Mood;

async fn started(desk: &Desk) -> String {
    let path = format!("steps/{}", desk.send(Method::POST, "steps", "").await.id());
    let told = desk.send(Method::POST, &format!("{path}/go"), "").await;
    assert_eq!((told.status, &told.body["status"], &told.body["running"]), (202, &json!("going"), &json!("go")));
    path
}

fn paths(desk: &Desk) -> Vec<String> {
    desk.provider.requests().into_iter().map(|asked| asked.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_made_in_turn_and_each_tells_when_it_is_done() {
    let desk = Desk::new().await;
    let path = started(&desk).await;
    let done = desk.until(&path, |flow| flow["status"] == "done").await;
    assert_eq!(paths(&desk), ["/one", "/two", "/three"]);
    assert_eq!(desk.provider.requests()[1].body, json!({"one": "tx-1", "note": "첫째: tx-1"}));
    assert_eq!((&done["data"]["two"], &done["data"]["three"]["ResultData"]["결과"]), (&json!("tx-2"), &json!("정상")));
    let said: Vec<&str> =
        done["messages"].as_array().unwrap().iter().filter_map(|message| message["message"].as_str()).collect();
    assert_eq!(said, ["step 1 of 3 is done", "step 2 of 3 is done"]);
    assert_eq!(done["progress"], json!({"looked": false, "done": true}));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_call_is_tried_again_later_and_then_left_to_an_operator() {
    let desk = Desk::new().await;
    desk.provider.moods(&[Mood::Good, Mood::Broken]);
    let path = started(&desk).await;
    for attempt in 1..=2 {
        let text = format!("attempt {attempt} of 3: the provider answered 500, which is not what was expected");
        let waiting = desk.until(&path, |flow| said_last(flow) == Some(&text)).await;
        assert_eq!(waiting["status"], "going");
        // Long enough for either back-off.
        desk.clock.advance(Duration::from_secs(30));
    }
    let failed = desk.until(&path, |flow| flow["status"] == "failed").await;
    assert_eq!(paths(&desk), ["/one", "/two", "/two", "/two"]);
    assert_eq!(failed["messages"].as_array().unwrap().last().unwrap()["type"], "error");
    let stuck = desk.get("steps?stuck=true").await;
    assert_eq!(stuck.body["flows"][0]["stuck"], "failed", "{}", stuck.text);
    desk.provider.mood(Mood::Good);
    assert_eq!(desk.send(Method::POST, &format!("{path}/retry"), "").await.status, 202);
    desk.until(&path, |flow| flow["status"] == "done").await;
    assert_eq!(paths(&desk)[4..], ["/two", "/three"], "what was done is not done again");
    let keys: Vec<_> =
        desk.provider.requests().iter().filter_map(|one| one.headers.get("idempotency-key").cloned()).collect();
    assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]), "one call, one key: {keys:?}");
    assert_eq!(desk.send(Method::POST, &format!("{path}/retry"), "").await.problem().1, "not_failed");
    desk.stop().await;
}

fn said_last(flow: &Value) -> Option<&str> {
    flow["messages"].as_array()?.last()?["message"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_nobody_wants_any_more_is_cut() {
    let desk = Desk::new().await;
    desk.provider.mood(Mood::Slow);
    let (cancelled, deleted, expired) = (started(&desk).await, started(&desk).await, started(&desk).await);
    for _ in 0..3 {
        desk.provider.arrived().await;
    }
    let told = desk.send(Method::POST, &format!("{cancelled}/cancel"), "").await;
    assert_eq!((told.status, &told.body["status"], &told.body["running"]), (200, &json!("cancelled"), &Value::Null));
    desk.send(Method::DELETE, &deleted, "").await;
    let mut stream = desk.follow(&expired, None).await;
    desk.clock.advance(Duration::from_secs(3601));
    while stream.next().await.0 != "end" {}
    desk.provider.let_go(3);
    desk.provider.mood(Mood::Good);
    // Whatever the cut calls might have done would be done before this one is.
    let path = started(&desk).await;
    desk.until(&path, |flow| flow["status"] == "done").await;
    assert_eq!(paths(&desk), ["/one", "/one", "/one", "/one", "/two", "/three"]);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_definition_has_lost_fails_and_a_lost_state_is_shown() {
    let desk = Desk::new().await;
    desk.provider.moods(&[Mood::Broken]);
    let path = started(&desk).await;
    desk.until(&path, |flow| said_last(flow).is_some_and(|text| text.starts_with("attempt 1"))).await;
    let broken = desk.redeclare("steps.toml", |text| text.replace("to = \"seen\"", "to = \"sen\"")).await.unwrap_err();
    assert!(broken.contains("unknown state \"seen\", did you mean \"sen\"?"), "{broken}");
    desk.redeclare("steps.toml", |text| text.replace("to = \"sen\"", "to = \"seen\"")).await.unwrap();
    assert_eq!(desk.get(&path).await.body["status"], "going", "a bad reload changes nothing");
    desk.redeclare("steps.toml", |text| text.replace("\"going\"", "\"walking\"")).await.unwrap();
    let listed = desk.get("steps?status=going").await;
    assert_eq!(listed.body["flows"][0]["stuck"], "unknown_state");
    let illegal = desk.send(Method::POST, &format!("{path}/cancel"), "").await;
    assert_eq!((illegal.problem().1, &illegal.body["legal"]), ("illegal_transition", &json!([])));
    desk.redeclare("steps.toml", |text| text.replace("\"walking\"", "\"going\"").replace("\"go\"", "\"run\""))
        .await
        .unwrap();
    desk.clock.advance(Duration::from_secs(30));
    let failed = desk.until(&path, |flow| flow["running"].is_null()).await;
    assert_eq!(failed["status"], "going", "nothing says where it leads");
    desk.stop().await;
}

//! Transitions with a call: claimed before it is made, and left as they were when the provider fails.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::desk::Desk;
use crate::provider::Mood;

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_provider_leaves_the_state_untouched_and_a_message_behind() {
    let desk = Desk::new().await;
    let begun = desk.begin().await;
    let path = format!("identity/{}", begun.id());
    let mut failures = 0;
    for (mood, cause) in [
        (Mood::Broken, "unexpected_answer"),
        (Mood::Refusing, "unexpected_answer"),
        (Mood::Redirecting, "unexpected_answer"),
        (Mood::Babbling, "answer_not_json"),
        (Mood::Empty, "answer_incomplete"),
        (Mood::Huge, "answer_too_large"),
        (Mood::Large, "answer_too_large"),
        (Mood::Dying, "connection_lost"),
    ] {
        desk.provider.mood(mood);
        let told = desk.send(Method::POST, &format!("{path}/simple-auth"), r#"{"data":{"lost":true}}"#).await;
        assert_eq!((told.problem().0, told.problem().1), (502, "provider_failed"), "{mood:?} {}", told.text);
        assert_eq!(told.body["cause"], cause, "{mood:?}");
        assert!(!told.text.contains("비밀") && !told.text.contains(desk.provider.address()), "{}", told.text);
        failures += 1;
        let flow = desk.get(&path).await.body;
        assert_eq!((&flow["status"], &flow["data"]), (&json!("started"), &begun.body["data"]), "{mood:?}");
        assert_eq!(flow["progress"]["auth_requested"], false);
        let messages = flow["messages"].as_array().unwrap();
        assert_eq!((messages.len(), &messages[failures - 1]["type"]), (failures, &json!("error")));
    }
    assert_eq!(desk.provider.requests().len(), failures, "a POST without a key is not sent again");
    desk.provider.mood(Mood::Good);
    assert_eq!(desk.send(Method::POST, &format!("{path}/simple-auth"), "").await.status, 200);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_told_and_a_safe_call_is_made_again() {
    let desk = Desk::new().await;
    desk.redeclare("identity.toml", |text| text.replace(desk.provider.address(), "127.0.0.1:1")).await.unwrap();
    let path = format!("identity/{}", desk.begin().await.id());
    let told = desk.send(Method::POST, &format!("{path}/simple-auth"), "").await;
    assert_eq!((told.status, &told.body["cause"]), (502, &json!("unreachable")));
    let path = format!("steps/{}", desk.send(Method::POST, "steps", r#"{"data":{"who":"가/나?"}}"#).await.id());
    desk.provider.moods(&[Mood::Broken, Mood::Dying, Mood::Good]);
    let told = desk.send(Method::POST, &format!("{path}/look"), "").await;
    assert_eq!((told.status, &told.body["data"]["tx"]), (200, &json!("tx-3")), "{}", told.text);
    let asked = desk.provider.requests();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].path, "/look/%EA%B0%80%2F%EB%82%98%3F", "a value stays within its part of the address");
    assert!(asked.iter().all(|one| one.headers["x-key"] == asked[0].headers["x-key"]));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_at_once_make_one_call() {
    let desk = Desk::new().await;
    let begun = desk.begin().await;
    let path = format!("identity/{}", begun.id());
    desk.provider.mood(Mood::Slow);
    let taking = format!("{path}/simple-auth");
    let take = || desk.send(Method::POST, &taking, "");
    let others = async {
        desk.provider.arrived().await;
        let claimed = desk.get(&path).await.body;
        assert_eq!((&claimed["running"], &claimed["transitions"]), (&json!("simple-auth"), &json!([])));
        // What others write while the call is under way stays.
        let said = desk.send(Method::POST, &format!("{path}/messages"), r#"{"type":"info","message":"기다림"}"#).await;
        let matching = [("if-match", said.header("etag"))];
        desk.send_if(Method::PATCH, &path, r#"{"data":{"extra":1}}"#, &matching).await;
        let refused = join_all((0..20).map(|_| take())).await;
        desk.provider.let_go(1);
        refused
    };
    let (taken, refused) = tokio::join!(take(), others);
    assert!(
        refused.iter().all(|told| told.problem().1 == "illegal_transition" && told.body["running"] == "simple-auth")
    );
    assert_eq!((taken.status, desk.provider.requests().len()), (200, 1));
    assert_eq!(taken.body["data"]["extra"], 1);
    assert_eq!(taken.body["messages"].as_array().unwrap().len(), 2);
    // Claim, message, patch and completion.
    assert_eq!(taken.version(), begun.version() + 4);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_when_its_client_leaves_and_is_cut_when_its_flow_does() {
    let desk = Desk::new().await;
    desk.provider.mood(Mood::Slow);
    let flows = [desk.begin().await, desk.begin().await];
    let path = |number: usize| format!("identity/{}", flows[number].id());
    for number in [0, 1] {
        let taking = format!("{}/simple-auth", path(number));
        let leaving = desk.send(Method::POST, &taking, "");
        tokio::select! {
            _ = leaving => panic!("nothing was answered yet"),
            () = desk.provider.arrived() => {}
        }
    }
    assert_eq!(desk.send(Method::DELETE, &path(1), "").await.status, 204);
    desk.provider.let_go(2);
    desk.until(&path(0), |flow| flow["status"] == "auth_request_sent").await;
    assert_eq!(desk.get(&path(1)).await.status, 404);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_failed_may_be_tried_again_and_one_that_came_too_early_too() {
    let desk = Desk::new().await;
    let path = format!("identity/{}", desk.begin().await.id());
    let take = |key: &'static str| {
        let (desk, path) = (&desk, format!("{path}/simple-auth"));
        async move { desk.send_if(Method::POST, &path, "", &[("idempotency-key", key)]).await }
    };
    desk.provider.mood(Mood::Broken);
    assert_eq!(take("a").await.status, 502);
    desk.provider.mood(Mood::Slow);
    desk.provider.arrived().await;
    let early = async {
        desk.provider.arrived().await;
        let early = take("b").await;
        desk.provider.mood(Mood::Broken);
        desk.provider.let_go(1);
        early
    };
    let (taken, early) = tokio::join!(take("a"), early);
    assert_eq!((taken.status, early.status, early.header("retry-after")), (200, 409, "1"));
    let late = take("b").await;
    assert_eq!((late.status, &late.body["legal"]), (409, &json!(["manual-auth-complete"])), "it was not remembered");
    desk.stop().await;
}

//! `Idempotency-Key`: a creation that is repeated happens once, across restarts as well.

use std::time::Duration;

use futures_util::future::join_all;
use nightporter::operators::Scope;
use reqwest::Method;

use crate::desk::Desk;
use crate::told::Told;

const BODY: &str = r#"{"data":{"주문":1}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_creation_gets_the_first_answer() {
    let mut desk = Desk::new("").await;
    let keyed = [("idempotency-key", "job 7/1")];
    let first = desk.send_if(Method::POST, "a", BODY, &keyed).await;
    assert_eq!(first.status, 201);
    // What happens to the session later does not change the answer that was given.
    desk.send(Method::PATCH, &format!("a/{}", first.id()), r#"{"data":{"주문":2}}"#).await;
    for restarted in [false, true] {
        if restarted {
            desk.restart().await;
        }
        let again = desk.send_if(Method::POST, "a", BODY, &keyed).await;
        assert_eq!((again.status, &again.text, again.header("idempotency-replayed")), (201, &first.text, "true"));
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(again.header("etag"), first.header("etag"));
    }
    let other = desk.send_if(Method::POST, "a", r#"{"data":{}}"#, &keyed).await;
    assert_eq!(other.problem(), (422, "idempotency_mismatch", "idempotency-key"));
    let elsewhere = desk.send_if(Method::POST, "b", BODY, &keyed).await;
    assert_eq!(elsewhere.status, 201);
    assert_ne!(elsewhere.id(), first.id(), "the key counts for one path");
    let somebody = desk.token("other", &[Scope::Sessions]).await;
    let theirs = desk.make_as(&somebody, "a", BODY, &keyed).await;
    assert_eq!(theirs.status, 201);
    assert_ne!(theirs.id(), first.id(), "and for one principal");
    desk.clock.advance(Duration::from_secs(24 * 3600));
    let later = desk.send_if(Method::POST, "a", BODY, &keyed).await;
    assert_eq!((later.status, later.header("idempotency-replayed")), (201, ""), "a day later the key is free");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_carried_out() {
    let desk = Desk::new("").await;
    let send = || desk.send_if(Method::POST, "a", BODY, &[("idempotency-key", "k")]);
    let all: Vec<Told> = join_all((0..12).map(|_| send())).await;
    let made = all.iter().filter(|told| told.status == 201).count();
    let running = all.iter().filter(|told| told.status == 409 && told.body["code"] == "idempotency_running").count();
    assert!(made >= 1 && made + running == 12, "{all:?}");
    assert_eq!(desk.get("a").await.body["sessions"].as_array().unwrap().len(), 1);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_remembered_and_a_malformed_key_is_named() {
    let desk = Desk::new("").await;
    let keyed = [("idempotency-key", "k")];
    let refused = desk.send_if(Method::POST, "a", r#"{"data":7}"#, &keyed).await;
    assert_eq!(refused.problem(), (422, "invalid_field", "data"));
    let again = desk.send_if(Method::POST, "a", r#"{"data":7}"#, &keyed).await;
    assert_eq!((again.problem(), again.header("idempotency-replayed")), (refused.problem(), "true"));
    assert_eq!(again.body["request_id"], again.header("x-request-id"), "{}", again.text);
    let long = "x".repeat(256);
    for key in ["", long.as_str(), "a\tb"] {
        let told = desk.send_if(Method::POST, "a", BODY, &[("idempotency-key", key)]).await;
        assert_eq!(told.problem(), (400, "invalid_idempotency_key", "idempotency-key"), "{key:?}");
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_on_our_side_may_be_tried_again() {
    let desk = Desk::new("max_records = 1").await;
    let other = desk.send(Method::POST, "a", BODY).await;
    let keyed = [("idempotency-key", "k")];
    for _ in 0..2 {
        assert_eq!(desk.send_if(Method::POST, "a", BODY, &keyed).await.problem(), (507, "space_full", ""));
    }
    desk.send(Method::DELETE, &format!("a/{}", other.id()), "").await;
    let made = desk.send_if(Method::POST, "a", BODY, &keyed).await;
    assert_eq!((made.status, made.header("idempotency-replayed")), (201, ""));
    assert_eq!(desk.send_if(Method::POST, "a", BODY, &keyed).await.text, made.text);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_back_another_day_makes_another_session() {
    let desk = Desk::new("").await;
    let keyed = [("idempotency-key", "nightly")];
    let body = r#"{"data":{},"ttl":"7d"}"#;
    let first = desk.send_if(Method::POST, "a", body, &keyed).await;
    desk.clock.advance(Duration::from_millis(24 * 3_600_000 - 1));
    assert_eq!(desk.send_if(Method::POST, "a", body, &keyed).await.header("idempotency-replayed"), "true");
    desk.clock.advance(Duration::from_millis(1));
    let second = desk.send_if(Method::POST, "a", body, &keyed).await;
    assert_eq!((second.status, second.header("idempotency-replayed")), (201, ""));
    assert_ne!(second.id(), first.id(), "the first one is still there, and is not what was asked for");
    desk.stop().await;
}

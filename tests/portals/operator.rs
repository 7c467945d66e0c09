//! What an operator may wish for, and what is answered when it cannot be.

use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::demo::phone::Mode;
use nightporter::demo::portal::Pace;
use serde_json::{Value, json};

use crate::stage::{PATIENCE, PORTAL, Scene, Stage, id_of};

/// Longer than the recipe's pause between two checks and its jitter.
const CHECK: Duration = Duration::from_secs(70);

fn ids(state: &Value) -> (String, String) {
    (id_of(state, "active"), id_of(state, "standby"))
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_reauth_and_pause_do_what_they_say() {
    let clock = Clock::held(Time::from_millis(1_800_000_000_000));
    let mut stage = Stage::set(Scene { clock, ..Scene::default() }).await;
    stage.start().await;
    let (first, second) = ids(&stage.live().await);
    let served = stage.served().await;
    assert_eq!(stage.wish("failover").await, (200, Value::Null));
    let state = stage.state().await;
    assert_eq!((ids(&state), &state["epoch"]), ((second.clone(), first), &json!(2)));

    stage.portal.faults(|faults| faults.code_page = Pace::Held);
    assert!(stage.portal.expire(&served));
    stage.clock.advance(CHECK);
    stage.when("degraded", |state| state["state"] == "degraded").await;
    assert_eq!(stage.wish("failover").await, (409, json!("no_standby")));
    stage.portal.heal();
    stage.live().await;

    assert_eq!(stage.wish("reauth").await.0, 202);
    let fresh = stage.when("the fresh one", |state| state["epoch"] == 3).await;
    let (third, standby) = ids(&fresh);
    assert_eq!((&fresh["state"], &standby), (&json!("live"), &second), "the old active one stands by");
    assert_ne!(third, second);

    assert_eq!(stage.wish("pause").await.0, 200);
    assert!(stage.portal.expire(&stage.served().await));
    stage.served().await;
    let before = stage.counters();
    stage.clock.advance(Duration::from_secs(3600));
    assert_eq!(stage.state().await["state"], "paused");
    stage.served().await;
    let after = stage.counters();
    assert_eq!(after.order_calls, before.order_calls + 1, "no checks while paused");
    assert_eq!((after.logins_attempted, stage.wish("resume").await.0), (4, 200));
    assert_eq!(stage.live().await["epoch"], 4);
    assert_eq!((stage.counters().logins_attempted, stage.mailbox.count()), (5, 0));

    let told: Vec<_> = stage.events().await.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(told.is_sorted_by(|newer, older| newer == &(older + 1)) && told.last() == Some(&1), "{told:?}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_typed_by_hand_and_a_look_through_the_sessions_eyes() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.phone.set_mode(Mode::Silent);
    stage.start().await;
    for (number, slot) in [(1, "active"), (2, "standby")] {
        stage.when("the wait", |state| state[slot]["status"] == "awaiting_code").await;
        let screen = stage.phone.received(number, PATIENCE).await.unwrap();
        let code: String = screen[number - 1].text.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(type_code(&stage, "not a code").await, (422, json!("invalid_field")));
        assert_eq!(type_code(&stage, &code).await, (202, Value::Null));
        stage.when("the login", |state| state[slot]["status"] == "authenticated").await;
    }
    assert_eq!(stage.live().await["phone"]["state"], "unproven", "a hand proves no phone");
    assert_eq!(type_code(&stage, "123456").await, (409, json!("no_login_waiting")));
    assert_eq!(stage.counters().codes_accepted, 2);
    for slot in ["active", "standby"] {
        let answer = stage.get(&format!("{PORTAL}/screenshot?slot={slot}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/png"));
        assert!(answer.body.starts_with(b"\x89PNG\r\n\x1a\n"));
    }
    stage.strike().await;
}

async fn type_code(stage: &Stage, code: &str) -> (u16, Value) {
    let answer = stage.post(&format!("{PORTAL}/code")).json(&json!({ "code": code })).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json::<Value>().await.unwrap()["code"].clone())
}

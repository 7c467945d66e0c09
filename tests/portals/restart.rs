//! The appliance stops, or is killed, and comes back: sessions survive, and an SMS is spent only where one was lost.

use nightporter::demo::phone::Mode;
use nightporter::demo::portal::{Pace, Pick};
use serde_json::Value;

use crate::stage::{PATIENCE, Scene, Stage, id_of};

/// Both sessions were looked at since the start and live.
fn checked(state: &Value) -> bool {
    state["state"] == "live" && ["active", "standby"].iter().all(|slot| state[slot]["last_check_ok"] == true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_costs_no_sms_and_one_session_that_died_meanwhile_costs_one() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.start().await;
    let before = stage.live().await;
    let served = stage.served().await;
    stage.stop().await;
    assert!(stage.browsers().is_empty());
    stage.start().await;
    assert_eq!(stage.served().await, served, "the first call is served by the session of before");
    let after = stage.when("both checked", checked).await;
    for slot in ["active", "standby"] {
        assert_eq!(id_of(&after, slot), id_of(&before, slot));
    }
    assert_eq!((&after["epoch"], stage.counters().codes_sent), (&before["epoch"], 2));

    stage.stop().await;
    assert!(stage.portal.expire_of("partner01", Pick::Newest).is_some_and(|gone| gone != served));
    stage.start().await;
    assert_eq!(stage.served().await, served);
    let state =
        stage.when("another standby", |state| checked(state) && id_of(state, "standby") != id_of(&before, "standby"));
    assert_eq!(state.await["epoch"], before["epoch"]);
    assert_eq!((stage.counters().codes_sent, stage.mailbox.count()), (3, 0));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_with_both_sessions_alive_costs_nothing() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.launch().await;
    let before = stage.live().await;
    let served = stage.served().await;
    assert_eq!(stage.browsers().len(), 2);
    stage.kill().await;
    stage.launch().await;
    assert_eq!(stage.served().await, served);
    let after = stage.when("both checked", checked).await;
    assert_eq!(id_of(&after, "standby"), id_of(&before, "standby"));
    assert_eq!((&after["epoch"], stage.counters().codes_sent), (&before["epoch"], 2));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_while_a_login_waits_for_its_code_costs_that_code() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.launch().await;
    stage.live().await;
    stage.phone.set_mode(Mode::Offline);
    assert!(stage.portal.expire(&stage.served().await));
    let served = stage.served().await;
    stage.when("the wait", |state| state["standby"]["status"] == "awaiting_code").await;
    stage.phone.received(3, PATIENCE).await.unwrap();
    stage.kill().await;
    stage.launch().await;
    assert_eq!(stage.served().await, served);
    stage.happened("interrupted", 1).await;
    // The phone has kept both SMS, the dead login's and the new one's, and forwards both now.
    stage.phone.received(4, PATIENCE).await.unwrap();
    stage.phone.set_mode(Mode::Prompt);
    stage.when("both checked", checked).await;
    let refused =
        stage.attempt(4).await.answer["success"] == false || stage.attempt(3).await.answer["success"] == false;
    assert!(refused, "the code of the dead login is of no use: {:?}", stage.phone.attempts());
    let counters = stage.counters();
    assert_eq!((counters.codes_sent, counters.codes_accepted, counters.codes_rejected), (4, 3, 0));
    let begun = stage.told_of("login_started").await.len();
    assert_eq!(
        (begun, stage.told_of("authenticated").await.len(), stage.told_of("interrupted").await.len()),
        (4, 3, 1)
    );
    assert_eq!(stage.mailbox.count(), 0);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_right_after_a_promotion_keeps_the_promotion() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.launch().await;
    let before = stage.live().await;
    stage.portal.faults(|faults| faults.code_page = Pace::Held);
    assert!(stage.portal.expire(&stage.served().await));
    let served = stage.served().await;
    stage.kill().await;
    stage.portal.heal();
    stage.launch().await;
    assert_eq!(stage.served().await, served);
    let after = stage.when("both checked", checked).await;
    assert_eq!((&after["epoch"], id_of(&after, "active")), (&Value::from(2), id_of(&before, "standby")));
    let counters = stage.counters();
    assert!(counters.codes_accepted == 3 && counters.codes_sent <= 4, "{counters:?}");
    assert_eq!(stage.mailbox.count(), 0);
    stage.strike().await;
}

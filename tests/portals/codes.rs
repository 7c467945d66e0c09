//! Codes that come early, late and twice.

use nightporter::demo::phone::Mode;
use nightporter::demo::portal::Pace;
use serde_json::json;

use crate::stage::{PATIENCE, Scene, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_the_portal_rejects_is_not_typed_again() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.portal.faults(|faults| faults.reject_codes = 1);
    stage.phone.set_mode(Mode::Twice);
    stage.start().await;
    stage.live().await;
    let told = stage.told_of("login_failed").await;
    assert!(told.len() == 1 && told[0].starts_with("code_rejected: "), "{told:?}");
    let counters = stage.counters();
    assert_eq!((counters.codes_rejected, counters.codes_repeated, counters.codes_accepted), (1, 0, 2));
    assert_eq!((counters.codes_sent, stage.mailbox.count()), (3, 0));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_never_too_early_or_too_late_and_is_used_once() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.portal.faults(|faults| faults.code_page = Pace::Held);
    stage.start().await;
    // The SMS is here before the page that asks for it.
    let early = stage.attempt(1).await;
    assert_eq!(early.answer, json!({"success": true, "buffered": true}));
    assert_eq!(stage.state().await["state"], "starting");
    // The next one comes when the login has been waiting for it.
    stage.phone.set_mode(Mode::Offline);
    stage.portal.faults(|faults| faults.code_page = Pace::Prompt);
    stage.when("one session", |state| state["state"] == "degraded").await;
    stage.when("the wait", |state| state["standby"]["status"] == "awaiting_code").await;
    stage.phone.received(2, PATIENCE).await.unwrap();
    stage.phone.set_mode(Mode::Prompt);
    assert_eq!(stage.attempt(2).await.answer, json!({"success": true, "buffered": false}));
    let state = stage.live().await;
    assert_eq!((&state["phone"]["state"], &state["epoch"]), (&json!("proven"), &json!(1)));
    let used = stage.told_of("code_used").await;
    assert!(used[0].contains(" s before it was waited for") && used[1].contains("while it was waited for"), "{used:?}");

    stage.phone.set_mode(Mode::Twice);
    stage.portal.faults(|faults| faults.code_page = Pace::Held);
    assert_eq!(stage.wish("reauth").await.0, 202);
    assert_eq!(stage.attempt(3).await.answer, json!({"success": true, "buffered": true}));
    assert_eq!(stage.attempt(4).await.answer, json!({"success": false, "reason": "duplicate"}));
    stage.portal.heal();
    stage.happened("authenticated", 3).await;
    let counters = stage.counters();
    assert_eq!((counters.codes_sent, counters.codes_accepted, counters.codes_rejected), (3, 3, 0));
    stage.strike().await;
}

//! Codes that come early, late and twice.

use nightporter::demo::phone::{Format, Mode, Phone, Settings};
use nightporter::demo::portal::Pace;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::secret::Secret;
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

#[tokio::test(flavor = "multi_thread")]
async fn of_two_phones_the_one_that_lives_brings_the_code() {
    let mut stage = Stage::set(Scene { sessions: "single", ..Scene::default() }).await;
    let config = std::fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    let config = config.replace("phone = \"office\"", "phones = [\"office\", \"backup\"]");
    stage.write("nightporter.toml", &format!("{config}[phones.backup]\nforwarder = \"textbee\"\nsecret = \"b\"\n"));
    let life = Lifecycle::new();
    let settings = Settings::new(Format::TextBee, "backup", Secret::new("b"));
    let backup = Phone::start(settings, &stage.clock, &Random::seeded(7), &life);
    // The first phone's app has died; the second one has a twin of its SIM card.
    stage.phone.set_mode(Mode::Silent);
    stage.start().await;
    backup.connect(&stage.url(""));
    stage.when("the wait", |state| state["active"]["status"] == "awaiting_code").await;
    let sms = stage.phone.received(1, PATIENCE).await.unwrap()[0].clone();
    backup.line().deliver(sms);
    let state = stage.live().await;
    let told = |place: usize| (state["phones"][place]["name"].clone(), state["phones"][place]["state"].clone());
    assert_eq!([told(0), told(1)], [(json!("office"), json!("unproven")), (json!("backup"), json!("proven"))]);
    assert_eq!((&state["phone"], state["phones"].as_array().unwrap().len()), (&state["phones"][0], 2));

    // Both live: what the first brings is used, the other's copy is not.
    stage.phone.set_mode(Mode::Prompt);
    assert_eq!(stage.wish("reauth").await.0, 202);
    assert_eq!(stage.attempt(1).await.answer["success"], true);
    stage.happened("authenticated", 2).await;
    backup.line().deliver(stage.phone.received(2, PATIENCE).await.unwrap()[1].clone());
    let late = backup.attempted(2, PATIENCE).await.unwrap()[1].answer.clone();
    assert_eq!(late, json!({"success": false, "reason": "no_login_waiting"}));
    let counters = stage.counters();
    assert_eq!((counters.codes_sent, counters.codes_accepted, counters.codes_rejected), (2, 2, 0));
    assert!(life.shutdown(PATIENCE).await);
    stage.strike().await;
}

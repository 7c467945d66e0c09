//! A portal that is down or slow: nothing is known then, nothing is spent, and its recovery is noticed.

use std::time::Duration;

use hyper::Method;
use nightporter::clock::{Clock, Time};
use nightporter::demo::portal::{Outage, Pace};
use serde_json::{Value, json};

use crate::stage::{ORDERS, PATIENCE, Scene, Stage};

/// Longer than the recipe's pause between two checks and its jitter.
const CHECK: Duration = Duration::from_secs(70);
/// Pages that do not come need not be waited for long.
const QUICK: [(&str, &str); 2] = [
    (
        "{ if = \".error\", fail = \"bad_credentials\" },\n  ] },",
        "{ if = \".error\", fail = \"bad_credentials\" },\n  ], timeout = \"3s\" },",
    ),
    ("resend = \"#resend\" }", "resend = \"#resend\", timeout = \"3s\" }"),
];

fn held() -> Clock {
    Clock::held(Time::from_millis(1_800_000_000_000))
}

fn both(wanted: bool) -> impl Fn(&Value) -> bool {
    move |state| ["active", "standby"].iter().all(|slot| state[slot]["last_check_ok"] == wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_off_or_never_come_say_nothing_about_a_session() {
    let mut stage = Stage::set(Scene { clock: held(), ..Scene::default() }).await;
    stage.start().await;
    let before = stage.live().await;
    stage.portal.faults(|faults| faults.outage = Some(Outage::HalfAnswers));
    stage.checked_after(CHECK).await;
    assert_eq!(stage.when("nothing known", both(false)).await["state"], "live");
    let call = stage.call(Method::GET, ORDERS, &[]).await;
    assert_eq!((call.status.as_u16(), &call.json()["code"]), (502, &json!("in_doubt")));
    stage.portal.heal();
    stage.checked_after(Duration::from_secs(10)).await;
    stage.when("both alive", both(true)).await;

    // No answer at all: the check waits twenty seconds for one.
    stage.portal.faults(|faults| faults.pace = Pace::Held);
    stage.checked_after(CHECK).await;
    assert_eq!(stage.when("nothing known", both(false)).await["state"], "live");
    stage.portal.heal();
    stage.checked_after(Duration::from_secs(10)).await;
    stage.when("both alive", both(true)).await;
    stage.served().await;
    assert_eq!((&stage.state().await["epoch"], stage.told_of("expired").await.len()), (&before["epoch"], 0));
    assert_eq!((stage.counters().logins_attempted, stage.mailbox.count()), (2, 0));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_come_by_half_are_no_changed_pages() {
    let mut stage = Stage::set(Scene { clock: held(), sessions: "single", recipe: &QUICK, ..Scene::default() }).await;
    stage.portal.faults(|faults| faults.outage = Some(Outage::HalfAnswers));
    stage.start().await;
    stage.happened("login_failed", 1).await;
    stage.portal.heal();
    stage.portal.faults(|faults| faults.page_changed = true);
    stage.clock.advance(Duration::from_secs(2));
    stage.happened("login_failed", 2).await;
    let told = stage.told_of("login_failed").await;
    assert!(told[0].starts_with("portal_down: ") && told[1].starts_with("page_changed: "), "{told:?}");
    assert_eq!(stage.counters().logins_attempted, 0);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_a_portal_breaks_off_is_given_back_until_a_code_was_asked_for() {
    let recipe = [&QUICK[..], &[("logins_per_hour = 20", "logins_per_hour = 1")]].concat();
    let mut stage = Stage::set(Scene { clock: held(), sessions: "single", recipe: &recipe, ..Scene::default() }).await;
    stage.portal.faults(|faults| faults.verify_page = Pace::Held);
    stage.start().await;
    stage.portal.counted("partner01", PATIENCE, |counted| counted.passwords_accepted == 1).await.unwrap();
    stage.portal.faults(|faults| faults.outage = Some(Outage::Closing));
    stage.happened("login_failed", 1).await;
    stage.portal.heal();
    stage.clock.advance(Duration::from_secs(2));
    stage.live().await;
    assert_eq!(stage.counters().logins_attempted, 2, "the one login of the hour, after one that did not count");

    stage.clock.advance(Duration::from_secs(3600));
    stage.portal.faults(|faults| faults.code_page = Pace::Held);
    assert!(stage.portal.expire(&stage.served().await));
    assert_eq!(stage.call(Method::GET, ORDERS, &[("x-park-timeout", "0")]).await.status.as_u16(), 503);
    stage.portal.counted("partner01", PATIENCE, |counted| counted.codes_sent == 2).await.unwrap();
    stage.portal.faults(|faults| faults.outage = Some(Outage::Closing));
    stage.happened("login_failed", 2).await;
    let told = stage.told_of("login_failed").await;
    assert!(told.iter().all(|told| told.starts_with("portal_down: ")), "{told:?}");
    stage.portal.heal();
    stage.clock.advance(Duration::from_secs(2));
    stage.when("the spent hour", |state| state["last_failure"]["cause"] == "budget_spent").await;
    assert_eq!((stage.counters().logins_attempted, stage.counters().codes_sent), (3, 2));
    stage.clock.advance(Duration::from_secs(3600));
    assert_eq!(stage.live().await["state"], json!("live"));
    stage.strike().await;
}

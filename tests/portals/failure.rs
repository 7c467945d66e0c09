//! What cannot be healed: a person is told once, nothing is hammered, and one message says when it is over.

use std::time::Duration;

use hyper::Method;
use nightporter::clock::{Clock, Time};
use nightporter::demo::mailbox::Mail;
use nightporter::demo::phone::Mode;
use nightporter::demo::portal::Outage;
use nightporter::secret::Secret;
use serde_json::{Value, json};

use crate::stage::{ORDERS, Scene, Stage};

/// A login page that is not recognised need not be looked at for long.
const QUICK: (&str, &str) =
    ("{ if = \"#user\", next = \"form\" },\n  ] },", "{ if = \"#user\", next = \"form\" },\n  ], timeout = \"3s\" },");

fn held() -> Clock {
    Clock::held(Time::from_millis(1_800_000_000_000))
}

/// A call that finds no session waits its time and is told to come again.
async fn is_parked(stage: &Stage) {
    let answer = stage.call(Method::GET, ORDERS, &[("x-park-timeout", "1s")]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (503, &json!("no_live_session")));
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
}

async fn down(stage: &Stage, cause: &str) -> Value {
    stage.when(cause, |state| state["state"] == "down" && state["last_failure"]["cause"] == cause).await
}

fn shows(mail: &Mail, subject: &str, picture: bool) {
    assert_eq!(mail.to, ["ops@example.com"]);
    assert!(mail.subject().starts_with("[Nightporter] Portal hanbit") && mail.subject().contains(subject), "{mail:?}");
    // The beginning of every PNG, as Base64.
    let raw = String::from_utf8_lossy(&mail.raw);
    assert_eq!(raw.contains("image/png") && raw.contains("iVBORw0KGgo"), picture, "{raw}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_phone_is_told_once_also_across_a_restart() {
    let mut stage = Stage::set(Scene { recipe: &[("timeout = \"2m\"", "timeout = \"2s\"")], ..Scene::default() }).await;
    stage.phone.set_mode(Mode::Silent);
    stage.start().await;
    let state = down(&stage, "no_sms").await;
    assert_eq!((&state["active"]["status"], &state["phone"]["state"]), (&json!("failed"), &json!("silent")));
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.codes_sent), (2, 4), "two attempts that ask twice each");
    let mail = stage.mail(1).await;
    shows(&mail, "no SMS code arrived", true);
    for part in [
        "No session is alive",
        "battery",
        "/api/portals/hanbit/reauth",
        "no_sms",
        "nightporter portal code hanbit",
        "What was tried: 2 logins, which failed.",
        "By itself it is tried again at ",
        "  9  click \"#send\"  ",
        " s  FAILED: no code came within 2 s",
    ] {
        assert!(mail.body().contains(part), "{part} is not in {}", mail.body());
    }
    is_parked(&stage).await;
    assert_eq!(stage.wish("reauth").await.0, 202);
    stage.happened("reauth_failed", 2).await;
    stage.stop().await;
    stage.start().await;
    is_parked(&stage).await;
    down(&stage, "no_sms").await;
    assert_eq!(stage.counters().logins_attempted, 4);
    stage.phone.set_mode(Mode::Prompt);
    assert_eq!(stage.wish("reauth").await.0, 202);
    assert_eq!(stage.live().await["phone"]["state"], "proven");
    shows(&stage.mail(2).await, "works again", false);
    stage.stop().await;
    assert_eq!(stage.mailbox.count(), 2);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_ends_while_it_waits_for_its_code_waited_in_vain() {
    let clock = held();
    let recipe = [("timeout = \"3m\"", "timeout = \"1m\""), ("\"#code\", resend = \"#resend\"", "\"#code\"")];
    let mut stage = Stage::set(Scene { clock: clock.clone(), recipe: &recipe, ..Scene::default() }).await;
    stage.phone.set_mode(Mode::Silent);
    stage.start().await;
    stage.when("waiting", |state| state["active"]["status"] == "awaiting_code").await;
    clock.advance(Duration::from_secs(60));
    stage.happened("login_failed", 1).await;
    let state = stage.state().await;
    assert_eq!((&state["last_failure"]["cause"], &state["phone"]["state"]), (&json!("no_sms"), &json!("silent")));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once_ever() {
    let mut stage = Stage::set(Scene::default()).await;
    let right = "Hb!another";
    stage.portal.set_password("partner01", Secret::new(right));
    stage.start().await;
    down(&stage, "bad_credentials").await;
    shows(&stage.mail(1).await, "refuses user name or password", true);
    stage.reload().await;
    is_parked(&stage).await;
    stage.stop().await;
    stage.start().await;
    is_parked(&stage).await;
    assert_eq!(stage.counters().logins_attempted, 1);
    stage.write("password", right);
    stage.reload().await;
    stage.live().await;
    shows(&stage.mail(2).await, "works again", false);
    stage.stop().await;
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.passwords_rejected, stage.mailbox.count()), (3, 1, 2));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captcha_and_a_new_page_each_get_a_picture() {
    let mut stage = Stage::set(Scene { recipe: &[QUICK], ..Scene::default() }).await;
    stage.portal.faults(|faults| faults.captcha = true);
    stage.start().await;
    down(&stage, "captcha").await;
    shows(&stage.mail(1).await, "CAPTCHA", true);
    assert_eq!(stage.told_of("login_failed").await.len(), 1, "never tried again by itself");
    stage.portal.faults(|faults| (faults.captcha, faults.page_changed) = (false, true));
    assert_eq!(stage.wish("reauth").await.0, 202);
    down(&stage, "page_changed").await;
    stage.happened("reauth_failed", 2).await;
    assert_eq!(stage.told_of("login_failed").await.len(), 3);
    let mail = stage.mail(2).await;
    shows(&mail, "not what the recipe expects", true);
    assert!(mail.body().contains("step 2 (line "), "{}", mail.body());
    assert_eq!(stage.counters().logins_attempted, 0);
    stage.portal.heal();
    assert_eq!(stage.wish("reauth").await.0, 202);
    stage.live().await;
    shows(&stage.mail(3).await, "works again", false);
    assert_eq!(stage.mailbox.count(), 3);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_is_down_spends_no_login_and_is_found_again() {
    let recipe = [("logins_per_hour = 20", "logins_per_hour = 2")];
    let mut stage = Stage::set(Scene { clock: held(), recipe: &recipe, ..Scene::default() }).await;
    stage.portal.faults(|faults| faults.outage = Some(Outage::Maintenance));
    stage.start().await;
    stage.happened("login_failed", 1).await;
    stage.portal.faults(|faults| faults.outage = Some(Outage::Closing));
    stage.clock.advance(Duration::from_secs(2));
    down(&stage, "portal_down").await;
    shows(&stage.mail(1).await, "cannot be reached", true);
    assert!(stage.told_of("login_failed").await.iter().all(|told| told.starts_with("portal_down: ")));
    assert_eq!(stage.counters().logins_attempted, 0);
    let parked = stage.call(Method::GET, ORDERS, &[("x-park-timeout", "10m")]);
    let healing = async {
        stage.portal.heal();
        stage.clock.advance(Duration::from_secs(75));
    };
    let (answer, ()) = tokio::join!(parked, healing);
    assert_eq!(answer.json()["ok"], true, "a parked call goes on when a session is there");
    stage.live().await;
    shows(&stage.mail(2).await, "works again", false);

    stage.portal.faults(|faults| faults.outage = Some(Outage::Maintenance));
    stage.clock.advance(Duration::from_secs(70));
    let seen = |wanted: bool| {
        move |state: &Value| ["active", "standby"].iter().all(|slot| state[slot]["last_check_ok"] == wanted)
    };
    assert_eq!(stage.when("unknown", seen(false)).await["state"], "live", "down is not expired");
    assert_eq!(stage.get(ORDERS).await.header("x-session-epoch"), "1", "the portal's own 503 is passed on");
    stage.portal.heal();
    stage.clock.advance(Duration::from_secs(10));
    stage.when("both alive", seen(true)).await;
    assert_eq!((stage.counters().logins_attempted, stage.mailbox.count()), (2, 2));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_sends_nothing_to_the_portal_for_an_hour() {
    let recipe = [("logins_per_hour = 20", "logins_per_hour = 1")];
    let mut stage = Stage::set(Scene { clock: held(), sessions: "single", recipe: &recipe, ..Scene::default() }).await;
    stage.start().await;
    stage.live().await;
    assert!(stage.portal.expire(&stage.served().await));
    let answer = stage.call(Method::GET, ORDERS, &[("x-park-timeout", "0")]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (503, &json!("no_live_session")));
    down(&stage, "budget_spent").await;
    shows(&stage.mail(1).await, "too many logins", true);
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.codes_sent), (1, 1));
    stage.clock.advance(Duration::from_secs(3600));
    stage.live().await;
    shows(&stage.mail(2).await, "works again", false);
    assert_eq!((stage.counters().codes_sent, stage.mailbox.count()), (2, 2));
    stage.strike().await;
}

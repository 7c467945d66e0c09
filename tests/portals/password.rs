//! A password that the portal does not take: one attempt, whatever happens around it, until an operator does something.

use std::time::Duration;

use hyper::Method;
use nightporter::clock::{Clock, Time};
use nightporter::secret::Secret;
use serde_json::{Value, json};

use crate::stage::{ORDERS, Scene, Stage};

const RIGHT: &str = "Hb!changed-at-the-portal";

async fn gave_up(stage: &Stage, times: usize) {
    stage.happened("login_failed", times).await;
    let told = stage.told_of("login_failed").await;
    assert!(told.iter().all(|told| told.starts_with("bad_credentials: ")), "{told:?}");
}

/// Everything that may happen by itself, and none of it is a reason to try again.
async fn nothing_tries_again(stage: &mut Stage) {
    let before = stage.counters().logins_attempted;
    stage.reload().await;
    stage.stop().await;
    stage.start().await;
    stage.clock.advance(Duration::from_secs(7200));
    let _ = stage.wish("failover").await;
    let call = stage.call(Method::GET, ORDERS, &[("x-park-timeout", "0")]).await;
    assert!([200, 503].contains(&call.status.as_u16()));
    // The wishes have been heard by the keeper once it has looked at its sessions after them.
    let looked = |state: &Value| state["active"]["last_check_ok"].is_boolean();
    stage.when("a look", looked).await;
    assert_eq!(stage.counters().logins_attempted, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_at_the_portal_is_tried_once_until_an_operator_acts() {
    let clock = Clock::held(Time::from_millis(1_800_000_000_000));
    let mut stage = Stage::set(Scene { clock, ..Scene::default() }).await;
    stage.start().await;
    stage.live().await;
    stage.portal.set_password("partner01", Secret::new(RIGHT));
    assert!(stage.portal.expire(&stage.served().await));
    stage.served().await;
    gave_up(&stage, 1).await;
    assert_eq!((&stage.state().await["state"], stage.counters().logins_attempted), (&json!("degraded"), 3));
    nothing_tries_again(&mut stage).await;
    // The portal restarts and forgets the other session as well.
    stage.portal.expire_all();
    nothing_tries_again(&mut stage).await;
    assert_eq!(stage.state().await["state"], "down");
    // Each wish of an operator is one deliberate attempt; the fifth wrong one locks the account, with the same red box.
    for times in 2..=6 {
        assert_eq!(stage.wish("reauth").await.0, 202);
        gave_up(&stage, times).await;
    }
    nothing_tries_again(&mut stage).await;
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.passwords_rejected, counters.codes_sent), (8, 6, 2));
    stage.write("password", RIGHT);
    stage.reload().await;
    stage.live().await;
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.passwords_rejected), (10, 6));
    stage.strike().await;
}

//! Expiries that nobody's call meets: the check finds them in every way in which a portal can say so. And a call that meets
//! the end of everything waits for the login.

use std::time::Duration;

use hyper::Method;
use nightporter::clock::{Clock, Time};
use nightporter::demo::portal::{LoggedOut, Pace};

use serde_json::Value;

use crate::stage::{ORDERS, PATIENCE, Scene, Stage};

/// Longer than the recipe's pause between two checks and its jitter.
const CHECK: Duration = Duration::from_secs(70);

/// Lets the time of the next check come, and of the one after it: the first may have been on its way before the end.
async fn promoted(stage: &Stage, epoch: u64) {
    for _ in 0..2 {
        let now = serde_json::to_value(stage.clock.now() + CHECK).unwrap();
        stage.clock.advance(CHECK);
        let looked = |state: &Value| state["epoch"] == epoch || state["next_check_at"].as_str() > now.as_str();
        if stage.when("a check", looked).await["epoch"] == epoch {
            return;
        }
    }
    panic!("two checks found the session alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_finds_an_expiry_however_a_portal_of_an_older_make_tells_it() {
    let clock = Clock::held(Time::from_millis(1_800_000_000_000));
    let mut stage = Stage::set(Scene { clock, ..Scene::default() }).await;
    stage.start().await;
    stage.live().await;
    let ways = [LoggedOut::Unauthorized, LoggedOut::Redirect, LoggedOut::LoginPage, LoggedOut::PoliteJson];
    for (epoch, way) in (2_u64..).zip(ways) {
        stage.portal.faults(|faults| (faults.logged_out, faults.dated) = (way, false));
        assert!(stage.portal.expire(&stage.served().await));
        // Pages in EUC-KR and all answers compressed, from here through the login that follows.
        stage.portal.faults(|faults| faults.dated = true);
        let calls = stage.counters().api_calls;
        promoted(&stage, epoch).await;
        stage.live().await;
        assert!(stage.counters().api_calls > calls, "{way:?}");
    }
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.codes_accepted, stage.mailbox.count()), (6, 6, 0));
    assert_eq!((stage.told_of("expired").await.len(), stage.told_of("failover").await.len()), (4, 4));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_meets_the_end_of_both_is_served_after_the_login() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.start().await;
    stage.live().await;
    stage.portal.faults(|faults| faults.code_page = Pace::Held);
    assert_eq!(stage.portal.expire_all().len(), 2);
    let parked = stage.call(Method::GET, ORDERS, &[("x-park-timeout", "60s")]);
    let login = async {
        stage.portal.counted("partner01", PATIENCE, |counted| counted.codes_sent == 3).await.unwrap();
        // Another one comes while the login is under way.
        let second = stage.call(Method::GET, ORDERS, &[("x-park-timeout", "60s")]);
        let release = async { stage.portal.faults(|faults| faults.code_page = Pace::Prompt) };
        tokio::join!(second, release).0
    };
    let (first, second) = tokio::join!(parked, login);
    for answer in [first, second] {
        assert_eq!((answer.status.as_u16(), &answer.json()["ok"]), (200, &true.into()));
    }
    stage.live().await;
    assert_eq!((stage.counters().logins_attempted, stage.mailbox.count()), (4, 0));
    stage.strike().await;
}

//! A portal that lives in `sessionStorage`: the tab stays open, and what it holds survives whatever kills it.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Method;
use nightporter::clock;
use nightporter::demo::portal::{Pace, app_recipe_toml};
use serde_json::Value;

use crate::stage::{ORDERS, PATIENCE, PORTAL, Scene, Stage, id_of, kill_9};

fn scene() -> Scene<'static> {
    Scene { text: app_recipe_toml, recipe: &[], sessions: "single", ..Scene::default() }
}

fn checked(state: &Value) -> bool {
    state["active"]["last_check_ok"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tab_s_token_serves_and_a_restart_costs_no_sms() {
    let mut stage = Stage::set(scene()).await;
    stage.start().await;
    let before = stage.live().await;
    let served = stage.served().await;
    let wish = serde_json::json!({"recipient": "홍길동", "item": "떡볶이"});
    let order = stage.post(&format!("{PORTAL}/relay/api/orders")).json(&wish).send().await.unwrap();
    assert_eq!(order.status().as_u16(), 201, "its csrf token was sent, too");
    assert_eq!(order.json::<Value>().await.unwrap()["session"], Value::from(served.as_str()));
    let picture = stage.get(&format!("{PORTAL}/screenshot?slot=active")).await;
    assert_eq!(picture.status.as_u16(), 200, "{:?}", picture.json());
    stage.stop().await;
    assert!(stage.browsers().is_empty());
    stage.start().await;
    assert_eq!(stage.served().await, served, "the first call is served by the session of before");
    let after = stage.when("checked", checked).await;
    assert_eq!(id_of(&after, "active"), id_of(&before, "active"));
    assert_eq!((stage.counters().codes_sent, stage.told_of("expired").await.len()), (1, 0));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_browsers_and_crashed_renderers_cost_no_sms() {
    let mut stage = Stage::set(scene()).await;
    stage.start().await;
    stage.live().await;
    let served = stage.served().await;
    for round in 1..=2 {
        let dead = stage.browsers();
        dead.iter().copied().for_each(kill_9);
        assert_eq!(stage.served().await, served, "round {round}");
        let others = async {
            while stage.browsers().is_empty() || !stage.browsers().is_disjoint(&dead) {
                clock::pause(Duration::from_millis(20)).await;
            }
        };
        assert!(clock::within(PATIENCE, others).await.is_ok());
        let renderers: BTreeSet<i32> = stage.renderers();
        assert!(!renderers.is_empty());
        renderers.into_iter().for_each(kill_9);
        assert_eq!(stage.served().await, served, "round {round}, renderers");
    }
    let state = stage.state().await;
    assert_eq!((state["epoch"].as_u64(), state["active"]["status"].as_str()), (Some(1), Some("authenticated")));
    assert_eq!((stage.counters().codes_sent, stage.told_of("expired").await.len()), (1, 0));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_is_told_by_the_tab_and_healed_by_the_other_one() {
    let mut stage = Stage::set(Scene { sessions: "parallel", ..scene() }).await;
    stage.start().await;
    let before = stage.live().await;
    let served = stage.served().await;
    assert!(stage.portal.expire(&served));
    let other = stage.served().await;
    assert_ne!(other, served, "the caller sees nothing of it");
    let after = stage.when("another standby", |state| state["state"] == "live" && state["epoch"] == 2).await;
    assert_eq!(id_of(&after, "active"), id_of(&before, "standby"));
    assert_eq!((stage.counters().codes_sent, stage.mailbox.count()), (3, 0));
    let gone = stage.call(Method::GET, ORDERS, &[("x-session-id", &id_of(&before, "active"))]).await;
    assert_eq!((gone.status.as_u16(), &gone.json()["session"]), (200, &Value::from(other)));
    stage.strike().await;
}

/// The page is told to go on with calls of its own, which renew the session's cookie beyond what the portal forgives.
async fn the_page_renews_the_cookie(stage: &Stage) {
    let before = stage.counters().api_calls;
    stage.portal.faults(|faults| (faults.rotating_session, faults.slow) = (true, Pace::Prompt));
    // When the last is sent, the browser has the answers to the others.
    stage.portal.counted("partner01", PATIENCE, |counted| counted.api_calls >= before + 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_does_before_the_first_work_is_not_lost() {
    let scene = Scene { recipe: &[("[login]", "[browser]\nkeep_tab = true\n[login]")], ..Scene::default() };
    let mut stage = Stage::set(Scene { sessions: "single", ..scene }).await;
    stage.portal.faults(|faults| (faults.busy_home, faults.slow) = (true, Pace::Held));
    stage.start().await;
    let before = stage.live().await;
    stage.portal.faults(|faults| faults.busy_home = false);
    the_page_renews_the_cookie(&stage).await;
    let served = stage.served().await;
    let after = stage.live().await;
    assert_eq!(id_of(&after, "active"), id_of(&before, "active"), "its last cookie was in the tab");
    // The same in a tab that was brought back.
    stage.portal.faults(|faults| (faults.rotating_session, faults.busy_home) = (false, true));
    stage.portal.faults(|faults| faults.slow = Pace::Held);
    let (calls, dead) = (stage.counters().api_calls, stage.browsers());
    dead.iter().copied().for_each(kill_9);
    stage.portal.counted("partner01", PATIENCE, |counted| counted.api_calls > calls).await.unwrap();
    stage.portal.faults(|faults| faults.busy_home = false);
    the_page_renews_the_cookie(&stage).await;
    assert_eq!(stage.served().await, served);
    assert_eq!((stage.counters().codes_sent, stage.counters().logins_attempted), (1, 1));
    stage.strike().await;
}

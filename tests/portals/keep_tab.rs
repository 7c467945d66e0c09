//! A portal that lives in `sessionStorage`: the tab stays open, and what it holds survives whatever kills it.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Method;
use nightporter::clock;
use nightporter::demo::portal::app_recipe_toml;
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
    let order = reqwest::Client::new().post(stage.url(&format!("{PORTAL}/relay/api/orders")));
    let wish = serde_json::json!({"recipient": "홍길동", "item": "떡볶이"});
    let order = order.bearer_auth(stage.token_text()).json(&wish).send().await.unwrap();
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

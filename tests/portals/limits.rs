//! The login budget: spent before the portal sees anything of a login, so that neither a crash nor a wish gets around it.

use hyper::Method;
use nightporter::demo::phone::Mode;
use serde_json::json;

use crate::stage::{ORDERS, PATIENCE, Scene, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_begun_counts_whatever_becomes_of_it() {
    let recipe = [("logins_per_hour = 20", "logins_per_hour = 1")];
    let mut stage = Stage::set(Scene { sessions: "single", recipe: &recipe, ..Scene::default() }).await;
    stage.phone.set_mode(Mode::Offline);
    stage.launch().await;
    stage.when("the wait", |state| state["active"]["status"] == "awaiting_code").await;
    stage.phone.received(1, PATIENCE).await.unwrap();
    stage.kill().await;
    stage.launch().await;
    let spent =
        |state: &serde_json::Value| state["state"] == "down" && state["last_failure"]["cause"] == "budget_spent";
    stage.when("the spent hour", spent).await;
    let parked = stage.call(Method::GET, ORDERS, &[("x-park-timeout", "0")]).await;
    assert_eq!((parked.status.as_u16(), &parked.json()["code"]), (503, &json!("no_live_session")));
    assert_eq!(stage.wish("failover").await, (409, json!("no_standby")));
    for times in 2..=3 {
        assert_eq!(stage.wish("reauth").await.0, 202);
        stage.happened("login_failed", times).await;
    }
    stage.when("the spent hour", spent).await;
    stage.kill().await;
    stage.launch().await;
    assert_eq!(stage.call(Method::GET, ORDERS, &[("x-park-timeout", "0")]).await.status.as_u16(), 503);
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.codes_sent), (1, 1));
    stage.strike().await;
}

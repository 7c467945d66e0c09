//! A portal that renews the session cookie with every answer and forgives one stale value: browser and calls change it at
//! the same time, and neither's change is lost. And the last call of a session that lost its place changes nothing.

use futures_util::future::join;
use hyper::Method;
use nightporter::clock::{Clock, within};
use nightporter::demo::portal::Pace;
use nightporter::lifecycle::Lifecycle;
use nightporter::store::{Durability, Record, Store};
use serde::{Deserialize, Serialize};

use crate::stage::{PATIENCE, PORTAL, Scene, Stage, id_of};
use crate::tokens::order;

async fn picture(stage: &Stage) {
    let answer = stage.get(&format!("{PORTAL}/screenshot")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/png"), "{:?}", answer.json());
}

/// Calls one after another while the browser waits for its page, which is released after them.
async fn calls_meanwhile(stage: &Stage, pages: u64) {
    stage.portal.counted("partner01", PATIENCE, |counted| counted.home_pages > pages).await.unwrap();
    for _ in 0..3 {
        stage.served().await;
    }
    stage.portal.faults(|faults| faults.home_page = Pace::Prompt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_browser_and_calls_renew_at_once_is_not_lost() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.start().await;
    let before = stage.live().await;
    stage.portal.faults(|faults| faults.rotating_session = true);
    // What the browser got is what calls send: each of its pages supersedes a value.
    for _ in 0..3 {
        picture(&stage).await;
    }
    stage.served().await;
    assert_eq!(stage.told_of("expired").await, [""; 0], "what the browser got");
    // The browser's answer was given first and comes last: superseded by then, and not to be taken.
    let pages = stage.counters().home_pages;
    stage.portal.faults(|faults| faults.home_page = Pace::Held);
    join(picture(&stage), calls_meanwhile(&stage, pages)).await;
    stage.served().await;
    assert_eq!(stage.told_of("expired").await, [""; 0], "what calls got meanwhile");
    // The same in the middle of a refresh that another call waits for.
    let pages = stage.counters().home_pages;
    stage.portal.faults(|faults| faults.home_page = Pace::Held);
    stage.portal.renew_tokens("partner01");
    let (made, ()) = join(order(&stage, "k"), calls_meanwhile(&stage, pages)).await;
    assert_eq!(made, (201, serde_json::Value::Null));
    assert_eq!(stage.told_of("expired").await, [""; 0], "what calls got during a refresh");
    stage.stop().await;
    stage.start().await;
    stage.served().await;
    let after = stage.live().await;
    assert_eq!((id_of(&after, "active"), &after["epoch"]), (id_of(&before, "active"), &before["epoch"]));
    assert_eq!((stage.told_of("expired").await.len(), stage.counters().logins_attempted), (0, 2));
    stage.strike().await;
}

/// A saved session as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Saved {
    sealed: Vec<u8>,
}

impl Record for Saved {
    const SPACE: &'static str = "portal-session";
    const SCHEMA: u8 = 1;
}

/// The ids of the saved sessions of an appliance that is not running.
async fn saved(stage: &Stage) -> Vec<String> {
    let life = Lifecycle::new();
    let store = Store::open(&stage.path("store"), Durability::Acknowledged, Clock::system(), &life).unwrap();
    let found = store.list::<Saved>(None, 100).await.unwrap();
    assert!(life.shutdown(PATIENCE).await);
    tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
    found.into_iter().map(|(place, _)| place.trim_start_matches("hanbit/").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_call_of_a_session_that_lost_its_place_changes_nothing() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.start().await;
    let first = id_of(&stage.live().await, "active");
    stage.portal.faults(|faults| (faults.rotating_cookie, faults.slow) = (true, Pace::Held));
    let calls = stage.counters().api_calls;
    let path = format!("{PORTAL}/relay/api/slow?ms=0");
    let late = stage.call(Method::GET, &path, &[]);
    let replaced = async {
        stage.portal.counted("partner01", PATIENCE, |counted| counted.api_calls > calls).await.unwrap();
        for epoch in 2..=3 {
            assert_eq!(stage.wish("reauth").await.0, 202);
            stage.when("the fresh one", |state| state["epoch"] == epoch && state["state"] == "live").await;
        }
        let state = stage.state().await;
        stage.portal.faults(|faults| faults.slow = Pace::Prompt);
        [id_of(&state, "active"), id_of(&state, "standby")]
    };
    // Two logins fit into it.
    let (answer, mut kept) = join(within(2 * PATIENCE, late), replaced).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-session-id")), (200, first.as_str()));
    assert!(!kept.contains(&first));
    stage.stop().await;
    kept.sort();
    assert_eq!(saved(&stage).await, kept, "its late cookie did not bring its copy back");
    stage.start().await;
    let told =
        |state: &serde_json::Value| ["active", "standby"].iter().all(|slot| state[slot]["last_check_ok"] == true);
    stage.when("both checked", told).await;
    assert_eq!((stage.counters().logins_attempted, stage.told_of("expired").await.len()), (4, 0));
    stage.strike().await;
}

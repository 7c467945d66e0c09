//! What operators see: the kinds of flows, and the flows of a kind by state and age.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::desk::Desk;
use crate::provider::Mood;
use crate::told::Told;

fn ids(told: &Told) -> Vec<String> {
    let flows = told.body["flows"].as_array().unwrap_or_else(|| panic!("{}", told.text));
    flows.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_are_listed_by_state_and_age_in_pages() {
    let desk = Desk::new().await;
    let kinds = desk.get("").await;
    assert_eq!(kinds.body["flows"][0]["final"], json!(["completed", "failed"]));
    assert_eq!(kinds.body["flows"][1]["transitions"][0], json!({"name": "look", "from": ["new"], "to": "seen"}));
    let old = desk.begin().await.id().to_owned();
    desk.clock.advance(Duration::from_secs(600));
    let mut all = vec![old.clone()];
    for _ in 0..4 {
        all.push(desk.begin().await.id().to_owned());
    }
    all.sort();
    desk.send(Method::POST, &format!("identity/{}/simple-auth", all[2]), "").await;
    let first = desk.get("identity?limit=3").await;
    let second = desk.get(&format!("identity?limit=3&cursor={}", first.body["next"].as_str().unwrap())).await;
    assert_eq!([ids(&first), ids(&second)].concat(), all);
    assert_eq!(second.body["next"], json!(null));
    assert_eq!(ids(&desk.get("identity?status=auth_request_sent").await), [all[2].as_str()]);
    let aged = desk.get("identity?older_than=10m&status=started").await;
    if all[2] != old {
        assert_eq!((ids(&aged), &aged.body["flows"][0]["age_seconds"]), (vec![old], &json!(600)));
    }
    assert!(!aged.text.contains("홍길동"), "a list shows no data");
    assert_eq!(ids(&desk.get("identity?stuck=true").await), Vec::<String>::new());
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_what_is_stuck_and_tries_it_again() {
    let desk = Desk::new().await;
    let kinds = desk.command(&["flow", "list"]).await;
    assert!(kinds.contains("identity") && kinds.contains("look, go, cancel"), "{kinds}");
    let path = format!("steps/{}", desk.send(Method::POST, "steps", "").await.id());
    let id = path.trim_start_matches("steps/");
    desk.provider.mood(Mood::Good);
    desk.redeclare("steps.toml", |text| text.replace("attempts = 3", "attempts = 1")).await.unwrap();
    desk.provider.moods(&[Mood::Refusing, Mood::Good]);
    desk.send(Method::POST, &format!("{path}/go"), "").await;
    desk.until(&path, |flow| flow["status"] == "failed").await;
    let stuck = desk.command(&["flow", "list", "steps", "--stuck"]).await;
    assert!(stuck.contains(id) && stuck.contains("failed"), "{stuck}");
    assert!(desk.command(&["flow", "show", "steps", id]).await.contains("go failed: the provider answered 400"));
    assert_eq!(desk.command(&["flow", "retry", "steps", id]).await, "go is tried again\n");
    desk.until(&path, |flow| flow["status"] == "done").await;
    assert_eq!(desk.command(&["flow", "list", "steps", "--stuck"]).await, "no such flow\n");
    desk.stop().await;
}

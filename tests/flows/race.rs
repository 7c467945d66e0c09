//! The race that flows are here for: two handlers change one record at once. The naive code, which reads, changes its copy
//! and writes the whole text back, loses one of the changes; a flow keeps both, a thousand times.

use std::sync::Mutex;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::desk::Desk;

/// What the app kept in Redis: a text by key, read and written whole.
#[derive(Default)]
struct Texts(Mutex<String>);

impl Texts {
    fn get(&self) -> Value {
        serde_json::from_str(&self.0.lock().unwrap()).unwrap()
    }

    fn set(&self, value: &Value) {
        *self.0.lock().unwrap() = value.to_string();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_naive_code_loses_the_confirmation() {
    let texts = Texts::default();
    texts.set(&json!({"auth_completed": false, "messages": []}));
    let both_have_read = Barrier::new(2);
    let user_confirms = async {
        let mut copy = texts.get();
        both_have_read.wait().await;
        copy["auth_completed"] = json!(true);
        texts.set(&copy);
        both_have_read.wait().await;
    };
    let collector = async {
        let mut copy = texts.get();
        both_have_read.wait().await;
        copy["messages"] = json!(["fetching"]);
        both_have_read.wait().await;
        texts.set(&copy);
    };
    tokio::join!(user_confirms, collector);
    assert_eq!(texts.get()["auth_completed"], false, "what the user did is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_times_a_flow_keeps_what_both_wrote() {
    let desk = Desk::new().await;
    for round in 0..1000 {
        let begun = desk.send(Method::POST, "identity", crate::desk::USER).await;
        let path = format!("identity/{}", begun.id());
        assert_eq!(desk.send(Method::POST, &format!("{path}/simple-auth"), "").await.status, 200);
        let confirm = async { desk.send(Method::POST, &format!("{path}/manual-auth-complete"), "").await };
        let said = json!({"type": "info", "message": format!("수집 {round}")}).to_string();
        let collector = async { desk.send(Method::POST, &format!("{path}/messages"), &said).await };
        let (confirmed, appended) = tokio::join!(confirm, collector);
        assert_eq!((confirmed.status, appended.status), (200, 201));
        let flow = desk.get(&path).await.body;
        assert_eq!((&flow["status"], &flow["progress"]["auth_completed"]), (&json!("auth_completed"), &json!(true)));
        let texts = flow["messages"].as_array().unwrap().iter().map(|message| &message["message"]);
        assert_eq!(texts.filter(|text| **text == format!("수집 {round}")).count(), 1);
        assert_eq!(flow["version"], begun.version() + 4);
    }
    desk.stop().await;
}

//! Callers that name a session that is gone: another one serves them, unless they forbid it.

use hyper::Method;
use serde_json::{Value, json};

use crate::stage::{ORDERS, PORTAL, Scene, Stage, id_of};

const UNKNOWN: &str = "0123456789abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_an_old_session_id_is_served_by_the_active_one() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.launch().await;
    let state = stage.live().await;
    let (active, standby) = (id_of(&state, "active"), id_of(&state, "standby"));
    let found = |id: &str, asked: &str, fallback: bool| {
        (200, json!({"session_id": id, "requested_id": asked, "fallback_used": fallback, "epoch": 1}))
    };
    for query in ["", "?fallback=true"] {
        assert_eq!(lookup(&stage, UNKNOWN, query).await, found(&active, UNKNOWN, true));
        assert_eq!(lookup(&stage, &standby, query).await, found(&standby, &standby, false));
    }
    assert_eq!(lookup(&stage, &active, "?fallback=false").await, found(&active, &active, false));
    let (status, problem) = lookup(&stage, UNKNOWN, "?fallback=false").await;
    assert_eq!((status, &problem["code"]), (404, &json!("no_live_session")));

    assert_eq!(
        relayed(&stage, &[("x-session-id", &standby)]).await,
        (200, standby.clone(), "false".into(), "1".into())
    );
    assert_eq!(relayed(&stage, &[("x-session-id", UNKNOWN)]).await, (200, active.clone(), "true".into(), "1".into()));
    let line = format!("[Session Fallback] requested(01234567) → active({})", &active[..8]);
    assert!(stage.log().contains(&line), "{}", stage.log());
    assert_eq!(refused(&stage, UNKNOWN).await, (404, json!("no_live_session")));

    assert!(stage.portal.expire(&stage.served().await));
    assert_eq!(relayed(&stage, &[("x-session-id", &active)]).await, (200, standby.clone(), "true".into(), "2".into()));
    assert_eq!(refused(&stage, &active).await, (404, json!("no_live_session")));
    stage.live().await;
    assert!(stage.portal.expire(&stage.served().await));
    assert_eq!(refused(&stage, &standby).await, (404, json!("no_live_session")), "it ended under the call");
    stage.served().await;
    no_secret_is_told(&stage);
    stage.strike().await;
}

async fn lookup(stage: &Stage, id: &str, query: &str) -> (u16, Value) {
    let answer = stage.get(&format!("{PORTAL}/sessions/{id}{query}")).await;
    (answer.status.as_u16(), answer.json())
}

async fn relayed(stage: &Stage, headers: &[(&str, &str)]) -> (u16, String, String, String) {
    let answer = stage.call(Method::GET, ORDERS, headers).await;
    let [id, fallback, epoch] =
        ["id", "fallback", "epoch"].map(|name| answer.header(&format!("x-session-{name}")).into());
    (answer.status.as_u16(), id, fallback, epoch)
}

async fn refused(stage: &Stage, id: &str) -> (u16, Value) {
    let answer = stage.call(Method::GET, ORDERS, &[("x-session-id", id), ("x-session-fallback", "never")]).await;
    (answer.status.as_u16(), answer.json()["code"].clone())
}

/// Neither the password nor a code is a word of the log.
fn no_secret_is_told(stage: &Stage) {
    let log = stage.log();
    assert!(!log.contains(stage.password.expose()), "the password is in the log");
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let codes: Vec<_> = stage.phone.inbox().iter().map(|sms| digits(&sms.text)).collect();
    assert!(codes.len() >= 3 && codes.iter().all(|code| code.len() == 6));
    let told = log.split(|letter: char| !letter.is_alphanumeric()).find(|word| codes.iter().any(|code| code == word));
    assert_eq!(told, None, "a code is in the log");
}

//! A portal that ends the one session when the other logs in, configured as if it tolerated two: noticed after the second
//! time, told once, and one session goes on serving without any more logins.

use std::fs;

use serde_json::json;

use crate::stage::{Scene, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_kick_each_other_out_are_noticed_before_the_logins_are_spent() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.portal.faults(|faults| faults.single_session = true);
    stage.start().await;
    stage.happened("standby_given_up", 1).await;
    let state = stage.state().await;
    assert_eq!((&state["standby"]["session_id"], &state["epoch"]), (&json!(null), &json!(3)));
    stage.served().await;
    assert_eq!((&state["state"], stage.counters().logins_attempted), (&json!("degraded"), 3));
    let mail = stage.mail(1).await;
    assert!(mail.subject().contains("the portal ends one session when the other logs in"), "{}", mail.subject());
    assert!(mail.body().contains("portals.hanbit.sessions to \"single\""), "{}", mail.body());
    stage.stop().await;
    stage.start().await;
    let served = stage.served().await;
    stage.when("a look", |state| state["active"]["last_check_ok"] == true).await;
    assert_eq!((stage.served().await, stage.counters().logins_attempted), (served, 3));
    assert_eq!(stage.told_of("standby_given_up").await.len(), 1);
    // What the letter advises ends it.
    let configuration = fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    stage.write("nightporter.toml", &configuration.replace("\"parallel\"", "\"single\""));
    stage.reload().await;
    stage.live().await;
    assert!(stage.mail(2).await.subject().contains("works again"));
    assert!(stage.portal.expire(&stage.served().await));
    stage.served().await;
    assert_eq!((stage.counters().logins_attempted, stage.mailbox.count()), (4, 2));
    stage.strike().await;
}

//! Logins that nobody needs yet, and portals that tolerate one session.

use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::secret::Secret;
use serde_json::{Value, json};

use crate::stage::{ORDERS, Scene, Stage, id_of};

const HOUR: Duration = Duration::from_secs(3600);

/// Adds lines to the last section of the configuration, the portal's.
fn also(stage: &Stage, lines: &str) {
    let text = std::fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    stage.write("nightporter.toml", &format!("{text}{lines}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_replaces_the_standby_and_tells_what_does_not_work_while_calls_are_served() {
    let clock = Clock::held(Time::from_millis(1_800_000_000_000));
    let mut stage = Stage::set(Scene { clock, ..Scene::default() }).await;
    also(&stage, "drill = \"1h\"");
    stage.start().await;
    let before = stage.live().await;
    let served = stage.served().await;
    assert_eq!((&before["last_drill"], &before["learned"]["observations"]), (&Value::Null, &json!(0)));
    stage.clock.advance(HOUR + Duration::from_secs(60));
    stage.happened("drill_passed", 1).await;
    let after = stage.live().await;
    assert_eq!((id_of(&after, "active"), &after["epoch"]), (id_of(&before, "active"), &before["epoch"]));
    assert_ne!(id_of(&after, "standby"), id_of(&before, "standby"));
    assert_eq!((&after["last_drill"]["ok"], stage.served().await), (&json!(true), served.clone()));
    assert_eq!((stage.counters().codes_accepted, stage.mailbox.count()), (3, 0));

    stage.portal.set_password("partner01", Secret::new("Hb!another"));
    stage.clock.advance(HOUR + Duration::from_secs(60));
    stage.happened("drill_failed", 1).await;
    let mail = stage.mail(1).await;
    assert!(mail.subject().contains("a login that is not needed yet failed"), "{}", mail.subject());
    assert!(mail.body().contains("Both sessions are alive"), "{}", mail.body());
    let state = stage.state().await;
    assert_eq!((&state["state"], id_of(&state, "standby")), (&json!("live"), id_of(&after, "standby")));
    assert!(state["last_drill"]["ok"] == false && stage.served().await == served);
    stage.clock.advance(HOUR * 50);
    stage.served().await;
    assert_eq!(stage.counters().passwords_rejected, 1, "tried once, ever");
    stage.write("password", "Hb!another");
    stage.reload().await;
    stage.happened("drill_passed", 2).await;
    assert!(stage.mail(2).await.subject().contains("works again"));
    assert_eq!(stage.served().await, served, "all the time");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_login_ends_the_one_before_only_an_expiry_starts_one() {
    for (sessions, standby) in [("cold-standby", json!("empty")), ("single", Value::Null)] {
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let mut stage = Stage::set(Scene { clock, sessions, ..Scene::default() }).await;
        also(&stage, "drill = \"1h\"");
        stage.portal.faults(|faults| faults.single_session = true);
        stage.start().await;
        let before = stage.live().await;
        assert_eq!(before["standby"]["status"], standby, "{sessions}");
        let served = stage.served().await;
        for _ in 0..3 {
            stage.clock.advance(HOUR);
            assert_eq!(stage.served().await, served, "{sessions}");
        }
        assert_eq!(stage.counters().logins_attempted, 1, "{sessions}");
        assert!(stage.portal.expire(&served));
        let answer = stage.get(ORDERS).await;
        assert_eq!((answer.json()["ok"].clone(), answer.header("x-session-epoch")), (json!(true), "2"), "{sessions}");
        stage.live().await;
        assert_eq!((stage.counters().logins_attempted, stage.counters().codes_accepted), (2, 2), "{sessions}");
        assert_eq!((stage.portal.sessions("partner01").len(), stage.mailbox.count()), (1, 0), "{sessions}");
        stage.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_that_share_a_phone_log_in_one_after_the_other() {
    let mut stage = Stage::set(Scene { sessions: "single", ..Scene::default() }).await;
    let text = std::fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    let (_, section) = text.split_once("[portals.hanbit]").unwrap();
    let sections: String = (1..6).map(|number| format!("[portals.p{number}]{section}")).collect();
    stage.write("nightporter.toml", &format!("{text}{sections}"));
    stage.start().await;
    for name in ["hanbit", "p1", "p2", "p3", "p4", "p5"] {
        let path = format!("/api/portals/{name}/relay/api/orders?limit=1");
        let answer = stage.call(hyper::Method::GET, &path, &[("x-park-timeout", "60s")]).await;
        assert_eq!(answer.json()["ok"], true, "{name}");
    }
    let counters = stage.counters();
    assert_eq!((counters.logins_attempted, counters.codes_sent, counters.codes_rejected), (6, 6, 0));
    assert_eq!(stage.told_of("login_failed").await.len() + stage.mailbox.count(), 0);
    stage.strike().await;
}

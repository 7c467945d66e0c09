//! Browsers that die: sessions go on serving, since the jar relays, and find a place again without an SMS.

use std::collections::BTreeSet;
use std::time::Duration;

use nightporter::clock;
use nightporter::demo::phone::Mode;

use crate::stage::{PATIENCE, PORTAL, Scene, Stage, kill_9};

/// Waits for two browsers of which none is among `dead`.
async fn two_others(stage: &Stage, dead: &BTreeSet<i32>) {
    let coming = async {
        while stage.browsers().len() < 2 || !stage.browsers().is_disjoint(dead) {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    assert!(clock::within(PATIENCE, coming).await.is_ok(), "no two new browsers: {:?}", stage.browsers());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_browsers_are_replaced_and_nobody_notices() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.start().await;
    let before = stage.live().await;
    let both = stage.browsers();
    assert_eq!(both.len(), 2, "active and standby do not share a process");
    let first = BTreeSet::from([*both.first().unwrap()]);
    first.iter().copied().for_each(kill_9);
    stage.served().await;
    two_others(&stage, &first).await;
    both.difference(&first).for_each(|pid| kill_9(*pid));
    stage.browsers().into_iter().filter(|pid| !both.contains(pid)).for_each(kill_9);
    stage.served().await;
    two_others(&stage, &both).await;
    stage.happened("browser_replaced", 2).await;
    for slot in ["active", "standby"] {
        let picture = stage.get(&format!("{PORTAL}/screenshot?slot={slot}")).await;
        assert_eq!(picture.status.as_u16(), 200, "{:?}", picture.json());
    }
    let after = stage.live().await;
    assert_eq!((&after["epoch"], &after["active"]["session_id"]), (&before["epoch"], &before["active"]["session_id"]));
    assert_eq!((stage.counters().codes_sent, stage.told_of("expired").await.len()), (2, 0));

    // They die once more, in the middle of a login that an operator asked for: its other attempt goes through.
    stage.phone.set_mode(Mode::Offline);
    assert_eq!(stage.wish("reauth").await.0, 202);
    stage.phone.received(3, PATIENCE).await.unwrap();
    stage.browsers().into_iter().for_each(kill_9);
    stage.served().await;
    stage.happened("login_failed", 1).await;
    assert!(stage.told_of("login_failed").await[0].starts_with("browser_failed: "));
    stage.phone.received(4, PATIENCE).await.unwrap();
    stage.phone.set_mode(Mode::Prompt);
    stage.happened("authenticated", 3).await;
    assert_eq!((stage.counters().codes_accepted, stage.mailbox.count()), (3, 0));
    stage.strike().await;
}

//! Stale CSRF tokens: renewed from the page, once for all callers, and never by a login. A refusal that means something
//! else is the caller's to see.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::stage::{PATIENCE, PORTAL, Scene, Stage, kill_9};

const CALLERS: usize = 16;

/// Places an order; returns the status and the portal's word for what was wrong.
pub(crate) async fn order(stage: &Stage, key: &str) -> (u16, Value) {
    let wish = json!({"recipient": "홍길동", "item": "떡볶이"});
    let request = stage.post(&format!("{PORTAL}/relay/api/orders")).header("idempotency-key", key);
    let answer = request.json(&wish).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json::<Value>().await.unwrap()["error"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_token_is_renewed_once_for_all_and_what_it_cannot_help_is_told() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.start().await;
    let before = stage.live().await;
    let pages = stage.counters().home_pages;
    stage.portal.renew_tokens("partner01");
    let keys: Vec<_> = (0..CALLERS).map(|number| format!("k{number}")).collect();
    let made = join_all(keys.iter().map(|key| order(&stage, key))).await;
    assert!(made.iter().all(|made| *made == (201, Value::Null)), "{made:?}");
    assert!(keys.iter().all(|key| stage.portal.submissions(key) == 1));
    let counters = stage.counters();
    assert_eq!((counters.home_pages, counters.orders_created), (pages + 1, CALLERS as u64));
    assert!((1..=CALLERS as u64).contains(&counters.csrf_refused), "{counters:?}");
    // The page shows the same token: it was not about that.
    stage.portal.faults(|faults| faults.orders_forbidden = true);
    assert_eq!(order(&stage, "x").await, (403, json!("forbidden")));
    assert_eq!(stage.counters().home_pages, pages + 2);
    // The page shows a new one, and that does not help either.
    stage.portal.renew_tokens("partner01");
    assert_eq!(order(&stage, "y").await, (403, json!("forbidden")));
    let counters = stage.counters();
    assert_eq!((counters.home_pages, counters.logins_attempted), (pages + 3, 2));
    stage.portal.heal();
    assert_eq!(order(&stage, "z").await, (201, Value::Null));
    let after = stage.state().await;
    assert_eq!((&after["state"], &after["active"]["session_id"]), (&json!("live"), &before["active"]["session_id"]));
    assert_eq!((stage.told_of("expired").await.len(), stage.mailbox.count()), (0, 0));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_token_waits_for_a_browser_that_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let (program, broken) = (dir.path().join("browser"), dir.path().join("broken"));
    let script =
        format!("#!/bin/sh\n[ ! -e {} ] || exit 1\nexec /usr/lib/chromium/chromium \"$@\"\n", broken.display());
    fs::write(&program, script).unwrap();
    for path in [dir.path(), &program] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let own = format!("[browser]\nbinary = \"{}\"\n[login]\n", program.display());
    let mut stage = Stage::set(Scene { recipe: &[("[login]\n", &own)], ..Scene::default() }).await;
    stage.start().await;
    stage.live().await;
    fs::write(&broken, "").unwrap();
    stage.browsers().into_iter().for_each(kill_9);
    stage.portal.renew_tokens("partner01");
    let mends = async {
        // Once for a first attempt, and twice for those that the caller sees nothing of.
        let refused = |counted: &nightporter::demo::portal::Counters| counted.csrf_refused >= 3;
        stage.portal.counted("partner01", PATIENCE, refused).await.unwrap();
        fs::remove_file(&broken).unwrap();
    };
    let (made, ()) = tokio::join!(order(&stage, "k"), mends);
    assert_eq!(made, (201, Value::Null));
    assert_eq!((stage.counters().codes_sent, stage.portal.submissions("k")), (2, 1));
    stage.strike().await;
}

//! A batch job whose session dies under it, in every way in which a portal can say so.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use nightporter::demo::portal::LoggedOut;

use crate::stage::{Scene, Stage};

const WORKERS: usize = 16;
const CALLS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_never_sees_an_expiry_however_the_portal_tells_it() {
    let mut stage = Stage::set(Scene::default()).await;
    stage.start().await;
    let mut epoch = stage.live().await["epoch"].as_u64().unwrap();
    for way in [LoggedOut::Unauthorized, LoggedOut::Redirect, LoggedOut::LoginPage, LoggedOut::PoliteJson] {
        stage.portal.faults(|faults| faults.logged_out = way);
        let sessions = batch(&stage).await;
        assert_eq!(sessions.len(), 2, "{way:?}: {sessions:?}");
        let state = stage.live().await;
        epoch += 1;
        assert_eq!(state["epoch"], epoch, "{way:?}");
    }
    assert_eq!(stage.told_of("failover").await.len(), 4);
    assert_eq!((stage.counters().codes_accepted, stage.counters().logins_attempted), (6, 6));
    assert_eq!(stage.mailbox.count(), 0, "nobody is needed");
    stage.strike().await;
}

/// Calls from many workers, the serving session ended in the middle; returns the sessions that served.
async fn batch(stage: &Stage) -> BTreeSet<String> {
    let next = AtomicUsize::new(0);
    let worker = || async {
        let mut served = BTreeSet::new();
        loop {
            match next.fetch_add(1, Ordering::SeqCst) {
                number if number >= CALLS => return served,
                number if number == CALLS / 2 => assert!(stage.portal.expire(&stage.served().await)),
                _ => drop(served.insert(stage.served().await)),
            }
        }
    };
    futures_util::future::join_all((0..WORKERS).map(|_| worker())).await.into_iter().flatten().collect()
}

//! Renewals and drills: when they begin, what they come to, and that they never endanger what lives.

use super::*;
use crate::browsers::SavedState;
use crate::portals::learning::Pulse;
use crate::portals::login::LoginFailure;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Teaches the portal that its sessions end at the age of `limit`.
async fn teach(scene: &Scene, limit: Duration) {
    let now = scene.portal.now();
    let lives = |record: &mut PortalRecord| {
        for days in [30, 20, 10] {
            let (born, pulse) = (now - DAY * days, Pulse { alive_at: now - DAY * days + limit, pause: 60_000 });
            record.lives.ended(born, &pulse, pulse.alive_at + Duration::from_secs(60));
        }
    };
    scene.portal.change(lives).await.unwrap();
}

fn purpose(scene: &Scene, keeper: &Keeper) -> Option<Purpose> {
    scene.portal.live().borrow().login.as_ref().map(|_| keeper.begun.purpose)
}

/// Plans until a login begins, an hour at a time and as if every check found all alive, for at most `most`; returns after
/// how long it did.
async fn begins(scene: &Scene, keeper: &mut Keeper, most: Duration) -> Option<Duration> {
    let start = scene.portal.now();
    while scene.portal.now().since(start) < most {
        scene.advance(HOUR / 4);
        let now = scene.portal.now();
        let record = keeper.record();
        for (_, slot) in record.slots() {
            let session = scene.portal.session(&slot.session_id).unwrap();
            keeper.settle(Done::Checked(session, Verdict::Alive)).await.unwrap();
        }
        keeper.plan_login(now).await.unwrap();
        if scene.portal.live().borrow().login.is_some() {
            return Some(now.since(start));
        }
    }
    None
}

/// The login under way succeeds with a session of this id.
async fn succeeds(scene: &Scene, keeper: &mut Keeper, id: &str) {
    cut(scene, keeper).await;
    let serving = keeper.record().serving().unwrap().session_id.clone();
    let identity = scene.portal.session(&serving).unwrap().identity().clone();
    let session = Session::new(id.to_owned(), SavedState::default(), BTreeMap::new(), identity);
    session.set_checked(scene.portal.now(), true);
    keeper.settle(Done::LoggedIn(Arc::new(session))).await.unwrap();
}

async fn fails(scene: &Scene, keeper: &mut Keeper, cause: Cause) {
    cut(scene, keeper).await;
    let detail = "step 3".to_owned();
    let failure = LoginFailure { cause, detail, picture: None, page: None, steps: Vec::new() };
    keeper.settle(Done::LoginFailed(NoLogin::Failed(failure))).await.unwrap();
}

/// Ends the job of the login under way, which waits for the phone.
async fn cut(scene: &Scene, keeper: &mut Keeper) {
    assert!(scene.portal.live().borrow().login.is_some());
    keeper.running[&Job::Login].abort();
    let ended = clock::within(PATIENCE, keeper.jobs.join_next_with_id()).await.unwrap().unwrap();
    keeper.ended(ended).await.unwrap();
}

#[tokio::test]
async fn the_standby_is_renewed_and_takes_over_before_the_active_ends_of_age() {
    let (scene, mut keeper) = scene().await;
    let limit = DAY * 2;
    teach(&scene, limit).await;
    scene.logged_in("a").await;
    scene.logged_in("b").await;
    let start = scene.portal.now();
    for round in 0..6 {
        let id = format!("fresh{round}");
        begins(&scene, &mut keeper, limit).await.unwrap();
        assert_eq!(purpose(&scene, &keeper), Some(Purpose::Renewal));
        let record = keeper.record();
        for (role, slot) in record.slots() {
            let age = scene.portal.now().since(slot.authenticated_at);
            assert!(age < limit * 9 / 10, "{round}: the {} is {age:?} old", role.as_str());
        }
        succeeds(&scene, &mut keeper, &id).await;
        let record = keeper.record();
        assert_eq!(record.standby.as_ref().unwrap().session_id, id, "it serves only later");
        let apart = record.standby.as_ref().unwrap().authenticated_at;
        assert!(apart.since(record.active.as_ref().unwrap().authenticated_at) > limit / 6, "{round}");
    }
    let record = keeper.record();
    assert!(record.epoch >= 5 && record.lives.learned(std::iter::empty(), start).observations == 3);
    assert!(record.last_drill.as_ref().unwrap().ok, "a renewal counts as a drill");
    assert!(!scene.events(0).contains(&"expired") && scene.events(0).contains(&"renewed"));
    assert!(scene.portal.now().since(start) > limit * 2, "not more often than that takes");
    scene.end().await;
}

#[tokio::test]
async fn a_drill_comes_once_a_week_and_a_restart_neither_repeats_nor_forgets_it() {
    let (scene, mut keeper) = scene().await;
    scene.logged_in("a").await;
    scene.logged_in("b").await;
    let after = begins(&scene, &mut keeper, DAY * 9).await.unwrap();
    assert!(after > DAY * 6 && after < DAY * 8, "{after:?}");
    assert_eq!(purpose(&scene, &keeper), Some(Purpose::Drill));
    succeeds(&scene, &mut keeper, "c").await;
    assert_eq!(scene.events(scene.events(0).len() - 2), ["authenticated", "drill_passed"]);
    let view = scene.portal.view().unwrap();
    assert!(view.last_drill.unwrap().ok && view.state == "live");
    // Another process: nothing at once, the next one a week later.
    let again = Portal::load("acme", scene.portal.settings().clone(), scene.portal.tools().clone()).unwrap();
    for (_, slot) in keeper.record().slots() {
        again.session(&slot.session_id).unwrap().set_checked(again.now(), true);
    }
    let mut restarted = Keeper::new(again.clone());
    restarted.plan_login(again.now()).await.unwrap();
    let next = again.live().borrow().next_drill_at.unwrap();
    assert!(again.live().borrow().login.is_none() && next > again.now() + DAY * 6);
    scene.advance(DAY * 30);
    for (_, slot) in keeper.record().slots() {
        again.session(&slot.session_id).unwrap().set_checked(again.now(), true);
    }
    restarted.plan_login(again.now()).await.unwrap();
    assert!(again.live().borrow().login.is_some(), "one that was missed is made up for");
    scene.end().await;
}

#[tokio::test]
async fn a_drill_that_fails_costs_no_session_and_is_told_when_it_is_final() {
    let (scene, mut keeper) = scene().await;
    scene.logged_in("a").await;
    scene.logged_in("b").await;
    begins(&scene, &mut keeper, DAY * 9).await.unwrap();
    for attempt in 1..=3 {
        assert!(keeper.record().alert.is_none(), "{attempt}");
        fails(&scene, &mut keeper, Cause::PageChanged).await;
        if attempt < 3 {
            begins(&scene, &mut keeper, HOUR).await.unwrap();
            assert_eq!(purpose(&scene, &keeper), Some(Purpose::Drill));
        }
    }
    let record = keeper.record();
    assert!(record.whole(true) && record.recovery.given_up.is_none());
    let alert = record.alert.clone().unwrap();
    assert!(alert.cause == Cause::PageChanged && alert.detail.starts_with("a drill failed"), "{alert:?}");
    keeper.tell(&record).await.unwrap();
    keeper.tell(&keeper.record()).await.unwrap();
    let told = scene.portal.tools().alerts.list().await.unwrap();
    assert!(told.len() == 1 && told[0].open, "that the sessions live does not take it back: {told:?}");
    assert!(told[0].title.contains("not needed yet"), "{}", told[0].title);
    assert_eq!(scene.events(scene.events(0).len() - 1), ["drill_failed"]);
    // The next day it works again.
    let after = begins(&scene, &mut keeper, DAY * 2).await.unwrap();
    assert!(after >= DAY * 3 / 4 && after < DAY * 5 / 4, "{after:?}");
    succeeds(&scene, &mut keeper, "c").await;
    keeper.tell(&keeper.record()).await.unwrap();
    assert!(!scene.portal.tools().alerts.list().await.unwrap()[0].open);
    scene.end().await;
}

#[tokio::test]
async fn no_login_is_made_ahead_of_need_while_anything_is_the_matter() {
    let (scene, mut keeper) = scene().await;
    let session = scene.logged_in("a").await;
    scene.logged_in("b").await;
    scene.advance(DAY * 10);
    let plan = async |keeper: &mut Keeper| {
        keeper.plan_login(scene.portal.now()).await.unwrap();
        scene.portal.live().borrow().login.is_some()
    };
    session.set_checked(scene.portal.now(), false);
    assert!(!plan(&mut keeper).await, "nobody knows whether the portal is there");
    session.set_checked(scene.portal.now(), true);
    let budget = |record: &mut PortalRecord| record.logins = vec![scene.portal.now(); 4];
    scene.portal.change(budget).await.unwrap();
    assert!(!plan(&mut keeper).await, "one login is left for a recovery");
    scene.portal.change(|record| record.logins.clear()).await.unwrap();
    scene.portal.change(|record| record.recovery.failures = 1).await.unwrap();
    assert!(!plan(&mut keeper).await);
    scene.portal.change(|record| record.recovery.failures = 0).await.unwrap();
    assert!(plan(&mut keeper).await);
    scene.end().await;
}

#[tokio::test]
async fn a_drill_during_which_a_session_ends_is_the_recovery() {
    let (scene, mut keeper) = scene().await;
    let active = scene.logged_in("a").await;
    scene.logged_in("b").await;
    begins(&scene, &mut keeper, DAY * 9).await.unwrap();
    scene.portal.expire("a", "401").await.unwrap();
    keeper.looked(&active, Ok(Verdict::Expired("401".to_owned()))).await.unwrap();
    keeper.plan_login(scene.portal.now()).await.unwrap();
    assert_eq!(purpose(&scene, &keeper), Some(Purpose::Need));
    fails(&scene, &mut keeper, Cause::NoSms).await;
    let record = keeper.record();
    assert_eq!((record.recovery.failures, record.upkeep.failures), (1, 0), "the first of the recovery's attempts");
    scene.end().await;
}

#[tokio::test]
async fn where_one_session_is_tolerated_only_need_starts_a_login() {
    for sessions in [Sessions::Single, Sessions::ColdStandby] {
        let (scene, mut keeper) = scene_of(sessions).await;
        teach(&scene, DAY).await;
        scene.logged_in("a").await;
        assert_eq!(begins(&scene, &mut keeper, DAY * 9).await, None, "{sessions:?}");
        assert_eq!(scene.portal.view().unwrap().state, "live");
        scene.end().await;
    }
}

#[tokio::test]
async fn checks_come_faster_when_sessions_fell_asleep_between_them() {
    let (scene, keeper) = scene().await;
    let now = scene.portal.now();
    let every = Duration::from_secs(60);
    assert!(keeper.next_look(now).since(now) >= every * 9 / 10);
    let lives = |record: &mut PortalRecord| {
        for days in [30, 20, 10] {
            let born = now - DAY * days;
            record.lives.ended(born, &Pulse::new(born), born + every);
        }
    };
    scene.portal.change(lives).await.unwrap();
    assert_eq!(scene.portal.view().unwrap().learned.idle, Some(60));
    assert!(keeper.next_look(now).since(now) <= every * 11 / 20);
    scene.end().await;
}

#[tokio::test]
async fn the_end_of_a_session_is_learned_from_when_a_second_look_confirms_it() {
    let (scene, mut keeper) = scene().await;
    let session = scene.logged_in("a").await;
    scene.logged_in("b").await;
    let observed = |keeper: &Keeper| keeper.record().learned(scene.portal.now()).observations;
    for alive in [true, false] {
        for _ in 0..30 {
            scene.advance(Duration::from_secs(60));
            keeper.settle(Done::Checked(session.clone(), Verdict::Alive)).await.unwrap();
        }
        scene.advance(Duration::from_secs(60));
        let expired = || Verdict::Expired("401".to_owned());
        keeper.settle(Done::Checked(session.clone(), expired())).await.unwrap();
        assert_eq!(observed(&keeper), 0, "one verdict is none");
        let second = if alive { Verdict::Alive } else { expired() };
        keeper.looked(&session, Ok(second)).await.unwrap();
    }
    assert_eq!(observed(&keeper), 1);
    let slot = keeper.record().standby.clone().unwrap();
    assert_eq!((slot.session_id.as_str(), slot.pulse.pause), ("a", 60_000), "{slot:?}");
    scene.end().await;
}

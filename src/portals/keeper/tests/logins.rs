//! When a login begins, waits, and is given up before the portal hears of it.

use super::*;
use crate::portals::inbox::Busy;
use crate::portals::login::LoginFailure;
use crate::portals::state::EventKind;

fn login_of(scene: &Scene) -> Option<(bool, bool)> {
    scene.portal.live().borrow().login.as_ref().map(|login| (login.queued, login.confirmed))
}

/// Lets the jobs that were aborted come to their end.
async fn drain(keeper: &mut Keeper) {
    while let Some(ended) = clock::within(PATIENCE, keeper.jobs.join_next_with_id()).await.unwrap() {
        keeper.ended(ended).await.unwrap();
    }
}

#[tokio::test]
async fn a_busy_phone_is_no_attempt_and_nobodys_fault() {
    let (scene, mut keeper) = scene().await;
    let now = scene.portal.now();
    for busy in [Busy::Full, Busy::Deadline] {
        keeper.settle(Done::LoginFailed(NoLogin::Busy(busy))).await.unwrap();
    }
    let record = keeper.record();
    assert_eq!((record.recovery.failures, &record.last_failure, &record.alert), (0, &None, &None));
    keeper.plan_login(now).await.unwrap();
    assert_eq!(login_of(&scene), None, "not at once again");
    scene.advance(PHONE_AGAIN * 2);
    keeper.plan_login(scene.portal.now()).await.unwrap();
    assert_eq!(login_of(&scene), Some((true, true)));
    // Nor for a day when the clock is set back meanwhile.
    keeper.withdraw(scene.portal.now()).await.unwrap();
    drain(&mut keeper).await;
    keeper.phone_again = Some(scene.portal.now() + PHONE_AGAIN);
    scene.portal.tools().clock.set(now - Duration::from_secs(86_400));
    keeper.plan_login(scene.portal.now()).await.unwrap();
    assert_eq!(login_of(&scene), Some((true, true)));
    scene.end().await;
}

#[tokio::test]
async fn twenty_portals_that_want_one_phone_at_once_wait_for_their_turns() {
    let (mut scene, keeper) = scene().await;
    scene.start(keeper);
    let (settings, tools) = (scene.portal.settings().clone(), scene.portal.tools().clone());
    let names: Vec<_> = (1..20).map(|n| format!("p{n}")).collect();
    let others = names.iter().map(|name| Portal::load(name, settings.clone(), tools.clone()).unwrap());
    let portals: Vec<_> = others.chain([scene.portal.clone()]).collect();
    for portal in &portals[..19] {
        let pulse = scene.life.heartbeat(format!("keeper {}", portal.name()), PATIENCE);
        scene.life.spawn("keeper", Keeper::new(portal.clone()).run(scene.life.stopping(), pulse));
    }
    let noted = |portal: &Portal, kind| {
        let live = portal.live();
        let record = Arc::clone(&live.borrow().record);
        record.events.iter().filter(|event| event.kind == kind).count()
    };
    for portal in &portals {
        let mut live = portal.live();
        let queued = live.wait_for(|live| live.login.as_ref().is_some_and(|login| login.queued && login.confirmed));
        clock::within(PATIENCE, queued).await.unwrap().unwrap();
        assert_eq!(noted(portal, EventKind::LoginStarted), 1, "{}", portal.name());
    }
    // There is no browser here: each login fails by that, and only when its turn has come.
    assert!(portals.iter().all(|portal| noted(portal, EventKind::LoginFailed) == 0));
    scene.taken = None;
    for portal in &portals {
        let failed = |live: &Live| live.record.last_failure.clone();
        let mut live = portal.live();
        let seen = clock::within(PATIENCE, live.wait_for(|live| failed(live).is_some())).await.unwrap().unwrap();
        assert_eq!(failed(&seen).unwrap().cause, Cause::BrowserFailed, "{}", portal.name());
        assert_eq!(seen.record.logins.len(), 0);
    }
    scene.end().await;
}

#[tokio::test]
async fn a_login_that_still_waits_for_the_phone_is_given_up_when_the_session_lives_after_all() {
    let (scene, mut keeper) = scene().await;
    let [one, two] = [scene.logged_in("a").await, scene.logged_in("b").await];
    scene.portal.expire(two.id(), "401").await.unwrap();
    keeper.looked(&two, Ok(Verdict::Expired("401".to_owned()))).await.unwrap();
    keeper.plan_login(scene.portal.now()).await.unwrap();
    assert_eq!(login_of(&scene), Some((true, true)));
    scene.portal.change(|record| record.reinstate("b", "", Time::from_millis(2))).await.unwrap();
    keeper.plan_login(scene.portal.now()).await.unwrap();
    drain(&mut keeper).await;
    assert_eq!((login_of(&scene), keeper.record().serving().unwrap().session_id.as_str()), (None, one.id()));
    assert_eq!(scene.events(scene.events(0).len() - 2), ["restored", "interrupted"]);
    scene.end().await;
}

#[tokio::test]
async fn a_cold_standby_gets_ready_at_the_first_verdict_and_logs_in_at_the_second() {
    let (scene, mut keeper) = scene_of(Sessions::ColdStandby).await;
    let session = scene.logged_in("a").await;
    let now = scene.portal.now();
    keeper.plan_login(now).await.unwrap();
    assert_eq!(login_of(&scene), None, "no login that nobody needs");
    for alive in [true, false] {
        scene.portal.expire("a", "401").await.unwrap();
        keeper.plan_login(now).await.unwrap();
        assert_eq!(login_of(&scene), None, "nobody looks yet");
        keeper.start(Job::SecondLook("a".to_owned()), std::future::pending());
        let before = scene.events(0).len();
        keeper.plan_login(now).await.unwrap();
        assert_eq!(login_of(&scene), Some((true, false)), "up to where the portal would hear of it");
        assert!(scene.events(before).is_empty());
        let verdict = if alive { Verdict::Alive } else { Verdict::Expired("401".to_owned()) };
        keeper.looked(&session, Ok(verdict)).await.unwrap();
        keeper.plan_login(now).await.unwrap();
        if alive {
            keeper.running[&Job::SecondLook("a".to_owned())].abort();
            drain(&mut keeper).await;
        }
        assert_eq!(login_of(&scene), (!alive).then_some((true, true)));
        assert_eq!(scene.events(before), [if alive { "restored" } else { "login_started" }]);
    }
    scene.end().await;
}

#[tokio::test]
async fn what_fails_before_it_was_needed_has_not_failed() {
    let (scene, mut keeper) = scene_of(Sessions::ColdStandby).await;
    scene.logged_in("a").await;
    keeper.begun.confirmed = false;
    let (cause, detail) = (Cause::PortalDown, "refused".to_owned());
    let failure = LoginFailure { cause, detail, picture: None, page: None, steps: Vec::new() };
    keeper.settle(Done::LoginFailed(NoLogin::Failed(failure))).await.unwrap();
    let record = keeper.record();
    assert_eq!((record.recovery.failures, &record.last_failure), (0, &None));
    scene.end().await;
}

#[tokio::test]
async fn nothing_known_is_never_expired_and_is_looked_at_again_soon() {
    let (scene, mut keeper) = scene().await;
    let session = scene.logged_in("a").await;
    scene.logged_in("b").await;
    for _ in 0..100 {
        scene.advance(LOOK_AGAIN);
        keeper.settle(Done::Checked(session.clone(), Verdict::Unknown("timed out".to_owned()))).await.unwrap();
        let next = keeper.looks[&("a".to_owned(), false)];
        assert_eq!(next, scene.portal.now() + LOOK_AGAIN);
        keeper.plan_login(scene.portal.now()).await.unwrap();
    }
    let record = keeper.record();
    assert!(record.whole(true) && record.logins.is_empty() && login_of(&scene).is_none());
    keeper.settle(Done::Checked(session.clone(), Verdict::Alive)).await.unwrap();
    assert_eq!(session.checked(), Some((scene.portal.now(), true)));
    scene.end().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_a_day_stops_no_keeper() {
    let (scene, keeper) = scene().await;
    let day = Duration::from_secs(86_400);
    let past = scene.portal.now() - day;
    // As the last process left it: the next attempt in a minute, by the clock of then.
    let wait = |record: &mut PortalRecord| record.recovery.retry_at = Some(past + day + Duration::from_secs(60));
    scene.portal.change(wait).await.unwrap();
    scene.start(keeper);
    scene.when(|live| live.next_check_at.is_none()).await;
    scene.portal.tools().clock.set(past);
    scene.advance(LONGEST_SLEEP);
    scene.when(|live| live.login.is_some()).await;
    scene.end().await;
}

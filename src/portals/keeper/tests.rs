//! The keeper's own behaviour, where no browser is needed to see it: the phone is taken, so that a login waits.

mod logins;
mod upkeep;

use std::path::Path;

use super::*;
use crate::clock;
use crate::lifecycle::Lifecycle;
use crate::portals::inbox::Turn;
use crate::portals::portal::{Live, Sessions, Settings};
use crate::portals::recipe::{Cause, Recipe};
use crate::portals::tests;
use crate::secret::Secret;
use crate::store::{Decision, Expires, Stored};

/// How long is waited for what must come: beyond it the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const RECIPE: &str = r##"
base_url = "http://127.0.0.1:9"
[login]
steps = [
  { goto = "/login" },
  { fill = "#user", value = "{{username}}" },
  { fill = "#pass", value = "{{password}}" },
  { click = "#go", sends_code = true },
  { code = "#code" },
]
[code]
[check]
request = { path = "/" }
alive = { status = [200] }
expired = [ { status = [401] } ]
"##;

/// A portal whose phone is taken.
struct Scene {
    portal: Portal,
    life: Lifecycle,
    taken: Option<Turn>,
    _dir: tempfile::TempDir,
}

async fn scene() -> (Scene, Keeper) {
    scene_of(Sessions::Parallel).await
}

async fn scene_of(sessions: Sessions) -> (Scene, Keeper) {
    let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
    let tools = tests::tools(dir.path(), &life);
    let taken = tools.inbox.turn(&["office"], "another", tools.clock.now() + PATIENCE).await.unwrap();
    let settings = Settings {
        pool: tools.pool.clone(),
        recipe: Arc::new(Recipe::parse(RECIPE, Path::new("acme.toml")).unwrap()),
        username: "ops".to_owned(),
        password: Secret::new("s3cret"),
        totp_secret: None,
        phones: vec!["office".to_owned()],
        sessions,
        quiet_hours: "02:00-05:00".parse().unwrap(),
        drill: Some(Duration::from_secs(7 * 86_400)),
        basis: String::new(),
    };
    let portal = Portal::load("acme", settings, tools).unwrap();
    let keeper = Keeper::new(portal.clone());
    (Scene { portal, life, taken: Some(taken), _dir: dir }, keeper)
}

impl Scene {
    fn start(&self, keeper: Keeper) {
        let (stop, pulse) = (self.life.stopping(), self.life.heartbeat("keeper acme", PATIENCE));
        self.life.spawn("keeper acme", keeper.run(stop, pulse));
    }

    async fn logged_in(&self, id: &str) -> Arc<Session> {
        tests::logged_in(&self.portal, id).await
    }

    fn advance(&self, span: Duration) {
        self.portal.tools().clock.advance(span);
    }

    /// The kinds of events, oldest first, beginning after the first `but`.
    fn events(&self, but: usize) -> Vec<&'static str> {
        self.portal.live().borrow().record.events.iter().skip(but).map(|event| event.kind.as_str()).collect()
    }

    async fn when(&self, wanted: impl FnMut(&Live) -> bool) {
        let mut live = self.portal.live();
        clock::within(PATIENCE, live.wait_for(wanted)).await.unwrap().unwrap();
    }

    async fn end(self) {
        assert!(self.life.shutdown(PATIENCE).await);
    }
}

#[tokio::test]
async fn jobs_go_on_while_the_keeper_waits_for_something_else() {
    let (scene, mut keeper) = scene().await;
    let (tell, told) = oneshot::channel();
    keeper.start(Job::Login, async move {
        let _ = tell.send(());
        std::future::pending().await
    });
    clock::within(PATIENCE, told).await.unwrap().unwrap();
    scene.end().await;
}

#[tokio::test]
async fn a_login_that_is_cut_by_the_end_of_the_process_has_not_failed() {
    // Which of two things that happen at once is seen first was left to chance.
    for _ in 0..10 {
        let (scene, keeper) = scene().await;
        scene.start(keeper);
        scene.when(|live| live.login.is_some()).await;
        let store = scene.portal.tools().store.clone();
        scene.end().await;
        let record = store.get::<PortalRecord>("acme").unwrap().unwrap().value;
        assert_eq!((record.recovery.failures, record.last_failure), (0, None));
        assert!(record.login.is_some(), "for the next start to tell");
    }
}

#[tokio::test]
async fn a_pause_cuts_the_login_that_is_under_way() {
    let (scene, keeper) = scene().await;
    scene.start(keeper);
    scene.when(|live| live.login.is_some()).await;
    scene.portal.pause(true).await.unwrap();
    scene.when(|live| live.login.is_none()).await;
    assert_eq!(scene.events(0), ["login_started", "paused", "interrupted"]);
    scene.portal.pause(false).await.unwrap();
    scene.when(|live| live.login.is_some()).await;
    scene.end().await;
}

#[tokio::test]
async fn a_call_that_needs_fresh_values_is_answered_during_a_pause() {
    let (scene, keeper) = scene().await;
    scene.portal.pause(true).await.unwrap();
    scene.start(keeper);
    let asked = clock::within(PATIENCE, scene.portal.refresh("gone", None));
    assert_eq!(asked.await.unwrap(), Err(Kind::BrowserFailed));
    scene.end().await;
}

#[tokio::test]
async fn a_change_whose_maker_went_away_is_noticed() {
    let (scene, keeper) = scene().await;
    scene.start(keeper);
    scene.when(|live| live.login.is_some()).await;
    // As when the client of a pause leaves between the change and its publication.
    let pause = |old: Option<&Stored<PortalRecord>>| {
        let record = PortalRecord { paused: true, ..old.unwrap().value.clone() };
        Decision::Put(record, Expires::Never, ())
    };
    scene.portal.tools().store.update("acme", pause).await.unwrap();
    scene.portal.tools().clock.advance(LONGEST_SLEEP);
    scene.when(|live| live.record.paused && live.login.is_none()).await;
    scene.end().await;
}

#[tokio::test]
async fn a_portal_that_says_neither_yes_nor_no_is_told_of_and_costs_no_login() {
    let (scene, mut keeper) = scene().await;
    let [session, standby] = [scene.logged_in("a").await, scene.logged_in("b").await];
    for session in [&session, &standby] {
        scene.portal.expire(session.id(), "redirected to /login").await.unwrap();
    }
    let unknown = || Ok(Verdict::Unknown("answered 403".to_owned()));
    keeper.looked(&session, unknown()).await.unwrap();
    assert!(keeper.record().alert.is_none());
    scene.portal.tools().clock.advance(DARK);
    keeper.looked(&session, unknown()).await.unwrap();
    let record = keeper.record();
    let alert = record.alert.as_ref().unwrap();
    assert!(alert.cause == Cause::PortalDown && alert.detail.ends_with("answered 403"), "{alert:?}");
    assert_eq!((keeper.missing(&record), record.logins.len()), (None, 0));
    scene.end().await;
}

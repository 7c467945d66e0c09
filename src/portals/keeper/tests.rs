//! The keeper's own behaviour, where no browser is needed to see it: the phone is taken, so that a login waits.

use std::path::Path;

use super::*;
use crate::alerts::{self, Alerts};
use crate::browsers::{self, Identity, Pool, SavedState};
use crate::clock::{self, Clock};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::outbox::{self, Outbox};
use crate::portals::inbox::{Inbox, Turn};
use crate::portals::portal::{Live, Settings, Tools};
use crate::portals::recipe::{Cause, Recipe};
use crate::portals::upstream::Upstream;
use crate::secret::{Secret, Vault};
use crate::store::{Decision, Durability, Expires, Store, Stored};

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
    _taken: Turn,
    _dir: tempfile::TempDir,
}

async fn scene() -> (Scene, Keeper) {
    let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(Time::from_millis(1)));
    let (random, vault) = (Random::seeded(1), Arc::new(Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap()));
    let store = Store::open(&dir.path().join("store"), Durability::Interval, clock.clone(), &life).unwrap();
    let nobody = outbox::Settings { mail: None, telegram: None, webhook: None };
    let outbox = Outbox::start(store.clone(), vault.clone(), clock.clone(), random.clone(), nobody, &life).unwrap();
    let quiet = alerts::Settings { cooldown: Duration::from_secs(600), channels: Vec::new(), public_url: None };
    let alerts = Alerts::start(store.clone(), outbox, vault.clone(), clock.clone(), random.clone(), quiet, &life);
    let inbox = Inbox::new(store.clone(), clock.clone(), vault.clone(), &life);
    let taken = inbox.turn("office", "another", clock.now() + PATIENCE).await.unwrap();
    let place = browsers::Settings { runtime_dir: dir.path().join("browsers"), ..browsers::Settings::default() };
    let pool = Pool::new(&life, place).unwrap();
    let upstream = Upstream::new().unwrap();
    let settings = Settings {
        pool: pool.clone(),
        recipe: Arc::new(Recipe::parse(RECIPE, Path::new("acme.toml")).unwrap()),
        username: "ops".to_owned(),
        password: Secret::new("s3cret"),
        totp_secret: None,
        phone: Some("office".to_owned()),
        sessions: Sessions::Parallel,
        basis: String::new(),
    };
    let tools = Tools { store, clock, random, vault, inbox, pool, upstream, alerts };
    let (portal, orders) = Portal::load("acme", settings, tools).unwrap();
    let keeper = Keeper::new(portal.clone(), orders);
    (Scene { portal, life, _taken: taken, _dir: dir }, keeper)
}

impl Scene {
    fn start(&self, keeper: Keeper) {
        let (stop, pulse) = (self.life.stopping(), self.life.heartbeat("keeper acme", PATIENCE));
        self.life.spawn("keeper acme", keeper.run(stop, pulse));
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
    }
}

#[tokio::test]
async fn a_pause_cuts_the_login_that_is_under_way() {
    let (scene, keeper) = scene().await;
    scene.start(keeper);
    scene.when(|live| live.login.is_some()).await;
    scene.portal.pause(true).await.unwrap();
    scene.when(|live| live.login.is_none()).await;
    scene.portal.pause(false).await.unwrap();
    scene.when(|live| live.login.is_some()).await;
    scene.end().await;
}

#[tokio::test]
async fn a_call_that_needs_fresh_values_is_answered_during_a_pause() {
    let (scene, keeper) = scene().await;
    scene.portal.pause(true).await.unwrap();
    scene.start(keeper);
    let asked = clock::within(PATIENCE, scene.portal.refresh("gone"));
    assert!(!asked.await.unwrap());
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
    let identity = Identity {
        user_agent: String::new(),
        accept_language: String::new(),
        client_hints: Vec::new(),
        document: Vec::new(),
        fetch: Vec::new(),
    };
    let session =
        |id: &str| Arc::new(Session::new(id.to_owned(), SavedState::default(), BTreeMap::new(), identity.clone()));
    let [session, standby] = ["a", "b"].map(session);
    for session in [&session, &standby] {
        scene.portal.admit(session).await.unwrap();
    }
    for session in [&session, &standby] {
        scene.portal.expire(session.id(), "redirected to /login").await.unwrap();
    }
    let unknown = || Ok(Verdict::Unknown("answered 403".to_owned()));
    keeper.looked(&session, unknown()).await.unwrap();
    assert!(keeper.record().recovery.alert.is_none());
    scene.portal.tools().clock.advance(DARK);
    keeper.looked(&session, unknown()).await.unwrap();
    let record = keeper.record();
    let alert = record.recovery.alert.as_ref().unwrap();
    assert!(alert.cause == Cause::PortalDown && alert.detail.ends_with("answered 403"), "{alert:?}");
    assert_eq!((keeper.missing(&record), record.logins.len()), (None, 0));
    scene.end().await;
}

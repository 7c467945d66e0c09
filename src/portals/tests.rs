//! What a change of the configuration does to portals that are kept: everything or nothing, and nobody who waits loses his
//! place. No browser runs here.

use std::fs;
use std::path::Path;

use super::*;
use crate::alerts::{self, Alerts};
use crate::browsers::{self, Identity, Pool, SavedState};
use crate::clock::{self, Clock};
use crate::config::Sources;
use crate::ids::Random;
use crate::outbox::{self, Outbox};
use crate::secret::Vault;
use crate::store::{Durability, Store};
use inbox::Inbox;
use recipe::Cause;
use session::Session;
use state::PortalRecord;
use upkeep::Purpose;
use upstream::Upstream;

/// How long is waited for what must come: beyond it the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

const RECIPE: &str = r##"
base_url = "http://127.0.0.1:9"
[login]
steps = [ { click = "#go", sends_code = true }, { code = "#code" } ]
[code]
[check]
request = { path = "/" }
alive = { status = [200] }
expired = [ { status = [401] } ]
"##;

/// What portals work with, on a held clock and without a browser.
pub(super) fn tools(dir: &Path, life: &Lifecycle) -> Tools {
    let clock = Clock::held(crate::clock::Time::from_millis(1_800_000_000_000));
    let (random, vault) = (Random::seeded(1), Arc::new(Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap()));
    let store = Store::open(&dir.join("store"), Durability::Interval, clock.clone(), life).unwrap();
    let nobody = outbox::Settings { mail: None, telegram: None, webhook: None };
    let outbox = Outbox::start(store.clone(), vault.clone(), clock.clone(), random.clone(), nobody, life).unwrap();
    let quiet = alerts::Settings { cooldown: Duration::from_secs(600), channels: Vec::new(), public_url: None };
    let alerts = Alerts::start(store.clone(), outbox, vault.clone(), clock.clone(), random.clone(), quiet, life);
    let inbox = Inbox::new(store.clone(), clock.clone(), vault.clone(), life);
    let (runtime_dir, binary) = (dir.join("browsers"), Some(dir.join("none")));
    let pool = Pool::new(life, browsers::Settings { runtime_dir, binary, ..browsers::Settings::default() }).unwrap();
    let upstream = Upstream::new().unwrap();
    Tools { store, clock, random, vault, inbox, pool, upstream, alerts }
}

/// A session that has just logged in and was seen alive.
pub(super) async fn logged_in(portal: &Portal, id: &str) -> Arc<Session> {
    let identity = Identity {
        user_agent: String::new(),
        accept_language: String::new(),
        client_hints: Vec::new(),
        document: Vec::new(),
        fetch: Vec::new(),
    };
    let session = Arc::new(Session::new(id.to_owned(), SavedState::default(), BTreeMap::new(), identity));
    session.set_checked(portal.now(), true);
    portal.save(&session).await;
    portal.admit(&session, Purpose::Need).await.unwrap();
    session
}

struct Desk {
    portals: Portals,
    life: Lifecycle,
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let portals = Portals::new(tools(dir.path(), &life), &life);
        fs::write(dir.path().join("acme.toml"), RECIPE).unwrap();
        Self { portals, life, dir }
    }

    /// The configuration with these portals, each with lines of its own.
    fn config(&self, portals: &[(&str, &str)]) -> Config {
        let phone = |name: &str| format!("[phones.{name}]\nforwarder = \"json\"\nsecret = \"abc\"\n");
        let portal = |(name, more): &(&str, &str)| {
            let usual = "recipe = \"acme.toml\"\nusername = \"ops\"\npassword = \"s3cret\"\n";
            let phone = if more.contains("phone =") { "" } else { "phone = \"office\"\n" };
            format!("[portals.{name}]\n{usual}{phone}{more}\n")
        };
        let text: String = [phone("office"), phone("home")].into_iter().chain(portals.iter().map(portal)).collect();
        let file = self.dir.path().join("nightporter.toml");
        fs::write(&file, text).unwrap();
        let inspectors = config::Inspectors { recipe: &recipe::inspect, ..config::Inspectors::none() };
        let report = config::check(&Sources { file: Some(file), ..Sources::default() }, &inspectors);
        report.config.unwrap_or_else(|| panic!("{:?}", report.errors))
    }

    async fn apply(&self, portals: &[(&str, &str)]) {
        self.portals.apply(&self.config(portals)).await.unwrap();
    }

    /// Somebody else has the phone, so that no login gets further than that.
    async fn take(&self, phone: &str) -> inbox::Turn {
        let tools = &self.portals.0.tools;
        tools.inbox.turn(&[phone], "another", tools.clock.now() + PATIENCE).await.unwrap()
    }

    fn stored(&self, name: &str) -> Option<crate::store::Stored<PortalRecord>> {
        self.portals.0.tools.store.get(name).unwrap()
    }

    async fn end(self) {
        assert!(self.life.shutdown(PATIENCE).await);
    }
}

#[tokio::test]
async fn a_recipe_that_cannot_be_used_changes_nothing() {
    let desk = Desk::new();
    let _taken = desk.take("office").await;
    desk.apply(&[("acme", ""), ("bcme", "")]).await;
    let before = desk.portals.get("acme").unwrap();
    let config = desk.config(&[("acme", "drill = \"off\""), ("ccme", "")]);
    // Broken between the check and its use.
    fs::write(desk.dir.path().join("acme.toml"), "base_url = 1").unwrap();
    assert!(matches!(desk.portals.apply(&config).await, Err(PortalsError::Recipe(_))));
    let names: Vec<_> = desk.portals.all().iter().map(|portal| portal.name().to_owned()).collect();
    assert_eq!(names, ["acme", "bcme"]);
    assert_eq!(desk.portals.get("acme").unwrap().settings(), before.settings());
    desk.end().await;
}

#[tokio::test]
async fn who_waits_for_a_session_goes_on_waiting_through_a_reload() {
    let desk = Desk::new();
    let _taken = desk.take("office").await;
    desk.apply(&[("acme", "")]).await;
    let before = desk.portals.get("acme").unwrap();
    let parked = before.pick_by(None, true, before.now() + DAY);
    tokio::pin!(parked);
    assert!(futures_util::poll!(&mut parked).is_pending());
    for drill in ["1d", "2d", "3d"] {
        let config = desk.config(&[("acme", &format!("drill = \"{drill}\""))]);
        let (apply, again) = (desk.portals.apply(&config), desk.portals.apply(&config));
        let both = async { tokio::join!(apply, again) };
        tokio::pin!(both);
        while futures_util::poll!(&mut both).is_pending() {
            assert!(desk.portals.get("acme").is_some(), "never unknown");
            tokio::task::yield_now().await;
        }
    }
    let after = desk.portals.get("acme").unwrap();
    assert_eq!(after.settings().drill, Some(DAY * 3));
    assert!(futures_util::poll!(&mut parked).is_pending());
    logged_in(&after, "a").await;
    assert_eq!(clock::within(PATIENCE, parked).await.unwrap().unwrap().session.id(), "a");
    // An operator who still holds the handle from before speaks to the keeper of after.
    before.pause(true).await.unwrap();
    assert_eq!(after.view().unwrap().state, "paused");
    desk.end().await;
}

#[tokio::test]
async fn a_portal_that_was_removed_by_mistake_costs_no_login() {
    let desk = Desk::new();
    let _taken = desk.take("office").await;
    desk.apply(&[("acme", "")]).await;
    let acme = desk.portals.get("acme").unwrap();
    logged_in(&acme, "a").await;
    logged_in(&acme, "b").await;
    let alert = |record: &mut PortalRecord| {
        record.recovery.given_up = Some(Cause::NoSms);
        record.want_alert(Cause::NoSms, "");
    };
    acme.change(alert).await.unwrap();
    acme.wake();
    let raised = |live: &portal::Live| live.record.alert.as_ref().is_some_and(|alert| alert.raised);
    clock::within(PATIENCE, acme.live().wait_for(raised)).await.unwrap().unwrap();
    desk.apply(&[]).await;
    assert!(desk.portals.get("acme").is_none());
    let alerts = desk.portals.0.tools.alerts.list().await.unwrap();
    assert!(alerts.len() == 1 && !alerts[0].open, "nobody can do anything about it any more: {alerts:?}");
    let (now, kept) = (desk.portals.0.tools.clock.now(), desk.stored("acme").unwrap());
    assert_eq!((kept.expires, kept.value.alert), (Some(now + DAY * 30), None));
    // A call that is still on its way through the handle of before brings nothing back to stay.
    acme.change(|record| record.event_count += 1).await.unwrap();
    acme.save(&acme.session("a").unwrap()).await;
    assert_eq!(desk.stored("acme").unwrap().expires, Some(now + DAY * 30));

    desk.portals.0.tools.clock.advance(DAY * 29);
    desk.apply(&[("acme", "")]).await;
    let again = desk.portals.get("acme").unwrap();
    let living = again.view().unwrap();
    assert_eq!((living.active.unwrap().session_id.as_deref(), living.state), (Some("a"), "live"));
    let unbound = async {
        while desk.stored("acme").unwrap().expires.is_some() {
            tokio::task::yield_now().await;
        }
    };
    clock::within(PATIENCE, unbound).await.unwrap();
    desk.apply(&[]).await;
    desk.portals.0.tools.clock.advance(DAY * 31);
    let tools = &desk.portals.0.tools;
    assert!(desk.stored("acme").is_none(), "not for ever");
    assert!(Session::load("acme", "a", &tools.store, &tools.vault).unwrap().is_none());
    desk.end().await;
}

#[tokio::test]
async fn a_portal_that_gets_another_phone_waits_there() {
    let desk = Desk::new();
    let _taken = [desk.take("office").await, desk.take("home").await];
    desk.apply(&[("acme", "")]).await;
    let queued = |live: &portal::Live| live.login.as_ref().is_some_and(|login| login.queued && login.confirmed);
    let mut live = desk.portals.get("acme").unwrap().live();
    let first = clock::within(PATIENCE, live.wait_for(queued)).await.unwrap().unwrap().login.clone().unwrap();
    desk.apply(&[("acme", "phone = \"home\"")]).await;
    let another = |live: &portal::Live| queued(live) && live.login.as_ref().unwrap().session_id != first.session_id;
    clock::within(PATIENCE, live.wait_for(another)).await.unwrap().unwrap();
    assert_eq!(desk.portals.get("acme").unwrap().view().unwrap().phone.unwrap().name, "home");
    desk.end().await;
}

//! A whole Nightporter in this process with one portal whose sessions are saved already, and mostly no browser: its program
//! is `/bin/false` then, so whatever needs one fails at once.
#![allow(dead_code, reason = "each binary that shares this uses its part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use nightporter::app::{self, App, Setup};
use nightporter::browsers::{Cookie, Identity, SameSite, SavedState};
use nightporter::clock::{Clock, Time, within};
use nightporter::config::Sources;
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::operators::Scope;
use nightporter::portals::session::Session;
use nightporter::portals::state::PortalRecord;
use nightporter::secret::Vault;
use nightporter::store::{Decision, Durability, Expires, Store};
use serde_json::Value;

/// What no test waits longer for; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The portal's name.
pub(crate) const PORTAL: &str = "vroong";
/// The secret of both phones.
pub(crate) const PHONE_SECRET: &str = "s3cret-of-the-phone";

/// A session that was logged in before.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) id: String,
    pub(crate) cookies: Vec<(String, String)>,
    pub(crate) values: BTreeMap<String, String>,
}

impl Seed {
    pub(crate) fn new(id: &str, sid: &str) -> Self {
        Self { id: id.to_owned(), cookies: vec![("SID".to_owned(), sid.to_owned())], values: BTreeMap::new() }
    }

    pub(crate) fn session(&self) -> Session {
        let cookie = |(name, value): &(String, String)| Cookie {
            name: name.clone(),
            value: value.clone(),
            domain: "127.0.0.1".to_owned(),
            path: "/".to_owned(),
            expires: None,
            secure: false,
            http_only: true,
            same_site: Some(SameSite::Lax),
            partition: None,
        };
        let state = SavedState { cookies: self.cookies.iter().map(cookie).collect(), ..SavedState::default() };
        let headers = [
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Porter"),
            ("accept", "*/*"),
            ("accept-language", "ko-KR,ko;q=0.9"),
            ("sec-ch-ua", "\"Chromium\";v=\"156\""),
            ("sec-fetch-site", "same-origin"),
        ];
        let fetch: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let identity = Identity {
            user_agent: fetch[0].1.clone(),
            accept_language: fetch[2].1.clone(),
            client_hints: vec![fetch[3].clone()],
            document: fetch.clone(),
            fetch,
        };
        Session::new(self.id.clone(), state, self.values.clone(), identity)
    }
}

/// The directory of one appliance.
pub(crate) struct House {
    dir: tempfile::TempDir,
    pub(crate) clock: Clock,
}

impl House {
    /// An appliance whose portal has the `seeds` as active and standby. It is paused, so that nothing but the relay
    /// touches the portal.
    pub(crate) async fn new(recipe: &str, seeds: &[Seed], clock: &Clock) -> Self {
        Self::furnished(recipe, seeds, clock, "binary = \"/bin/false\"\n").await
    }

    /// The same with a real browser.
    pub(crate) async fn with_browser(recipe: &str, seeds: &[Seed], clock: &Clock) -> Self {
        Self::furnished(recipe, seeds, clock, "").await
    }

    async fn furnished(recipe: &str, seeds: &[Seed], clock: &Clock, browser: &str) -> Self {
        let house = Self { dir: tempfile::tempdir().unwrap(), clock: clock.clone() };
        // The browser's account must be able to pass through.
        std::fs::set_permissions(house.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let path = |name| house.path(name).display().to_string();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sled:{}\"\n\
             [browser]\n{browser}runtime_dir = \"{}\"\n\
             [phones.office]\nforwarder = \"json\"\nsecret = \"{PHONE_SECRET}\"\n\
             [phones.desk]\nforwarder = \"capcom6\"\nsecret = \"{PHONE_SECRET}\"\n\
             [portals.{PORTAL}]\nrecipe = \"{}\"\nphone = \"office\"\nusername = \"partner01\"\npassword = \"x\"\n",
            path("store"),
            path("run"),
            path("recipe.toml")
        );
        std::fs::write(house.path("nightporter.toml"), config).unwrap();
        std::fs::write(house.path("recipe.toml"), recipe).unwrap();
        house.seed(seeds).await;
        house
    }

    /// The same with more lines in its configuration.
    pub(crate) fn configured(self, lines: &str) -> Self {
        let path = self.path("nightporter.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{config}{lines}\n")).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn seed(&self, seeds: &[Seed]) {
        let life = Lifecycle::new();
        let path = self.path("store");
        std::fs::create_dir(&path).unwrap();
        let store = Store::open(&path, Durability::Acknowledged, self.clock.clone(), &life).unwrap();
        let vault = Vault::from_file(&path.join("store.key"), &Random::seeded(2)).unwrap();
        let mut record = PortalRecord { paused: true, ..PortalRecord::default() };
        for seed in seeds {
            seed.session().save(PORTAL, &store, &vault).await.unwrap();
            record.admit(&seed.id, true, "seeded", self.clock.now());
        }
        let put = |_: Option<&_>| Decision::Put(record.clone(), Expires::Never, ());
        store.update(PORTAL, put).await.unwrap();
        life.shutdown(PATIENCE).await;
        tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
    }

    pub(crate) async fn start(&self) -> Running {
        let sources = Sources { file: Some(self.path("nightporter.toml")), ..Sources::default() };
        let setup = Setup {
            config: app::load(&sources).unwrap_or_else(|error| panic!("{error:?}")),
            sources,
            clock: self.clock.clone(),
            random: Random::seeded(1),
            metrics: Metrics::install().unwrap(),
            log: None,
        };
        let app = App::start(setup).await.unwrap();
        let token = token(&app, "jobs", &[Scope::PortalsRead, Scope::PortalsRelay, Scope::PortalsManage]).await;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Running { app, token, client }
    }
}

/// Makes a token; a second one of that name replaces nothing, so names are the caller's to choose.
pub(crate) async fn token(app: &App, name: &str, scopes: &[Scope]) -> String {
    // The store may have been started before with a token of this name.
    let operators = &app.parts().operators;
    let _ = operators.revoke(name).await;
    let added = operators.add(name, scopes.iter().copied().collect::<BTreeSet<_>>(), None).await.unwrap();
    added.text.expose().to_owned()
}

/// A running appliance and a batch job's client.
pub(crate) struct Running {
    pub(crate) app: App,
    pub(crate) token: String,
    pub(crate) client: reqwest::Client,
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.app.address())
    }

    /// A call through the relay to `path` at the portal, still to be sent.
    pub(crate) fn relay(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = self.url(&format!("/api/portals/{PORTAL}/relay{path}"));
        self.client.request(method, url).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.relay(reqwest::Method::GET, path).send().await.unwrap()
    }

    /// What `/api/portals/{portal}{path}` tells.
    pub(crate) async fn told(&self, path: &str) -> Value {
        let url = self.url(&format!("/api/portals/{PORTAL}{path}"));
        self.client.get(url).bearer_auth(&self.token).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn order(&self, what: &str) -> u16 {
        let url = self.url(&format!("/api/portals/{PORTAL}/{what}"));
        self.client.post(url).bearer_auth(&self.token).send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn events(&self, kind: &str) -> usize {
        let told = self.told("/events").await;
        told["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).count()
    }

    /// Waits until a session that seemed dead was found alive.
    pub(crate) async fn restored(&self) {
        let look = async {
            while self.events("restored").await == 0 {
                tokio::task::yield_now().await;
            }
        };
        within(PATIENCE, look).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        assert!(self.app.stop(PATIENCE).await, "something did not end in time");
    }
}

/// The code of a problem, whose form is checked.
pub(crate) async fn problem(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let told: Value = answer.json().await.unwrap();
    assert_eq!((&told["status"], &told["request_id"]), (&status.into(), &id.into()), "{told}");
    (status, told["code"].as_str().unwrap().to_owned())
}

/// A clock that stands.
pub(crate) fn held() -> Clock {
    Clock::held(Time::from_millis(1_800_000_000_000))
}

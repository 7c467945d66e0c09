//! The composition inside one process: everything that `serve` starts, with clock, randomness and ports of the test's own.

use std::collections::BTreeSet;
use std::time::Duration;

use nightporter::app::{self, App, Setup, StartError};
use nightporter::clock::{Clock, Time};
use nightporter::config::{Flag, Sources};
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::operators::Scope;

#[path = "app/damage.rs"]
mod damage;
#[path = "disk/small.rs"]
mod small;

const DRAIN: Duration = Duration::from_secs(60);

struct Site {
    dir: tempfile::TempDir,
    clock: Clock,
}

impl Site {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Clock::held(Time::from_millis(1_800_000_000_000)) }
    }

    fn setup(&self) -> Setup {
        let flag = |name: &str, key: &str, value: String| Flag { name: name.into(), key: key.into(), value };
        let store = format!("sled:{}", self.dir.path().join("store").display());
        let flags =
            vec![flag("--listen", "server.listen", "127.0.0.1:0".to_owned()), flag("--store", "store.url", store)];
        let sources = Sources { flags, ..Sources::default() };
        Setup {
            config: app::load(&sources).unwrap(),
            sources,
            clock: self.clock.clone(),
            random: Random::seeded(1),
            metrics: Metrics::install().unwrap(),
            log: None,
        }
    }

    async fn start(&self) -> App {
        App::start(self.setup()).await.unwrap()
    }
}

/// A client that no proxy of the machine's comes between.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn metrics(app: &App, token: &str) -> u16 {
    let url = format!("http://{}/metrics", app.address());
    client().get(url).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_run_side_by_side_and_each_knows_its_own_tokens() {
    let (one, two) = (Site::new(), Site::new());
    let (first, second) = (one.start().await, two.start().await);
    let scopes = BTreeSet::from([Scope::Metrics]);
    let hour = Some(Duration::from_secs(3600));
    let added = first.parts().operators.add("prometheus", scopes, hour).await.unwrap();
    let token = added.text.expose();
    assert_eq!((metrics(&first, token).await, metrics(&second, token).await), (200, 401));
    one.clock.advance(Duration::from_secs(3600));
    assert_eq!(metrics(&first, token).await, 401, "a token must end with its hour");
    assert!(first.stop(DRAIN).await && second.stop(DRAIN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_can_be_started_again() {
    let site = Site::new();
    let app = site.start().await;
    let scopes = BTreeSet::from([Scope::Admin]);
    let token = app.parts().operators.add("me", scopes, None).await.unwrap().text;
    let taken = App::start(site.setup()).await;
    assert!(matches!(taken, Err(StartError::Store(_))), "one store, two servers");
    assert!(app.stop(DRAIN).await);
    let app = site.start().await;
    assert_eq!(metrics(&app, token.expose()).await, 200);
    let body = client().get(format!("http://{}/api/health", app.address())).send().await.unwrap();
    let body: serde_json::Value = body.json().await.unwrap();
    assert_eq!((&body["ready"], &body["parts"]["store"]), (&true.into(), &"ready".into()));
    assert!(app.stop(DRAIN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_nothing_behind() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut setup = site.setup();
    setup.sources.flags[0].value = taken.local_addr().unwrap().to_string();
    setup.config = app::load(&setup.sources).unwrap();
    let failed = App::start(setup).await;
    assert!(matches!(failed, Err(StartError::Listen { key: "server.listen", .. })));
    let app = site.start().await;
    assert!(app.stop(DRAIN).await);
}

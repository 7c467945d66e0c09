//! The batch jobs that go on through the storm: they read and write orders, count every answer, and repeat a call only
//! where no relay could have helped: the portal or the appliance was down while it was under way.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use nightporter::clock::{self, Stopwatch};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::stage::Stage;

/// Readers at once.
const READERS: u64 = 3;
/// The pause after a call: a job has to think as well, and the storm needs the machine.
const BREATH: Duration = Duration::from_millis(15);
/// What a call may take: two logins one after the other, with a late SMS each.
const LIMIT: Duration = Duration::from_secs(180);

/// What is wrong around the appliance at a moment. Odd numbers mean "now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sky {
    portal: u64,
    appliance: u64,
}

/// What the jobs may know of the storm; clones share it.
#[derive(Clone)]
pub(crate) struct Weather(Arc<Shared>);

struct Shared {
    portal: AtomicU64,
    appliance: AtomicU64,
    url: watch::Sender<String>,
    over: watch::Sender<bool>,
}

impl Weather {
    pub(crate) fn fair(url: String) -> Self {
        let (url, over) = (watch::Sender::new(url), watch::Sender::new(false));
        Self(Arc::new(Shared { portal: AtomicU64::new(0), appliance: AtomicU64::new(0), url, over }))
    }

    /// The portal goes down, or comes back.
    pub(crate) fn portal_changes(&self) {
        self.0.portal.fetch_add(1, Ordering::SeqCst);
    }

    /// The appliance is about to be killed.
    pub(crate) fn appliance_dies(&self) {
        self.0.appliance.fetch_add(1, Ordering::SeqCst);
    }

    /// It listens again, at another address.
    pub(crate) fn appliance_is_back(&self, url: String) {
        self.0.url.send_replace(url);
        self.0.appliance.fetch_add(1, Ordering::SeqCst);
    }

    /// No more calls.
    pub(crate) fn over(&self) {
        self.0.over.send_replace(true);
    }

    fn sky(&self) -> Sky {
        Sky { portal: self.0.portal.load(Ordering::SeqCst), appliance: self.0.appliance.load(Ordering::SeqCst) }
    }

    /// Whether the portal was down at some moment since `before`.
    fn portal_was_down(&self, before: Sky) -> bool {
        before.portal % 2 == 1 || before.portal != self.sky().portal
    }

    fn appliance_was_down(&self, before: Sky) -> bool {
        before.appliance % 2 == 1 || before.appliance != self.sky().appliance
    }
}

/// What came of all calls.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    /// Orders sent in and answered.
    pub(crate) orders: u64,
    pub(crate) failures: Vec<String>,
    /// Repeated because the portal, or the appliance, was down.
    portal_down: u64,
    appliance_down: u64,
    times: Vec<Duration>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.times.clone();
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 1000].as_secs_f64() * 1000.0;
        write!(
            f,
            "{} answered, {} failed; p50 {:.1} ms, p99 {:.0} ms, longest {:.0} ms; repeated: {} with the portal down, {} with \
             the appliance killed",
            self.calls,
            self.failures.len(),
            at(500),
            at(990),
            at(1000),
            self.portal_down,
            self.appliance_down
        )
    }
}

/// The jobs.
pub(crate) struct Batch {
    client: Client,
    token: String,
    weather: Weather,
    tally: Mutex<Tally>,
    number: AtomicU64,
}

/// What one call came to.
enum Outcome {
    Good,
    Again,
    Failed(String),
}

impl Batch {
    pub(crate) fn new(stage: &Stage, weather: &Weather) -> Self {
        let client = Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        let (token, weather) = (stage.token_text().to_owned(), weather.clone());
        Self { client, token, weather, tally: Mutex::default(), number: AtomicU64::new(0) }
    }

    /// Calls until the storm is over.
    pub(crate) async fn run(self) -> Tally {
        let (readers, writer) = (join_all((0..READERS).map(|_| self.work(false))), self.work(true));
        tokio::join!(readers, writer);
        self.tally.into_inner().unwrap()
    }

    async fn work(&self, writes: bool) {
        while !*self.weather.0.over.borrow() {
            let number = self.number.fetch_add(1, Ordering::SeqCst);
            while self.attempt(writes, number).await {
                clock::pause(BREATH * 10).await;
            }
            // The demo's portal remembers ten thousand orders' keys and no more.
            clock::pause(if writes { BREATH * 10 } else { BREATH }).await;
        }
    }

    /// Makes a call and counts it; true when it is to be made again.
    async fn attempt(&self, writes: bool, number: u64) -> bool {
        let (before, watch) = (self.weather.sky(), Stopwatch::start());
        let outcome = self.call(writes, number, before).await;
        let mut tally = self.tally.lock().unwrap();
        match outcome {
            Outcome::Good => {
                tally.calls += 1;
                tally.orders += u64::from(writes);
                tally.times.push(watch.elapsed());
                return false;
            }
            Outcome::Failed(how) => {
                tally.failures.push(format!("call {number}: {how}"));
                return false;
            }
            Outcome::Again if self.weather.appliance_was_down(before) => tally.appliance_down += 1,
            Outcome::Again => tally.portal_down += 1,
        }
        true
    }

    async fn call(&self, writes: bool, number: u64, before: Sky) -> Outcome {
        let url = self.weather.0.url.borrow().clone();
        let orders = format!("{url}/api/portals/hanbit/relay/api/orders");
        let request = if writes {
            let order = json!({"recipient": format!("홍길동 {number}"), "item": "떡볶이 세트"});
            self.client.post(orders).header("idempotency-key", format!("storm-{number}")).json(&order)
        } else {
            self.client.get(format!("{orders}?limit=3"))
        };
        let answer = request.bearer_auth(&self.token).header("x-park-timeout", "120s").send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if self.weather.appliance_was_down(before) => return Outcome::Again,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let status = answer.status().as_u16();
        let body: Value = match answer.bytes().await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) => return self.excuse(before, error.to_string()),
        };
        match status {
            200 | 201 if body["ok"] == true => Outcome::Good,
            status => self.excuse(before, format!("{status} {body}")),
        }
    }

    /// An answer that is no success is the portal's own only while the portal was down.
    fn excuse(&self, before: Sky, how: String) -> Outcome {
        let excused = self.weather.portal_was_down(before) || self.weather.appliance_was_down(before);
        if excused { Outcome::Again } else { Outcome::Failed(how) }
    }
}

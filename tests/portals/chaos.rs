//! A storm: everything that can go wrong, in a random order that its seed repeats, while batch jobs go on calling. What
//! the portal, the phone or the appliance's own death makes impossible is told apart and repeated, as a batch job would;
//! any other call that fails ends the test, as does an SMS too many or anything left behind.

#[path = "chaos/batch.rs"]
mod batch;
#[path = "chaos/blow.rs"]
mod blow;
#[path = "chaos/census.rs"]
pub(crate) mod census;

use std::collections::BTreeMap;
use std::time::Duration;

use nightporter::clock::{self, Clock, Stopwatch};
use nightporter::ids::Random;
use serde_json::Value;

use crate::stage::{PATIENCE, Scene, Stage};
use batch::{Batch, Tally, Weather};
use blow::Blow;
use census::Census;

/// What the recipe allows within an hour: blows that cost a login end a little before that.
const LOGINS: u64 = 60;
/// Logins kept back for what a blow costs on top, and for the end.
const RESERVE: u64 = 8;
/// Memory that the appliance may gain in the steady part: caches and the allocator's slack, in KiB.
const SLACK: u64 = 12 * 1024;
/// Descriptors that may be open more than at first: kept connections of the pool towards the portal.
const DESCRIPTORS: usize = 12;

/// One storm.
struct Storm {
    seed: u64,
    random: Random,
    stage: Stage,
    weather: Weather,
    /// SMS that were needed: two at the start, one for each session that ended, one for each code that was refused, and
    /// for each login that a blow found under way.
    needed: u64,
    blows: BTreeMap<&'static str, u32>,
}

/// What the steady part began and ended with.
struct Steady {
    before: Census,
    after: Census,
    /// In both browsers, by their own word.
    contexts: (f64, f64),
}

/// Every blow once.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_every_blow_loses_no_call() {
    let mut storm = Storm::set(seed(7)).await;
    let batch = Batch::new(&storm.stage, &storm.weather);
    let storming = async {
        for blow in storm.shuffled(Blow::ALL) {
            storm.strike(blow).await;
            storm.calm().await;
        }
        storm.checked().await;
        storm.weather.over();
    };
    let (tally, ()) = tokio::join!(batch.run(), storming);
    storm.judge(&tally);
    storm.stage.strike().await;
}

/// Ten minutes, or as many as `NIGHTPORTER_CHAOS_MINUTES` says, in the order that `NIGHTPORTER_CHAOS_SEED` draws: `make
/// chaos`. The first fifth kills the appliance as well; after that one process has to last.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes: make chaos"]
async fn ten_minutes_of_storm_leave_nothing_behind() {
    let lasting = Duration::from_secs(60 * variable("NIGHTPORTER_CHAOS_MINUTES").unwrap_or(10));
    let drawn = Random::system().unwrap().below(u32::MAX).into();
    let mut storm = Storm::set(seed(drawn)).await;
    let batch = Batch::new(&storm.stage, &storm.weather);
    let storming = async {
        let watch = Stopwatch::start();
        storm.rage(&watch, lasting / 5, Blow::ALL).await;
        let (before, held) = (storm.rest().await, storm.contexts().await);
        let one_process: Vec<_> = Blow::ALL.iter().copied().filter(|blow| *blow != Blow::ApplianceKilled).collect();
        storm.rage(&watch, lasting, &one_process).await;
        let (after, holds) = (storm.rest().await, storm.contexts().await);
        storm.weather.over();
        (Steady { before, after, contexts: (held, holds) }, watch.elapsed())
    };
    let (tally, (steady, lasted)) = tokio::join!(batch.run(), storming);
    storm.report(&tally, &steady, lasted);
    storm.judge(&tally);
    steady.judge();
    storm.stage.strike().await;
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn seed(usual: u64) -> u64 {
    variable("NIGHTPORTER_CHAOS_SEED").unwrap_or(usual)
}

impl Storm {
    async fn set(seed: u64) -> Self {
        let recipe: &[(&str, &str)] = &[
            ("logins_per_hour = 20", "logins_per_hour = 60"),
            ("attempts = 2", "attempts = 10"),
            ("every = \"60s\"", "every = \"5s\""),
            // The demo's portal forgets a code after three minutes; the phone is late by seconds here.
            ("timeout = \"2m\"", "timeout = \"60s\""),
        ];
        let mut stage = Stage::set(Scene { clock: Clock::system(), recipe, ..Scene::default() }).await;
        stage.launch().await;
        stage.live().await;
        let weather = Weather::fair(stage.url(""));
        tell(&format!("storm: seed {seed} (NIGHTPORTER_CHAOS_SEED repeats it)"));
        let random = Random::seeded(seed);
        Self { seed, random, stage, weather, needed: 2, blows: BTreeMap::new() }
    }

    fn shuffled(&self, blows: &[Blow]) -> Vec<Blow> {
        let mut left = blows.to_vec();
        let draw = |left: &mut Vec<Blow>| left.swap_remove(self.random.below(left.len() as u32) as usize);
        (0..blows.len()).map(|_| draw(&mut left)).collect()
    }

    /// Blow after blow, with and without a rest between them.
    async fn rage(&mut self, watch: &Stopwatch, until: Duration, blows: &[Blow]) {
        while watch.elapsed() < until {
            let spent = self.stage.counters().codes_sent;
            let affordable = |blow: &&Blow| blow.cost() == 0 || spent + blow.cost() + RESERVE < LOGINS;
            let blows: Vec<_> = blows.iter().filter(affordable).collect();
            let blow = *blows[self.random.below(blows.len() as u32) as usize];
            self.strike(blow).await;
            if self.random.below(3) > 0 {
                self.calm().await;
            }
            clock::pause(Duration::from_millis(self.random.below(3000).into())).await;
        }
    }

    async fn strike(&mut self, blow: Blow) {
        tell(&format!("storm: {}", blow.name()));
        *self.blows.entry(blow.name()).or_default() += 1;
        // What is being logged in at this moment may have to begin anew.
        let under_way = missing(&self.stage.state().await);
        self.needed += blow.cost() + if blow.disturbs() { under_way } else { 0 };
        blow.strike(&mut self.stage, &self.weather).await;
    }

    /// Waits until two sessions serve and stand by here, and the portal has as many.
    async fn calm(&self) {
        let known = || self.stage.portal.sessions(blow::USER).len() >= 2;
        self.stage.when("calm", |state| missing(state) == 0 && known()).await;
    }

    /// Waits until both sessions were found alive at the portal since now.
    async fn checked(&self) {
        let now = serde_json::to_value(self.stage.clock.now()).unwrap();
        self.stage.when("both sessions checked", |state| blow::checked_since(state, &now)).await;
    }

    /// Waits until everything is well and quiet, and counts what is there.
    async fn rest(&self) -> Census {
        self.checked().await;
        let quiet = async {
            loop {
                let census = Census::take(&self.stage);
                // A renderer is there as long as a tab is, or its spare; every seat has one browser.
                if census.browsers == 2 && census.tabs <= 2 {
                    return census;
                }
                clock::pause(Duration::from_millis(100)).await;
            }
        };
        match clock::within(PATIENCE, quiet).await {
            Ok(census) => census,
            Err(_) => panic!("the storm is over and it does not become quiet: {:?}", Census::take(&self.stage)),
        }
    }

    /// How many contexts both browsers hold, once that is one for each session.
    async fn contexts(&self) -> f64 {
        let counting = async {
            loop {
                let page = self.stage.get("/metrics").await;
                let text = String::from_utf8(page.body.to_vec()).unwrap();
                let lines = text.lines().filter(|line| line.starts_with("nightporter_browser_contexts{"));
                let held: f64 = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
                if held <= 2.0 {
                    return held;
                }
                clock::pause(Duration::from_millis(500)).await;
            }
        };
        let counted = clock::within(PATIENCE, counting).await;
        counted.unwrap_or_else(|_| panic!("more contexts than sessions: {}", self.stage.log()))
    }

    fn judge(&self, tally: &Tally) {
        assert!(tally.failures.is_empty(), "seed {}: {:#?}\n{}", self.seed, tally.failures, self.stage.log());
        let counters = self.stage.counters();
        let (sent, needed) = (counters.codes_sent, self.needed);
        assert!(sent <= needed, "seed {}: {sent} SMS, {needed} needed: {}", self.seed, self.stage.log());
        assert_eq!(counters.orders_created, tally.orders, "each order is made once: {counters:?}");
        assert!(tally.calls > 0 && counters.codes_repeated == 0, "{counters:?}");
        assert_eq!(self.stage.mailbox.count(), 0, "no mail for what heals");
    }

    fn report(&self, tally: &Tally, steady: &Steady, lasted: Duration) {
        let (counters, Steady { before, after, .. }) = (self.stage.counters(), steady);
        let blows: Vec<_> = self.blows.iter().map(|(name, times)| format!("{name} {times}")).collect();
        let (sms, logins) = (counters.codes_sent, counters.codes_accepted);
        tell(&format!("\nA storm of {} s, seed {}", lasted.as_secs(), self.seed));
        for (what, line) in [
            ("calls", tally.to_string()),
            ("blows", format!("{}: {}", self.blows.values().sum::<u32>(), blows.join(", "))),
            ("SMS", format!("{sms} sent, {} needed; {logins} logins", self.needed)),
            ("orders", format!("{} sent in, {} made", tally.orders, counters.orders_created)),
            ("mails", self.stage.mailbox.count().to_string()),
            ("contexts", format!("{} before, {} after", steady.contexts.0, steady.contexts.1)),
            ("processes", format!("{} of Chromium before, {} after", before.processes, after.processes)),
            ("descriptors", format!("{} before, {} after", before.descriptors, after.descriptors)),
            ("appliance", format!("{} MiB before, {} MiB after", before.rss / 1024, after.rss / 1024)),
            ("Chromium", format!("{} MiB before, {} MiB after (PSS)", before.chromium / 1024, after.chromium / 1024)),
        ] {
            tell(&format!("  {what:<12} {line}"));
        }
    }
}

/// For whoever watches; `cargo test` shows it with `--nocapture`, or when the test fails.
#[expect(clippy::print_stderr, reason = "the report is what the command is for")]
fn tell(line: &str) {
    eprintln!("{line}");
}

impl Steady {
    fn judge(&self) {
        let Self { before, after, contexts } = self;
        assert!(contexts.1 <= contexts.0, "contexts: {contexts:?}");
        assert!(after.descriptors <= before.descriptors + DESCRIPTORS, "descriptors: {before:?} {after:?}");
        assert!(after.rss <= before.rss + SLACK, "memory: {before:?} {after:?}");
    }
}

/// How many sessions are not there.
fn missing(state: &Value) -> u64 {
    ["active", "standby"].iter().filter(|slot| state[**slot]["status"] != "authenticated").count() as u64
}

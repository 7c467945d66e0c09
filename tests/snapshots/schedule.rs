//! Snapshots by the clock: when they are due, which are kept, that a drill proves them, and that a failure is told once.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use nightporter::alerts::{self, Alerts};
use nightporter::clock::{Clock, Time};
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::outbox::{self, Outbox};
use nightporter::secret::Vault;
use nightporter::snapshots::{Settings, Snapshots};
use nightporter::store::snapshot;
use nightporter::store::{Durability, Expires, Store};

use tower::ServiceExt;

use super::shelf::{names, put};

const HOUR: Duration = Duration::from_secs(3600);
const START: Time = Time::from_millis(1_800_000_000_000);

struct House {
    dir: tempfile::TempDir,
    clock: Clock,
    life: Lifecycle,
    store: Store,
    alerts: Alerts,
    snapshots: Snapshots,
}

impl House {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Clock::held(START))
    }

    fn open(dir: tempfile::TempDir, clock: Clock) -> Self {
        let (life, random) = (Lifecycle::new(), Random::seeded(3));
        let store = Store::open(&dir.path().join("store"), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let vault = Arc::new(Vault::from_file(&dir.path().join("key"), &random).unwrap());
        let settings = outbox::Settings { mail: None, telegram: None, webhook: None };
        let outbox =
            Outbox::start(store.clone(), vault.clone(), clock.clone(), random.clone(), settings, &life).unwrap();
        let settings = alerts::Settings { cooldown: Duration::from_secs(600), channels: Vec::new(), public_url: None };
        let alerts = Alerts::start(store.clone(), outbox, vault, clock.clone(), random, settings, &life);
        let settings = settings_in(dir.path().join("kept"));
        let snapshots = Snapshots::start(store.clone(), alerts.clone(), clock.clone(), settings, &life);
        Self { dir, clock, life, store, alerts, snapshots }
    }

    async fn restart(self) -> Self {
        let Self { dir, clock, life, store, alerts, snapshots } = self;
        assert!(life.shutdown(Duration::from_secs(60)).await);
        drop((store, alerts, snapshots));
        Self::open(dir, clock)
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("kept")
    }

    /// When the snapshots that are there were taken, in hours after the start, the newest first.
    fn hours(&self) -> Vec<u64> {
        let list = snapshot::list(&self.directory()).unwrap();
        list.into_iter().map(|(at, _)| at.since(START).as_secs() / 3600).collect()
    }

    fn newest(&self) -> PathBuf {
        snapshot::list(&self.directory()).unwrap().remove(0).1
    }

    /// Lets the time pass without the schedule's own task seeing it, and does what is due then.
    async fn pass(&self, span: Duration) {
        self.clock.set(self.clock.now() + span);
        self.snapshots.round().await;
    }

    /// What is wrong, by the alerts.
    async fn wrong(&self) -> Vec<String> {
        let reports = self.alerts.list().await.unwrap();
        reports.into_iter().filter(|report| report.open).map(|report| report.subject).collect()
    }
}

fn settings_in(directory: PathBuf) -> Settings {
    Settings { every: Some(HOUR), keep: 3, directory, drill_every: None }
}

#[tokio::test]
async fn snapshots_are_due_by_the_newest_file_and_the_oldest_go() {
    let house = House::new();
    house.pass(Duration::ZERO).await;
    house.pass(HOUR / 2).await;
    assert_eq!(house.hours(), [0]);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(house.directory()), mode(house.newest())), (0o700, 0o600));
    let house = house.restart().await;
    house.pass(HOUR / 4).await;
    assert_eq!(house.hours(), [0], "a restart is no reason for another one");
    house.pass(HOUR / 4).await;
    assert_eq!(house.hours(), [1, 0]);
    let by_hand = house.store.snapshot().await.unwrap();
    house.pass(HOUR).await;
    assert_eq!((house.hours(), house.wrong().await), (vec![1, 0], Vec::new()), "it waits for one taken by hand");
    drop(by_hand);
    std::fs::write(house.directory().join("nightporter-mine.snapshot"), "not ours").unwrap();
    std::fs::write(house.directory().join(".nightporter-x.snapshot.1.unfinished"), "left by a kill").unwrap();
    for span in [Duration::ZERO, HOUR, HOUR] {
        house.pass(span).await;
    }
    assert_eq!(house.hours(), [4, 3, 2]);
    let left = names(&house.directory());
    assert!(left.len() == 4 && left.contains(&"nightporter-mine.snapshot".to_owned()), "{left:?}");
    // Set back by a day: those of the future say nothing, and one is taken, which stays.
    house.clock.set(START - 24 * HOUR);
    house.snapshots.round().await;
    house.snapshots.round().await;
    assert_eq!(house.hours(), [4, 3, 2, 0]);
    assert!(house.newest().exists());
}

#[tokio::test]
async fn a_failure_is_told_once_and_its_end_too_and_nothing_good_goes() {
    let house = House::new();
    house.pass(Duration::ZERO).await;
    let (kept, away) = (house.directory(), house.dir.path().join("away"));
    std::fs::rename(&kept, &away).unwrap();
    std::fs::write(&kept, "in the way").unwrap();
    house.pass(HOUR).await;
    assert_eq!(house.wrong().await, ["snapshots"]);
    let told = house.alerts.list().await.unwrap().remove(0);
    assert!(told.detail.contains("kept") && told.cause == "snapshot_failed", "{told:?}");
    let house = house.restart().await;
    house.pass(HOUR).await;
    let again = house.alerts.list().await.unwrap();
    assert_eq!((again.len(), again[0].opened_at, &again[0].id), (1, told.opened_at, &told.id));
    std::fs::remove_file(&kept).unwrap();
    std::fs::rename(&away, &kept).unwrap();
    house.snapshots.round().await;
    assert_eq!(house.hours(), [0], "it rests after a failure");
    house.clock.advance(HOUR / 4);
    house.snapshots.round().await;
    assert_eq!((house.hours(), house.wrong().await), (vec![2, 0], Vec::new()));
}

async fn page(metrics: Metrics) -> String {
    let (router, _) = metrics.routes(None).split_for_parts();
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_drill_restores_the_newest_and_its_failure_is_told() {
    let metrics = Metrics::install().unwrap();
    let house = House::new();
    put(&house.store, "a", 1, Expires::Never).await;
    let settings = Settings { drill_every: Some(24 * HOUR), ..settings_in(house.directory()) };
    house.snapshots.reconfigure(settings.clone());
    house.pass(Duration::ZERO).await;
    let page = page(metrics).await;
    // Other tests in this process take snapshots too; only this one has drills.
    assert!(page.contains("\nnightporter_snapshot_last_success_timestamp_seconds 1"), "{page}");
    for line in [
        "nightporter_restore_drill_last_success_timestamp_seconds 1800000000",
        "nightporter_restore_drills_total{outcome=\"ok\"} 1",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} in\n{page}");
    }
    assert_eq!(names(&house.directory()).len(), 1, "the drill's database is gone");
    let house = house.restart().await;
    house.snapshots.reconfigure(Settings { every: None, ..settings });
    let mut bytes = std::fs::read(house.newest()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(house.newest(), bytes).unwrap();
    house.pass(23 * HOUR).await;
    assert_eq!(house.wrong().await, Vec::<String>::new(), "the next drill is due in an hour");
    house.pass(HOUR).await;
    assert_eq!(house.wrong().await, ["restore-drill"]);
    let told = house.alerts.list().await.unwrap().remove(0).detail;
    assert!(told.contains("at byte ") && told.contains("nightporter restore --verify"), "{told}");
    assert_eq!(
        names(&house.directory()).len(),
        1,
        "a damaged snapshot is left for a person, the drill's files are not"
    );
}

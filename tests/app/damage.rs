//! A start that finds the store damaged: it says how to get it back, or gets it back and tells what was lost; and a disk
//! without room, seen by those who ask.

use std::fs;
use std::time::Duration;

use nightporter::app::{self, App, StartError};
use nightporter::clock;
use nightporter::config::Flag;
use nightporter::operators::Scope;
use nightporter::store::snapshot;

use crate::small::SmallDisk;
use crate::{DRAIN, Site, client};

const LIMIT: Duration = Duration::from_secs(60);

/// A store with one token in it, a snapshot of that, and one more token; then the database loses what came last.
async fn damaged() -> (Site, [String; 2]) {
    let site = Site::new();
    let tokens = damage(&site).await;
    (site, tokens)
}

async fn damage(site: &Site) -> [String; 2] {
    let app = site.start().await;
    let token = async |name: &str| {
        let added = app.parts().operators.add(name, [Scope::Metrics].into(), None).await.unwrap();
        added.text.expose().to_owned()
    };
    let before = token("before").await;
    let directory = site.dir.path().join("store-snapshots");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(snapshot::name(site.clock.now()));
    snapshot::save(&app.parts().store, &file, true).await.unwrap();
    site.clock.advance(Duration::from_secs(3600));
    let after = token("after").await;
    assert!(app.stop(DRAIN).await);
    // What a disk does that forgets.
    let database = site.dir.path().join("store/sled/db");
    let mut content = fs::read(&database).unwrap();
    let half = content.len() / 2;
    content[..half].fill(0);
    fs::write(&database, content).unwrap();
    [before, after]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_with_the_snapshot_and_the_command() {
    let (site, _) = damaged().await;
    let Err(StartError::Damaged { damage, advice }) = App::start(site.setup()).await else { panic!("it started") };
    assert!(damage.is_damage(), "{damage}");
    let store = site.dir.path().join("store");
    let file = site.dir.path().join("store-snapshots/nightporter-20270115T080000000Z.snapshot");
    let command = format!("nightporter restore {} --force --store {}", file.display(), store.display());
    assert!(advice.contains(&command) && advice.contains("2027-01-15T08:00:00.000Z"), "{advice}");
    fs::write(&file, "no snapshot").unwrap();
    let Err(StartError::Damaged { advice, .. }) = App::start(site.setup()).await else { panic!("it started") };
    assert!(advice.contains("there is no whole snapshot in"), "{advice}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_restore_latest_it_goes_on_from_the_snapshot_and_tells_what_was_lost() {
    let (site, [before, after]) = damaged().await;
    let mut setup = site.setup();
    // Those of an operator's own restores are no sign of a bad disk.
    let store = site.dir.path().join("store");
    (0..3).for_each(|nth| fs::create_dir(store.join(format!("sled.before-{nth}"))).unwrap());
    let (name, key) = ("--restore-latest".to_owned(), "store.restore_latest".to_owned());
    setup.sources.flags.push(Flag { name, key, value: "true".to_owned() });
    setup.config = app::load(&setup.sources).unwrap();
    let app = App::start(setup).await.unwrap();
    assert_eq!((crate::metrics(&app, &before).await, crate::metrics(&app, &after).await), (200, 401));
    let told = app.parts().alerts.list().await.unwrap();
    let [incident] = &told[..] else { panic!("{told:?}") };
    assert_eq!(incident.subject, "store/restored");
    for moment in ["2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z"] {
        assert!(incident.detail.contains(moment), "{}", incident.detail);
    }
    assert_eq!(snapshot::damaged_aside(&store), 1);
    assert!(app.stop(DRAIN).await);
    let app = site.start().await;
    assert_eq!(app.parts().alerts.list().await.unwrap().len(), 1, "it is told once");
    assert!(app.stop(DRAIN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_restore_latest_it_waits_for_the_room_that_takes() {
    let site = Site::new();
    let store = site.dir.path().join("store");
    let Some(disk) = SmallDisk::mount(store.clone(), "128m") else { return };
    let [before, _] = damage(&site).await;
    let mut setup = site.setup();
    let flag = |key: &str, value: &str| Flag { name: key.to_owned(), key: key.to_owned(), value: value.to_owned() };
    setup.sources.flags.extend([flag("store.restore_latest", "true"), flag("store.reserve", "16 MiB")]);
    setup.config = app::load(&setup.sources).unwrap();
    disk.leave(12 << 20);
    let making_room = async {
        // An attempt has begun.
        while !store.join("restored.txt").exists() {
            tokio::task::yield_now().await;
        }
        while store.join("restored.txt").exists() {
            tokio::task::yield_now().await;
        }
        disk.clear();
    };
    let both = async { tokio::join!(App::start(setup), making_room).0 };
    let app = clock::within(2 * LIMIT, both).await.unwrap().unwrap();
    assert_eq!(crate::metrics(&app, &before).await, 200);
    assert!(app.stop(DRAIN).await);
}

async fn get(app: &App, path: &str) -> (u16, serde_json::Value) {
    let answer = client().get(format!("http://{}{path}", app.address())).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_to_whoever_asks_and_to_a_person_and_passes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "64m") else { return };
    let site = Site::new();
    let mut setup = site.setup();
    let flag = |key: &str, value: String| Flag { name: key.to_owned(), key: key.to_owned(), value };
    setup.sources.flags[1].value = format!("sled:{}", disk.path().join("store").display());
    setup.sources.flags.push(flag("store.reserve", "16 MiB".to_owned()));
    setup.config = app::load(&setup.sources).unwrap();
    let app = App::start(setup).await.unwrap();
    let token = app.parts().operators.add("app", [Scope::Sessions].into(), None).await.unwrap().text;
    let post = async || {
        let url = format!("http://{}/api/sessions/shop", app.address());
        let post = client().post(url).bearer_auth(token.expose()).body(r#"{"data":{}}"#);
        let answer = post.header("content-type", "application/json").send().await.unwrap();
        let (status, retry) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
        (status, retry, answer.json::<serde_json::Value>().await.unwrap())
    };
    assert_eq!(post().await.0, 201);
    disk.leave(15 << 20);
    let mut room = app.parts().store.room();
    clock::within(LIMIT, room.wait_for(|room| room.low)).await.unwrap().unwrap();
    let (status, retry, problem) = post().await;
    assert_eq!((status, retry, problem["code"].as_str()), (507, true, Some("storage_full")));
    let (status, problem) = get(&app, "/readyz").await;
    assert_eq!(
        (status, problem["parts"]["store"].as_str()),
        (503, Some("the disk is nearly full: nothing new is stored"))
    );
    let told = async |open: bool| {
        let told = async {
            loop {
                let told = app.parts().alerts.list().await.unwrap();
                if told.iter().any(|incident| incident.subject == "store/disk" && incident.open == open) {
                    return told.len();
                }
            }
        };
        clock::within(LIMIT, told).await.unwrap()
    };
    assert_eq!(told(true).await, 1);
    disk.clear();
    clock::within(LIMIT, room.wait_for(|room| !room.low)).await.unwrap().unwrap();
    assert_eq!((post().await.0, told(false).await), (201, 1));
    assert!(app.stop(DRAIN).await);
}

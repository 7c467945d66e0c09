//! Browsers that have been in use for long enough: sessions move into fresh ones, and nobody notices, the phone least of all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nightporter::clock;

use crate::chaos::census::Census;
use crate::stage::{PATIENCE, PORTAL, Scene, Stage, id_of};

/// Replaces browsers as fast as the configuration allows.
const SHORT_LIVED: &str = "\nrecycle_after = \"10s\"\n";

async fn hurried(recipe: &[(&str, &str)]) -> Stage {
    let stage = Stage::set(Scene { recipe, ..Scene::default() }).await;
    let file = fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    stage.write("nightporter.toml", &file.replacen("[browser]\n", &format!("[browser]{SHORT_LIVED}"), 1));
    stage
}

/// Which browsers have a profile.
fn profiles(stage: &Stage) -> usize {
    fs::read_dir(stage.path("run")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_move_into_fresh_browsers_and_nobody_notices() {
    let mut stage = hurried(&[]).await;
    stage.launch().await;
    let before = stage.live().await;
    let descriptors = || Census::take(&stage).descriptors;
    let (first, held) = (stage.browsers(), descriptors());
    // Calls and browser work go on all the time.
    let mut calls = 0;
    let moving = async {
        while stage.told_of("browser_recycled").await.len() < 4 {
            stage.served().await;
            let slot = if calls % 2 == 0 { "active" } else { "standby" };
            let picture = stage.get(&format!("{PORTAL}/screenshot?slot={slot}")).await;
            assert_eq!(picture.status.as_u16(), 200, "{:?}", picture.json());
            assert!(stage.browsers().len() <= 3, "both seats at once: {:?}", stage.browsers());
            calls += 1;
        }
    };
    let moved = clock::within(PATIENCE * 2, moving).await;
    assert!(moved.is_ok(), "{}", stage.log());
    let told = stage.told_of("browser_recycled").await;
    assert!(told.iter().all(|told| told.starts_with("its browser was replaced by a fresh one after ")), "{told:?}");
    let after = stage.live().await;
    assert_eq!((&after["epoch"], id_of(&after, "active")), (&before["epoch"], id_of(&before, "active")));
    assert_eq!(id_of(&after, "standby"), id_of(&before, "standby"));
    assert_eq!((stage.counters().codes_sent, stage.mailbox.count()), (2, 0));
    assert_eq!((stage.told_of("expired").await.len(), stage.told_of("browser_replaced").await.len()), (0, 0));
    let tidy = async {
        while stage.browsers().len() != 2 || profiles(&stage) != 2 || descriptors() > held + 4 {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    let tidied = clock::within(PATIENCE, tidy).await;
    assert!(tidied.is_ok(), "{:?}, {} profiles, {held} to {}", stage.browsers(), profiles(&stage), descriptors());
    assert!(stage.browsers().is_disjoint(&first));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_may_name_its_own_browser() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own-browser");
    fs::write(&own, "#!/bin/sh\nexec /usr/lib/chromium/chromium --own-browser \"$@\"\n").unwrap();
    for path in [dir.path(), &own] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let (plain, named) = ("[login]\n", format!("[browser]\nbinary = \"{}\"\n[login]\n", own.display()));
    let mut stage = Stage::set(Scene { recipe: &[(plain, &named)], ..Scene::default() }).await;
    stage.start().await;
    stage.live().await;
    let browsers = |stage: &Stage| {
        let line = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let running: Vec<_> = stage.browsers().iter().map(line).collect();
        let own = running.iter().filter(|line| line.contains("--own-browser")).count();
        (own, running.len() - own)
    };
    assert_eq!(browsers(&stage), (2, 0), "the usual program is not even started");

    // Without it the portal goes on in the usual one, from its saved sessions, and the other's processes end.
    let recipe = fs::read_to_string(stage.path("hanbit.toml")).unwrap();
    stage.write("hanbit.toml", &recipe.replace(&named, plain));
    stage.reload().await;
    stage.served().await;
    let changing = async {
        while browsers(&stage) != (0, 2) {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    assert!(clock::within(PATIENCE, changing).await.is_ok(), "{:?}", browsers(&stage));
    assert_eq!(stage.counters().codes_sent, 2);
    stage.strike().await;
}

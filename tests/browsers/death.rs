//! Processes that die, hang or are stopped, the browser's and our own: noticed, replaced, and nothing is left behind.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use nightporter::browsers::{BrowserError, Pool, Seat, Settings};
use nightporter::clock;
use nightporter::lifecycle::Lifecycle;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{House, LIMIT, assert_gone, command_line, processes_of};

/// Stops every process that works below `directory`, crash handlers included.
fn stop_all(directory: &Path) {
    for pid in processes_of(directory) {
        // One that has just ended needs no stopping.
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP);
    }
}

#[tokio::test]
async fn a_killed_browser_is_replaced_and_the_watch_says_so() {
    let house = House::open();
    house.pool.warm().await.unwrap();
    let (context, page) = house.page().await;
    assert_eq!((context.generation(), context.is_alive()), (1, true));
    kill_process(house.pid(Seat::A), Signal::KILL).unwrap();
    let waiting = page.wait_for("#never", LIMIT).await.unwrap_err();
    assert_eq!(waiting, BrowserError::Gone);
    assert!(!context.is_alive());
    let health = house.becomes(Seat::A, |health| health.generation == 2 && health.up).await;
    assert_eq!((health.deaths, health.recycled), (1, 0));
    let other = house.pool.watch(Seat::B).borrow().clone();
    assert_eq!((other.generation, other.deaths), (1, 0), "the other process does not notice");
    let (context, _page) = house.page().await;
    assert_eq!(context.generation(), 2);
    house.close().await;
}

#[tokio::test]
async fn a_browser_that_hangs_is_noticed_killed_and_replaced() {
    let house = House::open();
    house.pool.warm().await.unwrap();
    let stopped = house.pid(Seat::B);
    kill_process(stopped, Signal::STOP).unwrap();
    let health = house.becomes(Seat::B, |health| health.deaths == 1).await;
    assert!(health.reason.unwrap().contains("did not answer"));
    let health = house.becomes(Seat::B, |health| health.generation == 2 && health.up).await;
    assert_ne!(health.pid, Some(stopped.as_raw_pid().cast_unsigned()));
    assert_eq!(command_line(stopped.as_raw_pid()), "");
    house.close().await;
}

#[tokio::test]
async fn of_a_browser_that_was_stopped_with_all_its_children_nothing_stays() {
    let house = House::open();
    let (_context, page) = house.page().await;
    let before = processes_of(house.run.path());
    assert!(before.len() > 4, "{before:?}");
    stop_all(house.run.path());
    // Who watches the browser and who watches the tab are equally patient: either may be the first to notice.
    let noticed = page.wait_for("#never", LIMIT).await.unwrap_err();
    assert!(matches!(noticed, BrowserError::Gone | BrowserError::Unresponsive), "{noticed}");
    house.becomes(Seat::A, |health| health.generation == 2 && health.up).await;
    house.processes_become("the end of the stopped", |now| now.is_disjoint(&before)).await;
    house.close().await;
}

/// Names the directory in which the second life of this test binary shall run browsers.
const SECOND_LIFE: &str = "NIGHTPORTER_TEST_SECOND_LIFE";

/// Does nothing, unless this is the process that the next tests start to kill it.
#[tokio::test]
async fn second_life() {
    let Some(run) = std::env::var_os(SECOND_LIFE) else { return };
    let life = Lifecycle::new();
    let pool = Pool::new(&life, Settings { runtime_dir: run.into(), ..Settings::default() }).unwrap();
    pool.warm().await.unwrap();
    println!("warm");
    std::future::pending::<()>().await;
}

/// Starts the second life, has `before` done to what it runs, and kills it.
async fn live_and_die(run: &Path, before: impl FnOnce(&Path)) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "death::second_life", "--nocapture"])
        .env(SECOND_LIFE, run)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let warming = async { while !lines.next_line().await.unwrap().expect("ended early").contains("warm") {} };
    clock::within(LIMIT, warming).await.unwrap();
    assert!(!processes_of(run).is_empty());
    before(run);
    child.kill().await.unwrap();
}

#[tokio::test]
async fn when_we_are_killed_nothing_is_left_behind() {
    let house = House::open();
    let run = house.run.path().join("second");
    live_and_die(&run, |_| {}).await;
    assert_gone(&run).await;
    assert!(fs::read_dir(&run).unwrap().count() > 0, "a killed process cannot remove its profiles");
    // The next start does.
    Pool::new(&house.life, Settings { runtime_dir: run.clone(), ..Settings::default() }).unwrap();
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
    fs::remove_dir(&run).unwrap();
    house.close().await;
}

#[tokio::test]
async fn when_we_are_killed_with_stopped_browsers_the_next_start_leaves_nothing() {
    let house = House::open();
    let run = house.run.path().join("second");
    let leaders = |run: &Path| {
        for pid in processes_of(run).into_iter().filter(|pid| !command_line(*pid).contains("--type=")) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP);
        }
    };
    for stop in [&leaders as &dyn Fn(&Path), &stop_all] {
        live_and_die(&run, stop).await;
        Pool::new(&house.life, Settings { runtime_dir: run.clone(), ..Settings::default() }).unwrap();
        assert_gone(&run).await;
        assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
    }
    fs::remove_dir(&run).unwrap();
    house.close().await;
}

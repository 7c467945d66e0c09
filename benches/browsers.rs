//! What browsers cost and how soon they are back: deaths, hangs, logins, memory. The real binary before the demo's portal,
//! phone and mail server, all on loopback, on real Chromium; the pool alone where the appliance would only add to a
//! measurement. `README.md` beside this file holds a run.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, reason = "what cannot be measured ends the run")]

#[allow(dead_code, reason = "the census of the tests, of which this uses a part")]
#[path = "../tests/portals/chaos/census.rs"]
mod census;
#[allow(dead_code, reason = "the stage of the tests, of which this uses a part")]
#[path = "../tests/portals/stage.rs"]
mod stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use census::Census;
use nightporter::browsers::{ContextOptions, PageOptions, Pool, Seat, Settings};
use nightporter::clock::{self, Clock, Stopwatch, Time};
use nightporter::lifecycle::Lifecycle;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stage::{PATIENCE, Scene, Stage, kill_9};

/// Rounds of what takes about a second, and of what takes about ten.
const ROUNDS: usize = 9;
const LONG_ROUNDS: usize = 5;
/// Portals of the appliance, each with an active and a standby session.
const PORTALS: usize = 8;
/// What memory is given to settle after the last login, tabs closed and garbage collected.
const SETTLE: Duration = Duration::from_secs(20);
const MIB: f64 = 1024.0;
/// Pages that a login at the demo's portal loads: the form, the choice of the second factor, the code, the account.
const PAGES: f64 = 4.0;

#[tokio::main]
async fn main() {
    println!("medians, with least and greatest; load average {}\n", load());
    println!("| what | median | least | greatest | rounds |");
    println!("|---|---|---|---|---|");
    ends().await;
    bare().await;
    let (mut stage, names) = appliance().await;
    memory(&stage).await;
    logins(&stage).await;
    back(&mut stage, &names).await;
    stage.strike().await;
    println!("\nload average at the end {}", load());
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn tell(what: &str, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (count, last) = (values.len(), values[values.len() - 1]);
    println!("| {what} | {:.0} {unit} | {:.0} | {last:.0} | {count} |", values[count / 2], values[0]);
}

/// From a signal to the pool's word that the process is gone; killed, and stopped.
async fn ends() {
    let (mut killed, mut stopped) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        killed.push(noticed(Signal::KILL, round).await);
    }
    for round in 0..LONG_ROUNDS {
        stopped.push(noticed(Signal::STOP, round).await);
    }
    tell("crash noticed", "ms", killed);
    tell("hang noticed and killed", "ms", stopped);
}

/// In a pool of its own: one whose browsers die again and again takes its time to start the next.
async fn noticed(signal: Signal, round: usize) -> f64 {
    let run = tempfile::tempdir().unwrap();
    fs::set_permissions(run.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let life = Lifecycle::new();
    let pool = Pool::new(&life, Settings { runtime_dir: run.path().to_owned(), ..Settings::default() }).unwrap();
    pool.warm().await.unwrap();
    let mut health = pool.watch(Seat::A);
    let pid = Pid::from_raw(health.borrow_and_update().pid.unwrap().cast_signed()).unwrap();
    // At another point of the time between two signs of life each round.
    clock::pause(Duration::from_millis(700 + 370 * (round as u64 % 6))).await;
    let watch = Stopwatch::start();
    kill_process(pid, signal).unwrap();
    clock::within(PATIENCE, health.wait_for(|health| health.deaths == 1)).await.unwrap().unwrap();
    let span = watch.elapsed();
    assert!(life.shutdown(PATIENCE).await);
    span.as_secs_f64() * 1e3
}

/// The appliance with nothing to do and no browser.
async fn bare() {
    let mut stage = Stage::set(Scene::default()).await;
    let file = fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    stage.write("nightporter.toml", file.split("[portals.").next().unwrap());
    let mut resident = Vec::new();
    for _ in 0..LONG_ROUNDS {
        stage.launch().await;
        clock::pause(Duration::from_secs(3)).await;
        let census = Census::take(&stage);
        assert_eq!(census.browsers, 0);
        resident.push(census.rss as f64 / MIB);
        stage.kill().await;
    }
    tell("idle appliance without a browser, RSS", "MiB", resident);
    stage.strike().await;
}

/// The real binary with its portals, all of them live.
async fn appliance() -> (Stage, Vec<String>) {
    let mut stage = Stage::set(Scene::default()).await;
    let file = fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    let (head, portal) = file.split_once("[portals.hanbit]").unwrap();
    let names: Vec<_> =
        (0..PORTALS).map(|number| if number == 0 { "hanbit".into() } else { format!("hanbit{number}") }).collect();
    let portals: String = names.iter().map(|name| format!("[portals.{name}]{portal}")).collect();
    stage.write("nightporter.toml", &format!("{head}{portals}"));
    let watch = Stopwatch::start();
    start(&mut stage, &names).await;
    let took = watch.elapsed().as_secs_f64() * 1e3;
    tell(&format!("{} logins, one phone, from a cold start", PORTALS * 2), "ms", vec![took]);
    (stage, names)
}

/// Starts the real binary and waits until every portal is live.
async fn start(stage: &mut Stage, names: &[String]) {
    stage.launch().await;
    let watch = Stopwatch::start();
    for name in names {
        while stage.get(&format!("/api/portals/{name}")).await.json()["state"] != "live" {
            assert!(watch.elapsed() < PATIENCE * 4, "not all live: {}", stage.log());
            clock::pause(Duration::from_millis(100)).await;
        }
    }
}

async fn memory(stage: &Stage) {
    clock::pause(SETTLE).await;
    let (mut chromium, mut appliance) = (Vec::new(), Vec::new());
    for _ in 0..LONG_ROUNDS {
        let census = Census::take(stage);
        chromium.push(census.chromium as f64 / MIB);
        appliance.push(census.rss as f64 / MIB);
        clock::pause(Duration::from_secs(2)).await;
    }
    tell(&format!("Chromium with {} idle sessions, PSS", PORTALS * 2), "MiB", chromium);
    tell("the appliance beside it, RSS", "MiB", appliance);
}

/// From a kill to the first session's new place, and to that of every session that lived there. Twice an appliance, once
/// for each browser, since one that dies again is started with a delay.
async fn back(stage: &mut Stage, names: &[String]) {
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..LONG_ROUNDS {
        stage.kill().await;
        start(stage, names).await;
        // A saved session is live before it has a place.
        clock::pause(Duration::from_secs(5)).await;
        for browser in stage.browsers() {
            let before = replaced(stage, names).await;
            let killed = Clock::system().now();
            kill_9(browser);
            let back = async {
                loop {
                    let now = replaced(stage, names).await;
                    let fresh = now.iter().zip(&before).filter_map(|(now, before)| now.get(before.len()).copied());
                    let times: Vec<Time> = fresh.collect();
                    if times.len() == names.len() {
                        return times;
                    }
                    clock::pause(Duration::from_millis(250)).await;
                }
            };
            let times = clock::within(PATIENCE, back).await.unwrap_or_else(|_| panic!("{}", stage.log()));
            let span = |time: Option<&Time>| time.unwrap().since(killed).as_secs_f64() * 1e3;
            first.push(span(times.iter().min()));
            all.push(span(times.iter().max()));
            clock::pause(Duration::from_secs(1)).await;
        }
    }
    tell("first session back after a crash", "ms", first);
    tell(&format!("{} sessions back", names.len()), "ms", all);
}

/// When each portal's sessions were given a new browser, oldest first.
async fn replaced(stage: &Stage, names: &[String]) -> Vec<Vec<Time>> {
    let mut told = Vec::new();
    for name in names {
        let events = stage.get(&format!("/api/portals/{name}/events")).await.json();
        told.push(times_of(events["events"].as_array().unwrap(), "browser_replaced"));
    }
    told
}

fn times_of(events: &[Value], kind: &str) -> Vec<Time> {
    let of_kind = events.iter().rev().filter(|event| event["kind"] == kind);
    of_kind.map(|event| event["at"].as_str().unwrap().parse().unwrap()).collect()
}

/// Logins in warm browsers, from the keeper's decision to the record that names the session; the part of it from the
/// portal's sending of the SMS to the code in the appliance; and what is left without that and the portal's pages, which
/// count as much as the lightest of them takes to load in a tab that is open.
async fn logins(stage: &Stage) {
    let (mut whole, mut sms, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let recipe = fs::read_to_string(stage.path("hanbit.toml")).unwrap();
    let portal = recipe.lines().find_map(|line| line.strip_prefix("base_url = ")).unwrap().trim_matches('"');
    let pages = loads(&format!("{portal}/login")).await;
    let page = pages[pages.len() / 2] * PAGES;
    for _ in 0..ROUNDS {
        let done = stage.told_of("authenticated").await.len();
        assert_eq!(stage.wish("reauth").await.0, 202);
        stage.happened("authenticated", done + 1).await;
        let events = stage.events().await;
        let last = |kind| times_of(&events, kind).pop().unwrap();
        let sent = stage.phone.inbox().last().unwrap().sent_at;
        whole.push(last("authenticated").since(last("login_started")).as_secs_f64() * 1e3);
        sms.push(last("code_used").since(sent).as_secs_f64() * 1e3);
        rest.push(whole[whole.len() - 1] - sms[sms.len() - 1] - page);
        stage.when("idle", |state| state["state"] == "live").await;
    }
    tell("login in a warm browser, everything included", "ms", whole);
    tell("of it, from the sent SMS to its code", "ms", sms);
    tell("of it, one page of the portal, of four", "ms", pages);
    tell("without the SMS and the pages", "ms", rest);
}

/// How long a page of the portal takes to load in a tab that is open, shortest first.
async fn loads(url: &str) -> Vec<f64> {
    let run = tempfile::tempdir().unwrap();
    fs::set_permissions(run.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let life = Lifecycle::new();
    let pool = Pool::new(&life, Settings { runtime_dir: run.path().to_owned(), ..Settings::default() }).unwrap();
    let context = pool.open(Seat::A, ContextOptions::default()).await.unwrap();
    let page = context.page(PageOptions::default()).await.unwrap();
    let mut spans = Vec::new();
    for round in 0..=ROUNDS {
        let watch = Stopwatch::start();
        page.goto(url, PATIENCE).await.unwrap();
        if round > 0 {
            spans.push(watch.elapsed().as_secs_f64() * 1e3);
        }
    }
    drop((page, context));
    assert!(life.shutdown(PATIENCE).await);
    spans.sort_by(f64::total_cmp);
    spans
}

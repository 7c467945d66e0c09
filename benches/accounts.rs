//! Accounts: session checks a second, in this process on two threads and over HTTP; logins a second, and how much of the
//! processor's time is Argon2's; the memory of an idle appliance and while 200 wrong logins come at once; and how far apart the
//! answers about known and unknown addresses are in time. The appliance is a process of its own, the load comes from this one,
//! on the same cores. `README.md` beside this file holds a run.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be measured ends the run")]

#[path = "sessions/appliance.rs"]
mod appliance;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use appliance::{Appliance, Connection};
use futures_util::future::join_all;
use hyper::{Method, StatusCode};
use nightporter::app::{self, App, Setup};
use nightporter::clock::{Clock, Stopwatch};
use nightporter::config::Sources;
use nightporter::demo::mailbox::Mailbox;
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use serde_json::{Value, json};

const SPAN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 32;
/// Each may be guessed at ten times before its budget is spent.
const USERS: usize = 50;
const GUESSES: usize = 10;
const AT_ONCE: usize = 200;
const PASSWORD: &str = "나의 첫 비밀번호";

#[tokio::main]
async fn main() {
    let disk =
        tempfile::tempdir_in(std::env::var("NIGHTPORTER_BENCH_DIR").unwrap_or_else(|_| "target".into())).unwrap();
    let life = Lifecycle::new();
    let mailbox = Mailbox::start(None, &Clock::system(), &life).await.unwrap();
    let lines = format!(
        "[mail]\nurl = \"{}\"\nfrom = \"porter@a.example\"\n[accounts]\nclient_per_minute = 1000000\n\
         address_per_minute = 1000000\ntotal_per_minute = 1000000",
        mailbox.url()
    );
    println!("| what | measured |\n|---|---|");
    gate(disk.path(), &lines, &mailbox).await;

    let appliance = Appliance::start(disk.path(), &lines, &[]).await;
    println!("| idle, resident | {} MiB |", appliance.memory("VmRSS:") / 1024);
    for user in 0..USERS {
        sign_up(appliance.address(), &mailbox, &known(user)).await;
    }
    checks(&appliance).await;
    logins(&appliance).await;
    timing(&appliance).await;
    crowd(&appliance).await;
}

fn known(user: usize) -> String {
    format!("user{user}@known.example")
}

async fn post(address: &str, path: &str, body: &Value) -> Value {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let answer = client.post(format!("http://{address}/api/auth/{path}")).json(body).send().await.unwrap();
    let status = answer.status();
    let body = answer.json::<Value>().await.unwrap_or_default();
    assert!(status.is_success(), "{path}: {status} {body}");
    body
}

/// Makes a user; the address is told by the mail.
async fn sign_up(address: &str, mailbox: &Mailbox, email: &str) {
    let mails = mailbox.count();
    let body = json!({"email": email, "password": PASSWORD, "full_name": "김민서"});
    let ticket = post(address, "register", &body).await["registration_id"].clone();
    let mail = mailbox.nth(mails + 1, PATIENCE).await.unwrap().body();
    let digits = |word: &&str| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit());
    let code = mail.split_whitespace().find(digits).unwrap();
    let body = json!({"email": email, "verification_code": code, "registration_id": ticket});
    post(address, "verify-registration", &body).await;
}

fn login(email: &str, password: &str) -> String {
    json!({"email": email, "password": password}).to_string()
}

async fn token(address: &str, email: &str) -> String {
    let told = post(address, "login", &json!({"email": email, "password": PASSWORD})).await;
    told["access_token"].as_str().unwrap().to_owned()
}

/// Checks in this process: what every request with a token costs besides HTTP.
async fn gate(disk: &std::path::Path, lines: &str, mailbox: &Mailbox) {
    let dir = tempfile::tempdir_in(disk).unwrap();
    let file = dir.path().join("nightporter.toml");
    let store = dir.path().join("store").display().to_string();
    std::fs::write(&file, format!("[server]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sled:{store}\"\n{lines}\n"))
        .unwrap();
    let sources = Sources { file: Some(file), ..Sources::default() };
    let config = app::load(&sources).unwrap();
    let (clock, random) = (Clock::system(), Random::system().unwrap());
    let setup = Setup { sources, config, clock, random, metrics: Metrics::install().unwrap(), log: None };
    let app = App::start(setup).await.unwrap();
    let address = app.address().to_string();
    sign_up(&address, mailbox, &known(0)).await;
    let token = token(&address, &known(0)).await;
    let (gate, count) = (app.parts().accounts.gate().clone(), AtomicU64::new(0));
    let watch = Stopwatch::start();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while watch.elapsed() < SPAN {
                    assert!(gate.admit(&token).is_ok());
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let rate = count.into_inner() as f64 / SPAN.as_secs_f64();
    println!("| session checks in process, 2 threads | {rate:.0} /s |");
    assert!(app.stop(PATIENCE).await);
}

/// Sends one request after the other on each connection for a while; requests a second.
async fn load(connections: Vec<Connection>, act: impl AsyncFn(&mut Connection, usize)) -> f64 {
    let (watch, act) = (Stopwatch::start(), &act);
    let clients = connections.into_iter().enumerate().map(|(client, mut connection)| async move {
        let mut count = 0_usize;
        while watch.elapsed() < SPAN {
            act(&mut connection, client * 1000 + count).await;
            count += 1;
        }
        count
    });
    let count: usize = join_all(clients).await.into_iter().sum();
    count as f64 / watch.elapsed().as_secs_f64()
}

async fn connections(appliance: &Appliance, count: usize) -> Vec<Connection> {
    join_all((0..count).map(|_| appliance.connect())).await
}

/// A good token is checked; who asks for themselves also reads the user's record.
async fn checks(appliance: &Appliance) {
    let token = token(appliance.address(), &known(0)).await;
    let connections = join_all((0..CONNECTIONS).map(|_| appliance.connect_as(&token))).await;
    let before = appliance.processor();
    let rate = load(connections, async |connection, _| {
        let answer = connection.send(Method::GET, "/api/auth/me", &[], "").await;
        assert_eq!(answer.status, StatusCode::OK);
    })
    .await;
    let each = (appliance.processor() - before).as_secs_f64() / (rate * SPAN.as_secs_f64());
    println!("| `GET /api/auth/me` over HTTP, {CONNECTIONS} connections, load on the same cores | {rate:.0} /s |");
    println!("| processor time of one, in the appliance | {:.0} µs: {:.0} /s on 2 cores |", each * 1e6, 2.0 / each);
}

async fn logins(appliance: &Appliance) {
    let used = || (appliance.processor(), appliance.processor_of("passwords-"));
    let before = used();
    let rate = load(connections(appliance, 4).await, async |connection, number| {
        let body = login(&known(number % USERS), PASSWORD);
        let answer = connection.send(Method::POST, "/api/auth/login", &[], &body).await;
        assert_eq!(answer.status, StatusCode::OK);
    })
    .await;
    let after = used();
    // Those threads do nothing else.
    let share = (after.1 - before.1).as_secs_f64() / (after.0 - before.0).as_secs_f64() * 100.0;
    println!("| logins | {rate:.1} /s |");
    println!("| the share of Argon2's threads in the appliance's time on the processor | {share:.0} % |");
}

/// Wrong logins about known and unknown addresses in turns.
async fn timing(appliance: &Appliance) {
    let mut connection = appliance.connect().await;
    let (mut of_known, mut of_unknown) = (Vec::new(), Vec::new());
    for guess in 0..USERS * GUESSES {
        for (times, email) in
            [(&mut of_known, known(guess % USERS)), (&mut of_unknown, format!("user{}@other.example", guess % USERS))]
        {
            let watch = Stopwatch::start();
            let answer =
                connection.send(Method::POST, "/api/auth/login", &[], &login(&email, "not the password")).await;
            times.push(watch.elapsed());
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let (known, unknown) = (median(of_known), median(of_unknown));
    let apart = (known - unknown).abs();
    println!(
        "| wrong login, known and unknown address, medians of {} | {known:.2} and {unknown:.2} ms, {apart:.2} ms apart |",
        USERS * GUESSES
    );
}

/// Wrong logins at once: those that find the queue full are told to come again.
async fn crowd(appliance: &Appliance) {
    let connections = connections(appliance, AT_ONCE).await;
    let tries = connections.into_iter().enumerate().map(|(number, mut connection)| async move {
        let body = login(&format!("crowd{number}@other.example"), "not the password");
        connection.send(Method::POST, "/api/auth/login", &[], &body).await.status
    });
    let statuses = join_all(tries).await;
    let judged = statuses.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count();
    let busy = statuses.iter().filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE).count();
    assert_eq!(judged + busy, AT_ONCE);
    let peak = appliance.memory("VmHWM:") / 1024;
    println!(
        "| {AT_ONCE} wrong logins at once | {judged} judged, {busy} told to come again; peak resident {peak} MiB |"
    );
}

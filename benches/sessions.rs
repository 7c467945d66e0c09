//! Sessions over HTTP beside the same sessions in Redis: an application with 64 connections that stay open changes its
//! records by compare-and-swap, each its own or all the same. The appliance and redis-server are processes of their own on
//! the same disk, durable when answered, reached over loopback's TCP, in turns within one run; the load comes from this
//! process. And the longest request while a hundred thousand sessions expire at one instant. `README.md` beside this file
//! holds a run; the words `own`, `one` and `expiry` on the command line run that part alone.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be measured ends the run")]

#[path = "sessions/appliance.rs"]
mod appliance;
#[path = "store/load.rs"]
mod load;
#[allow(dead_code, reason = "the peer of both, of which this uses a part")]
#[path = "store/redis.rs"]
mod redis_server;

use std::time::Duration;

use appliance::{Appliance, Connection};
use futures_util::future::join_all;
use hyper::{Method, StatusCode};
use load::{Client, ROUNDS, SIZE, Turn};
use nightporter::clock::{self, Clock, Stopwatch};
use redis_server::{Fsync, Redis, Swapper};

const SPAN: Duration = Duration::from_millis(2000);
const CONNECTIONS: usize = 64;
/// The life of a session, in milliseconds.
const LIFE: u64 = 24 * 60 * 60 * 1000;
/// Sessions that expire at one instant, and how long requests are watched before and after it.
const CROWD: usize = 100_000;
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(10);

// One thread: it takes as little of the machine as can be, and the same for both.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let disk =
        tempfile::tempdir_in(std::env::var("NIGHTPORTER_BENCH_DIR").unwrap_or_else(|_| "target".into())).unwrap();
    println!("{ROUNDS} turns of {SPAN:?} each, in turns; medians, ratios with their least and greatest");
    let appliance = Appliance::start(disk.path(), "[sessions]\nmax_records = 1000000", &[]).await;
    let redis = Redis::start(disk.path(), Fsync::Always, true).await;
    let mut turns = Vec::new();
    if load::wanted("own") {
        load::head();
        turns.push(own_keys(&appliance, &redis).await);
    }
    if load::wanted("one") {
        load::head();
        turns.push(hot_key(&appliance, &redis).await);
    }
    drop(redis);
    for (theirs, ours) in &turns {
        let load = |turns: &[Turn]| load::spread(turns.iter().map(|turn| turn.cpu.as_secs_f64() * 1e6).collect()).0;
        println!("\nprocessor time for the load of one change, µs: Redis {:.1}, store {:.1}", load(theirs), load(ours));
    }
    if load::wanted("expiry") {
        expiry(&appliance).await;
    }
}

async fn own_keys(appliance: &Appliance, redis: &Redis) -> (Vec<Turn>, Vec<Turn>) {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for client in 0..CONNECTIONS {
        theirs.push(Swapper::new(redis, format!("own-{client}"), LIFE).await);
        let mut connection = appliance.connect().await;
        let path = format!("/api/sessions/bench/own-{client}");
        let made = connection.send(Method::PUT, &path, &[("if-none-match", "*")], &body(0)).await;
        ours.push(Putter { connection, path, body: body(1), etag: made.etag });
    }
    load::in_turns(SPAN, &format!("{CONNECTIONS} connections, each its own record"), theirs, ours).await
}

async fn hot_key(appliance: &Appliance, redis: &Redis) -> (Vec<Turn>, Vec<Turn>) {
    let mut first = appliance.connect().await;
    first.send(Method::PUT, "/api/sessions/bench/hot", &[("if-none-match", "*")], &body(0)).await;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for client in 0..CONNECTIONS {
        theirs.push(Swapper::new(redis, "hot".into(), LIFE).await);
        ours.push(Patcher { connection: appliance.connect().await, client, count: 0 });
    }
    load::in_turns(SPAN, &format!("{CONNECTIONS} connections, one record"), theirs, ours).await
}

fn body(number: usize) -> String {
    format!("{{\"data\":{{\"blob\":\"{number:0SIZE$}\"}}}}")
}

/// Replaces its own session at the version that it knows.
struct Putter {
    connection: Connection,
    path: String,
    body: String,
    etag: String,
}

impl Client for Putter {
    async fn act(&mut self) {
        let Self { connection, path, body, etag } = self;
        let answer = connection.send(Method::PUT, path, &[("if-match", etag)], body).await;
        assert_eq!(answer.status, StatusCode::OK);
        self.etag = answer.etag;
    }
}

/// Merges its own member into the session of all.
struct Patcher {
    connection: Connection,
    client: usize,
    count: u64,
}

impl Client for Patcher {
    async fn act(&mut self) {
        self.count += 1;
        let change = format!("{{\"data\":{{\"seen-{}\":{}}}}}", self.client, self.count);
        let answer = self.connection.send(Method::PATCH, "/api/sessions/bench/hot", &[], &change).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

/// A hundred thousand sessions end at once while others are read and changed.
async fn expiry(appliance: &Appliance) {
    let clock = Clock::system();
    // Time enough to make them all.
    let end = clock.now() + Duration::from_secs(60);
    let makers = (0..CONNECTIONS).map(|maker| async move {
        let mut connection = appliance.connect().await;
        for number in (maker..CROWD).step_by(CONNECTIONS) {
            let left = end.since(Clock::system().now()).as_millis();
            let session = format!("{{\"data\":{{\"blob\":\"{number:0SIZE$}\"}},\"ttl\":\"{left}ms\"}}");
            let answer = connection.send(Method::POST, "/api/sessions/crowd", &[], &session).await;
            assert_eq!(answer.status, StatusCode::CREATED);
        }
    });
    join_all(makers).await;
    clock.sleep_until(end - BEFORE).await;
    let mut watchers = Vec::new();
    for watcher in 0..4 {
        let connection = appliance.connect().await;
        watchers.push(tokio::spawn(watch(connection, watcher)));
    }
    let mut times: Vec<_> = join_all(watchers).await.into_iter().flat_map(Result::unwrap).collect();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000].as_secs_f64() * 1e3;
    println!("\n| while {CROWD} sessions expire at one instant | ms |\n|---|---|");
    println!("| requests watched | {} |", times.len());
    println!("| p50 | {:.2} |\n| p99.9 | {:.2} |\n| longest | {:.2} |", at(500), at(999), at(1000));
}

/// Reads and changes a session of its own in turns, a thousand times a second at most.
async fn watch(mut connection: Connection, watcher: usize) -> Vec<Duration> {
    let path = format!("/api/sessions/bench/watched-{watcher}");
    connection.send(Method::PUT, &path, &[("if-none-match", "*")], &body(0)).await;
    let (all, mut times) = (Stopwatch::start(), Vec::new());
    while all.elapsed() < BEFORE + AFTER {
        for (method, change) in [(Method::GET, ""), (Method::PATCH, "{\"data\":{\"seen\":true}}")] {
            let one = Stopwatch::start();
            let answer = connection.send(method, &path, &[], change).await;
            times.push(one.elapsed());
            assert_eq!(answer.status, StatusCode::OK);
        }
        clock::pause(Duration::from_millis(1)).await;
    }
    times
}

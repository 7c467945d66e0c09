//! Flows over HTTP: transitions a second, durable when answered, by 1, 16 and 64 clients with a flow each and by 64 on one
//! flow; and what an open stream of events costs in memory. Beside them, in turns within one run, what an application
//! that keeps such a record in Redis must do for the same safety: compare-and-swap of the whole record, again when somebody
//! else was faster. The appliance and redis-server are processes of their own on the same disk, reached over loopback's TCP;
//! the load comes from this process. `README.md` beside this file holds a run.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be measured ends the run")]

#[allow(dead_code, reason = "the appliance of several, of which this uses a part")]
#[path = "sessions/appliance.rs"]
mod appliance;
#[path = "store/load.rs"]
mod load;
#[allow(dead_code, reason = "the peer of several, of which this uses a part")]
#[path = "store/redis.rs"]
mod redis_server;

use std::time::Duration;

use appliance::{Appliance, Connection};
use hyper::{Method, StatusCode};
use load::{Client, ROUNDS};
use redis_server::{Fsync, Redis, Swapper};

const SPAN: Duration = Duration::from_millis(2000);
/// Streams that are opened, each on its own connection.
const STREAMS: usize = 10_000;
/// The life of a flow, in milliseconds.
const LIFE: u64 = 24 * 60 * 60 * 1000;
/// Flows that they follow.
const FOLLOWED: usize = 100;

/// A flow that can go on for ever.
const FLOW: &str = "ttl = \"24h\"\ninitial = \"going\"\nfinal = [\"gone\"]\nprogress = [\"moved\"]\n\
    [[transition]]\nname = \"move\"\nfrom = [\"going\"]\nto = \"going\"\nset = [\"moved\"]\n\
    [[transition]]\nname = \"leave\"\nfrom = [\"going\"]\nto = \"gone\"\n";
const DATA: &str =
    r#"{"data":{"user_info":{"name":"홍길동","birth":"19800101"},"auth_data":{"TxId":"0123456789abcdef"}}}"#;

#[tokio::main]
async fn main() {
    let disk =
        tempfile::tempdir_in(std::env::var("NIGHTPORTER_BENCH_DIR").unwrap_or_else(|_| "target".into())).unwrap();
    let lines = "[flows.bench]\nfile = \"bench.toml\"";
    let appliance = Appliance::start(disk.path(), lines, &[("bench.toml", FLOW)]).await;
    let redis = Redis::start(disk.path(), Fsync::Always, true).await;
    println!("{ROUNDS} turns of {SPAN:?} each, in turns; medians, ratios with their least and greatest\n");
    load::head();
    for clients in [1, 16, 64] {
        measure((&appliance, &redis), &format!("{clients} clients, a flow each"), clients, false).await;
    }
    measure((&appliance, &redis), "64 clients, one flow", 64, true).await;
    drop(redis);
    streams(&appliance).await;
}

async fn begun(appliance: &Appliance) -> String {
    let mut connection = appliance.connect().await;
    let answer = connection.send(Method::POST, "/api/flows/bench", &[], DATA).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    answer.location
}

async fn measure((appliance, redis): (&Appliance, &Redis), what: &str, clients: usize, one: bool) {
    let shared = begun(appliance).await;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for client in 0..clients {
        let (path, key) = if one {
            (shared.clone(), "shared".to_owned())
        } else {
            (begun(appliance).await, format!("{what} {client}"))
        };
        theirs.push(Swapper::new(redis, key, LIFE).await);
        ours.push(Mover { connection: appliance.connect().await, path: format!("{path}/move") });
    }
    load::in_turns(SPAN, what, theirs, ours).await;
}

/// Takes the same transition again and again.
struct Mover {
    connection: Connection,
    path: String,
}

impl Client for Mover {
    async fn act(&mut self) {
        let answer = self.connection.send(Method::POST, &self.path, &[], "{}").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

async fn streams(appliance: &Appliance) {
    let mut paths = Vec::new();
    for _ in 0..FOLLOWED {
        paths.push(begun(appliance).await);
    }
    let before = appliance.resident();
    let mut open = Vec::new();
    for number in 0..STREAMS {
        let mut connection = appliance.connect().await;
        connection.follow(&format!("{}/events", paths[number % FOLLOWED])).await;
        open.push(connection);
    }
    let after = appliance.resident();
    println!("\n| event streams | |\n|---|---|\n| open | {STREAMS} |");
    println!("| memory of one, its connection included | {:.1} KiB |", (after - before) as f64 / STREAMS as f64);
}

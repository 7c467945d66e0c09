//! Flows over HTTP: transitions a second, durable when answered, by 1, 16 and 64 clients with a flow each and by 64 on one
//! flow; and what an open stream of events costs in memory. The appliance is a process of its own, reached over loopback's
//! TCP; the load comes from this process.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be measured ends the run")]

#[allow(dead_code, reason = "the appliance of several, of which this uses a part")]
#[path = "sessions/appliance.rs"]
mod appliance;
#[allow(dead_code, reason = "the load of several, of which this uses a part")]
#[path = "store/load.rs"]
mod load;

use std::time::Duration;

use appliance::{Appliance, Connection};
use hyper::{Method, StatusCode};
use load::{Client, Turn};

const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_millis(2000);
/// Streams that are opened, each on its own connection.
const STREAMS: usize = 9000;
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
    println!("{ROUNDS} turns of {SPAN:?} each; medians with least and greatest\n");
    println!("| transitions, durable when answered | per second | p50 ms | p99 ms |\n|---|---|---|---|");
    for clients in [1, 16, 64] {
        measure(&appliance, &format!("{clients} clients, a flow each"), clients, false).await;
    }
    measure(&appliance, "64 clients, one flow", 64, true).await;
    streams(&appliance).await;
}

async fn begun(appliance: &Appliance) -> String {
    let mut connection = appliance.connect().await;
    let answer = connection.send(Method::POST, "/api/flows/bench", &[], DATA).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    answer.location
}

async fn measure(appliance: &Appliance, what: &str, clients: usize, one: bool) {
    let shared = begun(appliance).await;
    let mut movers = Vec::new();
    for _ in 0..clients {
        let path = if one { shared.clone() } else { begun(appliance).await };
        movers.push(Mover { connection: appliance.connect().await, path: format!("{path}/move") });
    }
    let mut turns: Vec<Turn> = Vec::new();
    for round in 0..=ROUNDS {
        let (turn, again) = load::turn(movers, SPAN).await;
        movers = again;
        // The first warms up and does not count.
        if round > 0 {
            turns.push(turn);
        }
    }
    let spread = |of: &dyn Fn(&Turn) -> f64| load::spread(turns.iter().map(of).collect());
    let (rate, least, greatest) = spread(&|turn| turn.per_second);
    let (p50, p99) = (spread(&|turn| turn.p50.as_secs_f64() * 1e3).0, spread(&|turn| turn.p99.as_secs_f64() * 1e3).0);
    println!("| {what} | {rate:.0} ({least:.0} to {greatest:.0}) | {p50:.2} | {p99:.2} |");
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

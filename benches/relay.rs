//! What the relay costs: the same call to the demo's portal, straight and through the relay, in turns within one run, so
//! that whatever else the machine does befalls both. Everything is on loopback and in this process. `README.md` beside
//! this file holds a run.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, reason = "what cannot be measured ends the run")]

#[path = "../tests/relay/demo.rs"]
mod demo;
#[path = "../tests/relay/house.rs"]
mod house;

use std::time::Duration;

use demo::Demo;
use house::PORTAL;
use nightporter::clock::{Clock, Stopwatch};
use reqwest::RequestBuilder;

/// Turns of each kind for each number of connections.
const ROUNDS: usize = 7;
/// Calls of one turn: enough for a p99.
const CALLS: usize = 3000;
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const PATH: &str = "/api/orders?limit=1";

/// One turn's result.
#[derive(Clone, Copy)]
struct Turn {
    p50: Duration,
    p99: Duration,
    per_second: f64,
}

#[tokio::main]
async fn main() {
    let clock = Clock::system();
    let demo = Demo::start(&clock).await;
    let running = demo.house(&clock).await.start().await;
    let cookies = &demo.seeds[0].cookies;
    let cookies: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let direct = running.client.get(format!("{}{PATH}", demo.portal.base_url())).header("cookie", cookies.join("; "));
    let relayed = running.client.get(running.url(&format!("/api/portals/{PORTAL}/relay{PATH}")));
    let relayed = relayed.bearer_auth(&running.token);
    println!("{ROUNDS} turns of {CALLS} calls each; medians over the turns, ratios with their least and greatest\n");
    println!("| connections | way | p50 µs | p99 µs | calls/s | p50 relay:direct | calls/s relay:direct |");
    println!("|---|---|---|---|---|---|---|");
    for connections in CONNECTIONS {
        // The first turn of each opens connections and warms caches; it does not count.
        turn(&direct, connections).await;
        turn(&relayed, connections).await;
        let mut turns = Vec::new();
        for _ in 0..ROUNDS {
            turns.push((turn(&direct, connections).await, turn(&relayed, connections).await));
        }
        tell(connections, &turns);
    }
    running.stop().await;
}

/// Makes the calls of one turn, each worker one after the other.
async fn turn(request: &RequestBuilder, connections: usize) -> Turn {
    let whole = Stopwatch::start();
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let calls: Vec<_> = (0..CALLS / connections).map(|_| request.try_clone().unwrap()).collect();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(calls.len());
                for call in calls {
                    let watch = Stopwatch::start();
                    let answer = call.send().await.unwrap();
                    assert_eq!(answer.status().as_u16(), 200);
                    answer.bytes().await.unwrap();
                    times.push(watch.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await.unwrap());
    }
    let per_second = times.len() as f64 / whole.elapsed().as_secs_f64();
    times.sort_unstable();
    Turn { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100], per_second }
}

fn tell(connections: usize, turns: &[(Turn, Turn)]) {
    let micros = |span: Duration| span.as_secs_f64() * 1e6;
    let direct = |pick: &dyn Fn(&Turn) -> f64| sorted(turns.iter().map(|(direct, _)| pick(direct)))[ROUNDS / 2];
    let relayed = |pick: &dyn Fn(&Turn) -> f64| sorted(turns.iter().map(|(_, relayed)| pick(relayed)))[ROUNDS / 2];
    let ratio = |pick: &dyn Fn(&Turn) -> f64| {
        let ratios = sorted(turns.iter().map(|(direct, relayed)| pick(relayed) / pick(direct)));
        format!("{:.2} ({:.2} to {:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1])
    };
    let (p50, p99) = (|turn: &Turn| micros(turn.p50), |turn: &Turn| micros(turn.p99));
    let rate = |turn: &Turn| turn.per_second;
    println!("| {connections} | direct | {:.0} | {:.0} | {:.0} | | |", direct(&p50), direct(&p99), direct(&rate));
    println!(
        "| {connections} | relay | {:.0} | {:.0} | {:.0} | {} | {} |",
        relayed(&p50),
        relayed(&p99),
        relayed(&rate),
        ratio(&p50),
        ratio(&rate)
    );
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

//! What the relay costs: the same call to the demo's portal, straight, through the relay, and through a relay that has a
//! page of real Chromium call, in turns within one run, so that whatever else the machine does befalls all. Everything is
//! on loopback; all but Chromium is in this process. `README.md` beside this file holds a run.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, reason = "what cannot be measured ends the run")]

#[path = "../tests/relay/demo.rs"]
mod demo;
#[path = "../tests/relay/house.rs"]
mod house;

use std::time::Duration;

use demo::Demo;
use house::{House, PORTAL, Running};
use nightporter::clock::{Clock, Stopwatch};
use nightporter::demo::portal::recipe_toml;
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

/// A way to the portal: its name, the call, and how many of them a turn makes.
struct Way {
    name: &'static str,
    call: RequestBuilder,
    calls: usize,
}

#[tokio::main]
async fn main() {
    let clock = Clock::system();
    let demo = Demo::start(&clock).await;
    let running = demo.house(&clock).await.start().await;
    let recipe = recipe_toml(&demo.portal.base_url()).replace("via = \"http\"", "via = \"browser\"");
    let house = House::with_browser(&recipe, &demo.seeds, &clock).await;
    let browsing = house.start().await;
    let cookies = &demo.seeds[0].cookies;
    let cookies: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let direct = running.client.get(format!("{}{PATH}", demo.portal.base_url())).header("cookie", cookies.join("; "));
    let relayed = |running: &Running| {
        let url = running.url(&format!("/api/portals/{PORTAL}/relay{PATH}"));
        running.client.get(url).bearer_auth(&running.token)
    };
    let ways = [
        Way { name: "direct", call: direct, calls: CALLS },
        Way { name: "relay", call: relayed(&running), calls: CALLS },
        // A page takes a hundred times as long for one; fewer of them tell as much.
        Way { name: "browser", call: relayed(&browsing), calls: CALLS / 10 },
    ];
    println!(
        "{ROUNDS} turns of {CALLS} calls each (browser: a tenth); medians over the turns, ratios with their least and"
    );
    println!("greatest\n");
    println!("| connections | way | p50 µs | p99 µs | calls/s | p50 way:direct | calls/s way:direct |");
    println!("|---|---|---|---|---|---|---|");
    for connections in CONNECTIONS {
        let mut rounds = Vec::new();
        // The first turn of each opens connections and warms caches; it does not count.
        for _ in 0..=ROUNDS {
            let mut round = Vec::new();
            for way in &ways {
                round.push(turn(way, connections).await);
            }
            rounds.push(round);
        }
        for (index, way) in ways.iter().enumerate() {
            let turns: Vec<_> = rounds[1..].iter().map(|round| (round[0], round[index])).collect();
            tell(connections, way.name, &turns);
        }
    }
    running.stop().await;
    browsing.stop().await;
}

/// Makes the calls of one turn, each worker one after the other.
async fn turn(way: &Way, connections: usize) -> Turn {
    let whole = Stopwatch::start();
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let calls: Vec<_> = (0..way.calls / connections).map(|_| way.call.try_clone().unwrap()).collect();
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

/// One line; `turns` are the direct turn and the way's own of each round.
fn tell(connections: usize, name: &str, turns: &[(Turn, Turn)]) {
    let micros = |span: Duration| span.as_secs_f64() * 1e6;
    let own = |pick: &dyn Fn(&Turn) -> f64| sorted(turns.iter().map(|(_, own)| pick(own)))[ROUNDS / 2];
    let ratio = |pick: &dyn Fn(&Turn) -> f64| {
        let ratios = sorted(turns.iter().map(|(direct, own)| pick(own) / pick(direct)));
        format!("{:.2} ({:.2} to {:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1])
    };
    let (p50, p99) = (|turn: &Turn| micros(turn.p50), |turn: &Turn| micros(turn.p99));
    let rate = |turn: &Turn| turn.per_second;
    let ratios = if name == "direct" { [String::new(), String::new()] } else { [ratio(&p50), ratio(&rate)] };
    let [of_p50, of_rate] = ratios;
    println!(
        "| {connections} | {name} | {:.0} | {:.0} | {:.0} | {of_p50} | {of_rate} |",
        own(&p50),
        own(&p99),
        own(&rate)
    );
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

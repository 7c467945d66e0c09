//! The store beside Redis, which it replaces: durable updates from one to many clients, hot keys, readings, and what a
//! million sessions take. Both are on the same disk and in turns within one run, so that whatever else the machine does
//! befalls both. The store is in this process, as it is for every part of Nightporter; Redis is behind its Unix socket, as
//! near as it can be, spoken to straight and through a client library. `README.md` beside this file holds a run; the words `acknowledged`, `interval` and `million` on the
//! command line run that part alone. `nightporter.example.toml` tells what "interval" means.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be measured ends the run")]

#[path = "store/library.rs"]
mod library;
#[path = "store/load.rs"]
mod load;
#[path = "store/million.rs"]
mod million;
#[path = "store/redis.rs"]
mod redis_server;

use std::path::Path;
use std::time::Duration;

use load::{Client, ROUNDS, SIZE, Side};
use nightporter::clock::Clock;
use nightporter::http::workers::Workers;
use nightporter::lifecycle::Lifecycle;
use nightporter::store::{Decision, Durability, Expires, Record, Store};
use redis_server::{Connection, Fsync, Redis, Swapper};
use serde::{Deserialize, Serialize};

/// How long a turn is.
const SPAN: Duration = Duration::from_millis(1500);

/// A session.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Blob(String);

impl Record for Blob {
    const SPACE: &'static str = "bench";
    const SCHEMA: u8 = 1;
}

impl Blob {
    pub(crate) fn new(number: u64) -> Self {
        Self(format!("{number:0SIZE$}"))
    }
}

#[tokio::main]
async fn main() {
    if let Some(part) = million::part() {
        return part.run().await;
    }
    let disk =
        tempfile::tempdir_in(std::env::var("NIGHTPORTER_BENCH_DIR").unwrap_or_else(|_| "target".into())).unwrap();
    println!("{ROUNDS} turns of {SPAN:?} each, in turns; medians, ratios with their least and greatest");
    for (part, fsync, durability, name) in [
        ("acknowledged", Fsync::Always, Durability::Acknowledged, "durable when answered"),
        ("interval", Fsync::EverySecond, Durability::Interval, "at most 1 s / 200 ms lost"),
    ] {
        if !load::wanted(part) {
            continue;
        }
        load::head();
        let pair = Pair::start(disk.path(), fsync, durability).await;
        for (clients, keys) in [(1, 1), (16, 16), (64, 64), (64, 8), (64, 1)] {
            let keys_word = if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") };
            pair.updates(&format!("{name}: {clients} clients, {keys_word}"), clients, keys).await;
        }
        pair.readings(&format!("{name}: reading, 64 clients"), 64).await;
        assert!(pair.life.shutdown(Duration::from_secs(60)).await);
    }
    if load::wanted("million") {
        million::tell(disk.path()).await;
    }
}

/// Both, on the same disk.
struct Pair {
    redis: Redis,
    store: Store,
    life: Lifecycle,
    _dir: tempfile::TempDir,
}

impl Pair {
    async fn start(disk: &Path, fsync: Fsync, durability: Durability) -> Self {
        let (dir, life) = (tempfile::tempdir_in(disk).unwrap(), Lifecycle::new());
        let store = Store::open(dir.path(), durability, Clock::system(), &life).unwrap();
        Self { redis: Redis::start(disk, fsync, false).await, store, life, _dir: dir }
    }

    async fn updates(&self, what: &str, clients: usize, keys: usize) {
        let name = |client: usize| format!("{clients}-{keys}-{}", client % keys);
        let mut straight = Vec::new();
        for client in 0..clients {
            straight.push(Swapper::new(&self.redis, name(client), 0).await);
        }
        let shared = library::connect(&self.redis).await;
        let through = (0..clients).map(|client| library::Swapper::new(&shared, name(client))).collect();
        let ours = (0..clients).map(|client| Updater { store: self.store.clone(), key: name(client) }).collect();
        in_turns(what, straight, through, ours).await;
    }

    async fn readings(&self, what: &str, clients: usize) {
        let mut straight = Vec::new();
        for _ in 0..clients {
            straight.push(Reader(self.redis.connect().await));
        }
        let shared = library::connect(&self.redis).await;
        let through = (0..clients).map(|_| library::Reader(shared.clone())).collect();
        let ours = (0..clients).map(|_| Looker(self.store.clone())).collect();
        in_turns(what, straight, through, ours).await;
    }
}

/// Redis straight over its socket, Redis through the library, the store, and again. Two rows: the store beside each.
async fn in_turns<A: Client, B: Client, C: Client>(what: &str, straight: Vec<A>, through: Vec<B>, ours: Vec<C>) {
    // As the appliance does with its connections.
    let workers = Workers::start().unwrap();
    let (mut straight, mut through, mut ours) = (Side::new(straight), Side::new(through), Side::new(ours).on(&workers));
    for round in 0..=ROUNDS {
        straight.turn(SPAN, round).await;
        through.turn(SPAN, round).await;
        ours.turn(SPAN, round).await;
    }
    load::row(&format!("{what}; Redis straight over its socket"), &straight.turns, &ours.turns);
    load::row(&format!("{what}; Redis through its client library"), &through.turns, &ours.turns);
}

/// Changes a record in the store.
struct Updater {
    store: Store,
    key: String,
}

impl Client for Updater {
    async fn act(&mut self) {
        let changed = self.store.update::<Blob, _>(&self.key, |old| {
            Decision::Put(Blob::new(old.map_or(0, |old| old.version) + 1), Expires::Never, ())
        });
        changed.await.unwrap();
    }
}

/// Reads a record of Redis.
struct Reader(Connection);

impl Client for Reader {
    async fn act(&mut self) {
        let read = self.0.call(&["HGET", "64-64-7", "d"]).await;
        assert_eq!(read.text.len(), SIZE);
    }
}

/// Reads a record of the store.
struct Looker(Store);

impl Client for Looker {
    async fn act(&mut self) {
        let read = self.0.get::<Blob>("64-64-7").unwrap().unwrap();
        assert_eq!(read.value.0.len(), SIZE);
        // Reading waits for nothing; the other clients want their turn.
        tokio::task::consume_budget().await;
    }
}

//! The process that is killed: many tasks change records of one store, and each line it prints tells before a change what
//! will be sent, and after it what was acknowledged.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nightporter::clock::Clock;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::store::{Decision, Durability, Expires, Record, Store};
use serde::{Deserialize, Serialize};

/// Tasks that write at once.
pub(crate) const WRITERS: u64 = 16;
/// Records that live until they are removed, `k0` and on, and records that expire soon, `m0` and on.
const LASTING: u32 = 24;
const MORTAL: u32 = 8;
/// How long a mortal one lives: the sweeper meets some, successors others.
const LIFE: Duration = Duration::from_millis(20);
/// The variables that tell the process where to write, and with which seed.
const STORE: &str = "NIGHTPORTER_TEST_KILL_STORE";
const SEED: &str = "NIGHTPORTER_TEST_KILL_SEED";

/// A record that says which change made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    serial: String,
    padding: String,
}

impl Record for Entry {
    const SPACE: &'static str = "entry";
    const SCHEMA: u8 = 1;
}

impl Entry {
    /// What the change `serial` writes: 0 to 800 bytes that follow from it.
    pub(crate) fn of(serial: &str) -> Self {
        let length = crc32fast::hash(serial.as_bytes()) % 800;
        Self { serial: serial.to_owned(), padding: "x".repeat(length as usize) }
    }

    /// The change that wrote it, unless its content is another's.
    pub(crate) fn serial(&self) -> Option<&str> {
        (*self == Self::of(&self.serial)).then_some(&*self.serial)
    }
}

/// Whether records of this id expire.
pub(crate) fn is_mortal(id: &str) -> bool {
    id.starts_with('m')
}

/// Opens the store of a test.
pub(crate) fn open(path: &Path, life: &Lifecycle) -> Result<Store, nightporter::store::StoreError> {
    Store::open(path, Durability::Acknowledged, Clock::system(), life)
}

/// Makes `program`, which runs this test binary, the writer of `store`.
pub(crate) fn command(program: &mut std::process::Command, store: &Path, seed: u64) {
    // On one thread, as on one core, the harness would begin the first line with the test's name.
    program.args(["--ignored", "--exact", "writer::writes_until_killed", "--nocapture", "--test-threads=2"]);
    program.env(STORE, store).env(SEED, seed.to_string());
}

#[test]
#[ignore = "started and killed by the others"]
fn writes_until_killed() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&path), &Lifecycle::new()).unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (store, random) = (store.clone(), Random::seeded(seed * WRITERS + writer));
            writers.spawn(async move {
                for n in 0_u64.. {
                    change(&store, &random, &format!("{seed}.{writer}.{n}")).await;
                }
            });
        }
        writers.join_next().await;
    });
}

/// One change, told before and after.
async fn change(store: &Store, random: &Random, serial: &str) {
    let drawn = random.below(LASTING + MORTAL);
    let mortal = drawn >= LASTING;
    let id = if mortal { format!("m{}", drawn - LASTING) } else { format!("k{drawn}") };
    let delete = random.below(8) == 0;
    tell(&format!("try {serial} {} {id}\n", if delete { "delete" } else { "put" }));
    let expires = if mortal { Expires::At(Clock::system().now() + LIFE) } else { Expires::Never };
    let changed = store.update::<Entry, _>(&id, |old| match delete {
        true => Decision::Delete(old.map_or(0, |old| old.version)),
        false => Decision::Put(Entry::of(serial), expires, 0),
    });
    let changed = changed.await.unwrap();
    tell(&format!("ack {serial} {}\n", changed.record.map_or(changed.answer, |record| record.version)));
    if random.below(40) == 0 {
        store.sweep().await.unwrap();
    }
}

/// One write per line, so that a kill cannot leave half a line, nor parts of two.
fn tell(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

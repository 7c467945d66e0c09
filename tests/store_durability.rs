//! Durability under load, seen from outside: whatever was acknowledged before a SIGKILL is there afterwards, and what the
//! kernel was asked for is fdatasync, which a power cut cannot take back.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nightporter::clock::Clock;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::store::{Decision, Durability, Expires, Record, Store};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

const LOOPS: u64 = 20;
const WRITERS: usize = 16;
const KEYS: u32 = 24;
const STORE: &str = "NIGHTPORTER_TEST_KILL_STORE";

#[derive(Clone, Serialize, Deserialize)]
struct Counter {
    count: u64,
    padding: String,
}

impl Record for Counter {
    const SPACE: &'static str = "counter";
    const SCHEMA: u8 = 1;
}

fn open(path: &Path) -> Store {
    Store::open(path, Durability::Acknowledged, Clock::system(), &Lifecycle::new()).unwrap()
}

/// The process that is killed: counts up in many records and prints each acknowledgement.
#[test]
#[ignore = "started and killed by the test below"]
fn writer() {
    let path = std::env::var_os(STORE).expect("run by the other test");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&path));
        let mut writers = tokio::task::JoinSet::new();
        for seed in 0..WRITERS {
            let (store, random) = (store.clone(), Random::seeded(seed as u64));
            writers.spawn(async move {
                loop {
                    let id = random.below(KEYS).to_string();
                    let padding = "x".repeat(random.below(800) as usize);
                    let count_up = store.update::<Counter, _>(&id, |old| {
                        let count = old.map_or(0, |old| old.value.count) + 1;
                        Decision::Put(Counter { count, padding: padding.clone() }, Expires::Never, count)
                    });
                    let updated = count_up.await.unwrap();
                    let version = updated.record.unwrap().version;
                    // One write per line, so that a kill cannot leave half a line from two writers.
                    std::io::stdout().write_all(format!("ack {id} {version} {}\n", updated.answer).as_bytes()).unwrap();
                }
            });
        }
        writers.join_next().await;
    });
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let random = Random::seeded(20);
    let mut acknowledged = BTreeMap::<String, u64>::new();
    let mut total = 0;
    for round in 0..LOOPS {
        let budget = 200 + random.below(1500);
        let writer = Command::new(std::env::current_exe().unwrap());
        total += write_until_killed(writer, dir.path(), budget, &mut acknowledged);
        check(dir.path(), &acknowledged, round);
    }
    println!("{LOOPS} kills, {total} acknowledged changes, none lost");
}

/// Runs the writer until it has acknowledged `budget` changes, and kills it with SIGKILL; returns how many there were.
fn write_until_killed(
    mut program: Command,
    store: &Path,
    budget: u32,
    acknowledged: &mut BTreeMap<String, u64>,
) -> u32 {
    program.args(["--ignored", "--exact", "writer", "--nocapture"]).env(STORE, store);
    let mut child = program.stdout(Stdio::piped()).process_group(0).spawn().expect("it starts");
    let group = Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        seen += u32::from(note(&line, acknowledged));
        if seen == budget {
            kill_process_group(group, Signal::KILL).unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= budget, "the writer ended by itself after {seen} changes");
    seen
}

#[test]
fn the_kernel_is_asked_for_fdatasync() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut strace = Command::new("strace");
    // -y prints the path behind a descriptor.
    strace.args(["-f", "-qq", "-y", "-e", "trace=fdatasync,sync_file_range", "-o"]).arg(&trace);
    strace.arg(std::env::current_exe().unwrap());
    write_until_killed(strace, &dir.path().join("store"), 200, &mut BTreeMap::new());
    let calls = std::fs::read_to_string(trace).unwrap();
    let synced = calls.lines().filter(|call| call.contains("fdatasync(") && call.contains("/store/sled/")).count();
    // 16 writers share a flush, so there are at least as many as rounds of all of them.
    assert!(synced >= 200 / WRITERS, "{synced} calls of fdatasync for 200 acknowledged changes");
    assert!(!calls.contains("sync_file_range("), "sled's own call, which a power cut undoes, reached the kernel");
}

/// Takes down one acknowledgement.
fn note(line: &str, acknowledged: &mut BTreeMap<String, u64>) -> bool {
    let words: Vec<_> = line.split(' ').collect();
    let ["ack", id, version, count] = words[..] else { return false };
    assert_eq!(version, count, "versions of {id} have gaps");
    let highest = acknowledged.entry(id.to_owned()).or_default();
    *highest = (*highest).max(version.parse().unwrap());
    true
}

fn check(path: &Path, acknowledged: &BTreeMap<String, u64>, round: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let life = Lifecycle::new();
        let store = Store::open(path, Durability::Acknowledged, Clock::system(), &life).unwrap();
        for (id, version) in acknowledged {
            let stored = store.get::<Counter>(id).unwrap().unwrap_or_else(|| panic!("round {round}: {id} is missing"));
            assert!(stored.version >= *version, "round {round}: {id} fell back to {} from {version}", stored.version);
            assert_eq!(stored.version, stored.value.count, "round {round}: {id}");
        }
        life.shutdown(std::time::Duration::from_secs(10)).await;
    });
}

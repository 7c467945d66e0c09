//! One flipped bit anywhere in a closed store: opening it gives everything that was acknowledged, or says clearly that it
//! does not. Never something older, never a hang, never a crash. Stores that were closed in order and stores whose process
//! was killed, each opened in a process of its own.

#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nightporter::clock::{Clock, Stopwatch};
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::store::engine::EngineError;
use nightporter::store::{Decision, Durability, Expires, Record, Settings, Store, StoreError};
use serde::{Deserialize, Serialize};

const STORE: &str = "NIGHTPORTER_TEST_DAMAGE_STORE";
const SEED: &str = "NIGHTPORTER_TEST_DAMAGE_SEED";
const KEYS: u32 = 150;
/// Changes of one run of the writer; four runs make a store.
const CHANGES: u32 = 400;
const RUNS: u64 = 4;
/// How long a damaged store may hold up its opening. What a start may take in production.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Serialize, Deserialize)]
struct Counter {
    count: u64,
    padding: String,
}

impl Record for Counter {
    const SPACE: &'static str = "counter";
    const SCHEMA: u8 = 1;
}

fn open(life: &Lifecycle) -> Result<Store, StoreError> {
    let path = PathBuf::from(std::env::var_os(STORE).expect("run by the other tests"));
    let settings = Settings { patience: PATIENCE, ..Durability::Acknowledged.into() };
    Store::open(&path, settings, Clock::system(), life)
}

fn say(line: &str) {
    // Past the test's own output, and whole: a kill must not leave half a line.
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Counts up and deletes, prints each acknowledgement, and closes the store in order at the end.
#[tokio::test]
#[ignore = "started by the other tests"]
async fn writer() {
    let life = Lifecycle::new();
    let store = open(&life).unwrap();
    let random = Random::seeded(std::env::var(SEED).unwrap().parse().unwrap());
    for _ in 0..CHANGES {
        let id = random.below(KEYS).to_string();
        let (delete, padding) = (random.below(8) == 0, "한".repeat(random.below(300) as usize));
        let change = store.update::<Counter, _>(&id, |old| {
            let count = old.map_or(0, |old| old.value.count) + 1;
            match old {
                Some(_) if delete => Decision::Delete(()),
                _ => Decision::Put(Counter { count, padding: padding.clone() }, Expires::Never, ()),
            }
        });
        match change.await.unwrap().record {
            Some(record) => say(&format!("ack {id} {}", record.version)),
            None => say(&format!("ack {id} 0")),
        }
    }
    life.shutdown(Duration::from_secs(60)).await;
    drop(store);
    say("closed");
}

/// Opens and prints everything, or why not.
#[tokio::test]
#[ignore = "started by the other tests"]
async fn reader() {
    let life = Lifecycle::new();
    let store = match open(&life) {
        Ok(store) => store,
        Err(error) => {
            let hangs = matches!(error, StoreError::Engine(EngineError::Unresponsive { .. }));
            assert!(error.is_damage() || hangs, "{error:?} is no clear word about damage");
            return say(&format!("refused {error}"));
        }
    };
    match store.list::<Counter>(None, usize::MAX).await {
        Ok(all) => all.iter().for_each(|(id, stored)| say(&format!("has {id} {}", stored.version))),
        Err(error) => return say(&format!("refused {error}")),
    }
    store.probe().await.unwrap();
    life.shutdown(Duration::from_secs(60)).await;
    drop(store);
    say("whole");
}

fn run(name: &str, store: &Path, seed: u64) -> Child {
    let mut program = Command::new(std::env::current_exe().unwrap());
    // On one thread, as on one core, the harness would begin the first line with the test's name.
    program.args(["--ignored", "--exact", name, "--nocapture", "--test-threads=2"]);
    program.env(STORE, store).env(SEED, seed.to_string());
    program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
}

/// What was acknowledged: the version of each record, 0 for one that was deleted.
type Acknowledged = BTreeMap<String, u64>;

fn note(line: &str, word: &str, into: &mut Acknowledged) {
    let words: Vec<_> = line.split(' ').collect();
    if let [said, id, version] = words[..]
        && said == word
    {
        into.insert(id.to_owned(), version.parse().unwrap());
    }
}

/// A store that was used, and closed in order or killed.
fn used(dir: &Path, seed: u64, killed: bool) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for turn in 0..RUNS {
        let mut child = run("writer", dir, seed * 100 + turn);
        let killed = killed && turn + 1 == RUNS;
        let last = if killed { 50 + Random::seeded(seed).below(CHANGES - 60) as usize } else { usize::MAX };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Some more may come before the kill is felt; a busy machine may even let the writer come to its end.
        for (number, line) in (1..).zip(lines) {
            note(&line, "ack", &mut acknowledged);
            if number == last {
                child.kill().unwrap();
            }
        }
        assert!(child.wait().unwrap().success() || killed);
    }
    acknowledged
}

/// What opening a damaged store came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    Refused(String),
}

fn opened(store: &Path, acknowledged: &Acknowledged, killed: bool) -> Result<Outcome, String> {
    let mut child = run("reader", store, 0);
    let mut told = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        told.read_to_string(&mut text).map(|_| text)
    });
    let status = ended(&mut child).ok_or("it hangs")?;
    let text = reading.join().unwrap().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("it ended with {status}: {text}"));
    }
    if let Some(reason) = text.lines().find_map(|line| line.strip_prefix("refused ")) {
        return Ok(Outcome::Refused(reason.to_owned()));
    }
    let mut has = Acknowledged::new();
    text.lines().for_each(|line| note(line, "has", &mut has));
    let ids: BTreeSet<&String> = acknowledged.keys().chain(has.keys()).collect();
    let version = |of: &Acknowledged, id: &String| of.get(id).copied().unwrap_or_default();
    let mut others = ids.iter().filter(|id| version(acknowledged, id) != version(&has, id));
    // The one change that was in flight when the process was killed may have come to pass: a deletion, or one more.
    let passed = |id| killed && (version(&has, id) == 0 || version(&has, id) > version(acknowledged, id));
    match (others.next(), others.next()) {
        (None, _) => Ok(Outcome::Whole),
        (Some(id), None) if passed(id) => Ok(Outcome::Whole),
        (Some(id), _) => Err(format!("{id} silently became {} from {}", version(&has, id), version(acknowledged, id))),
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    let watch = Stopwatch::start();
    while watch.elapsed() < PATIENCE * 3 {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => assert!(fs::copy(entry.path(), target).is_ok()),
        }
    }
}

/// Flips one bit of one file of the database, half of the time where something is written; tells which.
fn flip(store: &Path, random: &Random) -> String {
    let mut files: Vec<_> = fs::read_dir(store.join("sled")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    // The database itself gets half of all.
    let path = match random.below(2) {
        0 => store.join("sled/db"),
        _ => files.swap_remove(random.below(files.len() as u32) as usize),
    };
    let content = fs::read(&path).unwrap();
    let written: Vec<_> = (0..content.len()).filter(|at| content[*at] != 0).collect();
    let at = match random.below(2) {
        0 => random.below(content.len() as u32) as usize,
        _ => written[random.below(written.len() as u32) as usize],
    };
    let bit = random.below(8);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[content[at] ^ 1 << bit], at as u64).unwrap();
    format!("{} byte {at} bit {bit}", path.file_name().unwrap().to_string_lossy())
}

fn flips(count: u32, seed: u64, killed: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let acknowledged = used(&store, seed, killed);
    let (random, mut whole, mut refused) = (Random::seeded(seed), 0, BTreeMap::<String, u32>::new());
    let mut wrong = Vec::new();
    for trial in 0..count {
        let damaged = dir.path().join(format!("damaged-{trial}"));
        copy(&store, &damaged);
        let place = flip(&damaged, &random);
        match opened(&damaged, &acknowledged, killed) {
            Ok(Outcome::Whole) => whole += 1,
            Ok(Outcome::Refused(reason)) => {
                let reason = reason.replace(&damaged.display().to_string(), "STORE");
                let reason = reason.replace(|letter: char| letter.is_ascii_digit(), "");
                *refused.entry(reason.chars().take(110).collect()).or_default() += 1;
            }
            Err(error) => wrong.push(format!("{place}: {error}")),
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
    let how = if killed { "killed" } else { "closed in order" };
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all = refused.values().sum::<u32>();
    let mut told =
        format!("{count} bits flipped in a store that was {how} (seed {seed}): {whole} whole, {all} refused");
    refused.iter().for_each(|(reason, times)| told.push_str(&format!("\n  {times} x {reason}")));
    told
}

#[test]
fn a_flipped_bit_is_harmless_or_refused_after_a_clean_end() {
    println!("{}", flips(10, 1, false));
}

#[test]
fn a_flipped_bit_is_harmless_or_refused_after_a_kill() {
    println!("{}", flips(10, 2, true));
}

#[test]
#[ignore = "minutes; `make torture` runs it"]
fn long_480_flipped_bits_are_harmless_or_refused() {
    for seed in 3..11 {
        println!("{}", flips(60, seed, seed % 2 == 0));
    }
}

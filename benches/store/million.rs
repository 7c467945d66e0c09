//! A million sessions of 600 bytes: memory and disk of the store and of Redis, and how long the store takes to open with
//! them. The store is in a process of its own, whose memory is nobody else's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use nightporter::clock::{Clock, Stopwatch};
use nightporter::lifecycle::Lifecycle;
use nightporter::store::{Decision, Durability, Expires, Store};

use crate::Blob;
use crate::load::spread;
use crate::redis_server::{Fsync, Redis};

const RECORDS: u64 = 1_000_000;
const WRITERS: u64 = 64;
const REOPENINGS: usize = 5;
/// Tells this program that it is to be a part: what to do, and where.
const PART: &str = "NIGHTPORTER_BENCH_PART";
const MIB: f64 = 1024.0 * 1024.0;

/// What a process of its own is asked to do in a directory.
pub(crate) struct Part {
    fill: bool,
    dir: PathBuf,
}

/// What this process is asked to be, if it is a part.
pub(crate) fn part() -> Option<Part> {
    let part = std::env::var(PART).ok()?;
    let (what, dir) = part.split_once(' ')?;
    Some(Part { fill: what == "fill", dir: dir.into() })
}

impl Part {
    /// Fills the store, or opens it; prints how long that took and the memory of this process at the end.
    pub(crate) async fn run(self) {
        let (life, watch) = (Lifecycle::new(), Stopwatch::start());
        let store = Store::open(&self.dir, Durability::Interval, Clock::system(), &life).unwrap();
        let opened = watch.elapsed();
        if self.fill {
            let writers = (0..WRITERS).map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for number in (writer..RECORDS).step_by(WRITERS as usize) {
                        let put = |_: Option<&_>| Decision::Put(Blob::new(number), Expires::Never, ());
                        store.update::<Blob, _>(&number.to_string(), put).await.unwrap();
                    }
                })
            });
            join_all(writers).await.into_iter().for_each(|written| written.unwrap());
        }
        assert!(store.get::<Blob>("999999").unwrap().is_some());
        println!("{} {}", opened.as_secs_f64(), memory("self"));
        assert!(life.shutdown(Duration::from_secs(300)).await);
    }
}

/// Makes the measurement and prints it.
pub(crate) async fn tell(disk: &Path) {
    let dir = tempfile::tempdir_in(disk).unwrap();
    let (_, filled) = run("fill", dir.path());
    let (mut times, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..REOPENINGS {
        let (time, memory) = run("open", dir.path());
        times.push(time);
        opened.push(memory);
    }
    let redis = Redis::start(disk, Fsync::EverySecond, false).await;
    fill(&redis).await;
    println!("\n| a million sessions of 600 bytes | store | Redis |\n|---|---|---|");
    println!(
        "| memory after writing them, MiB | {:.0} | {:.0} |",
        filled / MIB,
        memory(&redis.pid().to_string()) / MIB
    );
    println!("| memory after opening, MiB | {:.0} | |", spread(opened).0 / MIB);
    println!("| on the disk, MiB | {:.0} | {:.0} |", size(dir.path()) / MIB, size(redis.directory()) / MIB);
    let (middle, least, greatest) = spread(times);
    println!("| opening, s | {middle:.2} ({least:.2} to {greatest:.2}) | |");
}

fn run(what: &str, dir: &Path) -> (f64, f64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.env(PART, format!("{what} {}", dir.display())).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (time, memory) = text.trim().split_once(' ').unwrap();
    (time.parse().unwrap(), memory.parse().unwrap())
}

async fn fill(redis: &Redis) {
    let mut connection = redis.connect().await;
    for first in (0..RECORDS).step_by(1000) {
        for number in first..first + 1000 {
            connection.add(&["HSET", &number.to_string(), "v", "1", "d", &Blob::new(number).0]);
        }
        connection.send().await;
        for _ in 0..1000 {
            connection.reply().await;
        }
    }
}

/// Resident memory of a process, in bytes.
fn memory(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}

/// What the files below `path` take, in bytes.
fn size(path: &Path) -> f64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() as f64 })
        .sum()
}

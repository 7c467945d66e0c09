//! kill -9, again and again, of a process that writes with all its might.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use rustix::process::{Pid, Signal, kill_process_group};

use super::ledger::Ledger;
use super::writer;

#[test]
fn nothing_acknowledged_is_lost_by_sigkill() {
    println!("20 kills, {} changes acknowledged, none lost", kill(20, 600, 20));
}

#[test]
#[ignore = "takes minutes: make torture"]
fn long_nothing_acknowledged_is_lost_by_300_kills() {
    let mut acknowledged = 0;
    for part in 1..=6 {
        acknowledged += kill(50, 3000, 20 + part);
        println!("{} kills, {acknowledged} changes acknowledged, none lost", part * 50);
    }
}

/// Starts a writer and kills it, so many times on one store, each after `200..200 + most` acknowledgements and a moment.
/// Two times of three the store is opened and compared; else the next writer meets what the kill has left. Returns how many
/// changes were acknowledged.
fn kill(times: u64, most: u32, seed: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (random, mut ledger) = (Random::seeded(seed), Ledger::default());
    for round in 0..times {
        let writer = Command::new(std::env::current_exe().unwrap());
        let moment = Duration::from_micros(random.below(3000).into());
        write_until_killed(writer, dir.path(), seed * 1000 + round, 200 + random.below(most), moment, &mut ledger);
        if random.below(3) < 2 || round + 1 == times {
            let faults = compare(dir.path(), &mut ledger);
            assert!(faults.is_empty(), "kill {round}:\n{}", faults.join("\n"));
        }
    }
    ledger.acknowledged
}

/// Runs the writer until it has acknowledged `budget` changes, and kills it a moment later with SIGKILL.
pub(crate) fn write_until_killed(
    mut program: Command,
    store: &Path,
    seed: u64,
    budget: u32,
    moment: Duration,
    ledger: &mut Ledger,
) {
    writer::command(&mut program, store, seed);
    let mut child = program.stdout(Stdio::piped()).process_group(0).spawn().expect("it starts");
    let group = Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        seen += u32::from(ledger.note(&line).unwrap_or_else(|fault| panic!("{fault}")));
        if seen == budget {
            std::thread::sleep(moment);
            // A process that has ended by itself is told below.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    child.wait().unwrap();
    assert!(seen >= budget, "the writer ended by itself after {seen} changes");
}

/// Opens what a dead writer has left and compares.
pub(crate) fn compare(path: &Path, ledger: &mut Ledger) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let life = Lifecycle::new();
        let faults = match writer::open(path, &life) {
            Ok(store) => {
                let mut faults = ledger.compare(&store).await;
                // What came back must also go on.
                faults.extend(store.probe().await.err().map(|error| error.to_string()));
                faults
            }
            Err(error) => vec![error.to_string()],
        };
        assert!(life.shutdown(Duration::from_secs(60)).await);
        faults
    })
}

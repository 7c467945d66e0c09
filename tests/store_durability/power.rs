//! Power cuts: a writer is recorded by strace, and its store is opened as a disk may have it after a cut at some moment of
//! the recording (`disk.rs` says what may be). That needs neither root nor a device, so anyone can run it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nightporter::ids::Random;

use super::disk::Disk;
use super::kills::{compare, write_until_killed};
use super::ledger::Ledger;
use super::trace::{Event, Trace, recorder};
use super::writer::WRITERS;

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    for recording in [Recording::of(400, 30), Recording::after_a_kill(400, 33)] {
        let lost = recording.cut(60, 31, true);
        assert!(lost.is_empty(), "{}", lost.join("\n"));
    }
}

/// The same cuts of a disk that ignores every sync lose something: the proof can fail.
#[test]
fn a_store_that_does_not_sync_is_found_out() {
    let lost = Recording::of(400, 30).cut(40, 31, false);
    println!("without syncs {} of 40 cuts lost something", lost.len());
    assert!(lost.len() >= 10, "only {} of 40 cuts without syncs lost something", lost.len());
}

#[test]
#[ignore = "takes minutes: make torture"]
fn long_nothing_acknowledged_is_lost_by_400_power_cuts() {
    let (mut lost, mut without) = (Vec::new(), 0);
    for seed in 0..4 {
        let record = if seed % 2 == 0 { Recording::of } else { Recording::after_a_kill };
        let recording = record(2500, 100 + seed);
        lost.extend(recording.cut(100, 200 + seed, true));
        without += recording.cut(25, 200 + seed, false).len();
        println!("{} power cuts, {} lost something", (seed + 1) * 100, lost.len());
    }
    println!("400 power cuts, {} lost something; on a disk without syncs {without} of 100", lost.len());
    assert!(lost.is_empty() && without >= 25, "{}", lost.join("\n"));
}

#[test]
fn the_kernel_is_asked_for_fdatasync() {
    let recording = Recording::of(200, 32);
    let calls = || recording.trace.calls.iter();
    let synced = calls().filter(|call| call.name == "fdatasync" && call.path(0).ends_with("sled/db")).count();
    // 16 writers share a flush, so there are at least as many as rounds of all of them.
    assert!(synced as u64 >= 200 / WRITERS, "{synced} calls of fdatasync for 200 acknowledged changes");
    let own = calls().any(|call| call.name == "sync_file_range");
    assert!(!own, "sled's own call, which a power cut undoes, reached the kernel");
}

/// A writer's whole life.
struct Recording {
    dir: tempfile::TempDir,
    trace: Trace,
    /// What was known before it.
    before: Ledger,
}

impl Recording {
    /// Of a writer that makes a new store and is killed after `budget` acknowledgements.
    fn of(budget: u32, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("before")).unwrap();
        Self::on(dir, Ledger::default(), budget, seed)
    }

    /// Of one that goes on where another was killed: the cuts meet the recovery too.
    fn after_a_kill(budget: u32, seed: u64) -> Self {
        let (dir, mut before) = (tempfile::tempdir().unwrap(), Ledger::default());
        let writer = Command::new(std::env::current_exe().unwrap());
        let store = dir.path().join("before/store");
        write_until_killed(writer, &store, seed + 1000, budget, Duration::ZERO, &mut before);
        Self::on(dir, before, budget, seed)
    }

    /// Of a writer on a copy of what is in the directory `before`.
    fn on(dir: tempfile::TempDir, before: Ledger, budget: u32, seed: u64) -> Self {
        let copied = Command::new("cp").arg("-r").args(["before", "disk"]).current_dir(&dir).status().unwrap();
        assert!(copied.success());
        let file = dir.path().join("trace");
        let mut strace = recorder(&file);
        strace.arg(std::env::current_exe().unwrap());
        let store = dir.path().join("disk/store");
        write_until_killed(strace, &store, seed, budget, Duration::ZERO, &mut Ledger::default());
        let trace = Trace::parse(&std::fs::read_to_string(&file).unwrap());
        std::fs::remove_file(&file).unwrap();
        Self { dir, trace, before }
    }

    /// Cuts the power at so many moments, each in its own run of the world; returns what was lost. Half of the moments are
    /// before the first change: making a store, and recovering one, does what is done only then.
    fn cut(&self, times: u32, seed: u64, syncs: bool) -> Vec<String> {
        let random = Random::seeded(seed);
        let events = u32::try_from(self.trace.events.len()).unwrap();
        let opening = u32::try_from(self.trace.events.iter().position(|event| self.is_try(event)).unwrap()).unwrap();
        let mut moments: Vec<_> =
            (0..times).map(|n| random.below(if n % 2 == 0 { events } else { opening }) as usize).collect();
        moments.sort_unstable();
        let mut moments = moments.into_iter().peekable();
        let (root, content) = (self.dir.path().join("disk"), self.dir.path().join("before"));
        let (mut disk, mut ledger) = (Disk::new(&root, &content, syncs), self.before.clone());
        let mut lost = Vec::new();
        for (index, event) in self.trace.events.iter().enumerate() {
            disk.happens(&self.trace, *event);
            self.listen(*event, &mut ledger);
            while moments.next_if_eq(&index).is_some() {
                let target = tempfile::tempdir().unwrap();
                disk.survive(&random, target.path());
                let faults = self.look(target.path(), &ledger);
                if !faults.is_empty() {
                    let after = format!("cut {index} of {events}, {} acknowledged", ledger.acknowledged);
                    lost.push(format!("{after}: {}", faults.join("; ")));
                }
            }
        }
        lost
    }

    fn is_try(&self, event: &Event) -> bool {
        let Event::Entered(call) = event else { return false };
        self.trace.calls[*call].is_print() && self.trace.calls[*call].bytes(1).starts_with(b"try ")
    }

    /// What the writer prints counts from the moment that it begins to print it.
    fn listen(&self, event: Event, ledger: &mut Ledger) {
        let Event::Entered(call) = event else { return };
        let call = &self.trace.calls[call];
        if call.is_print() {
            ledger.note(&String::from_utf8_lossy(&call.bytes(1))).unwrap_or_else(|fault| panic!("{fault}"));
        }
    }

    fn look(&self, disk: &Path, ledger: &Ledger) -> Vec<String> {
        compare(&disk.join("store"), &mut ledger.clone())
    }
}

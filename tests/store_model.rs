//! The store against a plain map: random operations, steps of the clock and reopenings, after each of which both must say
//! the same. What fails is shrunk to the shortest list of operations that still does, and printed with its seed.

use std::collections::BTreeMap;
use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::store::{Decision, Durability, Expires, MAX_PAYLOAD, Record, Store, StoreError};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note(String);

impl Record for Note {
    const SPACE: &'static str = "note";
    const SCHEMA: u8 = 1;
}

/// The ids in use: one that begins like another, and one that is no ASCII.
const IDS: [&str; 6] = ["a", "a/1", "a/2", "b", "가", "가/나"];

/// Something done to the store.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, Until, String),
    TooLarge(usize),
    Delete(usize),
    Keep(usize),
    List { under: &'static str, after: Option<usize>, limit: usize },
    Advance(u64),
    Sweep,
    Reopen,
}

/// When a record shall end: never, so many milliseconds from now, or as it would have.
#[derive(Clone, Copy, Debug)]
enum Until {
    Ever,
    In(u64),
    Before,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || 0..IDS.len();
    let until = prop_oneof![Just(Until::Ever), (0_u64..400).prop_map(Until::In), Just(Until::Before)];
    let under = prop_oneof![Just(""), Just("a"), Just("a/"), Just("가"), Just("nothing")];
    let step = prop_oneof![
        10 => (id(), until, "[a-z가-힣]{0,12}").prop_map(|(id, until, text)| Step::Put(id, until, text)),
        1 => id().prop_map(Step::TooLarge),
        4 => id().prop_map(Step::Delete),
        2 => id().prop_map(Step::Keep),
        3 => (under, prop::option::of(id()), 1_usize..5)
            .prop_map(|(under, after, limit)| Step::List { under, after, limit }),
        4 => (0_u64..300).prop_map(Step::Advance),
        3 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the store should be.
#[derive(Clone, Debug, Default)]
struct Model {
    records: BTreeMap<&'static str, Line>,
    /// The last version of each id that was ever used.
    versions: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    version: u64,
    expires: Option<Time>,
    text: String,
}

impl Model {
    fn live(&self, id: &str, now: Time) -> Option<&Line> {
        self.records.get(id).filter(|line| line.expires.is_none_or(|expires| expires > now))
    }

    fn put(&mut self, id: &'static str, until: Until, text: &str, now: Time) -> Line {
        let expires = match until {
            Until::Ever => None,
            Until::In(millis) => Some(now + Duration::from_millis(millis)),
            Until::Before => self.live(id, now).and_then(|line| line.expires),
        };
        let version = self.versions.entry(id).or_default();
        *version += 1;
        let line = Line { version: *version, expires, text: text.to_owned() };
        self.records.insert(id, line.clone());
        line
    }

    fn list(&self, under: &str, after: Option<&str>, limit: usize, now: Time) -> Vec<(String, Line)> {
        let live = self.records.keys().filter_map(|id| Some((*id, self.live(id, now)?)));
        let wanted = live.filter(|(id, _)| id.starts_with(under) && after.is_none_or(|after| *id > after));
        wanted.take(limit).map(|(id, line)| (id.to_owned(), line.clone())).collect()
    }
}

/// The store under test.
struct Subject {
    store: Store,
    clock: Clock,
    life: Lifecycle,
    dir: tempfile::TempDir,
}

impl Subject {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, life) = (Clock::held(Time::from_millis(1_000_000)), Lifecycle::new());
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        Self { store, clock, life, dir }
    }

    async fn reopen(self) -> Self {
        let Self { store, clock, life, dir } = self;
        assert!(life.shutdown(Duration::from_secs(60)).await);
        drop(store);
        let life = Lifecycle::new();
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        Self { store, clock, life, dir }
    }

    async fn list(&self, under: &str, after: Option<&str>, limit: usize) -> Vec<(String, Line)> {
        let listed = self.store.list_under::<Note>(under, after, limit).await.unwrap();
        let line = |id, record: nightporter::store::Stored<Note>| {
            (id, Line { version: record.version, expires: record.expires, text: record.value.0 })
        };
        listed.into_iter().map(|(id, record)| line(id, record)).collect()
    }
}

/// Does the steps to both; Err says where they part.
async fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut subject, mut model) = (Subject::new(), Model::default());
    for step in steps {
        let now = subject.clock.now();
        match step {
            Step::Advance(millis) => subject.clock.advance(Duration::from_millis(*millis)),
            Step::Reopen => subject = subject.reopen().await,
            Step::Sweep => drop(subject.store.sweep().await.unwrap()),
            Step::List { under, after, limit } => {
                let after = after.map(|id| IDS[id]);
                prop_assert_eq!(subject.list(under, after, *limit).await, model.list(under, after, *limit, now));
                let count = subject.store.count_under::<Note>(under).await.unwrap();
                prop_assert_eq!(count, model.list(under, None, usize::MAX, now).len() as u64);
            }
            change => update(change, &subject.store, &mut model, now).await?,
        }
        let now = subject.clock.now();
        for id in IDS {
            let read = subject.store.get::<Note>(id).unwrap();
            let read = read.map(|note| Line { version: note.version, expires: note.expires, text: note.value.0 });
            prop_assert_eq!(read.as_ref(), model.live(id, now), "{} after {:?}", id, step);
        }
    }
    prop_assert_eq!(subject.reopen().await.list("", None, usize::MAX).await, {
        let now = Time::from_millis(1_000_000) + elapsed(steps);
        model.list("", None, usize::MAX, now)
    });
    Ok(())
}

fn elapsed(steps: &[Step]) -> Duration {
    let advances = steps.iter().filter_map(|step| if let Step::Advance(millis) = step { Some(millis) } else { None });
    Duration::from_millis(advances.sum())
}

/// Makes one change to both, and compares what the closure is shown and what the update answers.
async fn update(step: &Step, store: &Store, model: &mut Model, now: Time) -> Result<(), TestCaseError> {
    let (Step::Put(id, ..) | Step::TooLarge(id) | Step::Delete(id) | Step::Keep(id)) = step else { return Ok(()) };
    let id = IDS[*id];
    let shown = model.live(id, now).map(|line| (line.version, line.text.clone()));
    let updated = store.update::<Note, _>(id, |old| {
        let seen = old.map(|old| (old.version, old.value.0.clone()));
        match step {
            Step::Put(_, until, text) => {
                let expires = match until {
                    Until::Ever => Expires::Never,
                    Until::In(millis) => Expires::At(now + Duration::from_millis(*millis)),
                    Until::Before => Expires::Unchanged,
                };
                Decision::Put(Note(text.clone()), expires, seen)
            }
            Step::TooLarge(_) => Decision::Put(Note("x".repeat(MAX_PAYLOAD)), Expires::Never, seen),
            Step::Delete(_) => Decision::Delete(seen),
            _ => Decision::Keep(seen),
        }
    });
    let updated = match updated.await {
        Err(StoreError::TooLarge { .. }) if matches!(step, Step::TooLarge(_)) => return Ok(()),
        updated => updated.unwrap(),
    };
    prop_assert_eq!(updated.answer, shown);
    let expected = match step {
        Step::Put(_, until, text) => Some(model.put(id, *until, text, now)),
        Step::Delete(_) => {
            model.records.remove(id);
            None
        }
        _ => model.live(id, now).cloned(),
    };
    let left = updated.record.map(|note| Line { version: note.version, expires: note.expires, text: note.value.0 });
    prop_assert_eq!(left, expected);
    Ok(())
}

/// So many lists of operations, the same for the same seed.
fn compare(cases: u32, seed: u64) {
    let persistence = Some(Box::new(FileFailurePersistence::Off) as _);
    let config = Config { cases, failure_persistence: persistence, max_shrink_iters: 2000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runner.run(&steps(), |steps| runtime.block_on(run(&steps)));
    outcome.unwrap_or_else(|failure| panic!("with seed {seed}: {failure}"));
}

#[test]
fn the_store_does_what_a_map_does() {
    compare(48, 1);
}

#[test]
#[ignore = "takes minutes: make torture"]
fn long_the_store_does_what_a_map_does_2000_times() {
    let seed = u64::from(Random::system().unwrap().below(u32::MAX));
    println!("seed {seed}");
    for part in 0..10 {
        compare(200, seed + part);
        println!("{} lists of operations, all as the map", (part + 1) * 200);
    }
}

//! What the chain notices, and that its bytes stay.

use std::path::Path;

use super::*;
use crate::accounts::audit::{What, Who};
use crate::clock::{Clock, Time};
use crate::lifecycle::Lifecycle;
use crate::store::{Durability, golden};

fn line(n: u8) -> Line {
    let who = Who::User(Uuid::from_bytes([7; 16]));
    Line::new(Uuid::from_bytes([n; 16]), Time::from_millis(1_700_000_000_000 + u64::from(n)), who, What::LoggedIn)
        .detail("민서의 전화")
}

fn vault(digits: &str) -> Vault {
    Vault::from_hex(&digits.repeat(32), Path::new("test")).unwrap()
}

struct Bench {
    store: Store,
    vault: Vault,
    _dir: tempfile::TempDir,
    _life: Lifecycle,
}

impl Bench {
    async fn with(lines: u8) -> Self {
        let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let store = Store::open(dir.path(), Durability::Acknowledged, clock, &life).unwrap();
        let bench = Self { store, vault: vault("ab"), _dir: dir, _life: life };
        for n in 0..lines {
            bench.add(n).await;
        }
        bench
    }

    async fn add(&self, n: u8) {
        extend(&self.store, &self.vault, &head(&self.store).unwrap(), &[&line(n)], None).await.unwrap();
    }

    /// Changes an entry as somebody would who can write into the database.
    async fn tamper(&self, number: u64, change: impl Fn(Option<Entry>) -> Option<Entry>) {
        let decide = |old: Option<&Stored<Entry>>| match change(old.map(|old| old.value.clone())) {
            Some(entry) => Decision::Put(entry, Expires::Never, ()),
            None => Decision::Delete(()),
        };
        self.store.update::<Entry, _>(&id(number), decide).await.unwrap();
    }

    async fn behead(&self, change: impl Fn(&mut Head)) {
        let decide = |old: Option<&Stored<Head>>| {
            let mut head = old.unwrap().value.clone();
            change(&mut head);
            Decision::Put(head, Expires::Never, ())
        };
        self.store.update::<Head, _>(HEAD, decide).await.unwrap();
    }

    async fn broken(&self) -> Option<(u64, Fault)> {
        verify(&self.store, &self.vault).await.unwrap().broken.map(|broken| (broken.number, broken.fault))
    }
}

#[tokio::test]
async fn a_whole_chain_is_told_with_its_count_and_listed_newest_first() {
    let bench = Bench::with(0).await;
    assert_eq!(bench.broken().await, None, "an empty one is whole");
    for n in 0..5 {
        bench.add(n).await;
    }
    let verdict = verify(&bench.store, &bench.vault).await.unwrap();
    assert_eq!((verdict.lines, verdict.broken), (5, None));
    let listed = list(&bench.store, None, 2).await.unwrap();
    assert_eq!(listed.iter().map(|line| line.number).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(listed[0].line, line(4));
    let earlier = list(&bench.store, Some(3), 10).await.unwrap();
    assert_eq!(earlier.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 1, 0]);
}

#[tokio::test]
async fn every_kind_of_tampering_is_named_by_its_first_line() {
    let changed = Bench::with(5).await;
    changed.tamper(2, |old| old.map(|old| Entry { text: old.text.replace("logged_in", "verified"), ..old })).await;
    assert_eq!(changed.broken().await, Some((2, Fault::Changed)));

    let removed = Bench::with(5).await;
    removed.tamper(1, |_| None).await;
    assert_eq!(removed.broken().await, Some((1, Fault::Missing)));

    let first = Bench::with(5).await;
    first.tamper(0, |_| None).await;
    assert_eq!(first.broken().await, Some((0, Fault::Missing)));

    let swapped = Bench::with(5).await;
    let entry = swapped.store.get::<Entry>(&id(3)).unwrap().unwrap().value;
    swapped.tamper(1, |_| Some(entry.clone())).await;
    assert_eq!(swapped.broken().await, Some((1, Fault::Changed)));

    let truncated = Bench::with(5).await;
    truncated.tamper(4, |_| None).await;
    assert_eq!(truncated.broken().await, Some((4, Fault::Missing)));

    let shorter = Bench::with(5).await;
    let before = shorter.store.get::<Entry>(&id(3)).unwrap().unwrap().value.tag;
    shorter.tamper(4, |_| None).await;
    shorter.behead(|head| (head.count, head.last) = (4, before)).await;
    assert_eq!(shorter.broken().await, Some((4, Fault::Head)), "the head has a tag of its own");

    let beheaded = Bench::with(5).await;
    beheaded.store.update::<Head, _>(HEAD, |_| Decision::Delete(())).await.unwrap();
    assert_eq!(beheaded.broken().await, Some((0, Fault::Head)));

    let foreign = Bench::with(3).await;
    let verdict = verify(&foreign.store, &vault("cd")).await.unwrap();
    assert_eq!(verdict.broken, Some(Broken { number: 0, fault: Fault::Changed }), "another key's chain is not ours");
}

#[tokio::test]
async fn entries_that_a_crash_left_uncounted_are_replaced() {
    let bench = Bench::with(2).await;
    let torn = Entry { text: "half of a batch".to_owned(), tag: [9; 32] };
    bench.tamper(2, |_| Some(torn.clone())).await;
    bench.tamper(3, |_| Some(torn.clone())).await;
    assert_eq!(bench.broken().await, None, "nobody was told of them");
    assert_eq!(list(&bench.store, None, 10).await.unwrap().len(), 2);
    bench.add(2).await;
    assert_eq!(bench.broken().await, None);
    assert_eq!(list(&bench.store, None, 1).await.unwrap()[0].line, line(2));
}

#[tokio::test]
async fn one_behind_an_old_head_adds_nothing() {
    let bench = Bench::with(1).await;
    let stale = head(&bench.store).unwrap();
    bench.add(1).await;
    let late = extend(&bench.store, &bench.vault, &stale, &[&line(9)], None).await;
    assert!(matches!(late, Err(StoreError::Contended { .. })));
}

#[test]
fn the_bytes_on_disk_are_golden() {
    golden::<Entry>(&Entry { text: "{}".to_owned(), tag: [1; 32] }, &format!("027b7d{}", "01".repeat(32)));
    let taken = Taken { record: "r".to_owned(), lines: vec![Uuid::from_bytes([3; 16])] };
    let head =
        Head { count: 1, last: [1; 32], tag: [2; 32], taken: BTreeMap::from([("account".to_owned(), vec![taken])]) };
    let (last, tag, id) = ("01".repeat(32), "02".repeat(32), "03".repeat(16));
    golden::<Head>(&head, &format!("01{last}{tag}01076163636f756e740101720110{id}"));
}

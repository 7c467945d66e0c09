//! Lines that a process left behind, and many at once.

use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::*;
use crate::accounts::audit::{What, Who};
use crate::clock::{self, Time};
use crate::store::{Durability, Expires, Record};

const PATIENCE: Duration = Duration::from_secs(60);

/// A record that carries lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart(Vec<Line>);

impl Record for Cart {
    const SPACE: &'static str = "cart";
    const SCHEMA: u8 = 1;
}

impl Carrier for Cart {
    fn lines(&self) -> &[Line] {
        &self.0
    }

    fn lines_mut(&mut self) -> &mut Vec<Line> {
        &mut self.0
    }

    fn expires(&self, _: Time) -> Expires {
        Expires::Never
    }
}

struct Bench {
    audit: Audit,
    store: Store,
    life: Lifecycle,
    _dir: tempfile::TempDir,
}

fn line(n: u16) -> Line {
    let id = Uuid::from_u128(u128::from(n) + 1);
    Line::new(id, Time::from_millis(1_800_000_000_000), Who::System, What::LoggedIn).detail(n.to_string())
}

impl Bench {
    fn new() -> Self {
        let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let vault = Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap();
        Self { audit: Audit::new(store.clone(), Arc::new(vault), clock), store, life, _dir: dir }
    }

    async fn put(&self, id: &str, lines: &[Line]) {
        let add = |old: Option<&crate::store::Stored<Cart>>| {
            let mut cart = old.map(|old| old.value.clone()).unwrap_or_default();
            cart.0.extend_from_slice(lines);
            Decision::Put(cart, Expires::Never, ())
        };
        self.store.update::<Cart, _>(id, add).await.unwrap();
    }

    /// What a process did that died before it removed the lines of `id` from there.
    async fn die_after_counting(&self, id: &str, lines: &[&Line]) {
        let Inner { store, vault, .. } = &*self.audit.0;
        let taken = Taken { record: id.to_owned(), lines: lines.iter().map(|line| line.id).collect() };
        let head = chain::head(store).unwrap();
        chain::extend(store, vault, &head, lines, Some((Cart::SPACE, vec![taken]))).await.unwrap();
    }

    /// The details of all lines in the chain, once there are so many and no record carries any.
    async fn settled(&self, count: usize, ids: &[String]) -> Vec<String> {
        let settled = async {
            loop {
                let carried = ids
                    .iter()
                    .any(|id| self.store.get::<Cart>(id).unwrap().is_some_and(|cart| !cart.value.0.is_empty()));
                if !carried && chain::list(&self.store, None, 10_000).await.unwrap().len() >= count {
                    return;
                }
                clock::pause(Duration::from_millis(1)).await;
            }
        };
        clock::within(PATIENCE, settled).await.expect("lines are not moved");
        assert_eq!(self.audit.verify().await.unwrap().broken, None);
        let lines = chain::list(&self.store, None, 10_000).await.unwrap();
        lines.into_iter().rev().map(|numbered| numbered.line.detail.unwrap()).collect()
    }
}

#[tokio::test]
async fn lines_that_a_process_left_behind_are_moved_once_wherever_it_died() {
    let ids = ["a".to_owned(), "b".to_owned()];
    // Before it did anything.
    let bench = Bench::new();
    bench.put("a", &[line(0), line(1)]).await;
    bench.audit.carry::<Cart>(&bench.life);
    assert_eq!(bench.settled(2, &ids).await, ["0", "1"]);

    // After the head counts them, before they are removed.
    let bench = Bench::new();
    bench.put("a", &[line(0), line(1)]).await;
    bench.die_after_counting("a", &[&line(0), &line(1)]).await;
    bench.audit.carry::<Cart>(&bench.life);
    assert_eq!(bench.settled(2, &ids).await, ["0", "1"]);

    // The same, and somebody has noted more in between, there and elsewhere.
    let bench = Bench::new();
    bench.put("a", &[line(0)]).await;
    bench.die_after_counting("a", &[&line(0)]).await;
    bench.put("a", &[line(1)]).await;
    bench.audit.append(&line(2)).await.unwrap();
    bench.put("b", &[line(3)]).await;
    bench.audit.carry::<Cart>(&bench.life);
    let mut moved = bench.settled(4, &ids).await;
    moved.sort();
    assert_eq!(moved, ["0", "1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_lose_no_line_and_write_none_twice() {
    let bench = Bench::new();
    bench.audit.carry::<Cart>(&bench.life);
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let notes = (0..400_u16).map(|n| {
        let (bench, ids) = (&bench, &ids);
        async move {
            if n % 4 == 0 {
                bench.audit.append(&line(n)).await.unwrap();
            } else {
                bench.put(&ids[usize::from(n) % 20], &[line(n)]).await;
            }
        }
    });
    futures_util::future::join_all(notes).await;
    let mut moved: Vec<u32> = bench.settled(400, &ids).await.iter().map(|text| text.parse().unwrap()).collect();
    moved.sort_unstable();
    assert_eq!(moved, (0..400).collect::<Vec<_>>());
}

//! Processes that have had enough: the next one is there before the former goes, and whoever works in that finishes first.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nightporter::browsers::{ContextOptions, PageOptions, Recycle, Seat, Settings};

use crate::{House, LIMIT, portal, processes_of};

/// Limits that nothing here reaches unless a test lowers one.
const NEVER: Recycle = Recycle { after: Duration::from_secs(3600), navigations: u64::MAX, memory: u64::MAX };

fn house(recycle: Recycle) -> House {
    House::open_with(Settings { recycle, ..Settings::default() })
}

fn leaders(run: &Path) -> usize {
    processes_of(run).into_iter().filter(|pid| !crate::command_line(*pid).contains("type=")).count()
}

#[tokio::test]
async fn age_replaces_a_process_and_its_context_moves_when_it_likes() {
    let house = house(Recycle { after: Duration::from_secs(20), ..NEVER });
    let portal = portal().await;
    let (context, page) = house.page().await;
    page.goto(&format!("{portal}/set"), LIMIT).await.unwrap();
    assert!(!context.is_retiring());
    let former = house.pid(Seat::A);
    let health = house.becomes(Seat::A, |health| health.recycled == 1).await;
    assert_eq!((health.generation, health.deaths, health.up), (2, 0, true));
    let reason = health.reason.as_ref().unwrap();
    assert!(reason.starts_with("after ") && reason.ends_with(" s"), "{health:?}");
    assert_ne!(house.pid(Seat::A), former);

    // The former one works on for as long as somebody is in it.
    assert!(context.is_retiring() && context.is_alive());
    page.goto(&format!("{portal}/who"), LIMIT).await.unwrap();
    assert!(page.text("#who").await.unwrap().contains("sid=s3cret"));
    let options = ContextOptions { restore: Some(context.export().await.unwrap()), ..ContextOptions::default() };
    let moved = house.pool.open(Seat::A, options).await.unwrap();
    assert_eq!((moved.generation(), moved.is_retiring()), (2, false));
    let next = moved.page(PageOptions::default()).await.unwrap();
    next.goto(&format!("{portal}/who"), LIMIT).await.unwrap();
    assert!(next.text("#who").await.unwrap().contains("sid=s3cret"));
    drop((page, context));
    house.processes_become("the end of the former", |now| !now.contains(&former.as_raw_pid())).await;
    house.close().await;
}

#[tokio::test]
async fn navigations_and_memory_replace_a_process_too() {
    let busy = house(Recycle { navigations: 10, after: Duration::from_secs(60), ..NEVER });
    let portal = portal().await;
    let (_context, page) = busy.page().await;
    for _ in 0..10 {
        page.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    }
    let health = busy.becomes(Seat::A, |health| health.recycled == 1).await;
    assert!(health.reason.as_ref().unwrap().contains("documents"), "{health:?}");
    busy.close().await;

    // A browser with nothing in it is over that already.
    let heavy = house(Recycle { memory: 50 << 20, after: Duration::from_secs(60), ..NEVER });
    drop(heavy.context().await);
    let health = heavy.becomes(Seat::A, |health| health.recycled == 1).await;
    assert!(health.reason.as_ref().unwrap().contains(" MB of memory"), "{health:?}");
    heavy.close().await;
}

#[tokio::test]
async fn one_seat_at_a_time_the_one_from_which_fewer_serve_first_and_nothing_is_left() {
    // Looked at every six seconds, and not old before both rounds are over.
    let house = house(Recycle { navigations: 3, after: Duration::from_secs(60), ..NEVER });
    let portal = portal().await;
    house.pool.warm().await.unwrap();
    let wear = async |seat| {
        let context = house.pool.open(seat, ContextOptions::default()).await.unwrap();
        let page = context.page(PageOptions::default()).await.unwrap();
        for _ in 0..3 {
            page.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
        }
        page.close().await.unwrap();
        context
    };
    for round in 1..=2 {
        let (a, b) = tokio::join!(wear(Seat::A), wear(Seat::B));
        // Turn about: in the first round A serves, in the second B.
        let (first, second) = if round == 1 { (b, a) } else { (a, b) };
        second.set_serving(true);
        let seats = (first.seat(), second.seat());
        house.becomes(seats.0, |health| health.recycled == round).await;
        assert!(!second.is_retiring() && leaders(house.run.path()) <= 3, "both at once");
        drop(first);
        house.becomes(seats.1, |health| health.recycled == round).await;
        drop(second);
        let profiles = || fs::read_dir(house.run.path()).unwrap().count();
        let two = |_: &_| leaders(house.run.path()) == 2 && profiles() == 2;
        house.processes_become("two browsers with their profiles", two).await;
    }
    house.close().await;
}

//! Quotas: never overrun, whoever races; never in the way of who has a right to a place.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;

use crate::desk::Desk;
use crate::told::Told;

const MINUTE: &str = r#"{"data":{},"ttl":"1m"}"#;

async fn make(desk: &Desk, space: &str) -> Told {
    desk.send(Method::POST, space, MINUTE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_holds_so_many_and_there_are_so_many_spaces() {
    let mut desk = Desk::new("max_records = 10\nmax_spaces = 2").await;
    let many = join_all((0..30).map(|_| make(&desk, "full"))).await;
    assert_eq!(many.iter().filter(|told| told.status == 201).count(), 10);
    assert!(many.iter().all(|told| told.status == 201 || told.problem() == (507, "space_full", "")));
    assert_eq!(make(&desk, "other").await.status, 201);
    let third = make(&desk, "third").await;
    assert_eq!(third.problem(), (507, "too_many_spaces", ""));
    assert!(
        third.text.contains("sessions.max_spaces")
            && many.iter().any(|told| told.text.contains("sessions.max_records"))
    );
    let kept = format!("full/{}", many.iter().find(|told| told.status == 201).unwrap().id());
    assert_eq!(desk.send(Method::PATCH, &kept, r#"{"data":{"a":1}}"#).await.status, 200, "what is there can change");
    desk.restart().await;
    assert_eq!(make(&desk, "full").await.problem(), (507, "space_full", ""));
    assert_eq!(make(&desk, "third").await.problem(), (507, "too_many_spaces", ""));
    assert_eq!(desk.send(Method::DELETE, &kept, "").await.status, 204);
    assert_eq!(make(&desk, "full").await.status, 201);
    assert_eq!(make(&desk, "full").await.problem(), (507, "space_full", ""));
    desk.clock.advance(Duration::from_secs(60));
    assert_eq!(make(&desk, "full").await.status, 201, "the expired ones do not count");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_place_goes_to_one_however_late_the_disk_is() {
    // What was made is told only with the next flush, up to 150 ms later.
    let desk = Desk::durable("interval", "max_records = 5").await;
    for round in 0..5 {
        let all = join_all((0..6).map(|_| make(&desk, "a"))).await;
        let made: Vec<_> = all.iter().filter(|told| told.status == 201).collect();
        assert_eq!(made.len(), if round == 0 { 5 } else { 1 });
        assert_eq!(make(&desk, "a").await.problem(), (507, "space_full", ""));
        assert_eq!(desk.send(Method::DELETE, &format!("a/{}", made[0].id()), "").await.status, 204);
    }
    let put = |id: u32| {
        let desk = &desk;
        async move { desk.send_if(Method::PUT, &format!("a/{id}"), MINUTE, &[("if-none-match", "*")]).await }
    };
    let all = join_all((0..6).map(put)).await;
    assert_eq!(all.iter().filter(|told| told.status == 201).count(), 1, "{all:?}");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_takes_no_place_and_what_has_ended_gives_it_back() {
    let desk = Desk::new("max_records = 1\nmax_spaces = 1").await;
    for _ in 0..3 {
        let long = desk.send(Method::POST, "a", r#"{"data":{},"ttl":"9999d"}"#).await;
        let detail = "ttl is between 1ms and 366d, which is sessions.max_ttl";
        assert_eq!((long.problem(), &long.body["detail"]), ((422, "invalid_field", "ttl"), &detail.into()));
        let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(65_000));
        assert_eq!(desk.send(Method::POST, "a", &large).await.status, 413);
    }
    assert_eq!(make(&desk, "b").await.status, 201, "nothing is in the other space");
    assert_eq!(make(&desk, "a").await.problem(), (507, "too_many_spaces", ""));
    desk.clock.advance(Duration::from_millis(59_999));
    assert_eq!(make(&desk, "a").await.status, 507);
    desk.clock.advance(Duration::from_millis(1));
    assert_eq!(make(&desk, "a").await.status, 201, "from the millisecond of the other's end on");
    desk.clock.advance(Duration::from_secs(60));
    assert_eq!(make(&desk, "a").await.status, 201);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_are_told_apart_whatever_their_ids_are() {
    let mut desk = Desk::new("max_spaces = 3").await;
    // The last code point, and names that surround one another in order.
    for path in ["a/%F4%8F%BF%BFz", "a-b/x", "a0/x"] {
        assert_eq!(desk.send_if(Method::PUT, path, MINUTE, &[("if-none-match", "*")]).await.status, 201);
    }
    desk.restart().await;
    assert_eq!(make(&desk, "b").await.problem(), (507, "too_many_spaces", ""));
    assert_eq!(desk.send(Method::DELETE, "a-b/x", "").await.status, 204);
    assert_eq!(make(&desk, "b").await.status, 201);
    assert_eq!(make(&desk, "a").await.status, 201);
    desk.stop().await;
}

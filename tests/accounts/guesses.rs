//! Guessing: many at once, over every door, at addresses that are known and at those that are not.

use std::time::Duration;

use futures_util::future::join_all;
use nightporter::clock;
use serde_json::json;

use crate::desk::{Desk, MINUTE, PASSWORD, UNLIMITED, other};
use crate::told::Told;

const USER: &str = "a@b.example";

fn count(told: &[Told], code: &str) -> usize {
    told.iter().filter(|told| told.problem().1 == code).count()
}

/// A login that comes again whenever it is told to: those about one address are taken one after the other, and a slow machine
/// is not through with all of them in the ten seconds that each waits.
async fn patient(desk: &Desk, email: &str, password: &str) -> Told {
    loop {
        let told = desk.login(email, password).await;
        if told.body["code"] != "busy" {
            return told;
        }
        clock::pause(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_wrong_codes_at_once_are_judged_five_times() {
    let desk = Desk::new(UNLIMITED).await;
    let (ticket, right) = desk.ticket(USER, PASSWORD).await;
    let wrong = other(&right);
    let told = join_all((0..200).map(|_| desk.verify(USER, &wrong, Some(&ticket)))).await;
    assert_eq!((count(&told, "invalid_code"), count(&told, "code_spent")), (5, 195));
    assert_eq!(desk.verify(USER, &right, Some(&ticket)).await.problem().1, "code_spent");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_code_and_a_reset_code_take_five_wrong_guesses_and_then_none() {
    for (ask, path) in [("login", "login/verify"), ("password/forgot", "password/reset")] {
        let desk = Desk::new(UNLIMITED).await;
        desk.user(USER, PASSWORD).await;
        let right = desk.code_from(ask, &json!({"email": USER})).await;
        let guess = |code: &str| {
            let mut body = json!({"email": USER, "code": code});
            if path == "password/reset" {
                body["new_password"] = "또 다른 비밀번호".into();
            }
            let desk = &desk;
            async move { desk.post(path, &body).await }
        };
        let wrong = other(&right);
        let told = join_all((0..5).map(|_| guess(&wrong))).await;
        assert_eq!(count(&told, "invalid_code"), 5);
        assert_eq!(guess(&right).await.problem(), (422, "invalid_code", ""), "{path}: the code has no tries left");
        let told = join_all((0..195).map(|_| guess(&wrong))).await;
        let busy = count(&told, "busy");
        assert_eq!((count(&told, "invalid_code"), count(&told, "too_many_guesses") + busy), (4, 191), "{path}");
        desk.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_wrong_passwords_at_once_are_compared_ten_times_known_or_not() {
    let mut desk = Desk::new(UNLIMITED).await;
    desk.user(USER, PASSWORD).await;
    for address in [USER, "nobody@b.example"] {
        let told = join_all((0..200).map(|_| patient(&desk, address, "wrong wrong wrong"))).await;
        assert_eq!((count(&told, "invalid_credentials"), count(&told, "too_many_guesses")), (10, 190), "{address}");
        let spent = desk.login(address, PASSWORD).await;
        assert_eq!(spent.problem(), (429, "too_many_guesses", ""), "the right one is not taken either");
        assert_eq!(spent.body["until"], "2027-01-15T08:30:00.000Z");
    }
    desk.restart().await;
    desk.clock.advance(MINUTE * 30);
    assert_eq!(desk.login(USER, PASSWORD).await.status, 200, "one guess is back, and given back by the right one");
    assert_eq!(desk.login(USER, "wrong wrong wrong").await.problem().1, "invalid_credentials");
    assert_eq!(desk.login(USER, PASSWORD).await.problem().1, "too_many_guesses");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_a_right_password_is_compared_has_lost_no_guess() {
    let desk = Desk::new(UNLIMITED).await;
    desk.user(USER, PASSWORD).await;
    for _ in 0..30 {
        let connection = desk.begin("login", &json!({"email": USER, "password": PASSWORD})).await;
        // Whenever it leaves, it has lost nothing; about here the guess is taken.
        clock::pause(Duration::from_millis(10)).await;
        drop(connection);
    }
    let told = patient(&desk, USER, PASSWORD).await;
    assert_eq!(told.status, 200, "{}", told.text);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_is_one_over_all_doors() {
    let desk = Desk::new(UNLIMITED).await;
    desk.user(USER, PASSWORD).await;
    let right = desk.code_from("login", &json!({"email": USER})).await;
    for _ in 0..4 {
        assert_eq!(desk.login(USER, "wrong wrong wrong").await.status, 401);
    }
    for _ in 0..3 {
        let body = json!({"email": USER, "code": other(&right)});
        assert_eq!(desk.post("login/verify", &body).await.status, 422);
        let body = json!({"email": USER, "code": "000000", "new_password": "또 다른 비밀번호"});
        assert_eq!(desk.post("password/reset", &body).await.status, 422);
    }
    let doors = [
        ("login", json!({"email": USER, "password": PASSWORD})),
        ("login/verify", json!({"email": USER, "code": right})),
        ("password/reset", json!({"email": USER, "code": "000000", "new_password": "또 다른 비밀번호"})),
        ("verify-registration", json!({"email": USER, "verification_code": "000000"})),
    ];
    for (path, body) in &doors {
        assert_eq!(desk.post(path, body).await.problem(), (429, "too_many_guesses", ""), "{path}");
    }
    desk.clock.advance(MINUTE * 30);
    assert_eq!(desk.login(USER, PASSWORD).await.status, 200);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn right_passwords_at_once_are_all_right() {
    let desk = Desk::new(UNLIMITED).await;
    desk.user(USER, PASSWORD).await;
    let told = join_all((0..30).map(|_| patient(&desk, USER, PASSWORD))).await;
    assert!(told.iter().all(|told| told.status == 200), "their own programs use no budget up");
    let mut sessions: Vec<_> = told.iter().map(|told| told.body["session_id"].to_string()).collect();
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 30);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_passwords_than_may_wait_are_told_to_come_again() {
    let desk = Desk::new(UNLIMITED).await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let all = 100.max(cores * 80);
    let told = join_all((0..all).map(|number| {
        let desk = &desk;
        async move { desk.login(&format!("user{number}@b.example"), "wrong wrong wrong").await }
    }));
    let told = told.await;
    assert!(count(&told, "busy") > 0, "the queue has an end");
    assert_eq!(count(&told, "busy") + count(&told, "invalid_credentials"), all);
    // Two seconds for the queue; one for whoever has waited too long for a turn before it, where the machine is slow.
    let again: Vec<_> = told.iter().filter(|told| told.status == 503).map(|told| told.header("retry-after")).collect();
    assert!(again.contains(&"2") && again.iter().all(|again| ["1", "2"].contains(again)), "{again:?}");
    assert_eq!(patient(&desk, "later@b.example", "wrong wrong wrong").await.status, 401);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_hold_one_client_one_address_and_everybody() {
    let desk = Desk::new("client_per_minute = 3\naddress_per_minute = 5\ntotal_per_minute = 9\n").await;
    let ask = async |ip: &str, email: &str| {
        let body = json!({"email": email, "verification_code": "000000"}).to_string();
        desk.post_from(ip, "verify-registration", &body, &[]).await
    };
    for (number, ip) in ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"].into_iter().enumerate() {
        assert_eq!(ask(ip, &format!("u{number}@b.example")).await.problem().1, "invalid_code");
    }
    let limited = ask("2001:db8::4", "u4@b.example").await;
    assert_eq!((limited.problem(), limited.header("retry-after")), ((429, "rate_limited", ""), "20"));
    for number in 0..5 {
        let told = ask(&format!("192.0.2.{number}"), USER).await;
        assert_eq!(told.problem().1, "invalid_code");
    }
    assert_eq!(ask("192.0.2.9", USER).await.problem(), (429, "rate_limited", ""), "so many about one address");
    assert_eq!(ask("192.0.2.10", "u5@b.example").await.problem(), (429, "rate_limited", ""), "so many altogether");
    desk.clock.advance(MINUTE);
    assert_eq!(ask("192.0.2.10", "u5@b.example").await.problem().1, "invalid_code");
    desk.stop().await;
}

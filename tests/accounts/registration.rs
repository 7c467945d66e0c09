//! What attackers try with a registration of somebody else's address, and what must not go wrong when nobody means harm.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::desk::{Desk, MINUTE, PASSWORD, UNLIMITED, code, other};

const VICTIM: &str = "victim@b.example";
const THEIRS: &str = "the attacker's own";

#[tokio::test(flavor = "multi_thread")]
async fn taking_over_a_registration() {
    let desk = Desk::new("").await;
    let (ticket, right) = desk.ticket(VICTIM, PASSWORD).await;
    desk.clock.advance(MINUTE);
    let (stranger, second) = desk.ticket(VICTIM, THEIRS).await;
    assert_ne!(ticket, stranger);
    // Each code opens its own ticket alone, and none without one while two are pending.
    assert_eq!(desk.verify(VICTIM, &second, Some(&ticket)).await.problem().1, "invalid_code");
    assert_eq!(desk.verify(VICTIM, &right, Some(&stranger)).await.problem().1, "invalid_code");
    assert_eq!(desk.verify(VICTIM, &right, None).await.problem(), (422, "invalid_code", ""));
    // The owner types the code of the first mail into the page that has the ticket.
    assert_eq!(desk.verify(VICTIM, &right, Some(&ticket)).await.status, 201);
    let late = desk.verify(VICTIM, &second, Some(&stranger)).await;
    assert_eq!((late.problem().1, &late.body["tries_left"]), ("invalid_code", &json!(3)), "nor do they see it");
    assert_eq!(desk.login(VICTIM, THEIRS).await.status, 401);
    assert_eq!(desk.login(VICTIM, PASSWORD).await.status, 200);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn burning_the_tries_of_a_registration() {
    let desk = Desk::new(UNLIMITED).await;
    let (ticket, right) = desk.ticket(VICTIM, PASSWORD).await;
    // Without a ticket: ten guesses, then the address takes none for half an hour.
    for _ in 0..10 {
        assert_eq!(desk.verify(VICTIM, &other(&right), None).await.problem(), (422, "invalid_code", ""));
    }
    let spent = desk.verify(VICTIM, &right, None).await;
    assert_eq!(spent.problem(), (429, "too_many_guesses", ""));
    assert_eq!((spent.header("retry-after"), &spent.body["until"]), ("1800", &json!("2027-01-15T08:30:00.000Z")));
    assert!(spent.body["detail"].as_str().unwrap().contains("2027-01-15T08:30:00.000Z"));
    // With a ticket of their own: its five, and no others.
    desk.clock.advance(MINUTE);
    let (stranger, _) = desk.ticket(VICTIM, THEIRS).await;
    for left in (0..5).rev() {
        let wrong = desk.verify(VICTIM, &other(&right), Some(&stranger)).await;
        assert_eq!(wrong.body["tries_left"], left, "{}", wrong.text);
    }
    assert_eq!(desk.verify(VICTIM, &right, Some(&stranger)).await.problem(), (422, "code_spent", ""));
    // With a ticket that they make up: nothing.
    let made_up = "0".repeat(32);
    assert_eq!(desk.verify(VICTIM, &right, Some(&made_up)).await.problem(), (422, "invalid_code", ""));
    // The owner's tries are all there.
    for left in (1..5).rev() {
        assert_eq!(desk.verify(VICTIM, &other(&right), Some(&ticket)).await.body["tries_left"], left);
    }
    assert_eq!(desk.verify(VICTIM, &right, Some(&ticket)).await.status, 201);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_refills_nothing_and_makes_the_code_before_void() {
    let desk = Desk::new(UNLIMITED).await;
    let (ticket, first) = desk.ticket(VICTIM, PASSWORD).await;
    for _ in 0..3 {
        desk.verify(VICTIM, &other(&first), Some(&ticket)).await;
    }
    let again = json!({"email": VICTIM, "registration_id": ticket});
    let early = desk.post("resend", &again).await;
    assert_eq!((early.problem(), early.header("retry-after")), ((429, "too_many_codes", ""), "60"));
    desk.clock.advance(MINUTE);
    let second = desk.code_from("resend", &again).await;
    assert_eq!(desk.verify(VICTIM, &first, Some(&ticket)).await.body["tries_left"], 1);
    assert_eq!(desk.verify(VICTIM, &other(&second), Some(&ticket)).await.body["tries_left"], 0);
    assert_eq!(desk.verify(VICTIM, &second, Some(&ticket)).await.problem().1, "code_spent");
    desk.clock.advance(MINUTE);
    let third = desk.code_from("resend", &again).await;
    assert_eq!(desk.verify(VICTIM, &third, Some(&ticket)).await.problem().1, "code_spent");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_a_minute_apart_five_an_hour_and_ten_a_day() {
    let desk = Desk::new(UNLIMITED).await;
    let ask = async || desk.post("resend", &json!({"email": VICTIM})).await;
    assert_eq!(desk.register(VICTIM, PASSWORD).await.status, 202);
    desk.clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(ask().await.header("retry-after"), "1");
    desk.clock.advance(Duration::from_millis(1));
    for _ in 0..4 {
        assert_eq!(ask().await.status, 202);
        desk.clock.advance(MINUTE);
    }
    // Five minutes have passed since the first of five.
    assert_eq!(ask().await.header("retry-after"), (55 * 60).to_string());
    desk.clock.advance(MINUTE * 55);
    for _ in 0..5 {
        assert_eq!(ask().await.status, 202);
        desk.clock.advance(MINUTE);
    }
    desk.clock.advance(MINUTE * 120);
    let spent = ask().await;
    assert_eq!((spent.problem().1, &spent.body["until"]), ("too_many_codes", &json!("2027-01-16T08:00:00.000Z")));
    // Doors that mail codes share the count.
    for (path, body) in [("login", json!({"email": VICTIM})), ("password/forgot", json!({"email": VICTIM}))] {
        assert_eq!(desk.post(path, &body).await.problem().1, "too_many_codes", "{path}");
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_verify_at_once_and_one_user_is_made() {
    let desk = Desk::new(UNLIMITED).await;
    let (ticket, right) = desk.ticket(VICTIM, PASSWORD).await;
    let told = join_all((0..20).map(|_| desk.verify(VICTIM, &right, Some(&ticket)))).await;
    let made: Vec<_> = told.iter().filter(|told| told.status == 201).collect();
    assert_eq!(made.len(), 1);
    assert!(told.iter().filter(|told| told.status != 201).all(|told| told.problem().1 == "invalid_code"));
    assert_eq!(desk.login(VICTIM, PASSWORD).await.status, 200);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_ends_to_the_millisecond() {
    let desk = Desk::new(UNLIMITED).await;
    let (life, breath) = (MINUTE * 15, Duration::from_millis(1));
    let (ticket, right) = desk.ticket(VICTIM, PASSWORD).await;
    desk.clock.advance(life);
    assert_eq!(desk.verify(VICTIM, &right, Some(&ticket)).await.problem().1, "invalid_code");
    let (ticket, right) = desk.ticket(VICTIM, PASSWORD).await;
    desk.clock.advance(life - breath);
    assert_eq!(desk.verify(VICTIM, &right, Some(&ticket)).await.status, 201);
    let login = async |code: &str| desk.post("login/verify", &json!({"email": VICTIM, "code": code})).await;
    let right = desk.code_from("login", &json!({"email": VICTIM})).await;
    desk.clock.advance(MINUTE * 10);
    assert_eq!(login(&right).await.problem().1, "invalid_code");
    let right = desk.code_from("login", &json!({"email": VICTIM})).await;
    desk.clock.advance(MINUTE * 10 - breath);
    assert_eq!(login(&right).await.status, 200);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_first_answer_and_sends_one_mail() {
    let mut desk = Desk::new("").await;
    let body = json!({"email": VICTIM, "password": PASSWORD, "full_name": "민서"}).to_string();
    let key = [("idempotency-key", "once")];
    let first = desk.post_from("203.0.113.7", "register", &body, &key).await;
    let again = desk.post_from("203.0.113.7", "register", &body, &key).await;
    assert_eq!((again.status, &again.text, again.header("idempotency-replayed")), (202, &first.text, "true"));
    let another = body.replace("민서", "서준");
    let mismatch = desk.post_from("203.0.113.7", "register", &another, &key).await;
    assert_eq!(mismatch.problem(), (422, "idempotency_mismatch", "idempotency-key"));
    desk.clock.advance(MINUTE);
    let stranger = desk.post_from("203.0.113.8", "register", &body, &key).await;
    assert_ne!(stranger.body["registration_id"], first.body["registration_id"], "a key counts for its client alone");
    let right = code(&desk.mail(1).await);
    let body = json!({"email": VICTIM, "verification_code": right, "registration_id": first.body["registration_id"]});
    let made = desk.post_from("203.0.113.7", "verify-registration", &body.to_string(), &key).await;
    assert_eq!(made.status, 201, "{}", made.text);
    desk.restart().await;
    let again = desk.post_from("203.0.113.7", "verify-registration", &body.to_string(), &key).await;
    assert_eq!((again.status, again.text), (201, made.text));
    desk.mail(2).await;
    assert_eq!(desk.mailbox.count(), 2);
    desk.stop().await;
}

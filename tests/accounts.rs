//! Accounts over HTTP: sign-up, logins and passwords, on the real router with a real store, a real mail server, and the clock
//! held. Every attack that the design names is tried by name.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

#[path = "accounts/asvs.rs"]
mod asvs;
#[path = "accounts/crash.rs"]
mod crash;
#[path = "accounts/desk.rs"]
mod desk;
#[path = "accounts/enumeration.rs"]
mod enumeration;
#[path = "accounts/guesses.rs"]
mod guesses;
#[path = "accounts/hostile.rs"]
mod hostile;
#[path = "accounts/mails.rs"]
mod mails;
#[path = "accounts/passwords.rs"]
mod passwords;
#[path = "accounts/people.rs"]
mod people;
#[path = "accounts/registration.rs"]
mod registration;
#[path = "accounts/removal.rs"]
mod removal;
#[path = "disk/small.rs"]
mod small;
#[path = "accounts/space.rs"]
mod space;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "sessions/told.rs"]
mod told;
#[path = "accounts/visitor.rs"]
mod visitor;
#[path = "accounts/visits.rs"]
mod visits;

use desk::{Desk, PASSWORD, code, other};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_a_sign_up() {
    let desk = Desk::new("").await;
    let registered = desk.register("Minseo@Example.COM", PASSWORD).await;
    assert_eq!(registered.status, 202, "{}", registered.text);
    assert_eq!(registered.body["expires_at"], "2027-01-15T08:15:00.000Z");
    assert_eq!(registered.body["resend_after"], 60);
    let ticket = registered.body["registration_id"].as_str().unwrap();
    let mail = desk.mail(1).await;
    assert_eq!(mail.to, ["minseo@example.com"], "mails go to the canonical address");
    assert_eq!(mail.subject(), "[porter.example.com] Confirm your e-mail address");
    let code = code(&mail);

    assert_eq!(desk.login("minseo@example.com", PASSWORD).await.problem(), (401, "invalid_credentials", ""));
    let wrong = desk.verify("minseo@example.com", &other(&code), Some(ticket)).await;
    assert_eq!((wrong.problem(), &wrong.body["tries_left"]), ((422, "invalid_code", ""), &json!(4)));
    let verified = desk.verify("minseo@example.com", &code, Some(ticket)).await;
    assert_eq!(verified.status, 201, "{}", verified.text);
    assert_eq!(verified.body["email"], "minseo@example.com");
    assert_eq!(verified.body["full_name"], "김민서");
    assert_eq!(verified.body["verified_at"], "2027-01-15T08:00:00.000Z");
    assert_eq!(verified.body.as_object().unwrap().len(), 5, "{}", verified.text);
    assert_eq!(desk.verify("minseo@example.com", &code, Some(ticket)).await.problem().1, "invalid_code");

    let login = desk.login("MINSEO@example.com", PASSWORD).await;
    assert_eq!(login.status, 200, "{}", login.text);
    assert_eq!((&login.body["token_type"], &login.body["expires_in"]), (&json!("Bearer"), &json!(600)));
    for member in ["access_token", "refresh_token", "session_id"] {
        assert!(login.body[member].as_str().is_some_and(|text| text.len() >= 22), "{member}: {}", login.text);
    }
    let another = desk.login("minseo@example.com", PASSWORD).await;
    assert_ne!(login.body["session_id"], another.body["session_id"], "a login is a new session");
    let refused = desk.login("minseo@example.com", "나의 첫 비밀번호 ").await;
    assert_eq!(refused.problem(), (401, "invalid_credentials", ""));
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_code_alone_and_by_each_code_once() {
    let desk = Desk::new("").await;
    let (ticket, first) = {
        let registered = desk.post("register", &json!({"email": "a@b.example", "full_name": "민서"})).await;
        (registered.body["registration_id"].as_str().unwrap().to_owned(), code(&desk.mail(1).await))
    };
    assert_eq!(desk.verify("a@b.example", &first, Some(&ticket)).await.status, 201);
    assert_eq!(desk.login("a@b.example", PASSWORD).await.problem().1, "invalid_credentials", "there is no password");
    let sent = desk.post("login", &json!({"email": "a@b.example"})).await;
    assert_eq!((sent.status, &sent.body["expires_at"]), (202, &json!("2027-01-15T08:10:00.000Z")), "{}", sent.text);
    let code = code(&desk.mail(2).await);
    let verify = async |code: &str| desk.post("login/verify", &json!({"email": "A@b.example", "code": code})).await;
    assert_eq!(verify(&other(&code)).await.problem(), (422, "invalid_code", ""));
    let login = verify(&code).await;
    assert_eq!(login.status, 200, "{}", login.text);
    assert_eq!(verify(&code).await.problem(), (422, "invalid_code", ""), "a code is used once");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stands_after_a_restart() {
    let mut desk = Desk::new("").await;
    let (ticket, code) = desk.ticket("a@b.example", PASSWORD).await;
    assert_eq!(desk.verify("a@b.example", &other(&code), Some(&ticket)).await.body["tries_left"], 4);
    desk.restart().await;
    assert_eq!(desk.verify("a@b.example", &other(&code), Some(&ticket)).await.body["tries_left"], 3);
    assert_eq!(desk.register("a@b.example", PASSWORD).await.problem(), (429, "too_many_codes", ""));
    desk.restart().await;
    assert_eq!(desk.verify("a@b.example", &code, Some(&ticket)).await.status, 201);
    desk.restart().await;
    assert_eq!(desk.login("a@b.example", PASSWORD).await.status, 200);
    let code = desk.code_from("login", &json!({"email": "a@b.example"})).await;
    desk.restart().await;
    let login = desk.post("login/verify", &json!({"email": "a@b.example", "code": code})).await;
    assert_eq!(login.status, 200, "{}", login.text);
    desk.stop().await;
}

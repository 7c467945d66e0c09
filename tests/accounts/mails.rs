//! The mails: in the team's language, to the right people, and certain to come.

use nightporter::outbox::State;
use serde_json::json;

use crate::desk::{Desk, MINUTE, PASSWORD, UNLIMITED, code};

const USER: &str = "a@b.example";

#[tokio::test(flavor = "multi_thread")]
async fn korean_teams_get_korean_mails() {
    let desk = Desk::new("locale = \"ko\"").await;
    desk.user(USER, PASSWORD).await;
    let mail = desk.mail(1).await;
    assert_eq!(mail.subject(), "[porter.example.com] 이메일 주소를 확인해 주세요");
    assert!(mail.body().contains("15분 동안 유효합니다"), "{}", mail.body());
    desk.clock.advance(MINUTE);
    desk.post("login", &json!({"email": USER})).await;
    assert!(desk.mail(2).await.body().contains("10분 동안 한 번만"));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_an_account_is_told_so_and_no_letter_repeats_what_was_typed() {
    let desk = Desk::new(UNLIMITED).await;
    for path in ["login", "password/forgot"] {
        let mails = desk.mailbox.count();
        desk.post(path, &json!({"email": USER})).await;
        let mail = desk.mail(mails + 1).await;
        assert_eq!(mail.subject(), "[porter.example.com] There is no account with this address");
        desk.clock.advance(MINUTE);
    }
    let body = json!({"email": USER, "password": PASSWORD, "full_name": "무료 쿠폰 https://evil.example"});
    desk.post("register", &body).await;
    let mail = desk.mail(3).await;
    let raw = String::from_utf8(mail.raw.clone()).unwrap();
    assert!(!mail.body().contains("evil") && !raw.contains("evil") && !mail.body().contains(PASSWORD), "{raw}");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_refuses_delays_mails_and_loses_none() {
    let mut desk = Desk::new(UNLIMITED).await;
    desk.mailbox.faults(|faults| faults.refuse = Some(451));
    let registered = desk.register(USER, PASSWORD).await;
    assert_eq!(registered.status, 202, "{}", registered.text);
    let tried = async || {
        let list = desk.app().parts().outbox.list().await.unwrap();
        list.iter().any(|entry| entry.attempts > 0 && entry.state == State::Queued && entry.last_error.is_some())
    };
    desk.until(tried).await;
    desk.restart().await;
    desk.mailbox.faults(|faults| faults.refuse = None);
    desk.clock.advance(MINUTE);
    let right = code(&desk.mail(1).await);
    let ticket = registered.body["registration_id"].as_str();
    assert_eq!(desk.verify(USER, &right, ticket).await.status, 201);
    assert_eq!(desk.mailbox.count(), 1);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_nothing_is_promised() {
    let mut desk = Desk::new("").await;
    desk.user(USER, PASSWORD).await;
    desk.without_mail().await;
    let register = json!({"email": "b@b.example", "password": PASSWORD, "full_name": "민서"});
    for (path, body) in [
        ("register", register),
        ("resend", json!({"email": USER})),
        ("login", json!({"email": USER})),
        ("password/forgot", json!({"email": USER})),
    ] {
        let told = desk.post(path, &body).await;
        assert_eq!(told.problem(), (503, "mail_not_configured", ""), "{path}");
        assert!(told.body["detail"].as_str().unwrap().contains("mail.url"));
    }
    assert_eq!(desk.login(USER, PASSWORD).await.status, 200, "passwords need no mail");
    desk.stop().await;
}

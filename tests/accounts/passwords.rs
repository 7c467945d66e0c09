//! Which passwords may be, that they are taken byte for byte, and how another one is set.

use reqwest::Method;
use serde_json::json;

use crate::desk::{Desk, MINUTE, PASSWORD, UNLIMITED};
use crate::visitor::Login;

const USER: &str = "a@b.example";

#[tokio::test(flavor = "multi_thread")]
async fn a_password_has_8_to_1024_bytes_and_counts_byte_for_byte() {
    let desk = Desk::new(UNLIMITED).await;
    for short in ["1x2y3z4", "가나", ""] {
        assert_eq!(desk.register(USER, short).await.problem(), (422, "invalid_password", "password"), "{short}");
    }
    let (longest, longer) = ("x y".repeat(341) + "z", "x y".repeat(341) + "zz");
    assert_eq!(desk.register(USER, &longer).await.problem(), (422, "invalid_password", "password"));
    assert_eq!(desk.login(USER, &longer).await.problem(), (422, "invalid_password", "password"));
    for (number, password) in
        ["1x2y3z4\u{1}", &longest, "café au lait", "  two spaces  ", "한글만세"].iter().enumerate()
    {
        let email = format!("u{number}@b.example");
        desk.user(&email, password).await;
        assert_eq!(desk.login(&email, password).await.status, 200, "{password}");
    }
    for (number, other) in
        [(1, longest[..1023].to_owned()), (2, "cafe\u{301} au lait".to_owned()), (3, "two spaces".to_owned())]
    {
        assert_eq!(desk.login(&format!("u{number}@b.example"), &other).await.status, 401, "{other}");
    }
    // The same letters, decomposed as some keyboards send them, are other bytes.
    let decomposed: String =
        "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}\u{1106}\u{1161}\u{11ab}\u{1109}\u{1166}".to_owned();
    assert_eq!(desk.login("u4@b.example", &decomposed).await.status, 401);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn common_passwords_and_the_address_itself_are_refused_at_every_door() {
    let desk = Desk::new(UNLIMITED).await;
    for common in ["password", "PASSWORD", "12345678", "qwertyuiop", "iloveyou1", USER] {
        assert_eq!(desk.register(USER, common).await.problem(), (422, "invalid_password", "password"), "{common}");
    }
    desk.user(USER, PASSWORD).await;
    let code = desk.code_from("password/forgot", &json!({"email": USER})).await;
    let reset = async |password: &str| {
        desk.post("password/reset", &json!({"email": USER, "code": code, "new_password": password})).await
    };
    assert_eq!(reset("password1").await.problem(), (422, "invalid_password", "new_password"));
    assert_eq!(reset("또 다른 비밀번호").await.status, 204, "what was refused has not used the code up");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_set_anew_with_a_code_that_counts_once() {
    let desk = Desk::new(UNLIMITED).await;
    desk.user(USER, PASSWORD).await;
    let login_code = desk.code_from("login", &json!({"email": USER})).await;
    desk.clock.advance(MINUTE);
    let code = desk.code_from("password/forgot", &json!({"email": USER})).await;
    let reset = async |code: &str| {
        desk.post("password/reset", &json!({"email": "A@B.example", "code": code, "new_password": "둘째 비밀번호"}))
            .await
    };
    assert_eq!(reset(&login_code).await.problem(), (422, "invalid_code", ""), "a code is for one thing");
    let done = reset(&code).await;
    assert_eq!((done.status, done.text.as_str()), (204, ""));
    let letter = desk.mail(4).await;
    assert_eq!(letter.subject(), "[porter.example.com] Your password was changed");
    assert_eq!(reset(&code).await.problem(), (422, "invalid_code", ""));
    assert_eq!(desk.login(USER, PASSWORD).await.status, 401);
    assert_eq!(desk.login(USER, "둘째 비밀번호").await.status, 200);
    let login = desk.post("login/verify", &json!({"email": USER, "code": login_code})).await;
    assert_eq!(login.problem().1, "invalid_code", "codes of before are void");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_stay_right_when_they_become_dearer() {
    let mut desk = Desk::new("").await;
    desk.user(USER, PASSWORD).await;
    desk.configure_again("password_passes = 3").await;
    for _ in 0..2 {
        assert_eq!(desk.login(USER, PASSWORD).await.status, 200);
    }
    desk.configure_again("").await;
    assert_eq!(desk.login(USER, PASSWORD).await.status, 200);
    assert_eq!(desk.login(USER, "wrong wrong wrong").await.status, 401);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_the_password_ends_every_login_at_once() {
    let desk = Desk::new(UNLIMITED).await;
    let (here, there) = (desk.visitor(USER).await, Login::of(&desk.login(USER, PASSWORD).await));
    let change = async |token: &str, current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new}).to_string();
        let bearer = format!("Bearer {token}");
        desk.ask(Method::POST, "/api/auth/password/change", &[("authorization", &bearer)], &body).await
    };
    assert_eq!(change("", PASSWORD, "둘째 비밀번호").await.problem().0, 401);
    let wrong = change(&here.access, "wrong wrong wrong", "둘째 비밀번호").await;
    assert_eq!(wrong.problem(), (403, "wrong_password", "current_password"));
    let common = change(&here.access, PASSWORD, "password1").await;
    assert_eq!(common.problem(), (422, "invalid_password", "new_password"));
    assert_eq!((desk.me(&here.access).await, desk.me(&there.access).await), (200, 200));
    let changed = change(&here.access, PASSWORD, "둘째 비밀번호").await;
    assert_eq!(changed.status, 204, "{}", changed.text);
    assert_eq!((desk.me(&here.access).await, desk.me(&there.access).await), (401, 401));
    assert_eq!(desk.refresh(&there.refresh).await.status, 401);
    assert!(desk.mail(2).await.subject().contains("password was changed"));
    assert_eq!(desk.login(USER, PASSWORD).await.status, 401);
    let again = Login::of(&desk.login(USER, "둘째 비밀번호").await);
    // A wrong one counts at this door as at any other: two are gone, eight are left.
    for _ in 0..8 {
        assert_eq!(change(&again.access, PASSWORD, "셋째 비밀번호").await.problem().1, "wrong_password");
    }
    assert_eq!(change(&again.access, "둘째 비밀번호", "셋째 비밀번호").await.problem().1, "too_many_guesses");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sets_a_forgotten_password_ends_every_login_at_once() {
    let desk = Desk::new(UNLIMITED).await;
    let thief = desk.visitor(USER).await;
    let code = desk.code_from("password/forgot", &json!({"email": USER})).await;
    let body = json!({"email": USER, "code": code, "new_password": "둘째 비밀번호"});
    assert_eq!(desk.post("password/reset", &body).await.status, 204);
    assert_eq!((desk.me(&thief.access).await, desk.refresh(&thief.refresh).await.status), (401, 401));
    desk.stop().await;
}

//! Those who have logged in: who they are, staying, leaving, their other sessions; and everybody who is not let in.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use nightporter::accounts::Rotation;
use nightporter::accounts::audit::{What, Who};
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::json;

use crate::desk::{Desk, MINUTE, PASSWORD};
use crate::visitor::{Login, part};

const EMAIL: &str = "minseo@example.com";

#[tokio::test(flavor = "multi_thread")]
async fn a_login_shows_who_it_is_until_it_is_logged_out() {
    let desk = Desk::new("").await;
    let stranger = desk.ask(Method::GET, "/api/auth/me", &[], "").await;
    assert_eq!(stranger.problem(), (401, "unauthorized", ""));
    let login = desk.visitor(EMAIL).await;
    let me = desk.with(&login.access, Method::GET, "me").await;
    assert_eq!((me.status, &me.body["email"], &me.body["full_name"]), (200, &json!(EMAIL), &json!("김민서")));
    assert_eq!(part(&login.access, 1)["sub"], me.body["id"]);
    assert_eq!(part(&login.access, 1)["iss"], "https://porter.example.com");

    desk.clock.advance(10 * MINUTE);
    let expired = desk.with(&login.access, Method::GET, "me").await;
    assert_eq!(expired.problem(), (401, "invalid_token", ""));
    let next = Login::of(&desk.refresh(&login.refresh).await);
    assert_eq!(next.session, login.session);
    assert_eq!(desk.me(&next.access).await, 200);

    assert_eq!(desk.with(&next.access, Method::POST, "logout").await.status, 204);
    assert_eq!(desk.me(&next.access).await, 401, "at once, though the token has minutes left");
    assert_eq!(desk.refresh(&next.refresh).await.problem(), (401, "invalid_token", ""));
    assert_eq!(desk.with(&next.access, Method::POST, "logout").await.problem(), (401, "invalid_token", ""));
    let lines = desk.noted(4).await;
    let whats: Vec<What> = lines.iter().map(|line| line.what).filter(|what| *what != What::KeysRotated).collect();
    assert_eq!(whats, [What::Verified, What::LoggedIn, What::LoggedOut]);
    let left = lines.iter().find(|line| line.what == What::LoggedOut).unwrap();
    assert_eq!((&left.who, left.from), (&Who::User(left.user.unwrap()), Some([127, 0, 0, 1].into())));
    assert_eq!(me.body["id"], left.user.unwrap().to_string());
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rate_keeps_in_who_wants_to_leave() {
    let desk = Desk::new("client_per_minute = 3\n").await;
    let login = desk.visitor(EMAIL).await;
    assert_eq!(desk.post("refresh", &json!({})).await.problem(), (429, "rate_limited", ""));
    assert_eq!(
        desk.post("logout", &json!({ "refresh_token": login.refresh })).await.status,
        429,
        "who that is, is not shown"
    );
    let bearer = format!("Bearer {}", login.access);
    let left = desk.post_from("203.0.113.7", "logout", "", &[("authorization", &bearer)]).await;
    assert_eq!(left.status, 204, "{}", left.text);
    assert_eq!(desk.me(&login.access).await, 401);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_after_the_token_has_expired_shows_the_refresh_token() {
    let desk = Desk::new("").await;
    let login = desk.visitor(EMAIL).await;
    desk.clock.advance(11 * MINUTE);
    let refresh = json!({ "refresh_token": login.refresh });
    assert_eq!(desk.post("logout", &refresh).await.status, 204);
    assert_eq!(desk.refresh(&login.refresh).await.status, 401);
    assert_eq!(desk.post("logout", &refresh).await.status, 204, "nothing is left to end");
    assert_eq!(desk.post("logout", &json!({})).await.problem(), (401, "unauthorized", ""));
    assert_eq!(desk.post("refresh", &json!({})).await.problem(), (401, "unauthorized", ""));
    assert_eq!(desk.post("refresh", &json!({"token": "x"})).await.problem(), (422, "unknown_field", "token"));
    assert_eq!(desk.refresh("npr_x").await.problem(), (401, "invalid_token", ""));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_stays_by_cookies_that_no_script_and_no_other_site_can_use() {
    let desk = Desk::new("").await;
    desk.user(EMAIL, PASSWORD).await;
    let told = desk.login(EMAIL, PASSWORD).await;
    let login = Login::of(&told);
    let set: Vec<&str> = told.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(
        set,
        [
            format!("__Host-nightporter={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600", login.access),
            format!(
                "__Secure-nightporter-refresh={}; Path=/api/auth; Secure; HttpOnly; SameSite=Strict; Max-Age=86400",
                login.refresh
            ),
        ]
    );
    let cookie = format!("__Host-nightporter={}; __Secure-nightporter-refresh={}", login.access, login.refresh);
    assert_eq!(desk.browse(Method::GET, "me", &cookie, &[("sec-fetch-site", "cross-site")]).await.status, 200);
    for foreign in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "https://porter.example.com.evil.example")],
    ] {
        for (method, path) in [(Method::POST, "logout"), (Method::POST, "refresh"), (Method::POST, "logout-all")] {
            assert_eq!(
                desk.browse(method, path, &cookie, foreign).await.problem(),
                (403, "cross_site", ""),
                "{foreign:?}"
            );
        }
        let path = format!("sessions/{}", login.session);
        assert_eq!(desk.browse(Method::DELETE, &path, &cookie, foreign).await.problem().1, "cross_site");
    }
    assert_eq!(desk.me(&login.access).await, 200, "nothing was ended");
    let bearer = format!("Bearer {}", login.access);
    let headers = [("authorization", bearer.as_str()), ("origin", "https://app.example"), ("cookie", "a=1")];
    assert_eq!(
        desk.ask(Method::GET, "/api/auth/sessions", &headers, "").await.status,
        200,
        "a program sends no cookie"
    );

    let next = desk.browse(Method::POST, "refresh", &cookie, &[("sec-fetch-site", "same-origin")]).await;
    let next = Login::of(&next);
    let cookie = format!("__Host-nightporter={}; __Secure-nightporter-refresh={}", next.access, next.refresh);
    let out = desk.browse(Method::POST, "logout", &cookie, &[("origin", "https://porter.example.com")]).await;
    assert_eq!(out.status, 204);
    let cleared: Vec<&str> = out.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    assert!(cleared.len() == 2 && cleared.iter().all(|line| line.contains("=; ") && line.ends_with("Max-Age=0")));
    assert_eq!(desk.browse(Method::GET, "me", &cookie, &[]).await.status, 401);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_ended_one_by_one_or_all_at_once() {
    let desk = Desk::new("").await;
    let first = desk.visitor(EMAIL).await;
    desk.clock.advance(MINUTE);
    let body = json!({"email": EMAIL, "password": PASSWORD}).to_string();
    let agent = [("user-agent", "Firefox \u{fc}ber alles"), ("x-forwarded-for", "198.51.100.4")];
    let second = Login::of(&desk.ask(Method::POST, "/api/auth/login", &agent[1..], &body).await);
    let list = desk.with(&second.access, Method::GET, "sessions").await;
    let sessions = list.body["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2, "{}", list.text);
    assert_eq!((&sessions[0]["id"], &sessions[0]["current"]), (&json!(second.session), &json!(true)));
    assert_eq!(sessions[0]["ip"], "198.51.100.4");
    assert_eq!((&sessions[1]["id"], &sessions[1]["current"]), (&json!(first.session), &json!(false)));
    assert_eq!(sessions[1]["created_at"], "2027-01-15T08:00:00.000Z");
    assert!(!list.text.contains(&second.refresh) && !list.text.contains(&second.access));

    let end = format!("sessions/{}", first.session);
    assert_eq!(desk.with(&second.access, Method::DELETE, &end).await.status, 204);
    assert_eq!((desk.me(&first.access).await, desk.me(&second.access).await), (401, 200));
    assert_eq!(desk.with(&second.access, Method::DELETE, &end).await.problem(), (404, "unknown_session", "id"));
    for bad in ["x", "..%2f", &second.session.to_uppercase()] {
        let told = desk.with(&second.access, Method::DELETE, &format!("sessions/{bad}")).await;
        assert!([400, 404].contains(&told.status), "{bad}: {}", told.text);
    }
    let other = desk.visitor("jiho@example.com").await;
    let theirs = format!("sessions/{}", second.session);
    assert_eq!(desk.with(&other.access, Method::DELETE, &theirs).await.problem(), (404, "unknown_session", "id"));
    assert_eq!(desk.me(&second.access).await, 200);

    let third = Login::of(&desk.login(EMAIL, PASSWORD).await);
    assert_eq!(desk.with(&third.access, Method::POST, "logout-all").await.status, 204);
    for login in [&second, &third] {
        assert_eq!((desk.me(&login.access).await, desk.refresh(&login.refresh).await.status), (401, 401));
    }
    assert_eq!(desk.me(&other.access).await, 200, "another user's stay");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_refreshes_at_once_give_one_successor_and_a_late_one_ends_the_session() {
    let mut desk = Desk::new("").await;
    let login = desk.visitor(EMAIL).await;
    let told = join_all((0..20).map(|_| desk.refresh(&login.refresh))).await;
    let successors: BTreeSet<String> = told.iter().map(|told| Login::of(told).refresh).collect();
    assert_eq!(successors.len(), 1);
    let successor = successors.first().unwrap();
    assert_ne!(*successor, login.refresh);
    assert!(join_all(told.iter().map(|told| async { desk.me(&Login::of(told).access).await })).await == vec![200; 20]);

    desk.restart().await;
    desk.clock.advance(Duration::from_secs(10));
    assert_eq!(Login::of(&desk.refresh(&login.refresh).await).refresh, *successor, "the grace outlives the process");
    desk.clock.advance(Duration::from_millis(1));
    let mails = desk.mailbox.count();
    let alive = Login::of(&desk.login(EMAIL, PASSWORD).await);
    assert_eq!(desk.refresh(&login.refresh).await.problem(), (401, "invalid_token", ""));
    assert_eq!(desk.refresh(successor).await.status, 401, "whoever holds it is out");
    assert_eq!(desk.me(&Login::of(&told[0]).access).await, 401, "and so are its access tokens");
    assert_eq!(desk.me(&alive.access).await, 200, "other sessions stay");
    let mail = desk.mail(mails + 1).await;
    assert_eq!(
        (mail.to.clone(), mail.subject().contains("A login of yours was ended")),
        (vec![EMAIL.to_owned()], true)
    );
    let noted = desk.noted_of(What::RefreshReplayed, 1).await;
    assert_eq!(
        (noted.len(), &noted[0].who, noted[0].detail.as_deref()),
        (1, &Who::Nobody, Some(login.session.as_str()))
    );
    assert!(desk.refresh(&login.refresh).await.status == 401 && desk.mailbox.count() == mails + 1, "told once");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_every_token_at_once() {
    let desk = Desk::new("").await;
    let login = desk.visitor(EMAIL).await;
    desk.clock.advance(MINUTE);
    let code = desk.code_from("password/forgot", &json!({ "email": EMAIL })).await;
    let reset = json!({"email": EMAIL, "code": code, "new_password": "다른 비밀번호 하나"});
    assert_eq!(desk.post("password/reset", &reset).await.status, 204);
    assert_eq!((desk.me(&login.access).await, desk.refresh(&login.refresh).await.status), (401, 401));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_keys_outlive_the_process_and_a_session_ends_by_itself() {
    let mut desk = Desk::new("idle_ttl = \"30m\"").await;
    let login = desk.visitor(EMAIL).await;
    desk.restart().await;
    assert_eq!(desk.me(&login.access).await, 200, "the gate is built before the doors open");
    desk.clock.advance(9 * MINUTE);
    let next = Login::of(&desk.refresh(&login.refresh).await);
    desk.clock.advance(30 * MINUTE);
    assert_eq!(desk.refresh(&next.refresh).await.status, 401, "half an hour without use");
    let again = Login::of(&desk.login(EMAIL, PASSWORD).await);
    let list = desk.with(&again.access, Method::GET, "sessions").await;
    assert_eq!(list.body["sessions"].as_array().unwrap().len(), 1, "{}", list.text);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_users_and_of_operators_are_never_taken_for_one_another() {
    let desk = Desk::new("").await;
    let login = desk.visitor(EMAIL).await;
    let operators = &desk.app().parts().operators;
    let added = operators.add("all", BTreeSet::from([Scope::Admin]), None).await.unwrap();
    let operator = added.text.expose();
    assert_eq!(desk.with(operator, Method::GET, "me").await.problem(), (401, "invalid_token", ""));
    assert_eq!(desk.with(&login.refresh, Method::GET, "me").await.problem(), (401, "invalid_token", ""));
    assert_eq!(desk.refresh(operator).await.problem(), (401, "invalid_token", ""));
    assert_eq!(desk.refresh(&login.access).await.problem(), (401, "invalid_token", ""));
    for token in [&login.access, &login.refresh] {
        let bearer = format!("Bearer {token}");
        for path in ["/api/portals", "/api/sessions/a", "/metrics"] {
            let told = desk.ask(Method::GET, path, &[("authorization", &bearer)], "").await;
            assert_eq!(told.problem(), (401, "invalid_token", ""), "{path}");
        }
    }
    let cookie = format!("__Host-nightporter={operator}");
    assert_eq!(desk.browse(Method::GET, "me", &cookie, &[]).await.status, 401);
    let twice = format!("__Host-nightporter={0}; __Host-nightporter={0}", login.access);
    assert_eq!(desk.browse(Method::GET, "me", &twice, &[]).await.status, 401, "which of the two is it?");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_are_published_for_a_while_and_change_without_anybody_noticing() {
    let desk = Desk::new("").await;
    let login = desk.visitor(EMAIL).await;
    let set = desk.ask(Method::GET, "/.well-known/jwks.json", &[], "").await;
    assert_eq!((set.status, set.header("cache-control")), (200, "public, max-age=300"));
    assert_eq!(set.header("content-type"), "application/json");
    let key = &set.body["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig"))
    );
    assert_eq!(key.as_object().unwrap().len(), 6, "and no private part");
    assert_eq!(part(&login.access, 0)["kid"], key["kid"]);

    let keys = desk.app().parts().accounts.keys();
    keys.rotate(Rotation::Overlap, Who::Operator("test".to_owned())).await.unwrap();
    desk.clock.advance(9 * MINUTE);
    assert_eq!(desk.me(&login.access).await, 200);
    desk.clock.advance(MINUTE);
    let next = Login::of(&desk.refresh(&login.refresh).await);
    assert_ne!(part(&next.access, 0)["kid"], key["kid"]);
    assert_eq!(desk.me(&next.access).await, 200);
    keys.rotate(Rotation::AtOnce, Who::Operator("test".to_owned())).await.unwrap();
    assert_eq!(desk.me(&next.access).await, 401, "what a stolen key signed is good no more");
    let last = Login::of(&desk.refresh(&next.refresh).await);
    assert_eq!(desk.me(&last.access).await, 200, "the user notices nothing");
    let noted = desk.noted_of(What::KeysRotated, 3).await;
    assert_eq!(noted.iter().filter(|line| line.who == Who::Operator("test".to_owned())).count(), 2);
    desk.stop().await;
}

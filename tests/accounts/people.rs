//! Operators and users: who is shut out is out at once, what is exported is everything but secrets, who is deleted is gone, and every
//! deed is in the audit log.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use nightporter::accounts::audit::{What, Who};
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::desk::{Desk, MINUTE, PASSWORD, UNLIMITED, code, other};
use crate::told::Told;
use crate::visitor::Login;

const EMAIL: &str = "minseo@example.com";

impl Desk {
    /// A token for all of `scopes`.
    async fn token(&self, name: &str, scopes: &[Scope]) -> String {
        let scopes = scopes.iter().copied().collect::<BTreeSet<_>>();
        let added = self.app().parts().operators.add(name, scopes, None).await.unwrap();
        format!("Bearer {}", added.text.expose())
    }

    /// A request of the operator with that token.
    async fn operate(&self, token: &str, method: Method, path: &str, body: &str) -> Told {
        let headers = [("authorization", token), ("x-forwarded-for", "198.51.100.9")];
        let told = self.ask(method, &format!("/api/users{path}"), &headers, body).await;
        assert_eq!(told.header("cache-control"), "no-store", "{path} {}", told.text);
        told
    }

    async fn found(&self, token: &str, email: &str) -> Told {
        self.operate(token, Method::POST, "/find", &json!({ "email": email }).to_string()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_page_by_page_and_found_by_address_with_the_scope_admin_alone() {
    let desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(desk.user(&format!("{name}@b.example"), PASSWORD).await.id().to_owned());
        desk.clock.advance(MINUTE);
    }
    // An address that was only asked about is no user.
    desk.login("d@b.example", PASSWORD).await;
    let first = desk.operate(&admin, Method::GET, "?limit=2", "").await;
    let emails = |told: &Told| -> Vec<String> {
        let users = told.body["users"].as_array().unwrap_or_else(|| panic!("{}", told.text));
        users.iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (emails(&first), &first.body["next"]),
        (vec!["a@b.example".into(), "b@b.example".into()], &json!(ids[1]))
    );
    let rest = desk.operate(&admin, Method::GET, &format!("?limit=2&cursor={}", ids[1]), "").await;
    assert_eq!((emails(&rest), &rest.body["next"]), (vec!["c@b.example".into()], &Value::Null));
    let found = desk.found(&admin, "A@B.Example").await;
    assert_eq!((found.status, found.id()), (200, ids[0].as_str()), "{}", found.text);
    assert_eq!((&found.body["state"], &found.body["has_password"]), (&json!("active"), &json!(true)));
    assert_eq!(found.body.as_object().unwrap().len(), 7, "{}", found.text);
    assert_eq!(desk.found(&admin, "d@b.example").await.problem(), (404, "unknown_user", ""));
    assert_eq!(desk.found(&admin, "a b@b.example").await.problem(), (422, "invalid_field", "email"));
    for (query, field) in [("?limit=0", "limit"), ("?limit=501", "limit"), ("?cursor=x", "cursor")] {
        assert_eq!(desk.operate(&admin, Method::GET, query, "").await.problem(), (400, "invalid_query", field));
    }
    for bad in ["x", "00000000-0000-0000-0000-000000000000", &ids[0].to_uppercase()] {
        assert_eq!(
            desk.operate(&admin, Method::GET, &format!("/{bad}"), "").await.problem().1,
            "unknown_user",
            "{bad}"
        );
    }
    let user = Login::of(&desk.login("a@b.example", PASSWORD).await);
    let all_others: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect();
    let other = desk.token("other", &all_others).await;
    for (method, path) in [
        (Method::GET, String::new()),
        (Method::GET, format!("/{}", ids[0])),
        (Method::GET, format!("/{}/export", ids[0])),
        (Method::POST, format!("/{}/disable", ids[0])),
        (Method::DELETE, format!("/{}", ids[0])),
    ] {
        assert_eq!(desk.operate(&other, method.clone(), &path, "").await.problem().1, "insufficient_scope", "{path}");
        let user = format!("Bearer {}", user.access);
        assert_eq!(desk.ask(method, &format!("/api/users{path}"), &[("authorization", &user)], "").await.status, 401);
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_is_out_at_once_and_only_the_owner_is_told_why() {
    let mut desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    let login = desk.visitor(EMAIL).await;
    let id = desk.found(&admin, EMAIL).await.id().to_owned();
    desk.clock.advance(MINUTE);
    let earlier = desk.code_from("login", &json!({ "email": EMAIL })).await;
    let mails = desk.mailbox.count();
    let disabled = desk.operate(&admin, Method::POST, &format!("/{id}/disable"), "").await;
    assert_eq!((disabled.status, &disabled.body["state"]), (200, &json!("disabled")), "{}", disabled.text);
    assert_eq!(desk.me(&login.access).await, 401, "at once, though the token has minutes left");
    assert_eq!(desk.refresh(&login.refresh).await.problem(), (401, "invalid_token", ""));
    assert_eq!(desk.login(EMAIL, PASSWORD).await.problem(), (403, "account_disabled", ""), "who knows the password");
    let stranger = desk.login(EMAIL, "wrong wrong wrong").await;
    let nobody = desk.login("nobody@b.example", "wrong wrong wrong").await;
    assert_eq!((stranger.problem(), &stranger.body["detail"]), (nobody.problem(), &nobody.body["detail"]));
    let guess = json!({"email": EMAIL, "code": earlier});
    assert_eq!(
        desk.post("login/verify", &guess).await.problem(),
        (422, "invalid_code", ""),
        "a code of before is void"
    );
    desk.clock.advance(MINUTE);
    for path in ["login", "password/forgot"] {
        let sent = desk.post(path, &json!({ "email": EMAIL })).await;
        let unknown = desk.post(path, &json!({"email": format!("{}@b.example", path.len())})).await;
        assert_eq!((sent.status, &sent.body), (202, &unknown.body), "{path}");
        desk.clock.advance(MINUTE);
    }
    desk.mail(mails + 2).await;
    let sight = desk.operate(&admin, Method::GET, &format!("/{id}"), "").await;
    assert_eq!(sight.body["mails"].as_array().unwrap().len(), 2, "a code would let nobody in: {}", sight.text);
    desk.restart().await;
    assert_eq!(desk.login(EMAIL, PASSWORD).await.problem().1, "account_disabled", "after a restart");
    let twice = desk.operate(&admin, Method::POST, &format!("/{id}/disable"), "").await;
    assert_eq!(twice.status, 200, "it is so already");
    assert_eq!(
        desk.operate(&admin, Method::POST, &format!("/{id}/reset"), "").await.problem(),
        (409, "account_disabled", "")
    );

    let enabled = desk.operate(&admin, Method::POST, &format!("/{id}/enable"), "").await;
    assert_eq!(enabled.body["state"], "active");
    assert_eq!(desk.me(&login.access).await, 401, "what has ended stays ended");
    assert_eq!(desk.login(EMAIL, PASSWORD).await.status, 200);
    let noted = desk.noted_of(What::UserDisabled, 1).await;
    assert_eq!(noted.len(), 1, "what changed nothing is no deed");
    let Who::Operator(name) = &noted[0].who else { panic!("{noted:?}") };
    assert!(name.starts_with("token admin ("), "{name}");
    assert_eq!(
        (noted[0].user.unwrap().to_string(), noted[0].from.unwrap().to_string()),
        (id, "198.51.100.9".to_owned())
    );
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_takes_the_password_away_and_only_the_owner_sets_another() {
    let mut desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    let login = desk.visitor(EMAIL).await;
    let id = desk.found(&admin, EMAIL).await.id().to_owned();
    let mails = desk.mailbox.count();
    let reset = desk.operate(&admin, Method::POST, &format!("/{id}/reset"), "").await;
    assert_eq!((reset.status, &reset.body["has_password"]), (200, &json!(false)), "{}", reset.text);
    assert_eq!((desk.me(&login.access).await, desk.refresh(&login.refresh).await.status), (401, 401));
    assert_eq!(desk.login(EMAIL, PASSWORD).await.problem(), (401, "invalid_credentials", ""));
    let mail = desk.mail(mails + 1).await;
    let right = code(&mail);
    assert_eq!((mail.to.clone(), mail.subject().contains("set a new password")), (vec![EMAIL.to_owned()], true));
    assert!(!reset.text.contains(&right), "nobody but the owner gets to know it");
    let set = |code: &str| json!({"email": EMAIL, "code": code, "new_password": "둘째 비밀번호"});
    assert_eq!(desk.post("password/reset", &set(&other(&right))).await.problem().1, "invalid_code");
    assert_eq!(desk.post("password/reset", &set(&right)).await.status, 204);
    assert_eq!(desk.login(EMAIL, "둘째 비밀번호").await.status, 200);
    let unknown = "/0190a0a0-0000-7000-8000-000000000000/reset";
    assert_eq!(desk.operate(&admin, Method::POST, unknown, "").await.problem(), (404, "unknown_user", ""));
    assert_eq!(desk.noted_of(What::UserReset, 1).await.len(), 1);
    desk.without_mail().await;
    let refused = desk.operate(&admin, Method::POST, &format!("/{id}/reset"), "").await;
    assert_eq!(refused.problem(), (503, "mail_not_configured", ""));
    assert_eq!(desk.login(EMAIL, "둘째 비밀번호").await.status, 200, "nothing was taken away");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_did_not_come_is_seen_with_its_reason() {
    let desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    let id = desk.user(EMAIL, PASSWORD).await.id().to_owned();
    desk.clock.advance(MINUTE);
    desk.mailbox.faults(|faults| faults.refuse = Some(451));
    assert_eq!(desk.post("login", &json!({ "email": EMAIL })).await.status, 202);
    let path = format!("/{id}");
    let newest = async || desk.operate(&admin, Method::GET, &path, "").await.body["mails"][0].clone();
    desk.until(async || newest().await["attempts"] == 1 && newest().await["state"] == "queued").await;
    let waiting = newest().await;
    assert!(
        waiting["subject"].as_str().unwrap().ends_with("Your login code") && !waiting["next_at"].is_null(),
        "{waiting}"
    );
    assert!(waiting["last_error"].as_str().unwrap().contains("451"), "{waiting}");
    desk.clock.advance(10 * MINUTE);
    desk.until(async || newest().await["state"] == "failed").await;
    let sight = desk.operate(&admin, Method::GET, &path, "").await;
    let mails = sight.body["mails"].as_array().unwrap();
    assert_eq!(
        (mails.len(), &mails[1]["state"], &mails[1]["attempts"]),
        (2, &json!("sent"), &json!(1)),
        "{}",
        sight.text
    );
    assert!(
        !mails[1]["sent_at"].is_null() && mails[0]["last_error"].as_str().unwrap().contains("451"),
        "{}",
        sight.text
    );
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_everything_about_one_user_and_no_secret() {
    let desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    let login = desk.visitor(EMAIL).await;
    let other = desk.visitor("jiho@example.com").await;
    let id = desk.found(&admin, EMAIL).await.id().to_owned();
    let export = desk.operate(&admin, Method::GET, &format!("/{id}/export"), "").await;
    assert_eq!(export.status, 200, "{}", export.text);
    assert_eq!((&export.body["email"], &export.body["full_name"]), (&json!(EMAIL), &json!("김민서")));
    assert_eq!((&export.body["sessions"][0]["id"], &export.body["sessions"][1]), (&json!(login.session), &Value::Null));
    assert_eq!(export.body["mails"].as_array().unwrap().len(), 1);
    let whats: Vec<&str> =
        export.body["audit"].as_array().unwrap().iter().map(|line| line["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["user_exported", "logged_in", "verified"]);
    assert_eq!(export.body["audit_complete"], true);
    for secret in ["argon2", "print", "epoch", &login.refresh, &login.access, &other.session, "jiho"] {
        assert!(!export.text.contains(secret), "{secret}: {}", export.text);
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_deleted_is_gone_and_who_comes_anew_is_somebody_else() {
    let mut desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    let login = desk.visitor(EMAIL).await;
    let id = desk.found(&admin, EMAIL).await.id().to_owned();
    desk.clock.advance(MINUTE);
    desk.mailbox.faults(|faults| faults.refuse = Some(451));
    assert_eq!(desk.post("login", &json!({ "email": EMAIL })).await.status, 202);
    let mails = desk.mailbox.count();
    let deleted = desk.operate(&admin, Method::DELETE, &format!("/{id}"), "").await;
    assert_eq!((deleted.status, deleted.id()), (200, id.as_str()), "{}", deleted.text);
    assert_eq!((desk.me(&login.access).await, desk.refresh(&login.refresh).await.status), (401, 401));
    assert_eq!(desk.login(EMAIL, PASSWORD).await.problem(), (401, "invalid_credentials", ""));
    for (method, path) in [(Method::GET, format!("/{id}")), (Method::DELETE, format!("/{id}"))] {
        assert_eq!(desk.operate(&admin, method, &path, "").await.problem(), (404, "unknown_user", ""));
    }
    assert_eq!(desk.found(&admin, EMAIL).await.problem().1, "unknown_user");
    assert_eq!(desk.operate(&admin, Method::GET, "", "").await.body["users"], json!([]));
    let left = desk.app().parts().outbox.list().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    desk.mailbox.faults(|faults| faults.refuse = None);
    desk.clock.advance(MINUTE);
    desk.restart().await;

    desk.clock.advance(MINUTE);
    let anew = desk.user(EMAIL, "둘째 비밀번호").await;
    assert_ne!(anew.id(), id);
    assert_eq!(desk.mailbox.count(), mails + 1, "the code of before was never sent");
    assert_eq!(desk.login(EMAIL, PASSWORD).await.status, 401);
    assert_eq!((desk.me(&login.access).await, desk.refresh(&login.refresh).await.status), (401, 401));
    let lines = desk.noted(6).await;
    let theirs = lines.iter().filter(|line| line.user.is_some_and(|user| user.to_string() == id));
    let whats: Vec<What> = theirs.map(|line| line.what).collect();
    assert_eq!(whats, [What::Verified, What::LoggedIn, What::LoginCodeAsked, What::UserDeleted], "the log stays");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_unbanned_with_and_without_a_user() {
    let desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    let id = desk.user(EMAIL, PASSWORD).await.id().to_owned();
    for (email, user) in [(EMAIL, json!(id)), ("nobody@b.example", Value::Null)] {
        for _ in 0..10 {
            assert_eq!(desk.login(email, "wrong wrong wrong").await.status, 401);
        }
        assert_eq!(desk.login(email, PASSWORD).await.problem().1, "too_many_guesses", "right or not");
        if email == EMAIL {
            let sight = desk.operate(&admin, Method::GET, &format!("/{id}"), "").await;
            assert!(!sight.body["next_guess_at"].is_null(), "{}", sight.text);
        }
        let body = json!({"email": email.to_uppercase()}).to_string();
        let unbanned = desk.operate(&admin, Method::POST, "/unban", &body).await;
        assert_eq!((unbanned.status, &unbanned.body["id"]), (200, &user), "{}", unbanned.text);
        assert_eq!(desk.login(email, PASSWORD).await.status, if email == EMAIL { 200 } else { 401 });
    }
    let fresh = desk.operate(&admin, Method::POST, "/unban", r#"{"email": "never@b.example"}"#).await;
    assert_eq!((fresh.status, &fresh.body["id"]), (200, &Value::Null), "nothing was held against it");
    let refused = desk.operate(&admin, Method::POST, "/unban", r#"{"email": "a\r\nb@c.example"}"#).await;
    assert_eq!(refused.problem(), (422, "invalid_field", "email"));
    assert_eq!(desk.noted_of(What::UserUnbanned, 2).await.len(), 2);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_in_the_moment_of_a_disabling_leave_nobody_in() {
    let desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    desk.user(EMAIL, PASSWORD).await;
    let id = desk.found(&admin, EMAIL).await.id().to_owned();
    for _ in 0..5 {
        let login = Login::of(&desk.login(EMAIL, PASSWORD).await);
        let refreshes = join_all((0..10).map(|_| desk.refresh(&login.refresh)));
        let path = format!("/{id}/disable");
        let (refreshed, disabled) = tokio::join!(refreshes, desk.operate(&admin, Method::POST, &path, ""));
        assert_eq!(disabled.status, 200);
        for told in refreshed {
            if told.status == 200 {
                let next = Login::of(&told);
                assert_eq!((desk.me(&next.access).await, desk.refresh(&next.refresh).await.status), (401, 401));
            } else {
                assert_eq!(told.problem(), (401, "invalid_token", ""));
            }
        }
        assert_eq!(desk.operate(&admin, Method::POST, &format!("/{id}/enable"), "").await.status, 200);
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_in_the_moment_of_a_deletion_leave_nothing_behind() {
    let desk = Desk::new(UNLIMITED).await;
    let admin = desk.token("admin", &[Scope::Admin]).await;
    for round in 0..4 {
        let email = format!("u{round}@b.example");
        let id = desk.user(&email, PASSWORD).await.id().to_owned();
        let logins = join_all((0..6).map(|_| desk.login(&email, PASSWORD)));
        let path = format!("/{id}");
        let deletions = join_all((0..3).map(|_| desk.operate(&admin, Method::DELETE, &path, "")));
        let (logins, deletions) = tokio::join!(logins, deletions);
        let deleted = deletions.iter().filter(|told| told.status == 200).count();
        assert!(deleted == 1 && deletions.iter().all(|told| [200, 404].contains(&told.status)), "once");
        for told in logins {
            match told.status {
                200 => assert_eq!(desk.me(&Login::of(&told).access).await, 401),
                _ => assert_eq!(told.problem(), (401, "invalid_credentials", "")),
            }
        }
        assert_eq!(desk.operate(&admin, Method::GET, "", "").await.body["users"], json!([]));
        assert_eq!(desk.login(&email, PASSWORD).await.status, 401);
    }
    assert_eq!(desk.noted_of(What::UserDeleted, 4).await.len(), 4);
    desk.stop().await;
}

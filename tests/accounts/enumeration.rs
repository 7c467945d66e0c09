//! Nobody learns from an answer whether an address has an account: status, headers and body are of one form for addresses that
//! are known, that wait for their code, and that nobody has asked about.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::desk::{Desk, MINUTE, PASSWORD, UNLIMITED};
use crate::told::Told;

const KNOWN: &str = "known@b.example";
const WAITING: &str = "waiting@b.example";
const UNKNOWN: &str = "unknown@b.example";

/// An answer without what is drawn anew each time.
fn form(told: &Told) -> (u16, BTreeSet<String>, String) {
    let headers = told.headers.keys().map(ToString::to_string).collect();
    let mut body = told.body.clone();
    for (member, value) in body.as_object_mut().into_iter().flatten() {
        if matches!(member.as_str(), "request_id" | "registration_id") {
            *value = Value::from(value.as_str().map_or(0, str::len));
        }
    }
    (told.status, headers, body.to_string())
}

/// Asks the same about the three, and sees no difference.
async fn alike(desk: &Desk, path: &str, rest: &Value) -> Told {
    let mut answers = Vec::new();
    for email in [KNOWN, WAITING, UNKNOWN] {
        let mut body = rest.clone();
        body["email"] = email.into();
        answers.push(desk.post(path, &body).await);
    }
    let [known, waiting, unknown] = [form(&answers[0]), form(&answers[1]), form(&answers[2])];
    assert_eq!(known, unknown, "{path}");
    assert_eq!(waiting, unknown, "{path}");
    answers.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn known_waiting_and_unknown_addresses_are_answered_alike() {
    let desk = Desk::new(UNLIMITED).await;
    desk.user(KNOWN, PASSWORD).await;
    assert_eq!(desk.register(WAITING, PASSWORD).await.status, 202);
    desk.mail(2).await;
    desk.clock.advance(MINUTE);

    let wrong = json!({"verification_code": "000000"});
    assert_eq!(alike(&desk, "verify-registration", &wrong).await.status, 422);
    assert_eq!(alike(&desk, "login", &json!({"password": "wrong wrong wrong"})).await.status, 401);
    assert_eq!(alike(&desk, "login/verify", &json!({"code": "000000"})).await.status, 422);
    let reset = json!({"code": "000000", "new_password": "또 다른 비밀번호"});
    assert_eq!(alike(&desk, "password/reset", &reset).await.status, 422);
    for (number, (path, body)) in [
        ("resend", json!({})),
        ("login", json!({})),
        ("password/forgot", json!({})),
        ("register", json!({"password": PASSWORD, "full_name": "민서"})),
    ]
    .into_iter()
    .enumerate()
    {
        // The waiting one has had a mail more: they are alike again in the next hour.
        if number == 3 {
            desk.clock.advance(MINUTE * 60);
        }
        assert_eq!(alike(&desk, path, &body).await.status, 202, "{path}");
        assert_eq!(alike(&desk, path, &body).await.problem().1, "too_many_codes", "{path}");
        desk.clock.advance(MINUTE);
    }
    for _ in 0..10 {
        alike(&desk, "login", &json!({"password": "wrong wrong wrong"})).await;
    }
    assert_eq!(alike(&desk, "login", &json!({"password": PASSWORD})).await.problem().1, "too_many_guesses");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ticket_of_a_known_address_is_like_any_other_and_opens_nothing() {
    let desk = Desk::new(UNLIMITED).await;
    desk.user(KNOWN, PASSWORD).await;
    let known = desk.register(KNOWN, "the attacker's own").await;
    // Before there is another one: of two that wait at the same moment either may leave first.
    let letter = desk.mail(2).await;
    let unknown = desk.register(UNKNOWN, "the attacker's own").await;
    assert_eq!(form(&known), form(&unknown));
    assert_eq!(
        (letter.to.as_slice(), letter.subject().as_str()),
        ([KNOWN.to_owned()].as_slice(), "[porter.example.com] You already have an account")
    );
    for guess in 0..6 {
        let mut forms = Vec::new();
        for (email, registered) in [(KNOWN, &known), (UNKNOWN, &unknown)] {
            // A code that is not the unknown one's.
            let ticket = registered.body["registration_id"].as_str();
            forms.push(form(&desk.verify(email, "000000", ticket).await));
        }
        assert_eq!(forms[0], forms[1], "guess {guess}");
    }
    assert_eq!(desk.login(KNOWN, PASSWORD).await.status, 200, "and nothing was changed");
    desk.stop().await;
}

//! What hostile clients send in place of addresses, names and bodies.

use serde_json::{Value, json};

use crate::desk::{Desk, PASSWORD, UNLIMITED};

#[tokio::test(flavor = "multi_thread")]
async fn look_alike_addresses_reach_no_other_account() {
    let desk = Desk::new(UNLIMITED).await;
    desk.user("kim@skype.example", PASSWORD).await;
    // Dotless, dotted capital, Kelvin's sign, Cyrillic, full width, a mark after a letter, nothing to see.
    for typed in [
        "kım@skype.example",
        "KİM@skype.example",
        "\u{212a}im@skype.example",
        "кim@skype.example",
        "ｋim@skype.example",
        "kim\u{301}@skype.example",
        "k\u{200b}im@skype.example",
    ] {
        for (path, body) in [
            ("login", json!({"email": typed, "password": PASSWORD})),
            ("password/forgot", json!({"email": typed})),
            ("register", json!({"email": typed, "password": PASSWORD, "full_name": "김"})),
        ] {
            assert_eq!(desk.post(path, &body).await.problem(), (422, "invalid_field", "email"), "{path} {typed}");
        }
    }
    // A host of other letters is another host; one of the same letters, however written, is the same.
    assert_eq!(desk.login("kim@sкype.example", PASSWORD).await.status, 401);
    for same in ["KIM@SKYPE.example", "kim@ｓｋｙｐｅ.example", "kim@s\u{212a}ype.example"] {
        assert_eq!(desk.login(same, PASSWORD).await.status, 200, "{same}");
    }
    desk.post("password/forgot", &json!({"email": "kim@ｓｋｙｐｅ.example"})).await;
    assert_eq!(
        desk.mail(2).await.to,
        ["kim@skype.example"],
        "mails go to the canonical address, not to what was typed"
    );
    desk.user("minseo@한국.kr", PASSWORD).await;
    assert_eq!(desk.login("minseo@xn--3e0b707e.kr", PASSWORD).await.status, 200);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn line_breaks_and_null_bytes_reach_no_header_and_no_record() {
    let desk = Desk::new(UNLIMITED).await;
    let long = format!("{}@b.example", "a".repeat(250));
    for email in [
        "a@b.example\r\nBcc: all@b.example",
        "a@b.example\n",
        "a\0@b.example",
        "a@b.exa\0mple",
        "a b@b.example",
        "a@b.example\u{2028}",
        "\"a\"@b.example",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "",
        "@",
        &long,
    ] {
        for path in
            ["register", "resend", "login", "login/verify", "password/forgot", "password/reset", "verify-registration"]
        {
            let mut body = json!({"email": email});
            for (of, member, value) in [
                ("register", "full_name", "김"),
                ("login/verify", "code", "000000"),
                ("password/reset", "code", "000000"),
                ("password/reset", "new_password", PASSWORD),
                ("verify-registration", "verification_code", "000000"),
            ] {
                if of == path {
                    body[member] = value.into();
                }
            }
            assert_eq!(desk.post(path, &body).await.problem(), (422, "invalid_field", "email"), "{path} {email:?}");
        }
    }
    for name in
        ["김\r\nBcc: all@b.example", "김\0", "", "   ", "김\u{85}", "김\u{202e}nimda", "김\u{2028}", &"김".repeat(201)]
    {
        let body = json!({"email": "a@b.example", "password": PASSWORD, "full_name": name});
        assert_eq!(desk.post("register", &body).await.problem(), (422, "invalid_field", "full_name"), "{name:?}");
    }
    for name in ["김민서", "O'Neil-Łukasz 3세", &"김".repeat(200)] {
        let body = json!({"email": format!("u{}@b.example", name.len()), "password": PASSWORD, "full_name": name});
        assert_eq!(desk.post("register", &body).await.status, 202, "{name}");
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_name_and_costs_no_guess() {
    let desk = Desk::new(UNLIMITED).await;
    let cases: [(&str, Value, (u16, &str, &str)); 12] = [
        (
            "register",
            json!({"email": "a@b.example", "full_name": "김", "admin": true}),
            (422, "unknown_field", "admin"),
        ),
        ("register", json!({"email": "a@b.example"}), (422, "missing_field", "full_name")),
        (
            "register",
            json!({"email": "a@b.example", "full_name": "김", "password": null}),
            (422, "invalid_field", "password"),
        ),
        ("register", json!({"email": ["a@b.example"], "full_name": "김"}), (422, "invalid_field", "email")),
        ("login", json!({"email": "a@b.example", "password": null}), (422, "invalid_field", "password")),
        ("login", json!({"email": "a@b.example", "user_id": 1}), (422, "unknown_field", "user_id")),
        ("login/verify", json!({"email": "a@b.example", "code": 123_456}), (422, "invalid_field", "code")),
        ("login/verify", json!({"email": "a@b.example", "code": "１２３４５６"}), (422, "invalid_field", "code")),
        ("login/verify", json!({"email": "a@b.example", "code": "12345"}), (422, "invalid_field", "code")),
        (
            "verify-registration",
            json!({"email": "a@b.example", "verification_code": "12345x"}),
            (422, "invalid_field", "verification_code"),
        ),
        (
            "verify-registration",
            json!({"email": "a@b.example", "verification_code": "123456", "registration_id": null}),
            (422, "invalid_field", "registration_id"),
        ),
        ("password/reset", json!({"email": "a@b.example", "code": "123456"}), (422, "missing_field", "new_password")),
    ];
    for _ in 0..3 {
        for (path, body, problem) in &cases {
            assert_eq!(desk.post(path, body).await.problem(), *problem, "{path} {body}");
        }
    }
    let twice = r#"{"email":"a@b.example","email":"c@b.example"}"#;
    assert_eq!(desk.post_from("203.0.113.7", "login", twice, &[]).await.problem(), (400, "duplicate_field", "email"));
    let secret = r#"{"email":"a@b.example","password":"#;
    assert_eq!(desk.post_from("203.0.113.7", "login", secret, &[]).await.problem().1, "invalid_json");
    assert_eq!(desk.post_from("203.0.113.7", "login", "", &[]).await.problem().0, 415);
    let wrong = json!({"email": "a@b.example", "password": "wrong wrong wrong"});
    assert_eq!(desk.post("login", &wrong).await.status, 401, "the address has all its guesses");
    desk.stop().await;
}

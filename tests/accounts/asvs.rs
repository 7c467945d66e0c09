//! The table of the ASVS (`asvs.md`) kept true, and what of it nothing else shows.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nightporter::accounts::audit::{What, Who};
use nightporter::clock;
use nightporter::lifecycle::Lifecycle;
use reqwest::Method;
use serde_json::json;

use crate::crash::Appliance;
use crate::desk::{Desk, PASSWORD, PATIENCE, code, other};
use crate::visitor::Login;

/// Of these chapters every requirement of level 1 and 2: how many each of their sections begins with.
const WHOLE: &[(&str, u32)] = &[
    ("6.1", 3),
    ("6.2", 12),
    ("6.3", 4),
    ("6.4", 4),
    ("6.5", 5),
    ("6.6", 3),
    ("6.8", 4),
    ("7.1", 3),
    ("7.2", 4),
    ("7.3", 2),
    ("7.4", 5),
    ("7.5", 2),
    ("7.6", 2),
    ("9.1", 3),
    ("9.2", 4),
];
/// What a row says that names no test.
const REASONS: &[&str] = &["does not apply", "not met", "documentation", "construction"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether `path::function` is a function that is run as a test.
fn is_test(named: &str) -> bool {
    let (file, function) = named.split_once("::").unwrap_or_default();
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
    let Some((before, _)) = text.split_once(&format!("fn {function}(")) else { return false };
    let above = before.trim_end().trim_end_matches("async").trim_end().lines().next_back();
    above.is_some_and(|line| line.trim_start().starts_with("#[test]") || line.contains("#[tokio::test"))
}

/// What is wrong with a table: its rows, and whether the tests that it names are there.
fn wrong(table: &str) -> Vec<String> {
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in
        table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Id") && !line.starts_with("| ---"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, level, asked, how, tests] = cells[..] else {
            wrong.push(format!("not five cells: {row}"));
            continue;
        };
        if !seen.insert(id.to_owned()) || !["1", "2"].contains(&level) || asked.is_empty() || how.is_empty() {
            wrong.push(format!("{id}: twice, of no level, or empty"));
        }
        if tests.is_empty() && !REASONS.iter().any(|reason| how.starts_with(reason)) {
            wrong.push(format!("{id}: neither a test nor a reason"));
        }
        for test in tests.split_whitespace() {
            if !is_test(test.trim_matches('`')) {
                wrong.push(format!("{id}: there is no test {test}"));
            }
        }
    }
    for (section, count) in WHOLE {
        let missing = (1..=*count).map(|number| format!("{section}.{number}"));
        wrong.extend(missing.filter(|id| !seen.contains(id)).map(|id| format!("{id}: missing")));
    }
    wrong
}

#[test]
fn every_test_that_the_table_names_exists_and_no_requirement_is_left_out() {
    let table = std::fs::read_to_string(root().join("tests/accounts/asvs.md")).unwrap();
    let wrong = wrong(&table);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.lines().filter(|line| line.starts_with("| ")).count() > 100);
}

#[test]
fn a_table_that_rots_is_noticed() {
    let row = |rest: &str| wrong(&format!("| 6.1.1 | 1 | asked | {rest} |")).first().cloned().unwrap_or_default();
    let here = "`tests/accounts/asvs.rs::a_table_that_rots_is_noticed`";
    assert_eq!(row(&format!("so | {here}")), "6.1.2: missing");
    assert_eq!(row("not met: so | "), "6.1.2: missing");
    assert_eq!(row("so | "), "6.1.1: neither a test nor a reason");
    let gone = "`tests/accounts/asvs.rs::gone`";
    assert_eq!(row(&format!("so | {gone}")), format!("6.1.1: there is no test {gone}"));
    let plain = "`tests/accounts/asvs.rs::root`";
    assert_eq!(row(&format!("so | {plain}")), format!("6.1.1: there is no test {plain}"));
    assert!(row("so").starts_with("not five cells"));
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_keep_frame_and_guess_nothing_of_an_answer() {
    let desk = Desk::new("").await;
    let login = desk.visitor("a@b.example").await;
    let good = desk.with(&login.access, Method::GET, "me").await;
    let origin = [("origin", "https://evil.example")];
    let refused = desk.ask(Method::GET, "/api/auth/me", &origin, "").await;
    let operators = desk.ask(Method::GET, "/api/users", &origin, "").await;
    assert_eq!((good.status, refused.status, operators.status), (200, 401, 401));
    for told in [&good, &refused, &operators] {
        assert_eq!(told.header("cache-control"), "no-store");
        assert_eq!(told.header("x-content-type-options"), "nosniff");
        assert_eq!(told.header("referrer-policy"), "no-referrer");
        assert_eq!(told.header("strict-transport-security"), "max-age=31536000; includeSubDomains");
        let policy = told.header("content-security-policy");
        for rule in ["default-src 'none'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(told.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{:?}", told.headers);
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_appliance_knows_nobody() {
    let desk = Desk::new("").await;
    let parts = desk.app().parts();
    assert!(parts.operators.list().await.unwrap().is_empty());
    assert!(parts.accounts.people().list(None, 10).await.unwrap().0.is_empty());
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn good_and_bad_logins_are_noted_with_where_they_came_from() {
    let desk = Desk::new("").await;
    let id = desk.user("a@b.example", PASSWORD).await.id().to_owned();
    // What is tried about an address that nobody has would fill the log without end.
    desk.login("nobody@b.example", "wrong wrong wrong").await;
    desk.login("a@b.example", "wrong wrong wrong").await;
    Login::of(&desk.login("a@b.example", PASSWORD).await);
    for (what, who) in [(What::Failed, Who::Nobody), (What::LoggedIn, Who::User(id.parse().unwrap()))] {
        let noted = desk.noted_of(what, 1).await;
        assert_eq!((noted.len(), &noted[0].who, noted[0].user), (1, &who, Some(id.parse().unwrap())));
        assert_eq!((noted[0].from, noted[0].at), ("203.0.113.7".parse().ok(), desk.clock.now()));
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_has_an_address_a_code_or_a_token() {
    let life = Lifecycle::new();
    let mut appliance = Appliance::start(&life).await;
    let email = "very.private@b.example";
    let register = json!({"email": email, "full_name": "김비밀", "password": PASSWORD});
    let ticket = appliance.post("register", &register).await.body["registration_id"].clone();
    let right = code(&appliance.next_mail().await);
    for code in [other(&right), right.clone()] {
        let verify = json!({"email": email, "verification_code": code, "registration_id": ticket});
        appliance.post("verify-registration", &verify).await;
    }
    appliance.post("login", &json!({"email": email, "password": "wrong wrong wrong"})).await;
    let login = appliance.post("login", &json!({"email": email, "password": PASSWORD})).await;
    let refreshed = appliance.post("refresh", &json!({"refresh_token": login.body["refresh_token"]})).await;
    for words in [&["user", "show", email][..], &["user", "disable", email], &["user", "unban", email]] {
        assert!(appliance.output(words).status.success());
    }
    assert!(appliance.output(&["user", "delete", email, "--yes"]).status.success());
    let ready = async || appliance.log().contains("was deleted by uid");
    let waiting = async {
        while !ready().await {
            clock::pause(Duration::from_millis(10)).await;
        }
    };
    clock::within(PATIENCE, waiting).await.expect("the deed is in the log");
    appliance.kill();
    let log = appliance.log();
    let token = |told: &crate::told::Told, member: &str| told.body[member].as_str().unwrap().to_owned();
    let tokens = [&login, &refreshed].map(|told| [token(told, "access_token"), token(told, "refresh_token")]).concat();
    for secret in tokens.iter().map(String::as_str).chain([email, "very.private", &right, PASSWORD, "김비밀"]) {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
    assert!(log.contains("/api/auth/login answered 401"), "who was refused is in it: {log}");
    assert!(life.shutdown(PATIENCE).await);
}

//! What is saved and followed of a session, on a held clock.

use std::path::Path;

use url::Url;

use super::sealed::{PAGE, SavedSession};
use super::*;
use crate::browsers::{Cookie, KeptTab};
use crate::lifecycle::Lifecycle;
use crate::secret::Vault;
use crate::store::{Durability, Store};

/// A session whose cookie and saved value are `secret`.
fn session(secret: &str) -> Session {
    let cookie = Cookie {
        name: "SID".to_owned(),
        value: secret.to_owned(),
        domain: "acme.example".to_owned(),
        path: "/".to_owned(),
        expires: None,
        secure: true,
        http_only: true,
        same_site: None,
        partition: None,
    };
    let state = SavedState { cookies: vec![cookie], ..SavedState::default() };
    let values = BTreeMap::from([("csrf".to_owned(), secret.to_owned())]);
    let identity = Identity {
        user_agent: String::new(),
        accept_language: String::new(),
        client_hints: Vec::new(),
        document: Vec::new(),
        fetch: Vec::new(),
    };
    Session::new("0123456789abcdef".to_owned(), state, values, identity)
}

#[tokio::test]
async fn what_could_not_be_saved_is_still_to_be_saved() {
    let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(Time::from_millis(1)));
    let store = Store::open(dir.path(), Durability::Interval, clock, &life).unwrap();
    let vault = Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap();
    let large = session(&"x".repeat(crate::store::MAX_PAYLOAD));
    large.merged(Merge::Changed);
    assert!(large.save("acme", &store, &vault).await.is_err());
    assert_eq!(large.unsaved(), Merge::Refreshed);
    let small = session("1");
    small.take_back(&Lent::default(), small.state());
    assert_eq!(small.unsaved(), Merge::Changed, "what a browser did is to be saved");
    small.save("acme", &store, &vault).await.unwrap();
    assert_eq!(small.unsaved(), Merge::Nothing);
    life.shutdown(Duration::from_secs(5)).await;
}

#[test]
fn what_a_tab_did_is_followed_unless_an_answer_was_newer() {
    let session = session("1");
    let mut seen = session.state();
    assert!(session.follow(seen.clone(), session.changes(), true));
    assert_eq!(session.changes(), 1, "nothing has changed");
    seen.kept = Some(KeptTab { url: "https://acme.example/".to_owned(), ..KeptTab::default() });
    let before = session.changes();
    session.merged(Merge::Changed);
    assert!(!session.follow(seen.clone(), before, true), "a cookie came meanwhile and must not be lost");
    assert!(session.follow(seen.clone(), session.changes(), true));
    assert_eq!((session.state().kept, session.changes()), (seen.kept.clone(), 3));
    // The answer has changed the jar, and has not said so yet.
    let url = Url::parse("https://acme.example/").unwrap();
    session.jar().merge(&url, session.jar().ask(), ["SID=2; Path=/; Secure"].into_iter());
    seen.kept = None;
    assert!(session.follow(seen, session.changes(), false));
    assert_eq!(session.state().cookies[0].value, "2");
}

#[tokio::test]
async fn copies_that_nobody_names_are_removed() {
    let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(Time::from_millis(1)));
    let store = Store::open(dir.path(), Durability::Interval, clock, &life).unwrap();
    let vault = Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap();
    let identity = session("").identity().clone();
    for n in 0..2 * PAGE {
        let session = Session::new(format!("{n:02}"), SavedState::default(), BTreeMap::new(), identity.clone());
        session.save("acme", &store, &vault).await.unwrap();
        session.save("acme2", &store, &vault).await.unwrap();
    }
    Session::forget_others("acme", |id| id == "07" || id == "31", &store).await.unwrap();
    let left = store.list::<SavedSession>(None, 100).await.unwrap();
    let left: Vec<_> =
        left.iter().map(|(place, _)| place.as_str()).filter(|place| !place.starts_with("acme2")).collect();
    assert_eq!(left, ["acme/07", "acme/31"]);
    assert_eq!(store.list::<SavedSession>(Some("acme2/"), 100).await.unwrap().len(), 2 * PAGE);
    life.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_session_that_has_ended_does_not_come_back() {
    let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(Time::from_millis(1)));
    let store = Store::open(dir.path(), Durability::Interval, clock, &life).unwrap();
    let vault = Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap();
    let session = session("1");
    session.save("acme", &store, &vault).await.unwrap();
    session.end();
    Session::forget_others("acme", |_| false, &store).await.unwrap();
    // Its last call comes home with a new cookie.
    session.merged(Merge::Changed);
    session.save("acme", &store, &vault).await.unwrap();
    assert_eq!(session.unsaved(), Merge::Nothing, "and nobody tries for ever");
    assert!(Session::load("acme", session.id(), &store, &vault).unwrap().is_none());
    life.shutdown(Duration::from_secs(5)).await;
}

#[test]
fn a_session_prints_neither_cookies_nor_values() {
    let session = session("s3cret");
    let shown = format!("{session:?} {:?}", session.jar());
    assert!(shown.contains("01234567") && !shown.contains("s3cret"), "{shown}");
}

//! Operator tokens, on a real store with the clock held: unique names, scopes, expiry to the millisecond, revocation at
//! once, and nothing in the store that could be used as a token.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

use std::collections::BTreeSet;
use std::time::Duration;

use nightporter::clock::{Clock, Time};
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::operators::{OperatorError, Operators, Scope};
use nightporter::store::{Durability, Store};

struct Desk {
    operators: Operators,
    clock: Clock,
    life: Lifecycle,
    store: Store,
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, life) = (Clock::held(Time::from_millis(1_800_000_000_000)), Lifecycle::new());
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let operators = Operators::new(store.clone(), clock.clone(), Random::seeded(1));
        Self { operators, clock, life, store, dir }
    }

    async fn add(&self, name: &str, scopes: &[Scope], lifetime: Option<Duration>) -> Result<String, OperatorError> {
        let added = self.operators.add(name, scopes.iter().copied().collect(), lifetime).await?;
        Ok(added.text.expose().to_owned())
    }

    fn name_of(&self, token: &str) -> Option<String> {
        self.operators.authenticate(token).unwrap().map(|principal| principal.name)
    }
}

#[tokio::test]
async fn a_token_proves_its_holder_until_it_is_revoked() {
    let desk = Desk::new();
    let token = desk.add("batch", &[Scope::PortalsRead], None).await.unwrap();
    let principal = desk.operators.authenticate(&token).unwrap().unwrap();
    assert_eq!((principal.name.as_str(), token.starts_with("npt_")), ("batch", true));
    assert!(principal.allows(Scope::PortalsRead) && !principal.allows(Scope::PortalsRelay));
    // Any other secret with the same id, and any other id with the same secret.
    let (head, last) = token.split_at(token.len() - 1);
    assert_eq!(desk.name_of(&format!("{head}{}", if last == "a" { "b" } else { "a" })), None);
    let other = desk.add("other", &[Scope::Admin], None).await.unwrap();
    assert_eq!(desk.name_of(&format!("{}{}", &other[..13], &token[13..])), None);
    assert_eq!(desk.operators.revoke("batch").await.unwrap().id, principal.id);
    assert_eq!((desk.name_of(&token), desk.name_of(&other)), (None, Some("other".to_owned())));
    let again = desk.operators.revoke("batch").await;
    assert!(matches!(again, Err(OperatorError::Unknown(name)) if name == "batch"));
}

#[tokio::test]
async fn a_token_ends_at_its_millisecond_and_its_name_is_free_then() {
    let desk = Desk::new();
    let token = desk.add("short", &[Scope::Sms], Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(desk.operators.list().await.unwrap()[0].expires_at, Some(desk.clock.now() + Duration::from_secs(60)));
    desk.clock.advance(Duration::from_millis(59_999));
    assert_eq!(desk.name_of(&token), Some("short".to_owned()));
    desk.clock.advance(Duration::from_millis(1));
    assert_eq!(desk.name_of(&token), None);
    assert!(desk.operators.list().await.unwrap().is_empty());
    desk.add("short", &[Scope::Sms], None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_one_name_one_gets_it() {
    let desk = std::sync::Arc::new(Desk::new());
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let desk = desk.clone();
            tokio::spawn(async move { desk.add("same", &[Scope::Flows], None).await })
        })
        .collect();
    let mut made = 0;
    for tried in tries {
        match tried.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, OperatorError::NameTaken(_)), "{error}"),
        }
    }
    assert_eq!((made, desk.operators.list().await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused() {
    let desk = Desk::new();
    for name in ["", "a b", "a/b", "이름", "x".repeat(65).as_str()] {
        assert!(matches!(desk.add(name, &[Scope::Sms], None).await, Err(OperatorError::InvalidName)), "{name}");
    }
    assert!(matches!(desk.add("a", &[], None).await, Err(OperatorError::NoScope)));
    let instant = Some(Duration::from_millis(999));
    assert!(matches!(desk.add("a", &[Scope::Sms], instant).await, Err(OperatorError::TooShort)));
    let made = desk.add("a", &[Scope::Sms], None).await.unwrap();
    let id = &made[4..12];
    assert!(matches!(desk.add(id, &[Scope::Sms], None).await, Err(OperatorError::NameTaken(_))));
    assert_eq!(desk.operators.revoke(id).await.unwrap().name, "a");
}

#[tokio::test]
async fn admin_allows_everything_and_every_scope_has_its_word() {
    let desk = Desk::new();
    let token = desk.add("root", &[Scope::Admin], None).await.unwrap();
    let principal = desk.operators.authenticate(&token).unwrap().unwrap();
    assert!(Scope::ALL.into_iter().all(|scope| principal.allows(scope)));
    let words: BTreeSet<_> = Scope::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), Scope::ALL.len());
    assert!(words.iter().all(|word| word.parse::<Scope>().unwrap().to_string() == *word));
    assert!("portals".parse::<Scope>().unwrap_err().to_string().contains("portals:manage"));
}

#[tokio::test]
async fn no_file_of_the_store_holds_the_token() {
    let desk = Desk::new();
    let token = desk.add("batch", &[Scope::Sms], None).await.unwrap();
    let Desk { operators, life, store, dir, .. } = desk;
    assert!(life.shutdown(Duration::from_secs(60)).await);
    drop((operators, store));
    let secret = token.rsplit('_').next().unwrap().as_bytes();
    let mut seen = 0;
    let mut rooms = vec![dir.path().to_owned()];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            seen += usize::from(bytes.windows(5).any(|window| window == b"batch"));
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    }
    assert!(seen > 0, "the record itself was not found: this test looks in the wrong place");
}

//! Deletions that were cut off, and hints that lead nowhere, on a store without a server.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::{self, Clock};
use crate::config::{Config, Sources};
use crate::ids::Random;
use crate::outbox::{self, Channel, Content, Message};
use crate::secret::Vault;
use crate::store::{Durability, Expires, Store};

const PATIENCE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Time {
    Time::from_millis(1_800_000_000_000) + Duration::from_secs(seconds)
}

/// A store that no server has open.
struct Rest {
    life: Lifecycle,
    people: People,
    _dir: tempfile::TempDir,
}

impl Rest {
    fn new() -> Self {
        let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(at(100)));
        let store = Store::open(&dir.path().join("store"), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let vault = Arc::new(Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap());
        let random = Random::seeded(1);
        let settings = outbox::Settings::default();
        let outbox = Outbox::at_rest(store.clone(), vault.clone(), clock.clone(), random.clone(), settings).unwrap();
        let accounts = Config::load(&Sources::default()).unwrap().accounts;
        let settings = Settings { accounts, mail: true, public_url: None };
        let people = People::at_rest(Tools { store, outbox, vault, clock, random }, settings);
        Self { life, people, _dir: dir }
    }

    async fn letter(&self, id: &str, to: &str, created_at: Time) {
        let channel = Channel::Mail { to: to.to_owned() };
        let content = Content::new("s", "t");
        let (id, files) = (id.to_owned(), Vec::new());
        let message = Message { id, channel, content, files, created_at, expires_at: None };
        self.people.tools.outbox.enqueue(vec![message]).await.unwrap();
    }

    async fn letters(&self) -> Vec<String> {
        self.people.tools.outbox.list().await.unwrap().into_iter().map(|entry| entry.id).collect()
    }

    /// Makes the hint from `user` to `address`.
    async fn hint(&self, user: Uuid, address: &Address) {
        let hint = Hint { account: self.people.records.key(address) };
        let put = |_: Option<&_>| Decision::Put(hint.clone(), Expires::Never, ());
        self.people.records.store.update::<Hint, _>(&user.to_string(), put).await.unwrap();
    }
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_off_goes_on_and_takes_nothing_of_anybody_else() {
    let rest = Rest::new();
    let address = Address::parse("a@b.example").unwrap();
    let user = Uuid::from_u128(7);
    rest.hint(user, &address).await;
    for (id, to, when) in [
        ("account-1-mail", "a@b.example", 9),
        ("account-2-mail", "a@b.example", 10),
        ("account-3-mail", "a@b.example", 11),
        ("account-4-mail", "c@b.example", 9),
        ("alert-1-mail", "a@b.example", 9),
    ] {
        rest.letter(id, to, at(when)).await;
    }
    // The process ended right after this.
    let gone = Gone { user, at: at(10) };
    rest.people.records.change(&address, |record, _| record.gone.push(gone)).await.unwrap();
    rest.people.clone().finish_under(&rest.life);
    let cleared = async {
        while rest.people.records.peek(&address).unwrap().is_some_and(|record| !record.gone.is_empty()) {
            clock::pause(Duration::from_millis(5)).await;
        }
    };
    clock::within(PATIENCE, cleared).await.expect("nobody went on with it");
    assert_eq!(rest.letters().await, ["account-3-mail", "alert-1-mail", "account-4-mail"]);
    assert_eq!(rest.people.records.key_of(user).unwrap(), None);
    assert!(rest.life.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn a_hint_that_leads_nowhere_is_nobody() {
    let rest = Rest::new();
    let by = Operator { name: "test".to_owned(), from: None };
    let user = Uuid::from_u128(7);
    rest.hint(user, &Address::parse("a@b.example").unwrap()).await;
    assert_eq!(rest.people.list(None, 10).await.unwrap(), (Vec::new(), None));
    let unknown = |told: Result<Person, PeopleError>| matches!(told, Err(PeopleError::Unknown(_)));
    assert!(unknown(rest.people.disable(user, &by).await) && unknown(rest.people.delete(user, &by).await));
    assert!(unknown(rest.people.reset(user, &by).await) && unknown(rest.people.find("a@b.example").await));
    assert!(matches!(rest.people.export(user, &by).await, Err(PeopleError::Unknown(_))));
    assert_eq!(rest.people.unban("a@b.example", &by).await.unwrap(), None);
    assert!(rest.people.audit.list(None, 10).await.unwrap().is_empty(), "nothing was done");
    assert!(rest.life.shutdown(PATIENCE).await);
}

//! The gate: whether who shows an access token may come in, without a look into the store.
//!
//! It knows of every user the epoch and whether logins are let in, and of every session whose it is and when it ends. That is
//! built from the store before the doors open. Every change that this process makes is looked at before it is answered,
//! and what other processes change is heard from the store's feed: a logout, a disabled account and a new password end
//! access tokens at once. Other domains check tokens here, and do nothing else with accounts.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use uuid::Uuid;

use super::record::{AccountRecord, State};
use super::sessions::{LoginSession, SessionId};
use super::tokens::{Refused, Tokens};
use crate::clock::{Clock, Time};
use crate::lifecycle::Lifecycle;
use crate::store::{Follower, Store, StoreError};

/// The gate; clones share it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tokens: Tokens,
    store: Store,
    clock: Clock,
    /// Milliseconds for which a session lasts unused.
    idle_ttl: AtomicU64,
    /// Looks at records one at a time, so that an older state never replaces a newer one.
    looking: Mutex<()>,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    users: HashMap<Uuid, User>,
    sessions: HashMap<SessionId, Session>,
    /// What each record has brought.
    accounts: HashMap<String, (Uuid, Vec<SessionId>)>,
}

#[derive(Clone, Copy, Debug)]
struct User {
    epoch: u64,
    active: bool,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    user: Uuid,
    ends_at: Time,
    used_at: Time,
}

/// Who showed a token that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The user.
    pub user: Uuid,
    /// The session that the token belongs to.
    pub session: SessionId,
    /// When the token ends.
    pub expires_at: Time,
}

impl Gate {
    /// A gate for what `tokens` signs; on return it knows everything that is in `store`.
    ///
    /// # Errors
    /// When the store failed.
    pub(super) async fn start(
        tokens: Tokens,
        store: Store,
        clock: Clock,
        idle_ttl: Duration,
        life: &Lifecycle,
    ) -> Result<Self, StoreError> {
        let idle_ttl = AtomicU64::new(millis(idle_ttl));
        let (looking, known) = (Mutex::default(), RwLock::default());
        let gate = Self(Arc::new(Inner { tokens, store, clock, idle_ttl, looking, known }));
        let following = gate.0.store.following::<AccountRecord>();
        following.all(&gate).await?;
        let (this, stop) = (gate.clone(), life.stopping());
        life.supervise("gate", async move { following.run(&this, &stop).await });
        Ok(gate)
    }

    /// Lets sessions last unused for `idle_ttl` from now on.
    pub(super) fn reconfigure(&self, idle_ttl: Duration) {
        self.0.idle_ttl.store(millis(idle_ttl), Ordering::Relaxed);
    }

    /// Who shows `token`. Reads no store.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self, token: &str) -> Result<Visitor, Refused> {
        let claims = self.0.tokens.verify(token)?;
        let (user, session, expires_at) = (claims.sub, claims.sid, claims.expires_at());
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let lives = known.sessions.get(&session).is_some_and(|found| found.user == user && self.lasts(found));
        let welcome = known.users.get(&user).is_some_and(|found| found.active && found.epoch == claims.epoch);
        if lives && welcome { Ok(Visitor { user, session, expires_at }) } else { Err(Refused::Ended) }
    }

    fn lasts(&self, session: &Session) -> bool {
        let now = self.0.clock.now();
        let idle = Duration::from_millis(self.0.idle_ttl.load(Ordering::Relaxed));
        now < session.ends_at && now < session.used_at + idle
    }

    /// Takes over what the record under `account` says now. One that cannot be read lets nobody in.
    ///
    /// # Errors
    /// When the store failed.
    pub(super) fn look(&self, account: &str) -> Result<(), StoreError> {
        let _in_line = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.0.store.get::<AccountRecord>(account);
        let record = read.as_ref().ok().and_then(|found| Some(&found.as_ref()?.value));
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).put(account, record);
        read.map(|_| ())
    }
}

impl Known {
    fn put(&mut self, account: &str, record: Option<&AccountRecord>) {
        if let Some((user, sessions)) = self.accounts.remove(account) {
            self.users.remove(&user);
            for session in sessions {
                self.sessions.remove(&session);
            }
        }
        let Some((record, user)) = record.and_then(|record| Some((record, record.user.as_ref()?))) else { return };
        self.users.insert(user.id, User { epoch: user.epoch, active: user.state == State::Active });
        for LoginSession { id, ends_at, used_at, .. } in &record.sessions {
            self.sessions.insert(*id, Session { user: user.id, ends_at: *ends_at, used_at: *used_at });
        }
        let sessions = record.sessions.iter().map(|session| session.id).collect();
        self.accounts.insert(account.to_owned(), (user.id, sessions));
    }
}

impl Follower for Gate {
    async fn look(&self, ids: &BTreeSet<String>) -> Result<(), StoreError> {
        for id in ids {
            match Self::look(self, id) {
                // It shuts out its own user, and nobody else.
                Err(StoreError::Damaged { key, reason }) => {
                    tracing::error!(key, "the user of {key} is not let in, the record is damaged: {reason}");
                }
                looked => looked?,
            }
        }
        Ok(())
    }

    fn known(&self) -> Vec<String> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).accounts.keys().cloned().collect()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::accounts::keys::Keys;
    use crate::accounts::record::User as Owner;
    use crate::accounts::refresh::Mint;
    use crate::accounts::sessions::{self, Begun, Device, Draft};
    use crate::accounts::tokens::Settings;
    use crate::accounts::{Address, sessions::Limits};
    use crate::clock;
    use crate::ids::Random;
    use crate::secret::{Secret, Vault};
    use crate::store::{Decision, Durability, Expires};

    const USER: Uuid = Uuid::from_bytes([7; 16]);
    const DAY: Duration = Duration::from_secs(86_400);
    const LIMITS: Limits = Limits { session_ttl: DAY, idle_ttl: DAY, refresh_grace: Duration::from_secs(10) };

    /// Two gates on one store, as two processes have them; only the store's feed connects them with who changes a record.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_another_process_changes_ends_tokens_here() {
        let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let (clock, random) = (Clock::held(Time::from_millis(1_800_000_000_000)), Random::seeded(1));
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let vault = Arc::new(Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap());
        let keys = Keys::start(store.clone(), vault.clone(), clock.clone(), random.clone(), DAY, &life).await.unwrap();
        let settings = Settings { issuer: "a".to_owned(), audience: "a".to_owned(), access_ttl: DAY / 24 };
        let tokens = Tokens::new(keys, clock.clone(), random.clone(), settings);
        let start = || Gate::start(tokens.clone(), store.clone(), clock.clone(), DAY, &life);
        let early = start().await.unwrap();

        let mut record = AccountRecord::new(Address::parse("a@b.example").unwrap());
        let now = clock.now();
        record.user = Some(Owner {
            id: USER,
            full_name: "민서".to_owned(),
            password: None,
            state: State::Active,
            epoch: 1,
            created_at: now,
            verified_at: now,
        });
        let mint = Mint::new(vault);
        let mut begin = || -> Begun {
            let draft = Draft::new(&random, Device::default());
            sessions::begin(&mut record.sessions, &draft, USER, now, &LIMITS, &mint)
        };
        let (first, second) = (begin(), begin());
        let put = async |record: &AccountRecord| {
            let decide = |_: Option<&_>| Decision::Put(record.clone(), Expires::Never, ());
            store.update::<AccountRecord, _>("a", decide).await.unwrap();
        };
        put(&record).await;
        let first = tokens.issue(USER, 1, first).unwrap().access;
        let second = tokens.issue(USER, 1, second).unwrap().access;
        let late = start().await.unwrap();
        assert_eq!(late.admit(first.expose()).unwrap().user, USER, "built before anybody is let in");
        let until = async |token: &Secret, so: Result<(), Refused>| {
            let heard = async {
                while early.admit(token.expose()).map(|_| ()) != so || late.admit(token.expose()).map(|_| ()) != so {
                    clock::pause(Duration::from_millis(1)).await;
                }
            };
            clock::within(Duration::from_secs(60), heard).await.expect("nobody has heard of it");
        };
        until(&first, Ok(())).await;

        record.sessions.remove(0);
        put(&record).await;
        until(&first, Err(Refused::Ended)).await;
        until(&second, Ok(())).await;
        record.user.as_mut().unwrap().state = State::Disabled;
        put(&record).await;
        until(&second, Err(Refused::Ended)).await;
        record.user.as_mut().unwrap().state = State::Active;
        put(&record).await;
        until(&second, Ok(())).await;
        record.user.as_mut().unwrap().epoch = 2;
        put(&record).await;
        until(&second, Err(Refused::Ended)).await;
        record.user.as_mut().unwrap().epoch = 1;
        put(&record).await;
        until(&second, Ok(())).await;
        store.update::<AccountRecord, _>("a", |_| Decision::Delete(())).await.unwrap();
        until(&second, Err(Refused::Ended)).await;
    }
}

//! Accounts: the team's own users. They sign up with a code by e-mail, log in by password or by a code, and prove it with
//! tokens.
//!
//! One record an address, changed in one step by [`Accounts::change`] alone: a user is never without the mail that belongs to
//! the change, nor a mail without its change. What is answered about an address does not tell whether it has an account:
//! the same status, the same body, the same work. Nothing here knows HTTP; no code, no password and no address reaches a log.

mod address;
pub mod audit;
mod budget;
mod code;
mod error;
mod keys;
mod password;
mod record;
mod refresh;
mod registration;
mod sessions;
mod tokens;

use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::config;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::outbox::Outbox;
use crate::secret::Vault;
use crate::store::{Decision, Store, Stored};
pub use address::{Address, InvalidAddress};
pub use error::AccountError;
pub use password::{MAX as MAX_PASSWORD, MIN as MIN_PASSWORD, Unfit};
use record::Hint;
pub use record::{AccountRecord, KINDS, State, User};
pub use sessions::{Device, InvalidSessionId, LoginSession, MAX_AGENT, SessionId};

/// The accounts; clones share them.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    outbox: Outbox,
    vault: Arc<Vault>,
    clock: Clock,
    random: Random,
    settings: RwLock<Arc<Settings>>,
}

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[accounts]`.
    pub accounts: Arc<config::Accounts>,
    /// Whether there is a mail server.
    pub mail: bool,
    /// Where users find the service, for mails and tokens.
    pub public_url: Option<String>,
}

/// What accounts are built on.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where they are kept.
    pub store: Store,
    /// What delivers their mails.
    pub outbox: Outbox,
    /// What makes fingerprints of codes and seals keys.
    pub vault: Arc<Vault>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

impl Accounts {
    /// Starts them under `life`: mails that records carry go to the outbox, those left by the last process first.
    pub fn start(tools: Tools, settings: Settings, life: &Lifecycle) -> Self {
        let Tools { store, outbox, vault, clock, random } = tools;
        outbox.carry::<AccountRecord>(life);
        let settings = RwLock::new(Arc::new(settings));
        Self(Arc::new(Inner { store, outbox, vault, clock, random, settings }))
    }

    /// Uses other settings for what is asked from now on; the cost of passwords changes with the next start.
    pub fn reconfigure(&self, settings: Settings) {
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key of an address's record: a keyed fingerprint, so that keys may be logged and a copy of the database does not list
    /// addresses by their keys.
    fn key(&self, address: &Address) -> String {
        data_encoding::HEXLOWER.encode(&self.0.vault.fingerprint(&[b"account", address.as_str().as_bytes()]))
    }

    /// The user's account as it stands on the disk, if there is one.
    async fn read(&self, user: Uuid) -> Result<Option<AccountRecord>, AccountError> {
        let Some(key) = self.key_of(user)? else { return Ok(None) };
        let record = self.0.store.read::<AccountRecord>(&key).await?.map(|stored| stored.value);
        Ok(record.filter(|record| record.user.as_ref().is_some_and(|found| found.id == user)))
    }

    /// The key of the record that a user's id leads to; whether the user is there is for the record to say.
    fn key_of(&self, user: Uuid) -> Result<Option<String>, AccountError> {
        Ok(self.0.store.get::<Hint>(&user.to_string())?.map(|hint| hint.value.account))
    }

    /// Changes what there is about `address`, in one step, with the mails and lines that belong to it: the one way. `decide` gets a
    /// copy without what has expired, changes it or not, and may run again, so it is pure.
    async fn change<R>(
        &self,
        address: &Address,
        mut decide: impl FnMut(&mut AccountRecord, Time) -> R,
    ) -> Result<R, AccountError> {
        let decide = |record: Option<&AccountRecord>, now| {
            let mut record = record.cloned().unwrap_or_else(|| AccountRecord::new(address.clone()));
            // A fingerprint of 256 bits: this is damage, not chance.
            if record.address != *address {
                return (None, Err(AccountError::Damaged("a record is not of its address")));
            }
            let answer = decide(&mut record, now);
            (Some(record), Ok(answer))
        };
        self.swap(&self.key(address), decide).await?
    }

    /// As [`Accounts::change`], for the account of a user; None: there is no such user.
    async fn change_user<R>(
        &self,
        user: Uuid,
        mut decide: impl FnMut(&mut AccountRecord, Time) -> R,
    ) -> Result<Option<R>, AccountError> {
        let Some(key) = self.key_of(user)? else { return Ok(None) };
        let decide = |record: Option<&AccountRecord>, now| {
            let is_theirs = |record: &&AccountRecord| record.user.as_ref().is_some_and(|found| found.id == user);
            let Some(mut record) = record.filter(is_theirs).cloned() else { return (None, None) };
            let answer = decide(&mut record, now);
            (Some(record), Some(answer))
        };
        self.swap(&key, decide).await
    }

    /// Stores what `decide` made of the record, unless it made nothing of it.
    async fn swap<R>(
        &self,
        key: &str,
        mut decide: impl FnMut(Option<&AccountRecord>, Time) -> (Option<AccountRecord>, R),
    ) -> Result<R, AccountError> {
        let updated = self.0.store.update(key, |old: Option<&Stored<AccountRecord>>| {
            let now = self.0.clock.now();
            let before = old.map(|old| {
                let mut record = old.value.clone();
                record.forget(now);
                record
            });
            let (after, answer) = decide(before.as_ref(), now);
            match after {
                None => Decision::Keep(answer),
                Some(after) if before.as_ref() == Some(&after) => Decision::Keep(answer),
                Some(after) => {
                    let expires = after.expires(now);
                    Decision::Put(after, expires, answer)
                }
            }
        });
        Ok(updated.await?.answer)
    }
}

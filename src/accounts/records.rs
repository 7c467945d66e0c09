//! How a record of accounts is reached and changed: in one step, by address or by the user that it is about, and looked at by the
//! gate before anybody is answered. Decides nothing about accounts.

use std::sync::Arc;

use uuid::Uuid;

use super::record::{AccountRecord, Hint};
use super::{AccountError, Address, Gate};
use crate::clock::{Clock, Time};
use crate::ids::Random;
use crate::outbox::{Addressee, Channel, Content, Outbox, Pending};
use crate::secret::Vault;
use crate::store::{Decision, Store, StoreError, Stored};

/// What the ids of all mails to users begin with.
pub(super) const MAILS: &str = "account-";

/// The records; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Records {
    pub(super) store: Store,
    pub(super) vault: Arc<Vault>,
    pub(super) clock: Clock,
    /// None while no server runs: nobody is let in then.
    pub(super) gate: Option<Gate>,
}

impl Records {
    /// The key of an address's record: a keyed fingerprint, so that keys may be logged and a copy of the database does not list
    /// addresses by their keys.
    pub(super) fn key(&self, address: &Address) -> String {
        data_encoding::HEXLOWER.encode(&self.print(address))
    }

    /// What tells the address from all others without telling it.
    pub(super) fn print(&self, address: &Address) -> [u8; 32] {
        self.vault.fingerprint(&[b"account", address.as_str().as_bytes()])
    }

    /// What there is about an address, for a look before work that would be in vain.
    pub(super) fn peek(&self, address: &Address) -> Result<Option<AccountRecord>, AccountError> {
        Ok(self.store.get::<AccountRecord>(&self.key(address))?.map(|stored| stored.value))
    }

    /// The user's account as it stands on the disk, if there is one.
    pub(super) async fn read(&self, user: Uuid) -> Result<Option<AccountRecord>, AccountError> {
        let Some(key) = self.key_of(user)? else { return Ok(None) };
        let record = self.store.read::<AccountRecord>(&key).await?.map(|stored| stored.value);
        Ok(record.filter(|record| record.user.as_ref().is_some_and(|found| found.id == user)))
    }

    /// The key of the record that a user's id leads to; whether the user is there is for the record to say.
    pub(super) fn key_of(&self, user: Uuid) -> Result<Option<String>, AccountError> {
        Ok(self.store.get::<Hint>(&user.to_string())?.map(|hint| hint.value.account))
    }

    /// Changes what there is about `address`, in one step, with the mails and lines that belong to it: the one way. `decide` gets a
    /// copy without what has expired, changes it or not, and may run again, so it is pure.
    pub(super) async fn change<R>(
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

    /// As [`Records::change`], for the account of a user; None: there is no such user.
    pub(super) async fn change_user<R>(
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

    /// Stores what `decide` made of the record, unless it made nothing of it. A record that says nothing any more is removed.
    pub(super) async fn swap<R>(
        &self,
        key: &str,
        mut decide: impl FnMut(Option<&AccountRecord>, Time) -> (Option<AccountRecord>, R),
    ) -> Result<R, AccountError> {
        let updated = self.store.update(key, |old: Option<&Stored<AccountRecord>>| {
            let now = self.clock.now();
            let before = old.map(|old| {
                let mut record = old.value.clone();
                record.forget(now);
                record
            });
            let (after, answer) = decide(before.as_ref(), now);
            match after {
                None => Decision::Keep(answer),
                Some(after) if after == AccountRecord::new(after.address.clone()) => Decision::Delete(answer),
                Some(after) if before.as_ref() == Some(&after) => Decision::Keep(answer),
                Some(after) => {
                    let expires = after.expires(now);
                    Decision::Put(after, expires, answer)
                }
            }
        });
        let answer = updated.await?.answer;
        // Before anybody is answered: a token of a session that has just ended is not let in any more, one of a new session is.
        self.look(key)?;
        Ok(answer)
    }

    fn look(&self, key: &str) -> Result<(), StoreError> {
        self.gate.as_ref().map_or(Ok(()), |gate| gate.look(key))
    }
}

/// A letter to `address`, for the change that it belongs to.
pub(super) fn mail(
    outbox: &Outbox,
    random: &Random,
    now: Time,
    address: &Address,
    letter: &Content,
) -> Result<Pending, AccountError> {
    let to = vec![Addressee { channel: channel(address), files: Vec::new() }];
    Ok(outbox.pend(format!("{MAILS}{}", random.uuid(now)), letter, to, now)?)
}

/// The way to whoever reads the mails of `address`.
pub(super) fn channel(address: &Address) -> Channel {
    Channel::Mail { to: address.as_str().to_owned() }
}

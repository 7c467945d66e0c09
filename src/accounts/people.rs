//! Users as operators see them, and what operators do about them: shut out, let in, take a password away, hand out what is held,
//! delete. Works beside a running server and on a store that nobody serves.
//!
//! Every deed is one change of the account's record, with its line for the audit log in it. Nobody here learns or chooses a
//! password, and nothing that is shown has a code, a hash or a token in it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::audit::{Audit, Line, Numbered, What, Who};
use super::budget::{Budget, Sent};
use super::code::{self, Code, Print, Purpose};
use super::record::{AccountRecord, Gone, Hint, State, User};
use super::records::{self, MAILS, Records};
use super::{AccountError, Address, SessionView, Settings, Tools, session_limits, visits};
use crate::clock::Time;
use crate::lifecycle::Lifecycle;
use crate::outbox::{Entry, Outbox};
use crate::store::{Decision, Follower, StoreError};

/// Users in a page of the list at most.
pub const MAX_PAGE: usize = 500;
/// Lines of the audit log that an export holds at most: a few MiB.
pub const MAX_LINES: usize = 10_000;
/// Deleted users of one address of whom something may be left: they are gone within moments unless the store fails.
const MAX_GONE: usize = 8;

/// The users, for operators.
#[derive(Clone, Debug)]
pub struct People {
    records: Records,
    tools: Tools,
    audit: Audit,
    settings: Arc<Settings>,
}

/// An operator, and where they are.
#[derive(Clone, Debug)]
pub struct Operator {
    /// By the name that the audit log knows.
    pub name: String,
    /// The address that they asked from, where there is one.
    pub from: Option<IpAddr>,
}

/// A user, without anything that proves to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The user's id.
    pub id: Uuid,
    /// The canonical address.
    pub address: Address,
    /// As the user wrote it.
    pub full_name: String,
    /// Whether logins are let in.
    pub state: State,
    /// Whether there is a password; without one a login takes a code.
    pub has_password: bool,
    /// When the account was asked for.
    pub created_at: Time,
    /// When the address was proven to be the user's own.
    pub verified_at: Time,
}

/// A user with what is going on.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Who it is.
    pub person: Person,
    /// The logins that last, the latest first.
    pub sessions: Vec<SessionView>,
    /// The mails to the address, newest first.
    pub mails: Vec<Entry>,
    /// When the next guess is taken, if there were too many wrong ones.
    pub next_guess_at: Option<Time>,
    /// When the next code may be asked for, if not now.
    pub next_code_at: Option<Time>,
}

/// Everything that is held about a user.
#[derive(Clone, Debug)]
pub struct Everything {
    /// The user with what is going on.
    pub sight: Sight,
    /// What the audit log says of them, newest first.
    pub lines: Vec<Numbered>,
    /// Whether these are all lines; there may be more than [`MAX_LINES`].
    pub all_lines: bool,
}

/// Why an operator's wish about a user is not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Nobody has that address or id.
    #[error("there is no user {0}")]
    Unknown(String),
    /// A code would let nobody in.
    #[error("the user is disabled: enable them first")]
    Disabled,
    /// What else there is.
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl From<StoreError> for PeopleError {
    fn from(error: StoreError) -> Self {
        AccountError::Store(error).into()
    }
}

impl Person {
    fn of(record: &AccountRecord) -> Option<Self> {
        let User { id, full_name, password, state, created_at, verified_at, .. } = record.user.clone()?;
        let (address, has_password) = (record.address.clone(), password.is_some());
        Some(Self { id, address, full_name, state, has_password, created_at, verified_at })
    }
}

impl People {
    pub(super) fn new(records: Records, tools: Tools, audit: Audit, settings: Arc<Settings>) -> Self {
        Self { records, tools, audit, settings }
    }

    /// The users of a store that no server has open. Mails wait in it for the next start.
    pub fn at_rest(tools: Tools, settings: Settings) -> Self {
        let Tools { store, vault, clock, .. } = tools.clone();
        let audit = Audit::new(store.clone(), vault.clone(), clock.clone());
        let records = Records { store, vault, clock, gate: None };
        Self::new(records, tools, audit, Arc::new(settings))
    }

    /// Up to `limit` users after the one of that id, in the order in which they came; and the last one's id when there are more.
    ///
    /// # Errors
    /// When the store failed, or one of the records is damaged.
    pub async fn list(&self, after: Option<Uuid>, limit: usize) -> Result<(Vec<Person>, Option<Uuid>), PeopleError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let (mut people, mut after) = (Vec::new(), after.map(|id| id.to_string()));
        loop {
            let page = self.records.store.list::<Hint>(after.as_deref(), MAX_PAGE).await?;
            for (id, hint) in &page {
                let record = self.records.store.read::<AccountRecord>(&hint.value.account).await?;
                let person = record.and_then(|record| Person::of(&record.value));
                // A hint that leads nowhere was left by a sign-up or a deletion that was cut off.
                let Some(person) = person.filter(|person| person.id.to_string() == *id) else { continue };
                if people.len() == limit {
                    let last = people.last().map(|last: &Person| last.id);
                    return Ok((people, last));
                }
                people.push(person);
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == MAX_PAGE) else { return Ok((people, None)) };
            after = Some(last.clone());
        }
    }

    /// The user whose address was typed as `email`.
    ///
    /// # Errors
    /// [`PeopleError::Unknown`], [`AccountError::Address`], or a failing store.
    pub async fn find(&self, email: &str) -> Result<Person, PeopleError> {
        let address = Address::parse(email).map_err(AccountError::from)?;
        let record = self.records.store.read::<AccountRecord>(&self.records.key(&address)).await?;
        let person = record.and_then(|record| Person::of(&record.value));
        person.ok_or_else(|| PeopleError::Unknown(format!("with the address {}", address.as_str())))
    }

    /// The user with what is going on.
    ///
    /// # Errors
    /// [`PeopleError::Unknown`], or a failing store.
    pub async fn show(&self, user: Uuid) -> Result<Sight, PeopleError> {
        let mut record = self.records.read(user).await?.ok_or_else(|| unknown(user))?;
        let now = self.tools.clock.now();
        record.forget(now);
        let person = Person::of(&record).ok_or_else(|| unknown(user))?;
        let mails = self.tools.outbox.list_to(&records::channel(&record.address), &record.mails).await;
        let next_code_at = record.sent.next_at(now, self.settings.accounts.resend_after);
        Ok(Sight {
            person,
            sessions: visits::lasting(&record.sessions, &session_limits(&self.settings.accounts), now, None),
            mails: mails.map_err(AccountError::from)?,
            next_guess_at: record.budget.check(now).err(),
            next_code_at: (next_code_at > now).then_some(next_code_at),
        })
    }

    /// Shuts the user out: every login ends at once, and no further one is let in.
    ///
    /// # Errors
    /// [`PeopleError::Unknown`], or a failing store.
    pub async fn disable(&self, user: Uuid, by: &Operator) -> Result<Person, PeopleError> {
        self.set(user, State::Disabled, self.line(What::UserDisabled, by)).await
    }

    /// Lets the user log in again.
    ///
    /// # Errors
    /// [`PeopleError::Unknown`], or a failing store.
    pub async fn enable(&self, user: Uuid, by: &Operator) -> Result<Person, PeopleError> {
        self.set(user, State::Active, self.line(What::UserEnabled, by)).await
    }

    async fn set(&self, user: Uuid, state: State, line: Line) -> Result<Person, PeopleError> {
        let line = line.about(user);
        let set = |record: &mut AccountRecord, _: Time| {
            if record.user.as_ref().is_some_and(|found| found.state != state) {
                record.note(line.clone())?;
                if state == State::Disabled {
                    record.end_everything();
                }
                record.user.iter_mut().for_each(|found| found.state = state);
            }
            Ok::<_, AccountError>(Person::of(record))
        };
        self.done(user, self.records.change_user(user, set).await?).await
    }

    /// Takes the user's password away and ends every login; a code for a new password goes to the address. Nobody else gets to know
    /// either.
    ///
    /// # Errors
    /// [`PeopleError::Unknown`], [`PeopleError::Disabled`], [`AccountError::NoMail`], or a failing store.
    pub async fn reset(&self, user: Uuid, by: &Operator) -> Result<Person, PeopleError> {
        let Tools { outbox, random, vault, clock, .. } = &self.tools;
        if !self.settings.mail {
            return Err(AccountError::NoMail.into());
        }
        let address = self.records.read(user).await?.ok_or_else(|| unknown(user))?.address;
        let (digits, ttl) = (code::draw(random), self.settings.accounts.code_ttl);
        let letter = self.settings.writer().password_taken(&digits, ttl);
        let mail = records::mail(outbox, random, clock.now(), &address, &letter)?;
        let print = Print::of(vault, Purpose::Reset, address.as_str(), "", &digits);
        let line = self.line(What::UserReset, by).about(user);
        let reset = |record: &mut AccountRecord, now: Time| {
            let shut_out = record.user.as_ref().is_some_and(|found| found.state == State::Disabled);
            if shut_out {
                return Err(PeopleError::Disabled);
            }
            record.note(line.clone()).map_err(AccountError::from)?;
            record.end_everything();
            record.user.iter_mut().for_each(|found| found.password = None);
            record.reset_code = Some(Code::new(print, now + ttl));
            record.mails.push(mail.clone().expiring(now + ttl));
            Ok(Person::of(record))
        };
        self.done(user, self.records.change_user(user, reset).await?).await
    }

    /// Everything that is held about the user, for the user: no hashes, no codes, no tokens.
    ///
    /// # Errors
    /// [`PeopleError::Unknown`], or a failing store.
    pub async fn export(&self, user: Uuid, by: &Operator) -> Result<Everything, PeopleError> {
        let line = self.line(What::UserExported, by).about(user);
        let note = |record: &mut AccountRecord, _: Time| Ok::<_, AccountError>(record.note(line.clone())?);
        // First: what leaves no trace is not done.
        self.records.change_user(user, note).await?.ok_or_else(|| unknown(user))??;
        self.bring(user).await?;
        let (lines, all_lines) = self.audit.about(user, MAX_LINES).await?;
        Ok(Everything { sight: self.show(user).await?, lines, all_lines })
    }

    /// Deletes the user: the account, its logins, and the mails to its address. The audit log stays, and knows the id alone. Whoever
    /// registers the address anew is somebody else.
    ///
    /// The record says first that the user is gone, and who it was; then what is elsewhere goes, then the record. Where the process ends
    /// in between, the next one goes on.
    ///
    /// # Errors
    /// [`PeopleError::Unknown`], or a failing store: deleted or not, the rest follows by itself.
    pub async fn delete(&self, user: Uuid, by: &Operator) -> Result<Person, PeopleError> {
        let key = self.records.key_of(user)?.ok_or_else(|| unknown(user))?;
        let line = self.line(What::UserDeleted, by).about(user);
        let delete = |record: &mut AccountRecord, now: Time| {
            let person = Person::of(record);
            record.note(line.clone())?;
            if record.gone.len() >= MAX_GONE {
                return Err(AccountError::Damaged("what is left of deleted users is not cleared away"));
            }
            let mut left = AccountRecord::new(record.address.clone());
            left.lines = std::mem::take(&mut record.lines);
            left.gone = std::mem::take(&mut record.gone);
            left.gone.push(Gone { user, at: now });
            *record = left;
            Ok(person)
        };
        let deleted = self.records.change_user(user, delete).await?.ok_or_else(|| unknown(user))??;
        self.clear_away(&key).await?;
        self.audit.bring::<AccountRecord>(&key).await?;
        // The lines have left the record: nothing is in it any more.
        self.records.swap(&key, |record, _| (record.cloned(), ())).await?;
        deleted.ok_or_else(|| unknown(user))
    }

    /// Forgets the wrong guesses about the address, and the codes that were sent to it. The id of its user, if there is one. The rate of
    /// requests about the address is not touched: it comes back by itself within a minute.
    ///
    /// # Errors
    /// [`AccountError::Address`], or a failing store.
    pub async fn unban(&self, email: &str, by: &Operator) -> Result<Option<Uuid>, PeopleError> {
        let address = Address::parse(email).map_err(AccountError::from)?;
        let (key, line) = (self.records.key(&address), self.line(What::UserUnbanned, by));
        let unban = |record: Option<&AccountRecord>, _: Time| {
            // Nothing is known of the address, and nothing held against it.
            let Some(mut record) = record.cloned() else { return (None, Ok(None)) };
            let user = record.user.as_ref().map(|user| user.id);
            // An operator's deed is kept, whomever it was for.
            let line = user.map_or_else(|| line.clone(), |user| line.clone().about(user));
            if let Err(full) = record.note(line) {
                return (None, Err(AccountError::from(full)));
            }
            (record.budget, record.sent) = (Budget::default(), Sent::default());
            (Some(record), Ok(user))
        };
        let user = self.records.swap(&key, unban).await??;
        self.audit.bring::<AccountRecord>(&key).await?;
        Ok(user)
    }

    /// What a change of a user's record came to, once its line is in the audit log.
    async fn done<E: Into<PeopleError>>(
        &self,
        user: Uuid,
        changed: Option<Result<Option<Person>, E>>,
    ) -> Result<Person, PeopleError> {
        let person = changed.ok_or_else(|| unknown(user))?.map_err(Into::into)?;
        self.bring(user).await?;
        person.ok_or_else(|| unknown(user))
    }

    /// Brings the lines that wait in the user's record into the audit log, so that whoever is answered finds them there.
    async fn bring(&self, user: Uuid) -> Result<(), PeopleError> {
        if let Some(key) = self.records.key_of(user)? {
            self.audit.bring::<AccountRecord>(&key).await?;
        }
        Ok(())
    }

    fn line(&self, what: What, by: &Operator) -> Line {
        let now = self.tools.clock.now();
        Line::new(self.tools.random.uuid(now), now, Who::Operator(by.name.clone()), what).from(by.from)
    }

    /// Removes what is left elsewhere of users whom the record says to be gone.
    async fn clear_away(&self, key: &str) -> Result<(), StoreError> {
        let Some(record) = self.records.store.get::<AccountRecord>(key)?.map(|stored| stored.value) else {
            return Ok(());
        };
        if record.gone.is_empty() {
            return Ok(());
        }
        let (outbox, channel): (&Outbox, _) = (&self.tools.outbox, records::channel(&record.address));
        for Gone { user, at } in &record.gone {
            outbox.forget(&channel, MAILS, *at).await?;
            self.records.store.update::<Hint, _>(&user.to_string(), |_| Decision::Delete(())).await?;
        }
        let cleared = |old: Option<&crate::store::Stored<AccountRecord>>| {
            let Some(mut left) = old.map(|old| old.value.clone()) else { return Decision::Keep(()) };
            left.gone.retain(|gone| !record.gone.contains(gone));
            let expires = left.expires(self.tools.clock.now());
            Decision::Put(left, expires, ())
        };
        self.records.store.update(key, cleared).await.map(|_| ())
    }

    /// Goes on under `life` with deletions that were cut off, by this process or by another.
    pub(super) fn finish_under(self, life: &Lifecycle) {
        let (following, stop) = (self.records.store.following::<AccountRecord>(), life.stopping());
        life.supervise("deleted users", async move { following.run(&self, &stop).await });
    }
}

impl Follower for People {
    async fn look(&self, ids: &BTreeSet<String>) -> Result<(), StoreError> {
        for id in ids {
            match self.clear_away(id).await {
                Err(StoreError::Damaged { key, reason }) => {
                    tracing::error!(key, "what is left of deleted users stays, {key} is damaged: {reason}");
                }
                cleared => cleared?,
            }
        }
        Ok(())
    }
}

impl AccountRecord {
    /// Ends every login, and whatever could begin one without the password.
    fn end_everything(&mut self) {
        self.sessions.clear();
        (self.login_code, self.reset_code) = (None, None);
        self.user.iter_mut().for_each(|user| user.epoch += 1);
    }
}

fn unknown(user: Uuid) -> PeopleError {
    PeopleError::Unknown(format!("of the id {user}"))
}

#[cfg(test)]
mod tests;

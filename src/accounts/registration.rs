//! Registrations: an account is made of the one whose code was typed, with its own password and name. Each pending one is a
//! ticket of its own: whoever registers the same address as well gets another, and can neither change this one nor use up
//! its tries.
//!
//! An address that has a user gets a ticket as well, one that no code opens: what is answered is the same in every respect, and
//! only the mail says something else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::audit::{Line, What, Who};
use super::code::{self, Code, Purpose};
use super::record::{AccountRecord, Hint, State, User};
use super::{AccountError, Accounts, Address, Device};
use crate::clock::Time;
use crate::secret::Secret;
use crate::store::{Decision, Expires};

/// The longest name, in characters.
pub(super) const MAX_NAME: usize = 200;
/// Registrations that may be pending for one address. The limits of mails keep it far below.
const MAX_PENDING: usize = 10;
/// How often making a user begins anew because the record has changed meanwhile.
const ATTEMPTS: usize = 8;

/// A registration that waits for its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registration {
    /// The ticket: 128 bits that only who registered knows.
    pub(super) id: String,
    pub(super) full_name: String,
    /// The hash of its own password, if it has one.
    pub(super) password: Option<String>,
    pub(super) code: Code,
    /// Guesses left for those who do not hold the ticket: theirs are not the holder's.
    pub(super) bare_tries: u8,
    pub(super) created_at: Time,
}

/// What somebody wants to register with.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The address as it was typed.
    pub email: &'a str,
    /// None: to log in with codes alone.
    pub password: Option<&'a Secret>,
    /// The name as it shall be shown.
    pub full_name: &'a str,
}

/// A code that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailed {
    /// When it ends.
    pub expires_at: Time,
    /// How long the next one has to wait.
    pub resend_after: Duration,
}

/// A user with the address that is the user's own.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The address.
    pub address: Address,
    /// The user.
    pub user: User,
}

/// A guess at a registration's code.
#[derive(Clone, Copy)]
struct Guess<'a> {
    digits: &'a Secret,
    /// Which registration; None: the only one.
    ticket: Option<&'a str>,
}

/// What came of an attempt to make a user.
enum Outcome {
    Made(Box<User>),
    Refused(AccountError),
    /// The record is another than the one that was looked at first.
    Moved,
}

impl Accounts {
    /// Registers: a code goes to the address, and the ticket is answered. With a `seed` that was used before, the registration
    /// that was made with it is answered again.
    ///
    /// # Errors
    /// What of `wish` cannot be; too many requests or mails; [`AccountError::NoMail`]; [`AccountError::Busy`].
    pub async fn register(
        &self,
        wish: Wish<'_>,
        device: &Device,
        seed: Option<&[u8; 32]>,
    ) -> Result<(String, Mailed), AccountError> {
        let address = Address::parse(wish.email)?;
        check_name(wish.full_name)?;
        if let Some(password) = wish.password {
            self.check_password(password, &address)?;
        }
        self.admit_about(&address)?;
        let settings = self.mailing()?;
        let id = match seed {
            Some(seed) => data_encoding::HEXLOWER.encode(&seed[..16]),
            None => self.0.random.session_id(),
        };
        let resend_after = settings.accounts.resend_after;
        if let Some(expires_at) = self.look_whether_sent(&address, &id, resend_after)? {
            return Ok((id, Mailed { expires_at, resend_after }));
        }
        let password = match wish.password {
            Some(password) => Some(self.hash(password).await?),
            None => None,
        };
        let (digits, ttl) = (code::draw(&self.0.random), settings.accounts.code_ttl);
        let print = self.print(Purpose::Registration, &address, &id, &digits);
        let writer = settings.writer();
        // Both are prepared whoever it is, for the same work.
        let code = self.mail(&address, &writer.registration_code(&digits, ttl))?;
        let known = self.mail(&address, &writer.already_registered())?;
        let line = self.line(device, What::Registered);
        let registered = self.change(&address, |record, now| {
            if let Some(before) = record.pending.iter().find(|pending| pending.id == id) {
                return Ok(before.code.expires_at);
            }
            record.sent.take(now, resend_after).map_err(|until| too_many_codes(now, until))?;
            record.note_about(&line)?;
            let expires_at = now + ttl;
            if record.pending.len() >= MAX_PENDING {
                record.pending.remove(0);
            }
            record.pending.push(Registration {
                id: id.clone(),
                full_name: wish.full_name.to_owned(),
                password: password.clone(),
                code: Code::new(print, expires_at),
                bare_tries: code::TRIES,
                created_at: now,
            });
            record.mails.push(if record.user.is_some() { known.clone() } else { code.clone().expiring(expires_at) });
            Ok::<_, AccountError>(expires_at)
        });
        let expires_at = registered.await??;
        Ok((id, Mailed { expires_at, resend_after }))
    }

    /// Sends another code for a registration, which keeps its tries; the code before counts no more. Without a ticket it is for
    /// the only one that is pending. Whether there is one is not told.
    ///
    /// # Errors
    /// Too many requests or mails; [`AccountError::NoMail`].
    pub async fn resend(&self, email: &str, ticket: Option<&str>) -> Result<Mailed, AccountError> {
        let address = Address::parse(email)?;
        self.admit_about(&address)?;
        let settings = self.mailing()?;
        let (digits, ttl) = (code::draw(&self.0.random), settings.accounts.code_ttl);
        let writer = settings.writer();
        let code = self.mail(&address, &writer.registration_code(&digits, ttl))?;
        let known = self.mail(&address, &writer.already_registered())?;
        let resend_after = settings.accounts.resend_after;
        let sent = self.change(&address, |record, now| {
            record.sent.take(now, resend_after).map_err(|until| too_many_codes(now, until))?;
            let (expires_at, taken) = (now + ttl, record.user.is_some());
            if let Some(pending) = record.registration(ticket) {
                let print = self.print(Purpose::Registration, &address, &pending.id, &digits);
                pending.code.renew(print, expires_at);
                record.mails.push(if taken { known.clone() } else { code.clone().expiring(expires_at) });
            }
            Ok::<_, AccountError>(expires_at)
        });
        Ok(Mailed { expires_at: sent.await??, resend_after })
    }

    /// Makes the user of the registration whose code this is.
    ///
    /// # Errors
    /// [`AccountError::InvalidCode`], [`AccountError::CodeSpent`], [`AccountError::TooManyGuesses`]; too many requests.
    pub async fn verify_registration(
        &self,
        email: &str,
        digits: &Secret,
        ticket: Option<&str>,
        device: &Device,
        seed: Option<&[u8; 32]>,
    ) -> Result<Verified, AccountError> {
        let address = Address::parse(email)?;
        if !code::is_code(digits.expose()) {
            return Err(AccountError::Malformed);
        }
        self.admit_about(&address)?;
        let guess = Guess { digits, ticket };
        for _ in 0..ATTEMPTS {
            match self.make(&address, guess, device, seed).await? {
                Outcome::Made(user) => return Ok(Verified { address, user: *user }),
                Outcome::Refused(refused) => return Err(refused),
                Outcome::Moved => {}
            }
        }
        Err(AccountError::Busy { retry_after: Duration::from_secs(1) })
    }

    /// Refuses before a password is hashed what would be refused after it; the end of the registration `id`, if that was made.
    fn look_whether_sent(&self, address: &Address, id: &str, apart: Duration) -> Result<Option<Time>, AccountError> {
        let Some(mut record) = self.peek(address)? else { return Ok(None) };
        let now = self.0.clock.now();
        record.forget(now);
        if let Some(made) = record.registration(Some(id)) {
            return Ok(Some(made.code.expires_at));
        }
        record.sent.take(now, apart).map_err(|until| too_many_codes(now, until))?;
        Ok(None)
    }

    /// One attempt to make the user: first the hint, if the code seems right, then the user.
    async fn make(
        &self,
        address: &Address,
        guess: Guess<'_>,
        device: &Device,
        seed: Option<&[u8; 32]>,
    ) -> Result<Outcome, AccountError> {
        let now = self.0.clock.now();
        let key = self.key(address);
        let peeked = self.peek(address)?;
        // The same request after a crash finds the user that it made.
        let again = |record: &AccountRecord| {
            let user = record.user.as_ref()?;
            (user.id == user_id(user.verified_at, seed?)).then(|| user.clone())
        };
        if let Some(user) = peeked.as_ref().and_then(again) {
            return Ok(Outcome::Made(Box::new(user)));
        }
        let id = user_id(now, seed.unwrap_or(&self.0.random.bytes()));
        let seems_right = peeked.is_some_and(|mut record| {
            record.forget(now);
            self.judge(&mut record, address, guess, now).is_ok()
        });
        if seems_right {
            let hint = Hint { account: key.clone() };
            self.0.store.update(&id.to_string(), |_| Decision::Put(hint.clone(), Expires::Never, ())).await?;
        }
        let (verified, failed) = (self.line(device, What::Verified), self.line(device, What::Failed));
        let outcome = self.change(address, |record, at| {
            let mut tried = record.clone();
            match self.judge(&mut tried, address, guess, at) {
                Ok(_) if !seems_right => Outcome::Moved,
                Ok(registration) => {
                    let ticket = registration.id.clone();
                    let user = registration.becomes(id, now);
                    let line = Line { who: Who::User(id), ..verified.clone() };
                    match record.note(line.about(id)) {
                        Ok(()) => {
                            record.settle_user(user.clone(), &ticket);
                            Outcome::Made(Box::new(user))
                        }
                        Err(full) => Outcome::Refused(full.into()),
                    }
                }
                Err(refused) => {
                    let guessed = tried != *record;
                    *record = tried;
                    let noted = if guessed { record.note_about(&failed) } else { Ok(()) };
                    Outcome::Refused(noted.map_or_else(AccountError::from, |()| refused))
                }
            }
        });
        let outcome = outcome.await?;
        if seems_right && !matches!(outcome, Outcome::Made(_)) {
            self.0.store.update::<Hint, _>(&id.to_string(), |_| Decision::Delete(())).await?;
        }
        Ok(outcome)
    }

    /// Judges a guess and takes from the record what a wrong one costs. The registration whose code it is.
    fn judge(
        &self,
        record: &mut AccountRecord,
        address: &Address,
        guess: Guess<'_>,
        now: Time,
    ) -> Result<Registration, AccountError> {
        let Guess { digits, ticket } = guess;
        let bare = ticket.is_none();
        // A ticket has its own tries, whatever others have done to the address.
        if bare {
            record.budget.check(now).map_err(|until| too_many_guesses(now, until))?;
        }
        let taken = record.user.is_some();
        let wrong = |tries_left| AccountError::InvalidCode { tries_left };
        let Some(pending) = record.registration(ticket) else {
            // Nothing was compared; but who has no ticket must not see that by what it costs.
            if bare {
                let _ = record.budget.take(now);
            }
            return Err(wrong(None));
        };
        let print = self.print(Purpose::Registration, address, &pending.id, digits);
        let right = !taken && pending.code.is(print);
        let tries = if bare { &mut pending.bare_tries } else { &mut pending.code.tries };
        let judged = code::guess(tries, right);
        let tries_left = (!bare).then_some(*tries);
        match judged {
            Some(true) => Ok(pending.clone()),
            None if !bare => Err(AccountError::CodeSpent),
            Some(false) | None => {
                let _ = record.budget.take(now);
                Err(wrong(tries_left))
            }
        }
    }
}

impl Registration {
    fn becomes(self, id: Uuid, verified_at: Time) -> User {
        let Self { full_name, password, created_at, .. } = self;
        User { id, full_name, password, state: State::Active, epoch: 0, created_at, verified_at }
    }
}

impl AccountRecord {
    /// The registration of that ticket, or the only one.
    fn registration(&mut self, ticket: Option<&str>) -> Option<&mut Registration> {
        match (ticket, self.pending.as_mut_slice()) {
            (Some(ticket), pending) => pending.iter_mut().find(|pending| pending.id == ticket),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// The address has its user, and the mail has done its work. What else is pending is opened by no code any more; those who
    /// hold such tickets must not see by them when the owner came, so they stay to their end, without their passwords.
    fn settle_user(&mut self, user: User, ticket: &str) {
        self.user = Some(user);
        self.pending.retain(|pending| pending.id != ticket);
        for pending in &mut self.pending {
            pending.password = None;
        }
        self.sent.give_back();
    }
}

fn user_id(made_at: Time, seed: &[u8; 32]) -> Uuid {
    let mut random = [0; 10];
    random.copy_from_slice(&seed[16..26]);
    uuid::Builder::from_unix_timestamp_millis(made_at.as_millis(), &random).into_uuid()
}

/// Control characters, and those of Unicode that begin a line or turn the direction of what stands beside them: in a list of users
/// a name would write over its neighbours.
fn is_control(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn check_name(name: &str) -> Result<(), AccountError> {
    let long = name.chars().count() > MAX_NAME;
    if name.trim().is_empty() || long || name.chars().any(is_control) {
        return Err(AccountError::Name);
    }
    Ok(())
}

pub(super) fn too_many_codes(now: Time, until: Time) -> AccountError {
    AccountError::TooManyCodes { until, retry_after: until.since(now) }
}

pub(super) fn too_many_guesses(now: Time, until: Time) -> AccountError {
    AccountError::TooManyGuesses { until, retry_after: until.since(now) }
}

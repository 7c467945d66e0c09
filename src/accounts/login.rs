//! Logins: by password, or by a code that was sent to the address. A login ends in a session, which is written into the record
//! in the change that proves it.
//!
//! A password takes a guess from the address's budget before it is compared, and gets it back when it was right: however many
//! come at once, and whenever the process ends, no more are compared than the budget has. Those about one address are
//! compared one after the other, or a user's own programs would use the budget up by starting together.

use std::time::Duration;

use uuid::Uuid;

use super::audit::{Line, What, Who};
use super::code::{self, Code, Purpose};
use super::password::{Compared, MAX, Unfit};
use super::record::{AccountRecord, State, User};
use super::registration::{Mailed, too_many_codes, too_many_guesses};
use super::sessions::{self, Begun, Draft};
use super::tokens::Grant;
use super::{AccountError, Accounts, Address, Device};
use crate::clock::{Time, within};
use crate::secret::Secret;

/// How long a password may wait for those about the same address that came before it.
const TURN: Duration = Duration::from_secs(10);

/// A password that was right.
pub(super) struct Proven {
    /// The hash that it was compared with: whoever has changed it since must not be overtaken.
    pub(super) kept: String,
    /// The hash that takes its place, when passwords have become dearer.
    pub(super) renewed: Option<String>,
}

impl Accounts {
    /// Logs in with a password.
    ///
    /// # Errors
    /// [`AccountError::InvalidCredentials`], [`AccountError::Disabled`], [`AccountError::TooManyGuesses`],
    /// [`AccountError::Busy`]; too many requests.
    pub async fn login(&self, email: &str, password: &Secret, device: &Device) -> Result<Grant, AccountError> {
        let address = Address::parse(email)?;
        if password.expose().len() > MAX {
            return Err(Unfit::Length.into());
        }
        self.admit_about(&address)?;
        let (draft, line) = (Draft::new(&self.0.random, device.clone()), self.line(device, What::LoggedIn));
        let Proven { kept, renewed } = self.prove(&address, password, device).await?;
        let opened = self.change(&address, |record, now| {
            record.budget.give_back();
            let user = record.user.as_mut().filter(|user| user.password.as_ref() == Some(&kept));
            let user = user.ok_or(AccountError::InvalidCredentials)?;
            if let Some(renewed) = &renewed {
                user.password = Some(renewed.clone());
            }
            self.open(record, &draft, &line, now)
        });
        self.grant(opened.await??)
    }

    /// Sends a code that logs in; to an address without an account a letter that says so.
    ///
    /// # Errors
    /// Too many requests or mails; [`AccountError::NoMail`].
    pub async fn send_login_code(&self, email: &str, device: &Device) -> Result<Mailed, AccountError> {
        let address = Address::parse(email)?;
        self.admit_about(&address)?;
        self.send_code(&address, Purpose::Login, self.line(device, What::LoginCodeAsked)).await
    }

    /// Logs in with a code that was sent.
    ///
    /// # Errors
    /// [`AccountError::InvalidCode`], [`AccountError::TooManyGuesses`]; too many requests.
    pub async fn login_with_code(&self, email: &str, digits: &Secret, device: &Device) -> Result<Grant, AccountError> {
        let address = Address::parse(email)?;
        if !code::is_code(digits.expose()) {
            return Err(AccountError::Malformed);
        }
        self.admit_about(&address)?;
        let draft = Draft::new(&self.0.random, device.clone());
        let (line, failed) = (self.line(device, What::LoggedIn), self.line(device, What::Failed));
        let print = self.print(Purpose::Login, &address, "", digits);
        let opened = self.change(&address, |record, now| {
            record.use_code(Purpose::Login, print, &failed, now)?;
            self.open(record, &draft, &line, now)
        });
        self.grant(opened.await??)
    }

    /// Sends a code for a login or a new password, if there is a user who may have one.
    pub(super) async fn send_code(
        &self,
        address: &Address,
        purpose: Purpose,
        line: Line,
    ) -> Result<Mailed, AccountError> {
        let settings = self.mailing()?;
        let (digits, writer) = (code::draw(&self.0.random), settings.writer());
        let (ttl, letter) = match purpose {
            Purpose::Login => {
                let ttl = settings.accounts.login_code_ttl;
                (ttl, writer.login_code(&digits, ttl))
            }
            Purpose::Reset | Purpose::Registration => {
                let ttl = settings.accounts.code_ttl;
                (ttl, writer.reset_code(&digits, ttl))
            }
        };
        let print = self.print(purpose, address, "", &digits);
        // All is prepared whoever it is, for the same work.
        let (coded, unknown) = (self.mail(address, &letter)?, self.mail(address, &writer.no_account())?);
        let resend_after = settings.accounts.resend_after;
        let sent = self.change(address, |record, now| {
            record.sent.take(now, resend_after).map_err(|until| too_many_codes(now, until))?;
            record.note_about(&line)?;
            let expires_at = now + ttl;
            match record.user.as_ref().map(|user| user.state) {
                Some(State::Active) => {
                    *record.code(purpose) = Some(Code::new(print, expires_at));
                    record.mails.push(coded.clone().expiring(expires_at));
                }
                // An operator's decision is for the operator to explain.
                Some(State::Disabled) => {}
                None => record.mails.push(unknown.clone()),
            }
            Ok::<_, AccountError>(expires_at)
        });
        Ok(Mailed { expires_at: sent.await??, resend_after })
    }

    /// Proves that `password` is the right one. It has cost a guess then, for the change that follows to give back.
    pub(super) async fn prove(
        &self,
        address: &Address,
        password: &Secret,
        device: &Device,
    ) -> Result<Proven, AccountError> {
        let turn = within(TURN, self.turn(address)).await;
        let _turn = turn.map_err(|_| AccountError::Busy { retry_after: Duration::from_secs(1) })?;
        let reserved = self.change(address, |record, now| {
            record.budget.take(now).map_err(|until| too_many_guesses(now, until))?;
            Ok::<_, AccountError>(record.user.as_ref().and_then(|user| user.password.clone()))
        });
        let kept = reserved.await??;
        match self.0.passwords.compare(password, kept.as_deref()).await {
            Ok(Compared::Right(renewed)) => {
                kept.map(|kept| Proven { kept, renewed }).ok_or(AccountError::InvalidCredentials)
            }
            Ok(Compared::Wrong) => {
                let line = self.line(device, What::Failed);
                self.change(address, |record, _| record.note_about(&line)).await??;
                Err(AccountError::InvalidCredentials)
            }
            // Nothing was compared.
            Err(failure) => {
                self.change(address, |record, _| record.budget.give_back()).await?;
                Err(failure.into())
            }
        }
    }

    /// Writes the session of the user who has proven to be one into the record.
    fn open(&self, record: &mut AccountRecord, draft: &Draft, line: &Line, now: Time) -> Result<Opened, AccountError> {
        let user = record.user.as_ref().ok_or(AccountError::InvalidCredentials)?;
        let User { id, epoch, state, .. } = *user;
        if state == State::Disabled {
            return Err(AccountError::Disabled);
        }
        // First: what leaves no trace is not done.
        record.note(Line { who: Who::User(id), ..line.clone() }.about(id))?;
        let limits = self.session_limits();
        let begun = sessions::begin(&mut record.sessions, draft, id, now, &limits, &self.0.mint);
        Ok(Opened { user: id, epoch, begun })
    }

    fn grant(&self, opened: Opened) -> Result<Grant, AccountError> {
        let Opened { user, epoch, begun } = opened;
        Ok(self.0.tokens.issue(user, epoch, begun)?)
    }
}

/// A session that is in the record.
struct Opened {
    user: Uuid,
    epoch: u64,
    begun: Begun,
}

impl AccountRecord {
    /// Where the code for a login or a new password is.
    fn code(&mut self, purpose: Purpose) -> &mut Option<Code> {
        match purpose {
            Purpose::Login => &mut self.login_code,
            Purpose::Reset | Purpose::Registration => &mut self.reset_code,
        }
    }

    /// Uses the code for a login or a new password up, if it is right; a wrong guess costs a try and a guess. The same is said
    /// where there is no code.
    pub(super) fn use_code(
        &mut self,
        purpose: Purpose,
        print: code::Print,
        failed: &Line,
        now: Time,
    ) -> Result<(), AccountError> {
        self.budget.check(now).map_err(|until| too_many_guesses(now, until))?;
        let right = self.code(purpose).as_mut().and_then(|code| code.guess(print)) == Some(true);
        if !right {
            // There is a guess: that was looked at.
            let _ = self.budget.take(now);
            self.note_about(failed)?;
            return Err(AccountError::InvalidCode { tries_left: None });
        }
        *self.code(purpose) = None;
        self.sent.give_back();
        Ok(())
    }
}

//! New passwords: with a code that was sent to the address, or by who knows the old one. Every login before ends with it, and
//! the owner gets a letter.

use uuid::Uuid;

use super::audit::{self, Line, What, Who};
use super::code::{self, Purpose};
use super::login::Proven;
use super::password;
use super::record::{AccountRecord, State, User};
use super::registration::{Mailed, too_many_guesses};
use super::{AccountError, Accounts, Address, Device};
use crate::outbox::Pending;
use crate::secret::Secret;

impl Accounts {
    /// Sends a code that sets a new password; to an address without an account a letter that says so.
    ///
    /// # Errors
    /// Too many requests or mails; [`AccountError::NoMail`].
    pub async fn forgot_password(&self, email: &str, device: &Device) -> Result<Mailed, AccountError> {
        let address = Address::parse(email)?;
        self.admit_about(&address)?;
        self.send_code(&address, Purpose::Reset, self.line(device, What::ResetAsked)).await
    }

    /// Sets a new password with a code that was sent.
    ///
    /// # Errors
    /// [`AccountError::Password`], [`AccountError::InvalidCode`], [`AccountError::TooManyGuesses`], [`AccountError::Busy`];
    /// too many requests.
    pub async fn reset_password(
        &self,
        email: &str,
        digits: &Secret,
        new: &Secret,
        device: &Device,
    ) -> Result<(), AccountError> {
        let address = Address::parse(email)?;
        if !code::is_code(digits.expose()) {
            return Err(AccountError::Malformed);
        }
        self.check_password(new, &address)?;
        self.admit_about(&address)?;
        self.look_whether_guessed(&address)?;
        let hash = self.hash(new).await?;
        let letter = self.changed_letter(&address)?;
        let (line, failed) = (self.line(device, What::PasswordReset), self.line(device, What::Failed));
        let print = self.print(Purpose::Reset, &address, "", digits);
        let reset = self.change(&address, |record, now| {
            record.use_code(Purpose::Reset, print, &failed, now)?;
            record.set_password(&hash, &letter, &line)
        });
        reset.await?
    }

    /// Sets a new password for a user who is logged in and knows the old one.
    ///
    /// # Errors
    /// [`AccountError::Password`], [`AccountError::InvalidCredentials`], [`AccountError::TooManyGuesses`],
    /// [`AccountError::LoggedOut`], [`AccountError::Busy`]; too many requests.
    pub async fn change_password(
        &self,
        user: Uuid,
        old: &Secret,
        new: &Secret,
        device: &Device,
    ) -> Result<(), AccountError> {
        let address = self.read(user).await?.ok_or(AccountError::LoggedOut)?.address;
        if old.expose().len() > password::MAX {
            return Err(AccountError::InvalidCredentials);
        }
        self.check_password(new, &address)?;
        self.admit_about(&address)?;
        let Proven { kept, .. } = self.prove(&address, old, device).await?;
        let hash = match self.hash(new).await {
            Ok(hash) => hash,
            Err(error) => {
                self.change(&address, |record, _| record.budget.give_back()).await?;
                return Err(error);
            }
        };
        let letter = self.changed_letter(&address)?;
        let line = self.line(device, What::PasswordChanged);
        let changed = self.change(&address, |record, _| {
            record.budget.give_back();
            let current = |found: &User| found.id == user && found.password.as_ref() == Some(&kept);
            if !record.user.as_ref().is_some_and(current) {
                return Err(AccountError::InvalidCredentials);
            }
            record.set_password(&hash, &letter, &line)
        });
        changed.await?
    }

    fn changed_letter(&self, address: &Address) -> Result<Pending, AccountError> {
        let letter = self.settings().writer().password_changed(self.0.clock.now());
        self.mail(address, &letter)
    }

    /// Refuses before a password is hashed what would be refused after it.
    fn look_whether_guessed(&self, address: &Address) -> Result<(), AccountError> {
        let Some(record) = self.peek(address)? else { return Ok(()) };
        let now = self.0.clock.now();
        record.budget.check(now).map_err(|until| too_many_guesses(now, until))
    }
}

impl AccountRecord {
    /// Sets the password of a user who may log in, and ends every login.
    fn set_password(&mut self, hash: &str, letter: &Pending, line: &Line) -> Result<(), AccountError> {
        let user = self.user.as_mut().ok_or(AccountError::InvalidCode { tries_left: None })?;
        if user.state == State::Disabled {
            return Err(AccountError::Disabled);
        }
        let id = user.id;
        // First: what leaves no trace is not done.
        audit::push(&mut self.lines, Line { who: Who::User(id), ..line.clone() }.about(id))?;
        user.password = Some(hash.to_owned());
        user.epoch += 1;
        self.sessions.clear();
        // Codes of before are of whoever asked for them.
        (self.login_code, self.reset_code) = (None, None);
        self.mails.push(letter.clone());
        Ok(())
    }
}

//! Why something about an account was refused, by what the caller can do about it. No error says whether an address has an
//! account, and none carries an address, a code or a password.

use std::time::Duration;

use super::address::InvalidAddress;
use super::audit::Full;
use super::password::{Failure, Unfit};
use super::tokens::Unsigned;
use crate::clock::Time;
use crate::outbox::OutboxError;
use crate::store::StoreError;

/// Why a request about an account was refused.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The address cannot be one; type another.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The name cannot be one.
    #[error("a name has 1 to {} characters and no control characters", super::registration::MAX_NAME)]
    Name,
    /// The password must not be used; choose another.
    #[error(transparent)]
    Password(#[from] Unfit),
    /// A code has six digits.
    #[error("a code is {} digits", super::code::DIGITS)]
    Malformed,
    /// The code is wrong, was used, has expired, or belongs to another registration.
    #[error("the code is wrong, was used or has expired")]
    InvalidCode {
        /// Guesses that the ticket still has, for who holds it.
        tries_left: Option<u8>,
    },
    /// Too many wrong codes; register again.
    #[error("this registration has no tries left; register again")]
    CodeSpent,
    /// Address or password is wrong.
    #[error("the address or the password is wrong")]
    InvalidCredentials,
    /// The token that proves the login is no longer good; log in again.
    #[error("the login has ended; log in again")]
    LoggedOut,
    /// The user has no session of that id; look at the list.
    #[error("none of your sessions has that id")]
    UnknownSession,
    /// The account was disabled by an operator; said only to who has proven to own it.
    #[error("the account is disabled")]
    Disabled,
    /// Too many wrong guesses about this address; the next one counts from this moment on.
    #[error("too many wrong guesses about this address; the next one is taken at {until}")]
    TooManyGuesses {
        /// When the next guess is taken.
        until: Time,
        /// How long that is from now.
        retry_after: Duration,
    },
    /// Too many mails to this address; the next one goes out from this moment on.
    #[error("a mail was sent to this address already; the next one may be asked for at {until}")]
    TooManyCodes {
        /// When the next one may be asked for.
        until: Time,
        /// How long that is from now.
        retry_after: Duration,
    },
    /// Too many requests of one client, about one address, or altogether.
    #[error("too many requests {whose}; ask again later")]
    RateLimited {
        /// Whose, in words.
        whose: &'static str,
        /// When to ask again.
        retry_after: Duration,
    },
    /// More passwords wait to be checked than may.
    #[error("too many passwords wait to be checked; ask again")]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// No mail server is configured.
    #[error("no mail can be sent: the configuration has no [mail] section (mail.url, mail.from)")]
    NoMail,
    /// The audit log does not take what belongs to the change; ask again.
    #[error(transparent)]
    Audit(#[from] Full),
    /// No token could be signed.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// A mail could not be prepared.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is not what its place says, or a hash not what was stored: restore from a snapshot.
    #[error("an account is damaged: {0}")]
    Damaged(&'static str),
}

impl From<Failure> for AccountError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Busy(retry_after) => Self::Busy { retry_after },
            Failure::Hash => Self::Damaged("a password's hash cannot be read"),
        }
    }
}

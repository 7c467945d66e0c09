//! The audit log: who did what to whom, from where and when.
//!
//! A [`Line`] is written into the record that it is about, in the same change, and moved from there to the chain by its
//! id: no change without its line, no line without its change. A line names people by their ids, never by address, and
//! carries no code, no password and no token.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;

/// Lines that may wait in one record. They leave within a second unless the store fails; then nothing more may be done
/// about that record rather than something without a trace.
pub const MAX_WAITING: usize = 64;
/// The longest detail in bytes; a longer one is cut.
const MAX_DETAIL: usize = 200;

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Drawn once by whoever does it: the chain takes an id once.
    pub id: Uuid,
    /// When.
    pub at: Time,
    /// By whom.
    pub who: Who,
    /// What.
    pub did: Deed,
    /// To whom or what: mostly the id of a user.
    pub to: Option<String>,
    /// From which address.
    pub from: Option<IpAddr>,
    /// What else there is to say, in one line.
    pub detail: Option<String>,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Somebody who has not shown who they are.
    Nobody,
    /// Nightporter itself.
    System,
    /// The user of this id.
    User(Uuid),
    /// An operator: the name of a token, or the account on the machine.
    Operator(String),
}

/// What was done. New ones are added at the end: records carry their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Asked for an account.
    Registered,
    /// Proved the address; the account exists from now on.
    Verified,
    /// Logged in.
    LoggedIn,
    /// Tried to log in with a wrong password or code.
    LoginFailed,
    /// Ended the session that they used.
    LoggedOut,
    /// Ended all sessions.
    LoggedOutEverywhere,
    /// Ended another session.
    SessionRevoked,
    /// A refresh token came a second time: its session was ended.
    RefreshReplayed,
    /// Asked for a password reset.
    ResetRequested,
    /// Set a new password by way of a mailed code.
    PasswordReset,
    /// Set a new password, knowing the old one.
    PasswordChanged,
    /// Disabled the account.
    Disabled,
    /// Enabled the account.
    Enabled,
    /// Gave the address its guesses back.
    Unbanned,
    /// Took all that is kept about the user out.
    Exported,
    /// Removed the user and all data but this log.
    Deleted,
    /// Made a new signing key.
    KeysRotated,
    /// Made an operator's token.
    TokenAdded,
    /// Ended an operator's token.
    TokenRevoked,
}

/// A record carries as many lines as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} lines of the audit log wait to be moved; try again")]
pub struct Full;

impl Line {
    /// A line about nothing in particular yet.
    pub const fn new(id: Uuid, at: Time, who: Who, did: Deed) -> Self {
        Self { id, at, who, did, to: None, from: None, detail: None }
    }

    /// The same line, about `to`.
    #[must_use]
    pub fn to(mut self, to: impl Into<String>) -> Self {
        self.to = Some(to.into());
        self
    }

    /// The same line, done from `address`.
    #[must_use]
    pub const fn from(mut self, address: Option<IpAddr>) -> Self {
        self.from = address;
        self
    }

    /// The same line with more to say: cut to 200 bytes, without control characters.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        let cut = &detail[..detail.floor_char_boundary(MAX_DETAIL)];
        self.detail = Some(cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect());
        self
    }
}

/// Puts `line` among those that wait in a record.
///
/// # Errors
/// [`Full`]: the change must not be made then.
pub fn push(waiting: &mut Vec<Line>, line: Line) -> Result<(), Full> {
    if waiting.len() >= MAX_WAITING {
        return Err(Full);
    }
    waiting.push(line);
    Ok(())
}

/// A record that carries lines until the chain has them.
pub trait Carrier: crate::store::Record + Clone + Sync {
    /// What it carries.
    fn lines(&self) -> &[Line];
    /// Where it carries it.
    fn lines_mut(&mut self) -> &mut Vec<Line>;
}

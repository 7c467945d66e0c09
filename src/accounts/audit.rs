//! The audit log: who did what to whom, from where and when.
//!
//! A [`Line`] is written into the record that it is about, in the same change, and moved from there to the chain by its
//! id: no change without its line, no line without its change. A line names people by their ids, never by address, and
//! carries no code, no password and no token.

mod chain;
mod mover;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::store::{Expires, Record};
pub use chain::{Broken, Fault, Numbered, Verdict};
pub use mover::{Audit, MAX_PAGE};

/// The kinds of records that are kept here.
pub(super) use chain::KINDS;

/// Lines that may wait in one record. They leave within a second unless the store fails; then nothing more may be done
/// about that record rather than something without a trace.
pub const MAX_WAITING: usize = 64;
/// The longest detail in bytes; a longer one is cut.
const MAX_DETAIL: usize = 200;

/// One line, waiting in its record to be moved to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its own, drawn once by whoever writes it; moved twice it is still one line.
    pub id: Uuid,
    /// When it happened.
    pub at: Time,
    /// What.
    pub what: What,
    /// By whom.
    pub who: Who,
    /// The user that it is about, once there is one.
    pub user: Option<Uuid>,
    /// The client's address, where one is known.
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
    /// An operator: a token by name and id, or the account on the machine.
    Operator(String),
}

/// What was done. New ones are added at the end: records keep their places in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Somebody asked for an account at the address.
    Registered,
    /// The address was proven to be the user's own.
    Verified,
    /// A login, by password or by code.
    LoggedIn,
    /// A wrong password or code.
    Failed,
    /// A code for a login was asked for.
    LoginCodeAsked,
    /// A code for a new password was asked for.
    ResetAsked,
    /// The password was set anew with a code.
    PasswordReset,
    /// The password was changed by who knew the old one.
    PasswordChanged,
    /// The user ended the session that the request came with.
    LoggedOut,
    /// The user ended all sessions.
    LoggedOutEverywhere,
    /// The user ended another session.
    SessionRevoked,
    /// A refresh token came again after its successor was in use: its session was ended.
    RefreshReplayed,
    /// A new signing key was made.
    KeysRotated,
    /// A token for an operator was made.
    TokenAdded,
    /// A token of an operator was ended.
    TokenRevoked,
    /// An operator has shut the user out.
    UserDisabled,
    /// An operator has let the user in again.
    UserEnabled,
    /// An operator has taken the user's password away and had a code for a new one sent.
    UserReset,
    /// An operator was given everything that is held about the user.
    UserExported,
    /// An operator has deleted the user.
    UserDeleted,
    /// An operator has forgotten the wrong guesses about the user's address.
    UserUnbanned,
}

/// A record carries as many lines as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} lines of the audit log wait to be moved; try again")]
pub struct Full;

impl Line {
    /// That `who` did `what`.
    pub const fn new(id: Uuid, at: Time, who: Who, what: What) -> Self {
        Self { id, at, what, who, user: None, from: None, detail: None }
    }

    /// The same line, about `user`.
    #[must_use]
    pub const fn about(mut self, user: Uuid) -> Self {
        self.user = Some(user);
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
pub trait Carrier: Record + Clone + Sync {
    /// What it carries.
    fn lines(&self) -> &[Line];
    /// Where it carries it.
    fn lines_mut(&mut self) -> &mut Vec<Line>;
    /// When the record ends, as it stands: it may stay longer while it carries lines than it does without.
    fn expires(&self, now: Time) -> Expires;
}

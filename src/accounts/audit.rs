//! What is noted about accounts: who did what from where. A line is written into the account's record in the change that it
//! tells of, so that neither is there without the other. No line carries a password, a code or a token.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;

/// One line, waiting in its account's record to be moved to the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its own; moved twice it is still one line.
    pub id: Uuid,
    /// When it happened.
    pub at: Time,
    /// What.
    pub what: What,
    /// The user, once there is one.
    pub user: Option<Uuid>,
    /// The client's address, where one is known.
    pub from: Option<IpAddr>,
}

/// What can happen to an account.
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
}

//! Registrations: an account is made of the one whose code was typed, with its own password and name. Each pending one is a
//! ticket of its own: whoever registers the same address as well gets another, and can neither change this one nor use up
//! its tries.

use serde::{Deserialize, Serialize};

use super::code::Code;
use crate::clock::Time;

/// The longest name, in characters.
pub(super) const MAX_NAME: usize = 200;

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

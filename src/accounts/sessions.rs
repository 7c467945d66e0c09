//! Logins that last: one for each device that a user has logged in with.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// Where a request came from, as far as it is known: told to the user, noted in the audit log, never trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// What its program calls itself, at most [`MAX_AGENT`] bytes.
    pub agent: String,
}

/// The longest name of a program that is kept, in bytes.
pub const MAX_AGENT: usize = 256;

impl Device {
    /// The device at `ip` whose program says that it is `agent`; what is too long is cut, control characters become spaces.
    pub fn new(ip: Option<IpAddr>, agent: &str) -> Self {
        let agent: String = agent.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        Self { ip, agent: agent[..agent.floor_char_boundary(MAX_AGENT)].to_owned() }
    }
}

/// A login of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginSession {
    /// Tells it from the user's others.
    pub(super) id: String,
    pub(super) device: Device,
    pub(super) created_at: Time,
}

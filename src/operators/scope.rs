//! Scopes: the rights that a token can carry, each a word that the API's description names too.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A right. Stored and shown as its word, so that the order here means nothing on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Scope {
    /// See portals, their sessions and events.
    PortalsRead,
    /// Send requests through a portal's session.
    PortalsRelay,
    /// Log in anew, fail over, pause, type codes.
    PortalsManage,
    /// See phones and what they forwarded, never texts.
    Sms,
    /// Run verification flows.
    Flows,
    /// Keep session records.
    Sessions,
    /// Run events, queues and rooms.
    Realtime,
    /// See and silence checks, beat hearts.
    Watchdog,
    /// Read `/metrics`.
    Metrics,
    /// Everything, alerts and whatever comes later included.
    Admin,
}

impl Scope {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::PortalsRead,
        Self::PortalsRelay,
        Self::PortalsManage,
        Self::Sms,
        Self::Flows,
        Self::Sessions,
        Self::Realtime,
        Self::Watchdog,
        Self::Metrics,
        Self::Admin,
    ];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PortalsRead => "portals:read",
            Self::PortalsRelay => "portals:relay",
            Self::PortalsManage => "portals:manage",
            Self::Sms => "sms",
            Self::Flows => "flows",
            Self::Sessions => "sessions",
            Self::Realtime => "realtime",
            Self::Watchdog => "watchdog",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

/// The word is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such scope; known: {}", Scope::ALL.map(Scope::as_str).join(", "))]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl TryFrom<String> for Scope {
    type Error = UnknownScope;

    fn try_from(text: String) -> Result<Self, UnknownScope> {
        text.parse()
    }
}

impl From<Scope> for &'static str {
    fn from(scope: Scope) -> Self {
        scope.as_str()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

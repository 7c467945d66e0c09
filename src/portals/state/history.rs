//! What happened to a portal, as far back as there is room for.

use serde::{Deserialize, Serialize};

use super::PortalRecord;
use crate::clock::Time;

/// Events kept per portal; older ones fall out.
pub(super) const EVENTS: usize = 100;
/// The longest detail of an event or failure in bytes: a hundred of them fit well into a record.
const DETAIL: usize = 240;
/// Something that happened to a portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the portal's history, from 1.
    pub seq: u64,
    /// When.
    pub at: Time,
    /// What.
    pub kind: EventKind,
    /// The session it is about.
    pub session_id: Option<String>,
    /// In words, without secrets.
    pub detail: String,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A login began.
    LoginStarted,
    /// A code was typed.
    CodeUsed,
    /// A session logged in.
    Authenticated,
    /// A saved session was found alive after a restart or a doubt.
    Restored,
    /// The portal does not know a session any more.
    Expired,
    /// The standby became active.
    Failover,
    /// A login failed.
    LoginFailed,
    /// Recovery has finally failed.
    ReauthFailed,
    /// Recovery succeeded after it had finally failed.
    Recovered,
    /// An operator paused the portal.
    Paused,
    /// An operator resumed it.
    Resumed,
    /// An operator asked for a fresh login.
    ReauthRequested,
    /// The browser died, or hung and was killed, and was replaced.
    BrowserReplaced,
    /// The standby was logged in afresh before its learned end.
    Renewed,
    /// That did not succeed; the former standby lives on.
    RenewalFailed,
    /// The standby was logged in afresh, so credentials, phone and recipe work today.
    DrillPassed,
    /// That did not succeed; the former standby lives on.
    DrillFailed,
    /// A person typed a code for a login.
    CodeTyped,
    /// The portal tolerates one session only, so no second one is kept.
    StandbyGivenUp,
    /// The browser had been in use for long enough and was replaced by a fresh one.
    BrowserRecycled,
    /// A login was cut off, by the end of the process for instance.
    Interrupted,
}

impl EventKind {
    /// The word that clients switch on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoginStarted => "login_started",
            Self::CodeUsed => "code_used",
            Self::Authenticated => "authenticated",
            Self::Restored => "restored",
            Self::Expired => "expired",
            Self::Failover => "failover",
            Self::LoginFailed => "login_failed",
            Self::ReauthFailed => "reauth_failed",
            Self::Recovered => "recovered",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::ReauthRequested => "reauth_requested",
            Self::BrowserReplaced => "browser_replaced",
            Self::Renewed => "renewed",
            Self::RenewalFailed => "renewal_failed",
            Self::DrillPassed => "drill_passed",
            Self::DrillFailed => "drill_failed",
            Self::CodeTyped => "code_typed",
            Self::StandbyGivenUp => "standby_given_up",
            Self::BrowserRecycled => "browser_recycled",
            Self::Interrupted => "interrupted",
        }
    }
}

impl PortalRecord {
    /// Adds to the history.
    pub fn note(&mut self, at: Time, kind: EventKind, session_id: Option<&str>, detail: &str) {
        self.event_count += 1;
        let (seq, session_id) = (self.event_count, session_id.map(str::to_owned));
        self.events.push(Event { seq, at, kind, session_id, detail: shorten(detail) });
        if self.events.len() > EVENTS {
            self.events.remove(0);
        }
    }
}

/// At most as much of a detail as is kept.
pub(in crate::portals) fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(DETAIL)].to_owned()
}

//! What clients see of a portal, in the words of the API. Reads the present state and decides nothing.

use std::time::Duration;

use serde::Serialize;

use super::{Live, Portal, PortalError, Sessions};
use crate::clock::Time;
use crate::portals::inbox::PhoneState;
use crate::portals::learning::Learned;
use crate::portals::state::{Failure, Role, Slot};
use crate::portals::upkeep::Drill;

/// A portal's state for clients.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Portal)]
pub struct View {
    /// The portal's name.
    pub portal: String,
    /// `starting`, `live`, `degraded`, `recovering`, `down` or `paused`.
    pub state: &'static str,
    /// Grows by one with every change of the active session.
    pub epoch: u64,
    /// The session that serves.
    pub active: Option<SlotView>,
    /// The session that waits.
    pub standby: Option<SlotView>,
    /// The phone that gets the codes, the first of them where there are several.
    pub phone: Option<PhoneView>,
    /// All phones that may get the codes.
    pub phones: Vec<PhoneView>,
    /// The last failed login.
    pub last_failure: Option<FailureView>,
    /// When a session is looked at next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_check_at: Option<Time>,
    /// What the ends of earlier sessions teach.
    pub learned: LearnedView,
    /// The last login that was made before it was needed.
    pub last_drill: Option<DrillView>,
    /// When the standby is next logged in afresh, by drill or renewal; null where that is not done.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_drill_at: Option<Time>,
}

/// How long sessions of a portal live; believed after three occasions.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PortalLifetimes)]
pub struct LearnedView {
    /// Seconds after which a session ends however much it is used; null while nothing of the kind is known.
    pub absolute: Option<u64>,
    /// Seconds without use after which a session has ended, perhaps sooner; null while nothing of the kind is known.
    pub idle: Option<u64>,
    /// How many ends of sessions this rests on, at most 24.
    pub observations: usize,
}

/// A drill or a renewal for clients.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PortalDrill)]
pub struct DrillView {
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// Whether the login succeeded: credentials, phone and recipe worked then.
    pub ok: bool,
    /// In words.
    pub detail: String,
}

/// A session for clients.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PortalSession)]
pub struct SlotView {
    /// Its id; null while the place is empty.
    pub session_id: Option<String>,
    /// `empty`, `logging_in`, `awaiting_code`, `authenticated`, `expired` or `failed`.
    pub status: &'static str,
    /// When it logged in.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub authenticated_at: Option<Time>,
    /// When it was last checked by this process.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_check_at: Option<Time>,
    /// Whether it was alive then.
    pub last_check_ok: Option<bool>,
}

/// A phone for clients.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Phone)]
pub struct PhoneView {
    /// Its name in the configuration.
    pub name: String,
    /// `proven`, `unproven` or `silent`.
    #[schema(value_type = String)]
    pub state: PhoneState,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Time>,
}

/// A failed login for clients.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PortalFailure)]
pub struct FailureView {
    /// The cause, as the contract words it.
    pub cause: &'static str,
    /// In words.
    pub detail: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
}

impl Portal {
    /// The state for clients, as the contract words it.
    ///
    /// # Errors
    /// When the phone's record cannot be read.
    pub fn view(&self) -> Result<View, PortalError> {
        let live = self.0.kept.live.borrow().clone();
        let record = &live.record;
        let phone = |name: &String| {
            let status = self.0.kept.tools.inbox.phone(name)?;
            Ok(PhoneView { name: name.clone(), state: status.state, last_seen_at: status.last_seen_at })
        };
        let phones = self.0.settings.phones.iter().map(phone).collect::<Result<Vec<_>, PortalError>>()?;
        Ok(View {
            portal: self.0.kept.name.clone(),
            state: live.state(self.0.settings.sessions),
            epoch: record.epoch,
            active: live.slot_view(Role::Active, self.0.settings.sessions),
            standby: live.slot_view(Role::Standby, self.0.settings.sessions),
            phone: phones.first().cloned(),
            phones,
            last_failure: record.last_failure.clone().map(FailureView::from),
            next_check_at: live.next_check_at,
            learned: record.learned(self.now()).into(),
            last_drill: record.last_drill.clone().map(DrillView::from),
            next_drill_at: live.next_drill_at,
        })
    }
}

impl Live {
    fn state(&self, sessions: Sessions) -> &'static str {
        let record = &self.record;
        let whole = sessions != Sessions::Parallel || record.ready_standby().is_some();
        match record.serving() {
            _ if record.paused => "paused",
            Some(_) if whole => "live",
            Some(_) => "degraded",
            None if record.recovery.given_up.is_some() && self.login.is_none() => "down",
            None if record.epoch == 0 => "starting",
            None => "recovering",
        }
    }

    /// What a client sees of one place; None when no session is wanted there and none is.
    fn slot_view(&self, role: Role, sessions: Sessions) -> Option<SlotView> {
        let slot = match role {
            Role::Active => self.record.active.as_ref(),
            Role::Standby => self.record.standby.as_ref(),
        };
        let login = self.login.as_ref().filter(|login| login.role == role);
        let given_up = self.record.recovery.given_up.is_some();
        let bare = |session_id, status| SlotView {
            session_id,
            status,
            authenticated_at: None,
            last_check_at: None,
            last_check_ok: None,
        };
        let held = |slot: &Slot, status| {
            let checked = self.sessions.get(&slot.session_id).and_then(|session| session.checked());
            SlotView {
                session_id: Some(slot.session_id.clone()),
                status,
                authenticated_at: Some(slot.authenticated_at),
                last_check_at: checked.map(|(at, _)| at),
                last_check_ok: checked.map(|(_, alive)| alive),
            }
        };
        Some(match (slot, login) {
            (Some(slot), _) if !slot.expired => held(slot, "authenticated"),
            (_, Some(login)) => {
                bare(Some(login.session_id.clone()), if login.awaiting_code { "awaiting_code" } else { "logging_in" })
            }
            (Some(slot), None) => held(slot, if given_up { "failed" } else { "expired" }),
            (None, None) if role == Role::Standby && sessions == Sessions::Single => return None,
            // Ready, and to be filled only when the other one is gone.
            (None, None) if role == Role::Standby && sessions == Sessions::ColdStandby => bare(None, "empty"),
            (None, None) => bare(None, if given_up { "failed" } else { "empty" }),
        })
    }
}

impl From<Failure> for FailureView {
    fn from(failure: Failure) -> Self {
        Self { cause: failure.cause.as_str(), detail: failure.detail, at: failure.at }
    }
}

impl From<Learned> for LearnedView {
    fn from(learned: Learned) -> Self {
        let Learned { absolute, idle, observations } = learned;
        let seconds = |span: Duration| span.as_secs();
        Self { absolute: absolute.map(seconds), idle: idle.map(seconds), observations }
    }
}

impl From<Drill> for DrillView {
    fn from(drill: Drill) -> Self {
        Self { at: drill.at, ok: drill.ok, detail: drill.detail }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Login;
    use super::*;
    use crate::portals::state::PortalRecord;

    #[test]
    fn a_place_shows_one_session_and_never_two_mixed() {
        let (then, now) = (Time::from_millis(1000), Time::from_millis(2000));
        let mut record = PortalRecord::default();
        let empty = Live::default();
        assert_eq!(empty.slot_view(Role::Active, Sessions::Single).unwrap().status, "empty");
        assert_eq!(empty.slot_view(Role::Standby, Sessions::Parallel).unwrap().session_id, None);
        assert!(empty.slot_view(Role::Standby, Sessions::Single).is_none());
        assert_eq!(empty.slot_view(Role::Standby, Sessions::ColdStandby).unwrap().status, "empty");
        record.admit("a", true, "", then);
        record.expire("a", "401", now);
        let login = Login {
            session_id: "b".to_owned(),
            role: Role::Active,
            awaiting_code: true,
            queued: false,
            confirmed: true,
        };
        let mut live = Live { record: Arc::new(record), login: Some(login), ..Live::default() };
        let shown = live.slot_view(Role::Active, Sessions::Parallel).unwrap();
        assert_eq!((shown.session_id.as_deref(), shown.status), (Some("b"), "awaiting_code"));
        assert_eq!(shown.authenticated_at, None, "that was the session before");
        live.login = None;
        let shown = live.slot_view(Role::Active, Sessions::Parallel).unwrap();
        assert_eq!((shown.status, shown.authenticated_at), ("expired", Some(then)));
    }
}

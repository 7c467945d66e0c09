//! What an operator may ask of a portal, and what he is shown of it. A wish is one change of the record; the keeper, woken,
//! fulfils it.

use super::{Portal, PortalError};
use crate::portals::evidence::{self, Exhibit, Part};
use crate::portals::repair;
use crate::portals::state::{Event, EventKind, PortalRecord, Role};
use crate::secret::Secret;

/// Who asks for something; the history tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An operator, by the API or on the command line.
    Operator,
    /// Whoever opened the one-time link of an alert.
    Link,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Operator => "an operator",
            Self::Link => "somebody with the one-time link",
        })
    }
}

impl Portal {
    /// Promotes the standby.
    ///
    /// # Errors
    /// [`PortalError::NoStandby`], or when the store fails.
    pub async fn failover(&self) -> Result<(), PortalError> {
        let now = self.now();
        if !self.change(|record| record.promote(now)).await? {
            return Err(PortalError::NoStandby(self.0.kept.name.clone()));
        }
        tracing::info!(portal = self.0.kept.name, "portal {}: an operator promoted the standby", self.0.kept.name);
        self.wake();
        Ok(())
    }

    /// Asks for a fresh login, whatever the state of the sessions, the back-off or an earlier failure. The new session
    /// becomes the active one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reauth(&self, by: By) -> Result<(), PortalError> {
        let now = self.now();
        let asked = format!("{by} asked for a fresh login");
        let ask = |record: &mut PortalRecord| {
            record.start_over();
            record.reauth = true;
            record.note(now, EventKind::ReauthRequested, None, &asked);
        };
        self.change(ask).await?;
        self.wake();
        Ok(())
    }

    /// Stops or restarts checks and logins; sessions that live go on serving.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pause(&self, paused: bool) -> Result<(), PortalError> {
        let now = self.now();
        let set = |record: &mut PortalRecord| {
            if record.paused != paused {
                record.paused = paused;
                let kind = if paused { EventKind::Paused } else { EventKind::Resumed };
                record.note(now, kind, None, "by an operator");
                record.interrupt_login("by the pause", now);
            }
        };
        self.change(set).await?;
        self.wake();
        Ok(())
    }

    /// Hands a code that a person typed to the login that is under way.
    ///
    /// # Errors
    /// [`PortalError::Code`] when nobody waits for one, or it is none of this portal's.
    pub async fn type_code(&self, code: &Secret, by: By) -> Result<(), PortalError> {
        self.recipe().code.as_ref().map_or(Ok(()), |rules| rules.admit(code))?;
        self.0.kept.tools.inbox.type_code(self.name(), code)?;
        let (now, told) = (self.now(), format!("by {by}"));
        let noted = self.change(|record| record.note(now, EventKind::CodeTyped, None, &told)).await;
        if let Err(error) = noted {
            // The login has the code all the same.
            tracing::error!(portal = self.name(), "portal {}: a code typed {told} was not noted: {error}", self.name());
        }
        Ok(())
    }

    /// What happened, newest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.kept.live.borrow().record.events.iter().rev().cloned().collect()
    }

    /// What is kept of failed logins, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn evidence(&self) -> Result<Vec<Exhibit>, PortalError> {
        Ok(evidence::list(self.name(), &self.tools().store)?)
    }

    /// One part of the evidence of that number; None when it is not kept.
    ///
    /// # Errors
    /// When the store fails or the seal does not open.
    pub fn exhibit(&self, number: u64, part: Part) -> Result<Option<Vec<u8>>, PortalError> {
        Ok(evidence::read(self.name(), number, part, &self.tools().store, &self.tools().vault)?)
    }

    /// A picture of the portal's start page as the session of `role` sees it, with passwords masked.
    ///
    /// # Errors
    /// [`PortalError::NoLiveSession`], or [`PortalError::NoPicture`] when the browser cannot.
    pub async fn screenshot(&self, role: Role) -> Result<Vec<u8>, PortalError> {
        let none = || PortalError::NoLiveSession(self.0.kept.name.clone());
        let session = {
            let live = self.0.kept.live.borrow();
            let slot = match role {
                Role::Active => live.record.serving(),
                Role::Standby => live.record.ready_standby(),
            };
            live.sessions.get(&slot.ok_or_else(none)?.session_id).cloned().ok_or_else(none)?
        };
        repair::picture(self, &session).await.map_err(|error| PortalError::NoPicture(error.to_string()))
    }
}

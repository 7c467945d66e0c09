//! What somebody who has logged in may do with that: see who they are, stay, leave, and end their other sessions.
//!
//! Whoever calls has shown a token that [`super::Gate`] admitted, or a refresh token. Nothing here believes an id that
//! a client sent: ids of sessions are looked for among the visitor's own.

use serde::{Deserialize, Serialize};

use super::audit::{Line, What, Who};
use super::gate::Visitor;
use super::record::{AccountRecord, State};
use super::refresh::{Fresh, Turn};
use super::registration::Verified;
use super::sessions::{self, Begun, Device, Limits, LoginSession, SessionId};
use super::tokens::Grant;
use super::{AccountError, Accounts};
use crate::clock::Time;

/// A session as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its name.
    pub id: SessionId,
    /// When somebody logged in.
    pub begun_at: Time,
    /// When it was last refreshed.
    pub used_at: Time,
    /// When it ends if nobody refreshes it.
    pub ends_at: Time,
    /// With what.
    pub device: Device,
    /// Whether the request came with it.
    pub current: bool,
}

/// Those of `sessions` that last at `now`, the latest first; `current` is the one that the request came with.
pub(super) fn lasting(
    sessions: &[LoginSession],
    limits: &Limits,
    now: Time,
    current: Option<SessionId>,
) -> Vec<SessionView> {
    let view = |session: &LoginSession| SessionView {
        id: session.id,
        begun_at: session.begun_at,
        used_at: session.used_at,
        ends_at: session.over_at(limits),
        device: session.device.clone(),
        current: current == Some(session.id),
    };
    let mut views: Vec<SessionView> =
        sessions.iter().filter(|session| session.over_at(limits) > now).map(view).collect();
    views.sort_by_key(|view| std::cmp::Reverse((view.begun_at, view.id)));
    views
}

impl Accounts {
    /// Who the visitor is.
    ///
    /// # Errors
    /// [`AccountError::LoggedOut`] when the user is gone, or a failing store.
    pub async fn profile(&self, visitor: &Visitor) -> Result<Verified, AccountError> {
        let record = self.read(visitor.user).await?.ok_or(AccountError::LoggedOut)?;
        let AccountRecord { address, user, .. } = record;
        user.map(|user| Verified { address, user }).ok_or(AccountError::LoggedOut)
    }

    /// The next tokens for who shows a refresh token; the same ones for who shows it again within the grace. Later it ends
    /// the session, and its owner is told.
    ///
    /// # Errors
    /// [`AccountError::LoggedOut`] when it is not good; others when that cannot be known.
    pub async fn refresh(&self, token: &str, device: &Device) -> Result<Grant, AccountError> {
        let presented = self.0.mint.read(token).ok_or(AccountError::LoggedOut)?;
        let (user, session) = (presented.user(), presented.session());
        let owner = self.read(user).await?.ok_or(AccountError::LoggedOut)?.address;
        let (fresh, limits) = (Fresh::draw(&self.0.random), self.session_limits());
        let line = self.line(device, What::RefreshReplayed).about(user).detail(session.to_string());
        let (settings, now) = (self.settings(), self.0.clock.now());
        let letter = settings.writer().session_stolen(now);
        let mail = if settings.mail { Some(self.mail(&owner, &letter)?) } else { None };
        let turned = self.change_user(user, |record, now| {
            let turn = sessions::refresh(&mut record.sessions, &presented, &fresh, now, &limits, &self.0.mint);
            if turn == Turn::Replayed {
                record.note(line.clone())?;
                record.mails.extend(mail.clone());
            }
            let ends_at = record.sessions.iter().find(|found| found.id == session).map(|found| found.ends_at);
            let welcome = record.user.as_ref().filter(|user| user.state == State::Active);
            Ok::<_, AccountError>((turn, welcome.map(|user| user.epoch), ends_at))
        });
        match turned.await?.ok_or(AccountError::LoggedOut)?? {
            (Turn::Next { refresh } | Turn::Same { refresh }, Some(epoch), Some(ends_at)) => {
                Ok(self.0.tokens.issue(user, epoch, Begun { id: session, ends_at, refresh })?)
            }
            (Turn::Replayed, ..) => {
                tracing::warn!(%user, %session, "session {session} of user {user} was ended: a refresh token came again");
                Err(AccountError::LoggedOut)
            }
            _ => Err(AccountError::LoggedOut),
        }
    }

    /// The visitor's sessions, the latest first.
    ///
    /// # Errors
    /// [`AccountError::LoggedOut`] when the user is gone, or a failing store.
    pub async fn sessions(&self, visitor: &Visitor) -> Result<Vec<SessionView>, AccountError> {
        let record = self.read(visitor.user).await?.ok_or(AccountError::LoggedOut)?;
        Ok(lasting(&record.sessions, &self.session_limits(), self.0.clock.now(), Some(visitor.session)))
    }

    /// Ends one of the visitor's sessions: the one that they came with, or another.
    ///
    /// # Errors
    /// [`AccountError::UnknownSession`] when they have none of that id.
    pub async fn end_session(&self, visitor: &Visitor, id: SessionId, device: &Device) -> Result<(), AccountError> {
        let what = if id == visitor.session { What::LoggedOut } else { What::SessionRevoked };
        let line = Line { who: Who::User(visitor.user), ..self.line(device, what) };
        let line = line.about(visitor.user).detail(id.to_string());
        let limits = self.session_limits();
        let end = |record: &mut AccountRecord, now: Time| {
            let ended = sessions::end(&mut record.sessions, id, now, &limits);
            if ended {
                record.note(line.clone())?;
            }
            Ok::<_, AccountError>(ended)
        };
        let ended = self.change_user(visitor.user, end).await?.ok_or(AccountError::LoggedOut)??;
        if ended { Ok(()) } else { Err(AccountError::UnknownSession) }
    }

    /// Ends the session of a refresh token, for who wants to leave after the access token has expired. One that is not good has
    /// nothing to end, which is what was wanted.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn leave(&self, refresh_token: &str, device: &Device) -> Result<(), AccountError> {
        let Some(presented) = self.0.mint.read(refresh_token) else { return Ok(()) };
        let (user, session, expires_at) = (presented.user(), presented.session(), self.0.clock.now());
        match self.end_session(&Visitor { user, session, expires_at }, session, device).await {
            Ok(()) | Err(AccountError::UnknownSession | AccountError::LoggedOut) => Ok(()),
            failed => failed,
        }
    }

    /// Ends all of the visitor's sessions, and every token of theirs with it.
    ///
    /// # Errors
    /// [`AccountError::LoggedOut`] when the user is gone, or a failing store.
    pub async fn end_all_sessions(&self, visitor: &Visitor, device: &Device) -> Result<(), AccountError> {
        let line = Line { who: Who::User(visitor.user), ..self.line(device, What::LoggedOutEverywhere) };
        let line = line.about(visitor.user);
        let end = |record: &mut AccountRecord, _: Time| {
            record.sessions.clear();
            if let Some(user) = &mut record.user {
                user.epoch += 1;
            }
            Ok(record.note(line.clone())?)
        };
        self.change_user(visitor.user, end).await?.ok_or(AccountError::LoggedOut)?
    }
}

//! A turn: one login's exclusive use of a phone, from before it asks for a code until it is done.
//!
//! Dropping the turn ends it, whatever happened to the login, and the next in the queue gets the phone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::line::{Line, Window};
use super::record::Print;
use super::{Expected, Inbox, InboxError};
use crate::clock::Time;
use crate::secret::{Secret, VaultError};

/// The guard of a turn; made by [`Inbox::turn`].
#[derive(Debug)]
pub struct Turn {
    pub(super) inbox: Inbox,
    pub(super) line: Arc<Line>,
    pub(super) phone: String,
    pub(super) portal: String,
    pub(super) last: Option<Given>,
    pub(super) _door: OwnedSemaphorePermit,
}

/// The code that was given out last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    print: Print,
    by_phone: bool,
}

/// A code to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub secret: Secret,
    /// How long it had been here.
    pub age: Duration,
    /// Whether it was here before anybody waited.
    pub buffered: bool,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum NoCode {
    /// None came in time: ask the portal to send another, or give up with `no_sms`.
    #[error("no code came in time")]
    Late,
    /// The process is stopping.
    #[error("stopping")]
    Stopping,
    /// The inbox could not do its work.
    #[error(transparent)]
    Failed(#[from] InboxError),
}

impl Turn {
    /// Says that a code is about to be asked for: to be called right before each click that sends one. Codes count from
    /// now on; what came before is dropped. The wait begins with [`Turn::code`].
    ///
    /// # Errors
    /// When the store failed; then do not click.
    pub async fn expect(&mut self, expected: Expected) -> Result<(), InboxError> {
        let since = self.inbox.now();
        let number = self.inbox.change(&self.phone, |phone| phone.open_window()).await?;
        self.line.open(Window { number, since, expected: Arc::new(expected) });
        Ok(())
    }

    /// Waits for the code until `deadline`, at most for the recipe's timeout. One that an operator typed comes first.
    ///
    /// Drop the wait only together with the turn: a code that is just being taken goes with it.
    ///
    /// # Errors
    /// [`NoCode::Late`] when the time ran out; the phone counts as silent then.
    pub async fn code(&mut self, deadline: Time) -> Result<Code, NoCode> {
        let line = Arc::clone(&self.line);
        let _waiting = line.wait();
        let mut bell = line.listen();
        let limit = line.window().map(|window| self.inbox.now() + window.expected.timeout);
        let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
        let inbox = self.inbox.clone();
        let end = inbox.sleep(deadline.since(inbox.now()));
        tokio::pin!(end);
        let mut buffered = true;
        loop {
            bell.mark_unchanged();
            if let Some(code) = self.look(buffered).await? {
                return Ok(code);
            }
            buffered = false;
            tokio::select! {
                biased;
                () = self.inbox.stopping() => return Err(NoCode::Stopping),
                _ = bell.changed() => {}
                () = &mut end => break,
            }
        }
        let now = self.inbox.now();
        self.inbox.change(&self.phone, |phone| phone.vain_at = Some(now)).await?;
        Err(NoCode::Late)
    }

    /// Says that the portal rejected the last code. It is not given out again in this turn, in whatever message it comes;
    /// only a newer one counts.
    pub fn rejected(&mut self) {
        if let Some(given) = self.last {
            self.line.reject(given.print);
        }
    }

    /// Says that the portal accepted the last code, which proves the phone if it came from there.
    ///
    /// # Errors
    /// When the store failed. The login is no worse for it.
    pub async fn accepted(&mut self) -> Result<(), InboxError> {
        if self.last.is_some_and(|given| given.by_phone) {
            let now = self.inbox.now();
            self.inbox.change(&self.phone, |phone| phone.accepted_at = Some(now)).await?;
        }
        Ok(())
    }

    async fn look(&mut self, buffered: bool) -> Result<Option<Code>, InboxError> {
        if let Some(secret) = self.line.take_typed() {
            tracing::info!(portal = self.portal, "portal {} uses a code typed by an operator", self.portal);
            return Ok(Some(self.give(secret, Duration::ZERO, buffered, false)));
        }
        let Some(window) = self.line.window() else { return Ok(None) };
        let (rejected, now) = (self.line.rejected(), self.inbox.now());
        let taken = self.inbox.change(&self.phone, |phone| phone.take(window.number, &rejected, now)).await?;
        let Some(held) = taken else { return Ok(None) };
        if !buffered {
            self.line.hand(held.print);
        }
        let plain = self.inbox.open(&self.phone, &held.sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::Sealed)?;
        let age = now.since(held.mark.arrived_at);
        if buffered {
            let (portal, early) = (&self.portal, age.as_secs_f64());
            tracing::info!(portal, early, phone = self.phone, "SMS code for portal {portal} was {early:.1} s early");
        }
        Ok(Some(self.give(Secret::new(text), age, buffered, true)))
    }

    fn give(&mut self, secret: Secret, age: Duration, buffered: bool, by_phone: bool) -> Code {
        self.last = Some(Given { print: self.inbox.code_print(&secret), by_phone });
        Code { secret, age, buffered }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the door opens for the next, which happens when the fields are dropped.
        self.line.leave();
    }
}

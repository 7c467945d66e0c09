//! Why a login failed: the cause, the words and the evidence. What to do about it is the keeper's to decide.

use std::time::Duration;

use super::code::no_sms;
use super::{Attempt, StepTaken};
use crate::browsers::{BrowserError, Kind};
use crate::clock;
use crate::portals::evidence;
use crate::portals::inbox::Busy;
use crate::portals::recipe::Cause;
use crate::secret::Secret;

/// How long the evidence of a failure may take.
const EVIDENCE: Duration = Duration::from_secs(8);

/// Why a login failed.
#[derive(Debug)]
pub(in crate::portals) struct LoginFailure {
    /// What to do about it depends on this.
    pub(in crate::portals) cause: Cause,
    /// In words, without secrets.
    pub(in crate::portals) detail: String,
    /// The page as it was, as PNG with secrets masked.
    pub(in crate::portals) picture: Option<Vec<u8>>,
    /// The last steps, the one that failed at the end.
    pub(in crate::portals) steps: Vec<StepTaken>,
    /// The document as it was, without values.
    pub(in crate::portals) page: Option<String>,
}

/// Why there is no session.
#[derive(Debug)]
pub(in crate::portals) enum NoLogin {
    /// The phone serves others. The portal has seen nothing, so this is no attempt.
    Busy(Busy),
    /// The login failed.
    Failed(LoginFailure),
}

impl<T: Into<LoginFailure>> From<T> for NoLogin {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

impl LoginFailure {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), picture: None, page: None, steps: Vec::new() }
    }
}

impl From<BrowserError> for LoginFailure {
    fn from(error: BrowserError) -> Self {
        let cause = match error.kind() {
            Kind::PortalDown => Cause::PortalDown,
            Kind::PageChanged => Cause::PageChanged,
            Kind::BrowserFailed => Cause::BrowserFailed,
        };
        Self::new(cause, error.to_string())
    }
}

/// Our own part failed: as with a browser that does, trying again may help.
pub(super) fn failed_inside(error: &dyn std::error::Error) -> LoginFailure {
    LoginFailure::new(Cause::BrowserFailed, error.to_string())
}

impl Attempt<'_> {
    pub(super) async fn too_long(&self) -> LoginFailure {
        let detail = format!("the login was not done by {}", self.deadline.local());
        let Some(turn) = self.turn.as_ref().filter(|_| self.code_awaited) else {
            return LoginFailure::new(Cause::PageChanged, detail);
        };
        if let Err(error) = turn.in_vain().await {
            tracing::error!(portal = self.portal.name(), "a wait in vain was not noted: {error}");
        }
        no_sms(self.portal, format!("{detail}: no code had come"))
    }

    /// Adds where it happened and what the page looked like, and looks again whether the portal is simply down.
    pub(super) async fn explain(&mut self, mut failure: LoginFailure) -> LoginFailure {
        self.trace.failed(&failure.detail);
        failure.steps = self.trace.last();
        let steps = &self.portal.recipe().login.steps;
        if let Some(step) = steps.get(self.step) {
            failure.detail = format!("step {} (line {}): {}", self.step + 1, step.line, failure.detail);
        }
        if let Ok(Ok(picture)) = clock::within(EVIDENCE, self.page.screenshot(&[], &self.typed)).await {
            failure.picture = Some(picture);
        }
        if let Ok(Ok(page)) = clock::within(EVIDENCE, self.page.outline()).await {
            // The page may say it in plain words: "user … with password … is unknown".
            let secrets = self.typed.iter().map(Secret::expose).chain(self.values.values().map(String::as_str));
            failure.page = Some(evidence::without(page, secrets));
        }
        if failure.cause == Cause::PageChanged && self.portal_is_down().await {
            failure.cause = Cause::PortalDown;
        }
        // Once a code was asked for, a portal that breaks down after it would get a login and an SMS each minute for ever.
        if let (Cause::PortalDown, Some(spent), false) = (failure.cause, self.spent, self.code_asked) {
            let refund = self.portal.change(|record| record.refund_login(spent)).await;
            if let Err(error) = refund {
                tracing::error!(portal = self.portal.name(), "a login was not given back: {error}");
            }
        }
        failure
    }

    /// A page that is not what the recipe expects may be the portal's way of being down.
    async fn portal_is_down(&self) -> bool {
        let start = self.portal.recipe().base_url.as_str();
        match clock::within(EVIDENCE, self.page.goto(start, EVIDENCE)).await {
            Ok(Ok(landing)) if landing.status >= 500 => true,
            // A page that comes by half has no selectors in its other half.
            Ok(Ok(_)) => matches!(clock::within(EVIDENCE, self.page.breaks_off()).await, Ok(Ok(true))),
            Ok(Err(error)) => error.kind() == Kind::PortalDown,
            Err(_) => true,
        }
    }
}

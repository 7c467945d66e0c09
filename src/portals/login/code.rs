//! The steps about codes: from the click that asks for one to the field that takes it. What a code is and whether it may
//! be used is decided by the inbox.

use std::time::Duration;

use super::failure::failed_inside;
use super::{Attempt, LoginFailure};
use crate::portals::inbox::{Code, Expected, NoCode, Turn};
use crate::portals::portal::Portal;
use crate::portals::recipe::{Cause, Recipe};
use crate::portals::state::EventKind;
use crate::portals::totp;

impl Attempt<'_> {
    /// Codes count from now on.
    pub(super) async fn expect_code(&mut self) -> Result<(), LoginFailure> {
        let (Some(turn), Some(expected)) = (&mut self.turn, expected(self.portal.recipe())) else { return Ok(()) };
        turn.expect(expected).await.map_err(|error| failed_inside(&error))
    }

    pub(super) async fn code(
        &mut self,
        selector: &str,
        resend: Option<&str>,
        limit: Duration,
    ) -> Result<(), LoginFailure> {
        let patience = self.portal.recipe().code.as_ref().map_or(Duration::from_secs(120), |code| code.timeout);
        // A page without the field is a changed page, and no reason to blame the phone minutes later. A code that comes
        // meanwhile is kept by the turn.
        self.page.wait_for(selector, limit).await?;
        self.awaiting_code(true);
        let code = self.wait_for_code(patience, resend, limit).await;
        self.awaiting_code(false);
        let code = code?;
        let how = if code.buffered {
            format!("a code came {:.1} s before it was waited for", code.age.as_secs_f64())
        } else {
            "a code came while it was waited for".to_owned()
        };
        let now = self.portal.now();
        let noted = self.portal.change(|record| record.note(now, EventKind::CodeUsed, None, &how)).await;
        noted.map_err(|error| failed_inside(&error))?;
        self.typed.push(code.secret.clone());
        self.trace.saw(how);
        self.page.fill(selector, code.secret.expose(), limit).await?;
        self.code_typed = true;
        Ok(())
    }

    async fn wait_for_code(
        &mut self,
        patience: Duration,
        resend: Option<&str>,
        limit: Duration,
    ) -> Result<Code, LoginFailure> {
        let end = self.portal.now() + patience;
        let first = if resend.is_some() { self.portal.now() + patience / 2 } else { end };
        let code = match (self.turn()?.code(first).await, resend) {
            (Err(NoCode::Late), Some(resend)) => {
                tracing::info!(portal = self.portal.name(), "portal {}: asking for the code again", self.portal.name());
                self.expect_code().await?;
                self.page.click(resend, limit).await?;
                self.turn()?.code(end).await
            }
            (code, _) => code,
        };
        code.map_err(|error| no_code(self.portal, &error, patience))
    }

    fn turn(&mut self) -> Result<&mut Turn, LoginFailure> {
        let none = || LoginFailure::new(Cause::NoSms, "the portal wants a code and no phone is configured");
        self.turn.as_mut().ok_or_else(none)
    }

    /// Types the code of the account's authenticator app. One that ends within a moment would be stale when it arrives, so
    /// the next one is waited for.
    pub(super) async fn totp(&mut self, selector: &str, limit: Duration) -> Result<(), LoginFailure> {
        let none = || LoginFailure::new(Cause::CodeRejected, "no totp_secret is set for this portal");
        let key = self.portal.settings().totp_secret.as_ref().and_then(totp::Key::new).ok_or_else(none)?;
        self.page.wait_for(selector, limit).await?;
        self.portal.tools().clock.sleep_until(totp::good_from(self.portal.now())).await;
        let code = key.code(self.portal.now());
        self.typed.push(code.clone());
        self.page.fill(selector, code.expose(), limit).await?;
        Ok(())
    }

    fn awaiting_code(&mut self, waiting: bool) {
        self.code_awaited = waiting;
        if waiting {
            self.trace.awaits_code();
        }
        self.portal.publish_login(|login| login.awaiting_code = waiting);
    }
}

/// Why there was nothing to type.
fn no_code(portal: &Portal, error: &NoCode, patience: Duration) -> LoginFailure {
    match error {
        NoCode::Late => no_sms(portal, format!("no code came within {} s", patience.as_secs())),
        other => failed_inside(other),
    }
}

/// The wait for a code was in vain.
pub(super) fn no_sms(portal: &Portal, detail: String) -> LoginFailure {
    if portal.tools().inbox.all_missed(&portal.settings().phones) {
        let detail = format!("{detail}, and the phone has not been heard of for long");
        return LoginFailure::new(Cause::PhoneSilent, detail);
    }
    LoginFailure::new(Cause::NoSms, detail)
}

/// The code that a login by `recipe` expects, if it expects one.
pub(in crate::portals) fn expected(recipe: &Recipe) -> Option<Expected> {
    let code = recipe.code.as_ref().filter(|_| recipe.needs_phone())?;
    let rules = code.rules(&recipe.base_url);
    Some(Expected { rules, senders: code.senders.clone(), timeout: code.timeout })
}

//! The one-time link of an alert: whoever has it may begin a login at one portal and type its code, for half an hour.
//!
//! The token in the link is the whole proof, so it has 192 random bits and only its hash is stored: it cannot be guessed,
//! and a look-up by hash tells nothing by its time. Looking at a link changes nothing, because mail scanners look at every
//! link. It is used up when a login has accepted a code that was typed through it; which login that was is read from the
//! portal's own history, so neither a crash nor a closed window between code and answer leaves the link open. Nothing here
//! ever stores or logs a token or a code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Portals;
use super::portal::{By, Portal, PortalError};
use super::recipe::Cause;
use super::state::{Event, EventKind};
use crate::clock::Time;
use crate::secret::{Secret, fingerprint};
use crate::store::{Decision, Expires, Kind, Record, StoreError};

/// What stands between the public address and the token. Whoever logs paths must leave out what follows it.
pub const PATH: &str = "/code/";
/// How long a link opens: long enough to see a mail and to find the phone.
pub const LIFE: Duration = Duration::from_secs(30 * 60);
/// Logins that one link may begin; the account's own budget counts besides.
const LOGINS: u8 = 3;
/// Codes that may be typed through one link: a portal counts wrong ones, and may lock the account.
const CODES: u8 = 6;
/// How long is waited for what a portal says to a code.
const PATIENCE: Duration = Duration::from_secs(45);

/// A link as it is stored, by the hash of its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    portal: String,
    until: Time,
    logins: u8,
    codes: u8,
    /// The portal's last event before the last code was typed through it.
    typed_after: Option<u64>,
}

/// The kinds of records that are kept here.
pub(super) const KINDS: &[Kind] = &[Kind::of::<Stored>()];

impl Record for Stored {
    const SPACE: &'static str = "code-link";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

/// A link that opens.
#[derive(Clone, Debug)]
pub struct CodeLink {
    portal: Portal,
    key: String,
    until: Time,
}

/// What can be done through a link now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No login is under way: one can be begun.
    Idle,
    /// A login is under way and has not asked for its code yet.
    LoggingIn,
    /// A login waits for its code.
    AwaitsCode,
    /// All sessions are logged in: nothing is to be done.
    Live,
    /// An operator has paused the portal.
    Paused,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// The portal accepted it; the link is used up.
    Accepted,
    /// The portal did not accept it, and the login waits for another one.
    AskedAgain,
    /// The login failed.
    Failed,
    /// The portal has not said anything yet.
    Pending,
}

/// Why a link does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It has begun, or typed, as much as one link may.
    #[error("this link has been used too often")]
    TooOften,
    /// It has expired or was used up meanwhile.
    #[error("this link does not open any more")]
    Closed,
    /// The portal refuses.
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Portal {
    /// Makes a link for an alert about this portal. The token is given out this once.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn issue_code_link(&self) -> Result<(Secret, Time), StoreError> {
        let token = Secret::new(data_encoding::BASE64URL_NOPAD.encode(&self.tools().random.bytes::<24>()));
        let until = self.now() + LIFE;
        let link = Stored { portal: self.name().to_owned(), until, logins: 0, codes: 0, typed_after: None };
        let put = |_: Option<&_>| Decision::Put(link.clone(), Expires::At(until), ());
        self.tools().store.update(&fingerprint(token.expose().as_bytes()), put).await?;
        Ok((token, until))
    }
}

/// Whether an alert of this cause is helped by a code that a person types.
pub(super) const fn helps(cause: Cause) -> bool {
    matches!(cause, Cause::NoSms | Cause::PhoneSilent | Cause::CodeRejected)
}

impl Portals {
    /// The link with this token. Changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub fn code_link(&self, token: &str) -> Result<Option<CodeLink>, StoreError> {
        let key = fingerprint(token.as_bytes());
        let Some(stored) = self.0.tools.store.get::<Stored>(&key)? else { return Ok(None) };
        let link = stored.value;
        // The store's own expiry is the rule; a portal that is gone from the configuration closes the link, too.
        let Some(portal) = self.get(&link.portal) else { return Ok(None) };
        let open = !is_used(&link, &portal.events());
        Ok(open.then_some(CodeLink { portal, key, until: link.until }))
    }
}

/// Whether the first login that ended after the last typed code was a success; `events` are newest first.
fn is_used(link: &Stored, events: &[Event]) -> bool {
    link.typed_after.is_some_and(|last| ended_after(last, events.iter().rev()) == Some(EventKind::Authenticated))
}

/// How the first login ended that ended after the event of that number; `events` are oldest first.
fn ended_after<'a>(last: u64, events: impl Iterator<Item = &'a Event>) -> Option<EventKind> {
    let ends = |kind: &EventKind| matches!(kind, EventKind::Authenticated | EventKind::LoginFailed);
    events.filter(|event| event.seq > last).map(|event| event.kind).find(ends)
}

impl CodeLink {
    /// The portal that it is for.
    pub fn portal(&self) -> &Portal {
        &self.portal
    }

    /// When it stops opening.
    pub fn until(&self) -> Time {
        self.until
    }

    /// Whether the code is made of digits alone, as far as the recipe says.
    pub fn wants_digits(&self) -> bool {
        self.portal.recipe().code.as_ref().is_some_and(|code| code.pattern.is_none())
    }

    /// What can be done now.
    ///
    /// # Errors
    /// When the portal's state cannot be read.
    pub fn stage(&self) -> Result<Stage, PortalError> {
        let live = self.portal.live().borrow().clone();
        let asked = live.record.reauth && live.record.recovery.given_up.is_none();
        Ok(match &live.login {
            _ if live.record.paused => Stage::Paused,
            Some(login) if login.awaiting_code => Stage::AwaitsCode,
            Some(_) => Stage::LoggingIn,
            None if asked => Stage::LoggingIn,
            None if self.portal.view()?.state == "live" => Stage::Live,
            None => Stage::Idle,
        })
    }

    /// Begins a fresh login, unless one is under way or none is needed.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn log_in(&self) -> Result<(), LinkError> {
        if self.stage()? != Stage::Idle {
            return Ok(());
        }
        self.spend(|link| (link.logins < LOGINS).then(|| link.logins += 1)).await?;
        Ok(self.portal.reauth(By::Link).await?)
    }

    /// Types a code into the login that waits for one, and waits a while for what the portal says to it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn type_code(&self, code: &Secret) -> Result<Typed, LinkError> {
        let mut live = self.portal.live();
        let (last, session) = {
            let seen = live.borrow_and_update();
            (seen.record.event_count, seen.login.as_ref().map(|login| login.session_id.clone()))
        };
        // Before the login can end with it.
        let claim = |link: &mut Stored| {
            (link.codes < CODES).then(|| {
                link.codes += 1;
                link.typed_after.replace(last)
            })
        };
        let before = self.spend(claim).await?;
        if let Err(error) = self.portal.type_code(code, By::Link).await {
            let give_back = |link: &mut Stored| {
                link.codes = link.codes.saturating_sub(1);
                link.typed_after = before;
                Some(())
            };
            self.spend(give_back).await?;
            return Err(error.into());
        }
        let clock = &self.portal.tools().clock;
        let deadline = clock.now() + PATIENCE;
        let mut taken = false;
        loop {
            {
                let seen = live.borrow_and_update();
                let login = seen.login.as_ref().filter(|login| Some(&login.session_id) == session.as_ref());
                let awaiting = login.is_some_and(|login| login.awaiting_code);
                match ended_after(last, seen.record.events.iter()) {
                    Some(EventKind::Authenticated) => return Ok(Typed::Accepted),
                    // Its end is in the history a moment before it is off the stage.
                    Some(_) if login.is_none() => return Ok(Typed::Failed),
                    Some(_) => {}
                    // The wait that took the code is over when another one is seen.
                    None if awaiting && taken => return Ok(Typed::AskedAgain),
                    None => taken |= !awaiting,
                }
            }
            match clock.until(deadline, live.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(Typed::Pending),
            }
        }
    }

    /// Changes the stored link by `rule`, which answers None when the link has been used too often.
    async fn spend<R>(&self, mut rule: impl FnMut(&mut Stored) -> Option<R>) -> Result<R, LinkError> {
        let updated = self.portal.tools().store.update::<Stored, _>(&self.key, |old| {
            let Some(old) = old else { return Decision::Keep(Err(LinkError::Closed)) };
            let mut link = old.value.clone();
            match rule(&mut link) {
                Some(answer) => Decision::Put(link, Expires::Unchanged, Ok(answer)),
                None => Decision::Keep(Err(LinkError::TooOften)),
            }
        });
        updated.await?.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, kind: EventKind) -> Event {
        Event { seq: at, at: Time::from_millis(at), kind, session_id: None, detail: String::new() }
    }

    fn link(typed_after: Option<u64>) -> Stored {
        Stored { portal: "한빛".to_owned(), until: Time::from_millis(9000), logins: 1, codes: 2, typed_after }
    }

    #[test]
    fn a_link_is_used_up_by_the_login_that_accepted_its_code() {
        use EventKind::{Authenticated, CodeTyped, Expired, LoginFailed};
        let before = [event(5, Authenticated)];
        assert!(!is_used(&link(None), &before) && !is_used(&link(Some(5)), &before));
        let accepted = [event(9, Expired), event(8, Authenticated), event(6, CodeTyped), event(5, LoginFailed)];
        assert!(is_used(&link(Some(5)), &accepted));
        let by_another = [event(9, Authenticated), event(8, LoginFailed), event(6, CodeTyped)];
        assert!(!is_used(&link(Some(5)), &by_another), "that login took a code of the phone");
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        crate::store::golden::<Stored>(&link(Some(1)), "06ed959cebb99bfb282301020101");
    }
}

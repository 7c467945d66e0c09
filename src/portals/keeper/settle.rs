//! What a job came to: each result is one change of the record and, where that is due, the time of the next look. Starts
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{DARK, Done, Keeper, LOOK_AGAIN, PLACE_AGAIN};
use crate::browsers::{BrowserError, Kind};
use crate::clock::Time;
use crate::portals::check::Verdict;
use crate::portals::jar::Merge;
use crate::portals::login::LoginFailure;
use crate::portals::recipe::Cause;
use crate::portals::session::{Session, short};
use crate::portals::state::{EventKind, Failure, PortalRecord};
use crate::store::StoreError;

impl Keeper {
    pub(super) async fn settle(&mut self, done: Done) -> Result<(), StoreError> {
        match done {
            Done::Checked(session, verdict) => self.checked(&session, verdict).await,
            Done::Looked(session, verdict) => self.looked(&session, verdict).await,
            Done::Placed { session, again, placed } => self.placed(&session, again, placed).await,
            Done::Moved(session, moved) => self.moved(&session, moved).await,
            Done::Refreshed(session, refreshed) => {
                self.portal.save(&session).await;
                if let Err(error) = &refreshed {
                    tracing::warn!(portal = self.portal.name(), "a value could not be refreshed: {error}");
                }
                self.answer(session.id(), refreshed.is_ok());
                Ok(())
            }
            Done::LoggedIn(session) => self.logged_in(session).await,
            Done::LoginFailed(failure) => self.login_failed(failure).await,
        }
    }

    async fn checked(&mut self, session: &Arc<Session>, verdict: Verdict) -> Result<(), StoreError> {
        let now = self.portal.now();
        let (id, before) = (session.id().to_owned(), session.checked().is_none_or(|(_, alive)| alive));
        session.set_checked(now, verdict == Verdict::Alive);
        if session.unsaved() != Merge::Nothing {
            self.portal.save(session).await;
        }
        let next = match verdict {
            Verdict::Alive => self.next_look(now),
            Verdict::Expired(why) => {
                self.portal.expire(&id, &why).await?;
                now
            }
            Verdict::Unknown(why) => {
                if before {
                    let (name, id) = (self.portal.name(), short(&id));
                    tracing::warn!(portal = name, "nothing known about session {id} of portal {name}: {why}");
                }
                now + LOOK_AGAIN
            }
        };
        self.looks.insert((id, false), next);
        Ok(())
    }

    pub(super) async fn looked(
        &mut self,
        session: &Arc<Session>,
        verdict: Result<Verdict, BrowserError>,
    ) -> Result<(), StoreError> {
        let (now, id) = (self.portal.now(), session.id().to_owned());
        session.set_checked(now, matches!(verdict, Ok(Verdict::Alive)));
        let unknown = match verdict {
            Ok(Verdict::Unknown(why)) => why,
            Err(error) if error.kind() == Kind::PortalDown => error.to_string(),
            Ok(Verdict::Alive) => {
                self.dark_since = None;
                self.portal.save(session).await;
                let reinstate = |record: &mut PortalRecord| record.reinstate(&id, "a second look found it alive", now);
                self.portal.change(reinstate).await?;
                self.looks.insert((id, false), self.next_look(now));
                return Ok(());
            }
            // Two verdicts are enough, whether or not the browser could do its part.
            Ok(Verdict::Expired(_)) | Err(_) => {
                self.dark_since = None;
                self.lost.insert(id);
                return Ok(());
            }
        };
        self.looks.insert((id, true), now + LOOK_AGAIN);
        self.in_the_dark(&unknown, now).await
    }

    /// What is unknown costs no login, however long it lasts; so after a while a person must hear of it.
    async fn in_the_dark(&mut self, why: &str, now: Time) -> Result<(), StoreError> {
        let dark = |record: &PortalRecord| record.serving().is_none() && record.recovery.alert.is_none();
        let record = self.record();
        // Where a place lacks a session, recovery is under way and tells for itself.
        if !dark(&record) || self.missing(&record).is_some() {
            self.dark_since = None;
            return Ok(());
        }
        if now.since(*self.dark_since.get_or_insert(now)) < DARK {
            return Ok(());
        }
        let detail = format!("no session serves, and whether the last one still lives cannot be told: {why}");
        let tell = |record: &mut PortalRecord| {
            if dark(record) {
                record.want_alert(Cause::PortalDown, &detail);
            }
        };
        self.portal.change(tell).await
    }

    async fn placed(
        &mut self,
        session: &Session,
        again: bool,
        placed: Result<(), BrowserError>,
    ) -> Result<(), StoreError> {
        let (name, id, now) = (self.portal.name(), session.id(), self.portal.now());
        match placed {
            Ok(()) if again => {
                tracing::warn!(portal = name, "the browser of session {} of portal {name} was replaced", short(id));
                let told = "its browser had died; it is in a new one";
                self.portal.change(|record| record.note(now, EventKind::BrowserReplaced, Some(id), told)).await?;
            }
            Ok(()) => tracing::info!(portal = name, "session {} of portal {name} is in a browser again", short(id)),
            Err(error) => {
                tracing::warn!(portal = name, "session {} of portal {name} is in no browser: {error}", short(id));
                self.place_again = Some(now + PLACE_AGAIN);
            }
        }
        Ok(())
    }

    async fn moved(&mut self, session: &Session, moved: Result<(), BrowserError>) -> Result<(), StoreError> {
        let (name, id, now) = (self.portal.name(), session.id(), self.portal.now());
        if let Err(error) = moved {
            tracing::warn!(portal = name, "session {} of portal {name} could not be moved: {error}", short(id));
            self.place_again = Some(now + PLACE_AGAIN);
            return Ok(());
        }
        let seat = session.context().map(|context| self.portal.pool().watch(context.seat()));
        let reason = seat.and_then(|health| health.borrow().reason.clone()).unwrap_or_default();
        let told = format!("its browser was replaced by a fresh one {reason}");
        tracing::info!(portal = name, "session {} of portal {name} moved: {told}", short(id));
        self.portal.change(|record| record.note(now, EventKind::BrowserRecycled, Some(id), &told)).await
    }

    async fn logged_in(&mut self, session: Arc<Session>) -> Result<(), StoreError> {
        // The sealed copy first: a record that names a session without a copy would cost a login.
        self.portal.save(&session).await;
        let place = self.portal.admit(&session).await;
        self.portal.publish(|live| live.login = None);
        let place = place?;
        let (name, id) = (self.portal.name(), short(session.id()));
        tracing::info!(portal = name, "portal {name}: session {id} logged in as {}", place.as_str());
        self.picture = None;
        self.portal.forget_others().await
    }

    async fn login_failed(&mut self, failure: LoginFailure) -> Result<(), StoreError> {
        let LoginFailure { cause, detail, picture } = failure;
        let name = self.portal.name().to_owned();
        tracing::warn!(portal = name, cause = %cause, "login at portal {name} failed: {cause}: {detail}");
        self.picture = picture;
        let (limits, basis) = (self.portal.limits(), self.portal.settings().basis.clone());
        let failed = Failure { cause, detail, at: self.portal.now() };
        // Drawn once: the closure may run again and must decide the same.
        let share = self.portal.tools().random.jitter(Duration::from_secs(1), 20).as_secs_f64();
        let record = |record: &mut PortalRecord| record.fail(&failed, limits, &basis, |pause| pause.mul_f64(share));
        let news = self.portal.change(record).await;
        self.portal.publish(|live| live.login = None);
        if news? {
            tracing::error!(portal = name, cause = %cause, "portal {name}: recovery has finally failed: {cause}");
        }
        Ok(())
    }
}

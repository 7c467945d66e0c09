//! What a job came to: each result is one change of the record and, where that is due, the time of the next look. Starts
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{DARK, Done, Keeper, LOOK_AGAIN, PHONE_AGAIN, PLACE_AGAIN};
use crate::browsers::{BrowserError, Context, Kind};
use crate::portals::check::Verdict;
use crate::portals::evidence::{self, Part};
use crate::portals::inbox::Busy;
use crate::portals::jar::Merge;
use crate::portals::login::{LoginFailure, NoLogin};
use crate::portals::recipe::Cause;
use crate::portals::session::{Session, short};
use crate::portals::state::{EventKind, Failure, PortalRecord, Slot};
use crate::portals::upkeep::Purpose;
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
                self.answer(session.id(), refreshed.map_err(|error| error.kind()));
                Ok(())
            }
            Done::Prepared(prepared) => {
                self.prepared(prepared);
                Ok(())
            }
            Done::LoggedIn(session) => self.logged_in(session).await,
            Done::LoginFailed(NoLogin::Failed(failure)) => self.login_failed(failure).await,
            Done::LoginFailed(NoLogin::Busy(busy)) => self.phone_is_busy(busy).await,
        }
    }

    async fn checked(&mut self, session: &Arc<Session>, verdict: Verdict) -> Result<(), StoreError> {
        let now = self.portal.now();
        let (id, before) = (session.id().to_owned(), session.checked().is_none_or(|(_, alive)| alive));
        let doubted = session.is_doubted();
        session.set_checked(now, verdict == Verdict::Alive);
        if session.unsaved() != Merge::Nothing {
            self.portal.save(session).await;
        }
        let next = match verdict {
            Verdict::Alive => {
                session.proven(&self.portal.tools().clock);
                self.keep_pulse(session).await?;
                if doubted {
                    self.portal.change(PortalRecord::survived).await?;
                }
                self.next_look(now)
            }
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

    /// Keeps what is new about a session's life, when it is enough to be worth a write.
    async fn keep_pulse(&self, session: &Session) -> Result<(), StoreError> {
        let behind = |slot: &Slot| slot.session_id == session.id() && slot.pulse.is_behind(&session.pulse(&slot.pulse));
        if !self.record().slots().any(|(_, slot)| behind(slot)) {
            return Ok(());
        }
        let keep = |record: &mut PortalRecord| {
            for slot in [&mut record.active, &mut record.standby].into_iter().flatten().filter(|slot| behind(slot)) {
                slot.pulse = session.pulse(&slot.pulse);
            }
        };
        self.portal.change(keep).await
    }

    pub(super) async fn looked(
        &mut self,
        session: &Arc<Session>,
        verdict: Result<Verdict, BrowserError>,
    ) -> Result<(), StoreError> {
        let (now, id) = (self.portal.now(), session.id().to_owned());
        let doubted = session.is_doubted();
        session.set_checked(now, matches!(verdict, Ok(Verdict::Alive)));
        let unknown = match verdict {
            Ok(Verdict::Unknown(why)) => why,
            Err(error) if error.kind() == Kind::PortalDown => error.to_string(),
            Ok(Verdict::Alive) => {
                self.dark_since = None;
                session.proven(&self.portal.tools().clock);
                self.portal.save(session).await;
                let parallel = self.portal.parallel();
                let reinstate = |record: &mut PortalRecord| {
                    if record.reinstate(&id, "a second look found it alive", now) && record.whole(parallel) {
                        record.end_recovery(now);
                    }
                    if doubted {
                        record.survived();
                    }
                };
                self.portal.change(reinstate).await?;
                self.looks.insert((id, false), self.next_look(now));
                return Ok(());
            }
            // Two verdicts are enough, whether or not the browser could do its part.
            Ok(Verdict::Expired(_)) | Err(_) => {
                self.dark_since = None;
                self.lost.insert(id);
                return self.bury(session).await;
            }
        };
        self.looks.insert((id, true), now + LOOK_AGAIN);
        self.in_the_dark(&unknown).await
    }

    /// Learns from the end of a session, as far as this process has seen it end.
    async fn bury(&self, session: &Session) -> Result<(), StoreError> {
        let (Some(at), record) = (session.ended_at(), self.record()) else { return Ok(()) };
        let Some((_, slot)) = record.slots().find(|(_, slot)| slot.session_id == session.id()) else { return Ok(()) };
        let pulse = session.pulse(&slot.pulse);
        self.portal.change(|record| record.bury(session.id(), &pulse, at)).await
    }

    /// What is unknown costs no login, however long it lasts; so after a while a person must hear of it.
    async fn in_the_dark(&mut self, why: &str) -> Result<(), StoreError> {
        let dark = |record: &PortalRecord| record.serving().is_none() && record.alert.is_none();
        let record = self.record();
        // Where a place lacks a session, recovery is under way and tells for itself.
        if !dark(&record) || self.missing(&record).is_some() {
            self.dark_since = None;
            return Ok(());
        }
        let passed = self.portal.tools().clock.passed();
        if passed.saturating_sub(*self.dark_since.get_or_insert(passed)) < DARK {
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

    fn prepared(&mut self, prepared: Result<Context, BrowserError>) {
        match prepared {
            Ok(context) => self.ready = Some(context),
            Err(error) => {
                let name = self.portal.name();
                tracing::warn!(portal = name, "portal {name}: no place for the next login is ready: {error}");
                self.place_again = Some(self.portal.now() + PLACE_AGAIN);
            }
        }
    }

    /// No attempt, and no fault of the phone's: other portals' logins are under way there.
    async fn phone_is_busy(&mut self, busy: Busy) -> Result<(), StoreError> {
        let name = self.portal.name();
        tracing::warn!(portal = name, "portal {name}: the login waits on: {busy}");
        self.phone_again = Some(self.portal.now() + self.portal.tools().random.jitter(PHONE_AGAIN, 30));
        self.portal.publish(|live| live.login = None);
        let (now, told) = (self.portal.now(), busy.to_string());
        self.portal.change(|record| record.interrupt_login(&told, now)).await
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
        let place = self.portal.admit(&session, self.begun.purpose).await;
        self.portal.publish(|live| live.login = None);
        let place = place?;
        self.count_login("ok");
        let (name, id) = (self.portal.name(), short(session.id()));
        tracing::info!(portal = name, "portal {name}: session {id} logged in as {}", place.as_str());
        (self.picture, self.steps) = (None, Vec::new());
        self.doubt_others(session.id());
        self.portal.forget_others().await
    }

    /// A portal that tolerates one session only has just ended the other: it is looked at right away.
    fn doubt_others(&mut self, id: &str) {
        let (now, record) = (self.portal.now(), self.record());
        for (_, slot) in record.slots().filter(|(_, slot)| slot.session_id != id && !slot.expired) {
            if let Some(other) = self.portal.session(&slot.session_id) {
                other.doubt();
                self.looks.insert((slot.session_id.clone(), false), now);
            }
        }
    }

    /// Keeps what the page looked like, where that may help to mend something.
    async fn keep_evidence(&self, failure: &LoginFailure) {
        let LoginFailure { cause, detail, picture, page, .. } = failure;
        let about_the_page = !matches!(cause, Cause::PortalDown | Cause::BudgetSpent);
        if !about_the_page || (picture.is_none() && page.is_none()) {
            return;
        }
        let (name, tools) = (self.portal.name(), self.portal.tools());
        let picture = picture.as_deref().unwrap_or_default();
        let page = page.as_deref().unwrap_or_default().as_bytes();
        let (failure, parts) =
            ((self.portal.now(), *cause, detail.as_str()), [(Part::Picture, picture), (Part::Page, page)]);
        if let Err(error) = evidence::keep(name, failure, parts, &tools.store, &tools.vault).await {
            tracing::error!(portal = name, "the evidence of a failed login at portal {name} is not kept: {error}");
        }
    }

    fn count_login(&self, outcome: &'static str) {
        let portal = self.portal.name().to_owned();
        ::metrics::counter!("nightporter_logins_total", "portal" => portal, "outcome" => outcome).increment(1);
    }

    async fn login_failed(&mut self, failure: LoginFailure) -> Result<(), StoreError> {
        if !self.begun.confirmed {
            self.portal.publish(|live| live.login = None);
            tracing::debug!(portal = self.portal.name(), "a login was not needed and not possible: {}", failure.detail);
            return Ok(());
        }
        let name = self.portal.name().to_owned();
        self.keep_evidence(&failure).await;
        let LoginFailure { cause, detail, picture, steps, .. } = failure;
        tracing::warn!(portal = name, cause = %cause, "login at portal {name} failed: {cause}: {detail}");
        self.count_login(cause.as_str());
        (self.picture, self.steps) = (picture, steps);
        let (limits, basis) = (self.portal.limits(), self.portal.settings().basis.clone());
        let failed = Failure { cause, detail, at: self.portal.now() };
        // Drawn once: the closure may run again and must decide the same.
        let share = self.portal.tools().random.jitter(Duration::from_secs(1), 20).as_secs_f64();
        let (purpose, jitter) = (self.begun.purpose, |pause: Duration| pause.mul_f64(share));
        let news = self.portal.change(|record| match purpose {
            Purpose::Need => record.fail(&failed, limits, &basis, jitter),
            Purpose::Renewal | Purpose::Drill => record.fail_upkeep(purpose, &failed, limits, &basis, jitter),
        });
        let news = news.await;
        self.portal.publish(|live| live.login = None);
        if news? {
            let what = if purpose == Purpose::Need { "recovery" } else { "a login before it is needed" };
            tracing::error!(portal = name, cause = %cause, "portal {name}: {what} has finally failed: {cause}");
        }
        Ok(())
    }
}

//! The keeper: one task a portal that makes *is* into *wanted*.
//!
//! Wanted: one session that serves and, where the portal tolerates it, one that stands by, both checked now and then.
//! Each turn of the loop looks at the record, starts what is missing as a job, and waits for a job to end, a timer, or
//! somebody's wish. Every job is idempotent and its result is one atomic change of the record, so a restart in the middle
//! of anything simply looks again. The keeper never serves: promotions happen where an expiry is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::check::{self, Verdict};
use super::jar::Merge;
use super::letter;
use super::login::{self, LoginFailure};
use super::portal::{Login, Order, Portal, Sessions};
use super::recipe::Cause;
use super::repair;
use super::session::{Session, short};
use super::state::{EventKind, Failure, PortalRecord, Role};
use crate::alerts::AlertError;
use crate::browsers::{BrowserError, Seat};
use crate::clock::Time;
use crate::lifecycle::Heartbeat;
use crate::store::StoreError;

/// The longest sleep: the heartbeat must be kept, and a wall clock that was set must be noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);
/// The pause between attempts to give a session a place in a browser again.
const PLACE_AGAIN: Duration = Duration::from_secs(30);
/// The pause between two looks at a session about which nothing is known.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long nothing may be known about a portal that nobody serves before a person is told.
const DARK: Duration = Duration::from_secs(300);
/// Callers that may wait for one refresh.
const WAITING: usize = 64;

/// One portal's keeper.
pub(super) struct Keeper {
    portal: Portal,
    orders: mpsc::Receiver<Order>,
    /// Tasks of their own: a job may hold what the keeper itself waits for, a place in line for a record for instance, and
    /// must go on then.
    jobs: JoinSet<Done>,
    running: BTreeMap<Job, AbortHandle>,
    /// Callers that wait for a refresh of a session.
    waiting: Vec<(String, oneshot::Sender<bool>)>,
    /// When a session is looked at next; apart for when it is believed to be dead.
    looks: BTreeMap<(String, bool), Time>,
    /// Expired sessions that a second look has given up.
    lost: BTreeSet<String>,
    /// Since when nobody serves and the portal says neither yes nor no.
    dark_since: Option<Time>,
    /// No session is given a place in a browser before this moment.
    place_again: Option<Time>,
    /// What the page looked like when the last login failed.
    picture: Option<Vec<u8>>,
}

/// What is being done; at most one of each at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Check(String),
    SecondLook(String),
    Place(String),
    Refresh(String),
    Login,
}

/// What came of it.
enum Done {
    Checked(Arc<Session>, Verdict),
    Looked(Arc<Session>, Result<Verdict, BrowserError>),
    Placed(Arc<Session>, Result<(), BrowserError>),
    Refreshed(Arc<Session>, Result<(), BrowserError>),
    LoggedIn(Arc<Session>),
    LoginFailed(LoginFailure),
}

impl Keeper {
    pub(super) fn new(portal: Portal, orders: mpsc::Receiver<Order>) -> Self {
        Self {
            portal,
            orders,
            jobs: JoinSet::new(),
            running: BTreeMap::new(),
            waiting: Vec::new(),
            looks: BTreeMap::new(),
            lost: BTreeSet::new(),
            dark_since: None,
            place_again: None,
            picture: None,
        }
    }

    /// Keeps the portal until `stop`; then its jobs are dropped, to be found undone by the next start.
    pub(super) async fn run(mut self, stop: CancellationToken, pulse: Heartbeat) {
        let mut browsers = [Seat::A, Seat::B].map(|seat| self.portal.tools().pool.watch(seat));
        let clock = self.portal.tools().clock.clone();
        if let Err(error) = self.begin().await {
            self.complain(&error);
        }
        while !stop.is_cancelled() {
            pulse.beat();
            let next = match self.plan().await {
                Ok(next) => next,
                Err(error) => {
                    self.complain(&error);
                    self.portal.now() + LOOK_AGAIN
                }
            };
            let [a, b] = &mut browsers;
            let settled = tokio::select! {
                // First: what ends because everything stops is no failure to be remembered.
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.jobs.join_next_with_id() => self.ended(ended).await,
                Some(order) = self.orders.recv() => { self.take(order); Ok(()) }
                () = self.portal.woken() => Ok(()),
                Ok(()) = a.changed() => { self.place_again = None; Ok(()) }
                Ok(()) = b.changed() => { self.place_again = None; Ok(()) }
                () = clock.sleep_until(next) => Ok(()),
            };
            if let Err(error) = settled {
                self.complain(&error);
            }
        }
        self.jobs.shutdown().await;
    }

    /// Tidies up what the last process, or other settings, left behind.
    async fn begin(&self) -> Result<(), StoreError> {
        if self.portal.settings().sessions == Sessions::Single {
            let now = self.portal.now();
            self.portal.change(|record| record.leave_one(now)).await?;
        }
        self.portal.forget_others().await
    }

    async fn ended(&mut self, ended: Result<(Id, Done), JoinError>) -> Result<(), StoreError> {
        let (id, done) = match ended {
            Ok((id, done)) => (id, Some(done)),
            Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Err(cut) => (cut.id(), None),
        };
        self.running.retain(|_, job| job.id() != id);
        match done {
            Some(done) => self.settle(done).await,
            None => Ok(()),
        }
    }

    fn complain(&self, error: &StoreError) {
        tracing::error!(portal = self.portal.name(), "portal {}: {error}", self.portal.name());
    }

    fn take(&mut self, order: Order) {
        let Order::Refresh { session_id, done } = order;
        // Beyond the bound the sender is dropped, which its caller takes for a failed refresh.
        if self.waiting.len() < WAITING {
            self.waiting.push((session_id, done));
        }
    }

    /// Starts what is missing and says when to look again.
    async fn plan(&mut self) -> Result<Time, StoreError> {
        self.portal.catch_up().await?;
        let record = self.record();
        let now = self.portal.now();
        self.tell(&record).await?;
        // Calls are served during a pause too, and may need fresh values.
        self.plan_refreshes();
        if record.paused {
            self.halt();
            self.publish_next(None);
            return Ok(now + LONGEST_SLEEP);
        }
        self.plan_looks(&record, now).await?;
        self.plan_places(&record, now);
        self.plan_login(now).await?;
        let look = self.looks.values().copied().filter(|at| *at > now).min();
        self.publish_next(look);
        let retry = record.recovery.retry_at.filter(|at| *at > now && self.missing(&record).is_some());
        let wakes = [look, retry, self.place_again.filter(|at| *at > now), Some(now + LONGEST_SLEEP)];
        Ok(wakes.into_iter().flatten().min().unwrap_or(now + LONGEST_SLEEP))
    }

    /// Cuts checks and logins that are under way. What they had begun is found undone when the portal is resumed.
    fn halt(&mut self) {
        for (job, task) in &self.running {
            if matches!(job, Job::Check(_) | Job::SecondLook(_) | Job::Login) {
                task.abort();
            }
        }
        if self.portal.live().borrow().login.is_some() {
            self.portal.publish(|live| live.login = None);
        }
    }

    fn record(&self) -> Arc<PortalRecord> {
        Arc::clone(&self.portal.live().borrow().record)
    }

    fn publish_next(&self, next: Option<Time>) {
        if self.portal.live().borrow().next_check_at != next {
            self.portal.publish(|live| live.next_check_at = next);
        }
    }

    /// Starts a job unless the same is being done.
    fn start(&mut self, job: Job, work: impl Future<Output = Done> + Send + 'static) {
        if !self.running.contains_key(&job) {
            self.running.insert(job, self.jobs.spawn(work));
        }
    }

    /// Looks at living sessions when their time has come, and once more at those that seem dead before a login is spent.
    async fn plan_looks(&mut self, record: &PortalRecord, now: Time) -> Result<(), StoreError> {
        self.looks.retain(|(id, expired), _| {
            record.slots().any(|(_, slot)| slot.session_id == *id && slot.expired == *expired)
        });
        self.lost.retain(|id| record.role_of(id).is_some());
        for (_, slot) in record.slots() {
            let id = slot.session_id.clone();
            if self.lost.contains(&id) {
                continue;
            }
            let Some(session) = self.portal.session(&id) else {
                self.lost.insert(id.clone());
                self.portal.expire(&id, "its saved copy is gone").await?;
                return Ok(());
            };
            // Fresh from its login a session is known to be alive; after a restart it is looked at first of all.
            let first = if slot.expired || session.checked().is_none() { now } else { self.next_look(now) };
            let due = *self.looks.entry((id.clone(), slot.expired)).or_insert(first);
            // Further ahead than any look is planned, it was planned before the clock was set back.
            if due > now && due <= now + self.portal.recipe().check.every * 2 + LOOK_AGAIN {
                continue;
            }
            let portal = self.portal.clone();
            if slot.expired {
                self.start(Job::SecondLook(id), async move {
                    let verdict = repair::second_look(&portal, &session).await;
                    Done::Looked(session, verdict)
                });
            } else {
                self.start(Job::Check(id), async move {
                    let verdict = check::check(&portal.tools().upstream, portal.recipe(), &session).await;
                    Done::Checked(session, verdict)
                });
            }
        }
        Ok(())
    }

    fn next_look(&self, now: Time) -> Time {
        now + self.portal.tools().random.jitter(self.portal.recipe().check.every, 10)
    }

    /// Gives living sessions a place in a browser: after a restart, and when a browser has died.
    fn plan_places(&mut self, record: &PortalRecord, now: Time) {
        if self.place_again.is_some_and(|at| at > now && at <= now + PLACE_AGAIN) {
            return;
        }
        for (_, slot) in record.slots().filter(|(_, slot)| !slot.expired) {
            let Some(session) = self.portal.session(&slot.session_id) else { continue };
            if session.context().is_some_and(|context| context.is_alive()) {
                continue;
            }
            let (portal, seat) = (self.portal.clone(), self.free_seat(record, &slot.session_id));
            self.start(Job::Place(slot.session_id.clone()), async move {
                let placed = repair::place(&portal, &session, seat).await.map(drop);
                Done::Placed(session, placed)
            });
        }
    }

    /// The browser in which no other session of this portal lives, so that one crash does not take both.
    fn free_seat(&self, record: &PortalRecord, but: &str) -> Seat {
        let others = record.slots().filter(|(_, slot)| slot.session_id != but && !slot.expired);
        let mut contexts = others.filter_map(|(_, slot)| self.portal.session(&slot.session_id)?.context());
        match contexts.find(|context| context.is_alive()) {
            Some(context) => context.seat().other(),
            None if record.active.as_ref().is_some_and(|slot| slot.session_id != but) => Seat::B,
            None => Seat::A,
        }
    }

    fn plan_refreshes(&mut self) {
        let wanted: BTreeSet<_> = self.waiting.iter().map(|(id, _)| id.clone()).collect();
        for id in wanted {
            let Some(session) = self.portal.session(&id) else {
                self.answer(&id, false);
                continue;
            };
            let portal = self.portal.clone();
            self.start(Job::Refresh(id), async move {
                let refreshed = repair::refresh(&portal, &session).await;
                Done::Refreshed(session, refreshed)
            });
        }
    }

    fn answer(&mut self, id: &str, refreshed: bool) {
        for (_, done) in self.waiting.extract_if(.., |(waits_for, _)| waits_for == id) {
            // A caller that has gone away needs no answer.
            let _ = done.send(refreshed);
        }
    }

    /// The place that needs a login: none while an expired session may still turn out to be alive.
    fn missing(&self, record: &PortalRecord) -> Option<Role> {
        let lacks = |slot: Option<&super::state::Slot>| {
            slot.is_none_or(|slot| slot.expired && self.lost.contains(&slot.session_id))
        };
        let parallel = self.portal.settings().sessions == Sessions::Parallel;
        if lacks(record.active.as_ref()) {
            Some(Role::Active)
        } else if parallel {
            (record.reauth || lacks(record.standby.as_ref())).then_some(Role::Standby)
        } else {
            record.reauth.then_some(Role::Active)
        }
    }

    async fn plan_login(&mut self, now: Time) -> Result<(), StoreError> {
        let record = self.record();
        let Some(role) = self.missing(&record) else { return Ok(()) };
        if self.running.contains_key(&Job::Login) || !record.may_log_in(now, &self.portal.settings().basis) {
            return Ok(());
        }
        let (portal, id) = (self.portal.clone(), self.portal.tools().random.session_id());
        let begin = |record: &mut PortalRecord| record.note(now, EventKind::LoginStarted, Some(&id), "");
        portal.change(begin).await?;
        portal.publish(|live| live.login = Some(Login { session_id: id.clone(), role, awaiting_code: false }));
        let seat = self.free_seat(&record, "");
        self.start(Job::Login, async move {
            match login::log_in(&portal, &id, seat).await {
                Ok(session) => Done::LoggedIn(session),
                Err(failure) => Done::LoginFailed(failure),
            }
        });
        Ok(())
    }

    async fn settle(&mut self, done: Done) -> Result<(), StoreError> {
        match done {
            Done::Checked(session, verdict) => self.checked(&session, verdict).await,
            Done::Looked(session, verdict) => self.looked(&session, verdict).await,
            Done::Placed(session, placed) => self.placed(&session, placed),
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

    async fn looked(
        &mut self,
        session: &Arc<Session>,
        verdict: Result<Verdict, BrowserError>,
    ) -> Result<(), StoreError> {
        let (now, id) = (self.portal.now(), session.id().to_owned());
        session.set_checked(now, matches!(verdict, Ok(Verdict::Alive)));
        let unknown = match verdict {
            Ok(Verdict::Unknown(why)) => why,
            Err(error) if error.kind() == crate::browsers::Kind::PortalDown => error.to_string(),
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

    fn placed(&mut self, session: &Session, placed: Result<(), BrowserError>) -> Result<(), StoreError> {
        let (name, id) = (self.portal.name(), short(session.id()));
        match placed {
            Ok(()) => tracing::info!(portal = name, "session {id} of portal {name} has its place in a browser"),
            Err(error) => {
                tracing::warn!(portal = name, "session {id} of portal {name} has no place in a browser: {error}");
                self.place_again = Some(self.portal.now() + PLACE_AGAIN);
            }
        }
        Ok(())
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

    /// The record still says that an alert is due, so the next turn of the loop tries again.
    fn not_told(&self, error: &AlertError) -> Result<(), StoreError> {
        tracing::error!(portal = self.portal.name(), "portal {}: no alert: {error}", self.portal.name());
        Ok(())
    }

    /// Hands wanted alerts over to the alerts room, and says so when the need is over.
    async fn tell(&mut self, record: &PortalRecord) -> Result<(), StoreError> {
        let Some(alert) = record.recovery.alert.clone() else { return Ok(()) };
        let (alerts, subject) = (self.portal.tools().alerts.clone(), format!("portal/{}", self.portal.name()));
        let healthy =
            record.recovery.given_up.is_none() && record.serving().is_some() && self.missing(record).is_none();
        if healthy {
            let name = self.portal.name();
            let (title, body) = (format!("Portal {name} works again"), format!("Portal {name} is logged in again."));
            if let Err(error) = alerts.resolve(&subject, &title, &body).await {
                return self.not_told(&error);
            }
            self.portal.change(|record| record.recovery.alert = None).await?;
        } else if !alert.raised {
            let picture = self.picture.take();
            let message = letter::needed(self.portal.name(), record, alert.cause, &alert.detail, picture);
            if let Err(error) = alerts.raise(&subject, &message).await {
                return self.not_told(&error);
            }
            let raised = |record: &mut PortalRecord| {
                if let Some(now) = &mut record.recovery.alert {
                    now.raised |= now.cause == alert.cause;
                }
            };
            self.portal.change(raised).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

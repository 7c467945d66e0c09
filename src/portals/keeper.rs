//! The keeper: one task a portal that makes *is* into *wanted*.
//!
//! Wanted: one session that serves and, where the portal tolerates it, one that stands by, both checked now and then.
//! Each turn of the loop looks at the record, starts what is missing as a job, and waits for a job to end, a timer, or
//! somebody's wish. Every job is idempotent and its result is one atomic change of the record, so a restart in the middle
//! of anything simply looks again. The keeper never serves: promotions happen where an expiry is noticed.

mod logins;
mod plan;
mod settle;
mod tell;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::check::Verdict;
use super::login::{NoLogin, StepTaken};
use super::portal::{Order, Portal, Sessions};
use super::session::Session;
use super::state::PortalRecord;
use super::upkeep::Purpose;
use crate::browsers::{BrowserError, Context, Kind, Seat};
use crate::clock::Time;
use crate::lifecycle::Heartbeat;
use crate::store::StoreError;

/// The longest sleep: the heartbeat must be kept, and a wall clock that was set must be noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);
/// The pause between attempts to give a session a place in a browser again.
const PLACE_AGAIN: Duration = Duration::from_secs(30);
/// The pause before a login that found too many others at its phone asks for a place in the queue again.
const PHONE_AGAIN: Duration = Duration::from_secs(15);
/// The pause between two looks at a session about which nothing is known.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long nothing may be known about a portal that nobody serves before a person is told.
const DARK: Duration = Duration::from_secs(300);
/// Callers that may wait for one refresh.
const WAITING: usize = 64;

/// One portal's keeper.
pub(super) struct Keeper {
    portal: Portal,
    /// Tasks of their own: a job may hold what the keeper itself waits for, a place in line for a record for instance, and
    /// must go on then.
    jobs: JoinSet<Done>,
    running: BTreeMap<Job, AbortHandle>,
    /// Callers that wait for a refresh of a session.
    waiting: Vec<Waiting>,
    /// When a session is looked at next; apart for when it is believed to be dead.
    looks: BTreeMap<(String, bool), Time>,
    /// Expired sessions that a second look has given up.
    lost: BTreeSet<String>,
    /// Since when nobody serves and the portal says neither yes nor no, on the clock that nobody sets.
    dark_since: Option<Duration>,
    /// No session is given a place in a browser before this moment.
    place_again: Option<Time>,
    /// No login asks for the phone before this moment.
    phone_again: Option<Time>,
    /// The login under way, while its job runs.
    begun: Begun,
    /// Where the next login finds its place: kept where a standby is wanted that is not logged in.
    ready: Option<Context>,
    /// What the page looked like when the last login failed.
    picture: Option<Vec<u8>>,
    /// The last steps of that login.
    steps: Vec<StepTaken>,
}

/// A caller whose value the portal refused.
struct Waiting {
    session_id: String,
    /// Whether the refresh under way began after the refusal: what an earlier one has read may be as old as what was
    /// refused.
    served: bool,
    refused: Option<String>,
    done: oneshot::Sender<Result<(), Kind>>,
}

/// A login that was begun.
#[derive(Clone, Debug)]
struct Begun {
    id: String,
    purpose: Purpose,
    /// Whether the session that it replaces is known to be dead; before that it tells the portal nothing.
    confirmed: bool,
}

/// What is being done; at most one of each at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Check(String),
    SecondLook(String),
    Place(String),
    Move(String),
    Refresh(String),
    Prepare,
    Login,
}

/// What came of it.
enum Done {
    Checked(Arc<Session>, Verdict),
    Looked(Arc<Session>, Result<Verdict, BrowserError>),
    /// `again`: it had a place before, in a browser that has died.
    Placed {
        session: Arc<Session>,
        again: bool,
        placed: Result<(), BrowserError>,
    },
    Moved(Arc<Session>, Result<(), BrowserError>),
    Refreshed(Arc<Session>, Result<(), BrowserError>),
    Prepared(Result<Context, BrowserError>),
    LoggedIn(Arc<Session>),
    LoginFailed(NoLogin),
}

impl Keeper {
    pub(super) fn new(portal: Portal) -> Self {
        Self {
            portal,
            jobs: JoinSet::new(),
            running: BTreeMap::new(),
            waiting: Vec::new(),
            looks: BTreeMap::new(),
            lost: BTreeSet::new(),
            dark_since: None,
            place_again: None,
            phone_again: None,
            begun: Begun { id: String::new(), purpose: Purpose::Need, confirmed: true },
            ready: None,
            picture: None,
            steps: Vec::new(),
        }
    }

    /// Keeps the portal until `stop`; then its jobs are dropped, to be found undone by the next start.
    pub(super) async fn run(mut self, stop: CancellationToken, pulse: Heartbeat) {
        let mut browsers = [Seat::A, Seat::B].map(|seat| self.portal.pool().watch(seat));
        let clock = self.portal.tools().clock.clone();
        let mut orders = self.portal.orders().await;
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
                Some(order) = orders.recv() => { self.take(order); Ok(()) }
                () = self.portal.woken() => Ok(()),
                Ok(()) = a.changed() => { self.place_again = None; Ok(()) }
                Ok(()) = b.changed() => { self.place_again = None; Ok(()) }
                // A span, so that a clock that is set back does not make this keeper miss its beat.
                () = clock.sleep(next.since(clock.now()).min(LONGEST_SLEEP)) => Ok(()),
            };
            if let Err(error) = settled {
                self.complain(&error);
            }
        }
        self.jobs.shutdown().await;
    }

    /// Tidies up what the last process, or other settings, left behind.
    async fn begin(&self) -> Result<(), StoreError> {
        // The login of a keeper before this one ended with it.
        self.publish_no_login();
        self.portal.keep_for_good().await?;
        let (now, settings) = (self.portal.now(), self.portal.settings());
        let cut_off = "it was under way when the process ended, or was set up anew; the next one starts over";
        self.portal.change(|record| record.interrupt_login(cut_off, now)).await?;
        let single = settings.sessions != Sessions::Parallel;
        self.portal.change(|record| record.forget_rivalry(&settings.basis, single)).await?;
        if !self.portal.parallel() {
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
        let Order::Refresh { session_id, refused, done } = order;
        // Beyond the bound the sender is dropped, which its caller takes for a failed refresh.
        if self.waiting.len() < WAITING {
            self.waiting.push(Waiting { session_id, served: false, refused, done });
        }
    }

    /// Starts what is missing and says when to look again.
    async fn plan(&mut self) -> Result<Time, StoreError> {
        self.portal.catch_up().await?;
        let now = self.portal.now();
        if self.record().is_ahead(now) {
            tracing::warn!(portal = self.portal.name(), "portal {}: the clock was set back", self.portal.name());
            self.portal.change(|record| record.not_ahead(now)).await?;
        }
        let record = self.record();
        self.tell(&record).await?;
        // Calls are served during a pause too, and may need fresh values.
        self.plan_refreshes();
        // A browser that retires does not wait for the end of a pause, and a move asks nothing of the portal.
        self.plan_moves(&record, now);
        if record.paused {
            self.halt();
            self.publish_next(None);
            return Ok(now + LONGEST_SLEEP);
        }
        self.plan_looks(&record, now).await?;
        self.plan_places(&record, now);
        self.plan_ready(&record, now);
        self.plan_login(now).await?;
        let look = self.looks.values().copied().filter(|at| *at > now).min();
        self.publish_next(look);
        let retry = record.recovery.retry_at.filter(|at| *at > now && self.missing(&record).is_some());
        let again = [self.place_again, self.phone_again].into_iter().flatten().filter(|at| *at > now).min();
        let wakes = [look, retry, again, Some(now + LONGEST_SLEEP)];
        Ok(wakes.into_iter().flatten().min().unwrap_or(now + LONGEST_SLEEP))
    }

    /// Cuts checks and logins that are under way. What they had begun is found undone when the portal is resumed.
    fn halt(&mut self) {
        for (job, task) in &self.running {
            if matches!(job, Job::Check(_) | Job::SecondLook(_) | Job::Login) {
                task.abort();
            }
        }
        self.publish_no_login();
    }

    fn publish_no_login(&self) {
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
}

#[cfg(test)]
mod tests;

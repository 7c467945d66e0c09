//! One portal, as everybody but its keeper sees it: which session serves, and what an operator may ask for.
//!
//! The durable part is the [`PortalRecord`]; [`Live`] is that record with the sessions themselves, published for readers
//! that must not touch the store (the relay asks ten thousand times a second). Only `Portal::change` writes the record,
//! and it publishes what it wrote.

mod view;
mod wishes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard, mpsc, oneshot, watch};

use super::inbox::{Inbox, InboxError, NotTyped};
use super::learning::KEPT_EVERY;
use super::recipe::{Cause, Recipe};
use super::session::{SaveError, Session, short};
use super::state::{Expiry, Limits, PortalRecord, Role};
use super::upkeep::Purpose;
use super::upstream::Upstream;
use crate::alerts::Alerts;
use crate::browsers::{Kind, Pool};
use crate::clock::{self, Clock, Hours, Time};
use crate::ids::Random;
use crate::secret::{Secret, Vault};
use crate::store::{Decision, Expires, Store, StoreError, Stored};
pub use view::{DrillView, FailureView, LearnedView, PhoneView, SlotView, View};
pub use wishes::By;

/// How long a call waits for refreshed values: a page load, and a browser that must be started for it.
const REFRESH: Duration = Duration::from_secs(60);

/// What a portal tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Two sessions at once: a standby is kept logged in.
    Parallel,
    /// One session, because a second login ends the first; a place for the next one is kept ready beside it.
    ColdStandby,
    /// One session; the next one is logged in when it has expired.
    Single,
}

/// How one portal is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How to log in.
    pub recipe: Arc<Recipe>,
    /// Where: the browsers of the program that the recipe names, or of the usual one.
    pub pool: Pool,
    /// The account's name.
    pub username: String,
    /// The account's password.
    pub password: Secret,
    /// The key of the account's authenticator app, in base32.
    pub totp_secret: Option<Secret>,
    /// The phones that may get the codes, the first choice first.
    pub phones: Vec<String>,
    /// How many sessions are kept.
    pub sessions: Sessions,
    /// When logins are made that can wait.
    pub quiet_hours: Hours,
    /// How often the standby is logged in afresh to know that it works; None: never.
    pub drill: Option<Duration>,
    /// Changes when credentials or recipe change.
    pub basis: String,
}

/// What every portal works with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where records live.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// Ids and jitter.
    pub random: Random,
    /// Seals saved sessions.
    pub vault: Arc<Vault>,
    /// Where codes arrive.
    pub inbox: Inbox,
    /// The usual browsers, and the way to those of other programs.
    pub pool: Pool,
    /// The way to portals without a browser.
    pub upstream: Upstream,
    /// Where a person is asked for.
    pub alerts: Alerts,
}

/// The handle to a portal; clones share it.
#[derive(Clone, Debug)]
pub struct Portal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    kept: Arc<Kept>,
}

/// What survives a change of the settings: whoever waits on a handle from before goes on with the sessions of after.
#[derive(Debug)]
struct Kept {
    name: String,
    tools: Tools,
    live: watch::Sender<Live>,
    wake: Notify,
    orders: mpsc::Sender<Order>,
    /// Held by the keeper while it runs; the next one takes up what the last one left.
    received: Arc<Mutex<mpsc::Receiver<Order>>>,
}

/// The present state for readers.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub(super) version: u64,
    pub(super) record: Arc<PortalRecord>,
    pub(super) sessions: BTreeMap<String, Arc<Session>>,
    /// A session on its way into the record.
    admitted: Option<Arc<Session>>,
    pub(super) login: Option<Login>,
    pub(super) next_check_at: Option<Time>,
    pub(super) next_drill_at: Option<Time>,
}

/// A login under way.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) session_id: String,
    pub(super) role: Role,
    pub(super) awaiting_code: bool,
    /// It waits for its turn at the phone.
    pub(super) queued: bool,
    /// It may tell the portal who it is: the session that it replaces is known to be dead.
    pub(super) confirmed: bool,
}

/// What the keeper is asked to do with an answer.
#[derive(Debug)]
pub(super) enum Order {
    /// Fetch the values that `relay.refresh` names anew, and say whose fault it is if they do not come.
    /// `refused` is the value that the portal did not want.
    Refresh { session_id: String, refused: Option<String>, done: oneshot::Sender<Result<(), Kind>> },
}

/// A session that a caller may use.
#[derive(Clone, Debug)]
pub struct Picked {
    /// The session.
    pub session: Arc<Session>,
    /// Whether it is another one than the caller named.
    pub fallback: bool,
    /// The portal's epoch at that moment.
    pub epoch: u64,
}

/// Why an operator's wish cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// No session is alive, or not the one that was named.
    #[error("no session of portal {0} is alive")]
    NoLiveSession(String),
    /// There is no standby to promote.
    #[error("portal {0} has no standby that could take over")]
    NoStandby(String),
    /// The account's logins of this hour are spent.
    #[error("{per_hour} logins within an hour are spent; the next is possible at {}", .until.local())]
    BudgetSpent {
        /// How many an hour has.
        per_hour: u32,
        /// When the next one is possible.
        until: Time,
    },
    /// Nobody waits for a code.
    #[error(transparent)]
    Code(#[from] NotTyped),
    /// The slot's session has no page to show.
    #[error("no picture: {0}")]
    NoPicture(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kept evidence cannot be read.
    #[error(transparent)]
    Evidence(#[from] SaveError),
    /// The inbox failed.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}

impl Portal {
    /// Loads what is known of the portal, its saved sessions included, without asking anybody.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(super) fn load(name: &str, settings: Settings, tools: Tools) -> Result<Self, StoreError> {
        let (orders, received) = mpsc::channel(64);
        let stored = tools.store.get::<PortalRecord>(name)?;
        let (version, record) = stored.map_or_else(Default::default, |stored| (stored.version, stored.value));
        let mut sessions = BTreeMap::new();
        for (_, slot) in record.slots() {
            match Session::load(name, &slot.session_id, &tools.store, &tools.vault) {
                Ok(Some(session)) => {
                    // It may have been used later than the record says, and a pause must not look longer than it was.
                    session.was_alive((slot.pulse.alive_at + KEPT_EVERY).min(tools.clock.now()));
                    sessions.insert(slot.session_id.clone(), Arc::new(session));
                }
                Ok(None) => tracing::warn!(portal = name, "session {} was not saved", short(&slot.session_id)),
                Err(error) => tracing::error!(
                    portal = name,
                    "session {} of portal {name} cannot be brought back: {error}",
                    short(&slot.session_id)
                ),
            }
        }
        let live = Live { version, record: Arc::new(record), sessions, ..Live::default() };
        let (live, _) = watch::channel(live);
        let received = Arc::new(Mutex::new(received));
        let kept = Kept { name: name.to_owned(), tools, live, wake: Notify::new(), orders, received };
        Ok(Self(Arc::new(Inner { settings, kept: Arc::new(kept) })))
    }

    /// The same portal, kept in another way from now on.
    pub(super) fn with(&self, settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, kept: Arc::clone(&self.0.kept) }))
    }

    /// What the keeper is asked to do; one keeper at a time has it.
    pub(super) async fn orders(&self) -> OwnedMutexGuard<mpsc::Receiver<Order>> {
        Arc::clone(&self.0.kept.received).lock_owned().await
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.kept.name
    }

    /// Whether a standby is logged in beside the session that serves.
    pub(super) fn parallel(&self) -> bool {
        let settings = &self.0.settings;
        let tolerated = !self.0.kept.live.borrow().record.tolerates_one(&settings.basis);
        settings.sessions == Sessions::Parallel && tolerated
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn recipe(&self) -> &Recipe {
        &self.0.settings.recipe
    }

    pub(super) fn tools(&self) -> &Tools {
        &self.0.kept.tools
    }

    /// The browsers that its sessions live in.
    pub(super) fn pool(&self) -> &Pool {
        &self.0.settings.pool
    }

    pub(super) fn limits(&self) -> Limits {
        let limits = &self.recipe().limits;
        Limits { attempts: limits.attempts, backoff: limits.backoff, logins_per_hour: limits.logins_per_hour }
    }

    pub(super) fn now(&self) -> Time {
        self.0.kept.tools.clock.now()
    }

    pub(super) fn live(&self) -> watch::Receiver<Live> {
        self.0.kept.live.subscribe()
    }

    pub(super) fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.0.kept.live.borrow().sessions.get(id).cloned()
    }

    /// Waits until somebody wants the keeper's attention.
    pub(super) async fn woken(&self) {
        self.0.kept.wake.notified().await;
    }

    pub(super) fn wake(&self) {
        self.0.kept.wake.notify_one();
    }

    /// Changes what readers see beside the record.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Live)) {
        self.0.kept.live.send_modify(change);
    }

    /// Changes what readers see of the login under way, if there is one.
    pub(super) fn publish_login(&self, change: impl FnOnce(&mut Login)) {
        self.publish(|live| {
            if let Some(login) = &mut live.login {
                change(login);
            }
        });
    }

    /// Changes the record in one atomic step, durably, and publishes it. `rule` may run again and answers last.
    pub(super) async fn change<R>(&self, mut rule: impl FnMut(&mut PortalRecord) -> R) -> Result<R, StoreError> {
        let update = self.0.kept.tools.store.update::<PortalRecord, _>(&self.0.kept.name, |old| {
            let before = old.map(|old| old.value.clone()).unwrap_or_default();
            let mut after = before.clone();
            let answer = rule(&mut after);
            if after == before { Decision::Keep(answer) } else { Decision::Put(after, Expires::Unchanged, answer) }
        });
        let updated = update.await?;
        if let Some(stored) = updated.record {
            self.0.kept.live.send_if_modified(|live| live.follow(stored));
        }
        Ok(updated.answer)
    }

    /// Takes back what was decided when the portal was taken out of the configuration: that its record shall go.
    pub(super) async fn keep_for_good(&self) -> Result<(), StoreError> {
        let store = &self.0.kept.tools.store;
        let keep = |old: Option<&Stored<PortalRecord>>| match old {
            Some(old) if old.expires.is_some() => Decision::Put(old.value.clone(), Expires::Never, true),
            _ => Decision::Keep(false),
        };
        let updated = store.update(self.name(), keep).await?;
        if updated.answer {
            Session::keep_copies(self.name(), Expires::Never, store).await?;
        }
        if let Some(stored) = updated.record {
            self.0.kept.live.send_if_modified(|live| live.follow(stored));
        }
        Ok(())
    }

    /// Publishes a record that was changed by somebody who went away before publishing it: a request whose client has
    /// left, or a call that still holds the handle from before a reload.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let Some(stored) = self.0.kept.tools.store.get::<PortalRecord>(&self.0.kept.name)? else { return Ok(()) };
        if stored.version > self.0.kept.live.borrow().version {
            // Readers never see what a crash could take back.
            self.0.kept.tools.store.flush().await?;
            self.0.kept.live.send_if_modified(|live| live.follow(stored));
        }
        Ok(())
    }

    /// Gives a session that has just logged in its place, and returns that.
    pub(super) async fn admit(&self, session: &Arc<Session>, purpose: Purpose) -> Result<Role, StoreError> {
        let (now, id) = (self.now(), session.id());
        let parallel = self.parallel();
        session.proven(&self.tools().clock);
        // Known to readers before the record names it, and past a change in between that has not heard of it.
        self.publish(|live| live.admitted = Some(Arc::clone(session)));
        let admit = |record: &mut PortalRecord| {
            let (role, _) = record.admit(id, parallel, "logged in", now);
            record.kept_up(purpose, id, now);
            role
        };
        let admitted = self.change(admit).await;
        self.publish(|live| live.admitted = None);
        admitted
    }

    /// Writes a session's sealed copy. A failure is logged and no reason to stop: only a restart would need a login then.
    pub(super) async fn save(&self, session: &Session) {
        let (tools, name) = (self.tools(), self.name());
        if let Err(error) = session.save(name, &tools.store, &tools.vault).await {
            tracing::error!(portal = name, "session {} of portal {name} is not saved: {error}", short(session.id()));
        }
    }

    /// Removes the sealed copies of sessions that have no place any more.
    pub(super) async fn forget_others(&self) -> Result<(), StoreError> {
        let record = Arc::clone(&self.0.kept.live.borrow().record);
        Session::forget_others(&self.0.kept.name, |id| record.role_of(id).is_some(), &self.0.kept.tools.store).await
    }

    /// The session that a caller gets: the one it names, if that lives, else the active one if it allows a fallback.
    pub fn pick(&self, requested: Option<&str>, fallback: bool) -> Option<Picked> {
        let live = self.0.kept.live.borrow();
        let epoch = live.record.epoch;
        let named = requested.and_then(|id| live.record.slots().find(|(_, slot)| slot.session_id == id));
        if let Some((_, slot)) = named.filter(|(_, slot)| !slot.expired) {
            let session = live.sessions.get(&slot.session_id)?.clone();
            return Some(Picked { session, fallback: false, epoch });
        }
        if requested.is_some() && !fallback {
            return None;
        }
        let session = live.sessions.get(&live.record.serving()?.session_id)?.clone();
        Some(Picked { session, fallback: requested.is_some(), epoch })
    }

    /// As [`Portal::pick`]; when there is none, a person is asked for unless recovery is under way.
    pub async fn find(&self, requested: &str, fallback: bool) -> Option<Picked> {
        let picked = self.pick(Some(requested), fallback);
        if picked.is_none() {
            self.miss().await;
        }
        picked
    }

    /// As [`Portal::pick`], waiting until `deadline` for a session to come alive.
    pub(super) async fn pick_by(&self, requested: Option<&str>, fallback: bool, deadline: Time) -> Option<Picked> {
        let mut live = self.live();
        let alive = async {
            loop {
                if let Some(picked) = self.pick(requested, fallback) {
                    return Some(picked);
                }
                self.miss().await;
                live.changed().await.ok()?;
            }
        };
        // One wait, not one for each change: its length must not depend on a clock that is set meanwhile.
        self.0.kept.tools.clock.until(deadline, alive).await.ok().flatten()
    }

    /// A caller found no session: a person is needed unless recovery is under way.
    async fn miss(&self) {
        let asks = |record: &PortalRecord| {
            record.serving().is_none() && record.recovery.given_up.is_some() && record.alert.is_none()
        };
        if !asks(&self.0.kept.live.borrow().record) {
            return;
        }
        let wanted = self.change(|record| {
            if asks(record) {
                let cause = record.recovery.given_up.unwrap_or(Cause::BrowserFailed);
                record.want_alert(cause, "a call found no session, and recovery has given up");
            }
        });
        if let Err(error) = wanted.await {
            tracing::error!(portal = self.0.kept.name, "portal {}: {error}", self.0.kept.name);
        }
        self.wake();
    }

    /// Marks a session as expired; the standby takes over at once if it was the active one.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn expire(&self, session_id: &str, why: &str) -> Result<Expiry, StoreError> {
        let now = self.now();
        let session = self.session(session_id);
        let doubted = session.as_ref().is_some_and(|session| session.is_doubted());
        let (parallel, basis) = (self.parallel(), &self.0.settings.basis);
        let expire = |record: &mut PortalRecord| {
            let expiry = record.expire(session_id, why, now);
            let conceded = parallel && expiry != Expiry::Known && record.died(session_id, doubted, basis, now);
            (expiry, conceded)
        };
        let (expiry, conceded) = self.change(expire).await?;
        if let Some(session) = session.filter(|_| expiry != Expiry::Known) {
            session.denied(now);
        }
        let name = &self.0.kept.name;
        if conceded {
            tracing::error!(portal = name, "portal {name} tolerates one session only: no standby is kept any more");
        }
        match expiry {
            Expiry::Known => {}
            Expiry::Marked => {
                tracing::warn!(portal = name, "session {} of portal {name} expired: {why}", short(session_id));
            }
            Expiry::Promoted => {
                let to = self.pick(None, true).map(|picked| short(picked.session.id()).to_owned()).unwrap_or_default();
                tracing::warn!(
                    portal = name,
                    "session {} of portal {name} expired ({why}); {to} took over",
                    short(session_id)
                );
            }
        }
        self.wake();
        Ok(expiry)
    }

    /// Fetches a session's refreshable values anew; several askers share one fetch. Fails with whose fault it is.
    pub(super) async fn refresh(&self, session_id: &str, refused: Option<&str>) -> Result<(), Kind> {
        let (done, refreshed) = oneshot::channel();
        let (session_id, refused) = (session_id.to_owned(), refused.map(str::to_owned));
        let order = Order::Refresh { session_id, refused, done };
        // A full queue means that refreshing is not what this portal needs now.
        self.0.kept.orders.try_send(order).map_err(|_| Kind::BrowserFailed)?;
        match clock::within(REFRESH, refreshed).await {
            Ok(Ok(refreshed)) => refreshed,
            Ok(Err(_)) | Err(_) => Err(Kind::BrowserFailed),
        }
    }
}

impl Live {
    /// Takes over a record, unless a later one was published already: two changes may publish in the other order than
    /// they were made.
    fn follow(&mut self, stored: Stored<PortalRecord>) -> bool {
        if stored.version <= self.version {
            return false;
        }
        self.version = stored.version;
        self.record = Arc::new(stored.value);
        self.sessions.extend(self.admitted.iter().map(|session| (session.id().to_owned(), Arc::clone(session))));
        let Self { record, sessions, .. } = self;
        sessions.retain(|id, session| {
            let stays = record.role_of(id).is_some();
            if !stays {
                session.end();
            }
            stays
        });
        true
    }
}

/// How long a relay call waits for a session unless it says otherwise.
pub const DEFAULT_PARK: Duration = Duration::from_secs(30);

//! The one login that may be under way: when it begins, and when it is not wanted any more. What it comes to is `settle`'s
//! business; logins that are made before they are needed are decided by `upkeep`.

use super::{Begun, Done, Job, Keeper, PHONE_AGAIN, PLACE_AGAIN};
use crate::browsers::{ContextOptions, Seat};
use crate::clock::Time;
use crate::portals::login::{self, Errand, Trace};
use crate::portals::portal::{Login, Sessions};
use crate::portals::state::{PortalRecord, Role, Slot};
use crate::portals::upkeep::Purpose;
use crate::store::StoreError;

impl Keeper {
    /// The place that needs a login: none while an expired session may still turn out to be alive.
    pub(super) fn missing(&self, record: &PortalRecord) -> Option<Role> {
        let lacks = |slot: Option<&Slot>| slot.is_none_or(|slot| slot.expired && self.lost.contains(&slot.session_id));
        if lacks(record.active.as_ref()) {
            Some(Role::Active)
        } else if self.portal.parallel() {
            (record.reauth || lacks(record.standby.as_ref())).then_some(Role::Standby)
        } else {
            record.reauth.then_some(Role::Active)
        }
    }

    /// Whether the only session seems to have ended and is being looked at again: so much speaks for a login by then that
    /// it is prepared up to the first step that tells the portal anything.
    fn suspects(&self, record: &PortalRecord) -> bool {
        let looked_at = |slot: &Slot| {
            let second_look = Job::SecondLook(slot.session_id.clone());
            slot.expired && !self.lost.contains(&slot.session_id) && self.running.contains_key(&second_look)
        };
        let cold = self.portal.settings().sessions == Sessions::ColdStandby;
        // Where the last look said neither yes nor no, the next will hardly say more.
        cold && self.dark_since.is_none() && record.active.as_ref().is_some_and(looked_at)
    }

    pub(super) async fn plan_login(&mut self, now: Time) -> Result<(), StoreError> {
        let record = self.record();
        let (missing, suspects) = (self.missing(&record), self.suspects(&record));
        if self.running.contains_key(&Job::Login) {
            if missing.is_some() {
                // Whatever it was begun for: its failure is the recovery's now.
                self.begun.purpose = Purpose::Need;
            }
            match missing {
                Some(_) if !self.begun.confirmed => self.confirm(now).await?,
                None if self.unwanted(suspects) => self.withdraw(),
                _ => {}
            }
            return Ok(());
        }
        if self.phone_again.is_some_and(|at| at > now && at <= now + PHONE_AGAIN * 2) {
            return Ok(());
        }
        let may = record.may_log_in(now, &self.portal.settings().basis);
        match missing {
            Some(role) if may => self.begin_login(&record, role, Purpose::Need, now).await,
            None if suspects && may => {
                self.start_login(&record, Role::Active, Purpose::Need);
                Ok(())
            }
            None => self.plan_upkeep(&record, now).await,
            Some(_) => Ok(()),
        }
    }

    pub(super) async fn begin_login(
        &mut self,
        record: &PortalRecord,
        role: Role,
        purpose: Purpose,
        now: Time,
    ) -> Result<(), StoreError> {
        self.start_login(record, role, purpose);
        self.confirm(now).await
    }

    /// The login goes all the way.
    async fn confirm(&mut self, now: Time) -> Result<(), StoreError> {
        self.begun.confirmed = true;
        let Begun { id, purpose, .. } = self.begun.clone();
        let basis = &self.portal.settings().basis;
        let begin = |record: &mut PortalRecord| {
            record.begin_login(&id, purpose.as_str(), basis, now);
        };
        self.portal.change(begin).await?;
        self.portal.publish_login(|login| login.confirmed = true);
        Ok(())
    }

    /// Begins a login that tells the portal nothing until it is confirmed.
    fn start_login(&mut self, record: &PortalRecord, role: Role, purpose: Purpose) {
        let (portal, id) = (self.portal.clone(), self.portal.tools().random.session_id());
        let login = Login { session_id: id.clone(), role, awaiting_code: false, queued: true, confirmed: false };
        portal.publish(|live| live.login = Some(login));
        let ready = self.ready.take();
        let seat = ready.as_ref().map_or_else(|| self.free_seat(record, ""), |context| context.seat());
        self.begun = Begun { id: id.clone(), purpose, confirmed: false };
        self.start(Job::Login, async move {
            match login::log_in(&portal, Errand { id, seat, purpose, ready, trace: Trace::default() }).await {
                Ok(session) => Done::LoggedIn(session),
                Err(none) => Done::LoginFailed(none),
            }
        });
    }

    /// Whether the login under way is for nothing, and the portal has not heard of it yet: the session that it was to
    /// replace is alive after all.
    fn unwanted(&self, suspects: bool) -> bool {
        let queued = self.portal.live().borrow().login.as_ref().is_some_and(|login| login.queued);
        let Begun { purpose, confirmed, .. } = self.begun;
        if confirmed { queued && purpose == Purpose::Need } else { !suspects }
    }

    pub(super) fn withdraw(&self) {
        if let Some(login) = self.running.get(&Job::Login) {
            login.abort();
        }
        self.publish_no_login();
    }

    /// Keeps a place for the next login in the other browser where the portal ends one session when another begins: what
    /// is left to do in an emergency is the login itself.
    pub(super) fn plan_ready(&mut self, record: &PortalRecord, now: Time) {
        let wanted = self.portal.settings().sessions == Sessions::ColdStandby && record.serving().is_some();
        let late = self.place_again.is_some_and(|at| at > now && at <= now + PLACE_AGAIN);
        if !wanted || self.ready.is_some() || late || self.running.contains_key(&Job::Login) {
            return;
        }
        let active = record.active.as_ref().and_then(|slot| self.portal.session(&slot.session_id)?.context());
        let seat = active.map_or(Seat::B, |context| context.seat().other());
        let portal = self.portal.clone();
        self.start(Job::Prepare, async move {
            let user_agent = portal.recipe().browser.user_agent.clone();
            Done::Prepared(portal.pool().open(seat, ContextOptions { restore: None, user_agent }).await)
        });
    }
}

//! Logins before they are needed: the standby is renewed before it ends of age, and logged in afresh now and then to know that
//! it works. Before a session that serves ends of age, the other one takes over. Only where two sessions may live at once:
//! anywhere else such a login would end the session that serves.

use super::Keeper;
use crate::clock::Time;
use crate::portals::schedule;
use crate::portals::state::{PortalRecord, Role, Slot};
use crate::portals::upkeep::Purpose;
use crate::store::StoreError;

impl Keeper {
    /// Begins what is due of it.
    pub(super) async fn plan_upkeep(&mut self, record: &PortalRecord, now: Time) -> Result<(), StoreError> {
        let next = self.next_upkeep(record, now);
        self.publish_upkeep(next.map(|(at, _)| at));
        if !self.seen_alive(record) {
            return Ok(());
        }
        let limits = self.portal.limits();
        match next {
            Some((at, purpose)) if at <= now && record.may_keep_up(limits, &self.portal.settings().basis, now) => {
                self.begin_login(record, Role::Standby, purpose, now).await
            }
            _ => self.hand_over(record, now).await,
        }
    }

    fn publish_upkeep(&self, next: Option<Time>) {
        if self.portal.live().borrow().next_drill_at != next {
            self.portal.publish(|live| live.next_drill_at = next);
        }
    }

    /// What the portal has said last of each session: a fresh login is no answer to a portal that is down.
    fn seen_alive(&self, record: &PortalRecord) -> bool {
        let alive = |slot: &Slot| self.portal.session(&slot.session_id).and_then(|session| session.checked());
        record.slots().all(|(_, slot)| alive(slot).is_some_and(|(_, alive)| alive))
    }

    /// When the standby is logged in afresh next, and why.
    fn next_upkeep(&self, record: &PortalRecord, now: Time) -> Option<(Time, Purpose)> {
        let settings = self.portal.settings();
        let (active, standby) = (record.serving()?, record.ready_standby().filter(|_| self.portal.parallel())?);
        if record.upkeep.outdated(&settings.basis) {
            return Some((now, Purpose::Drill));
        }
        let renewal = self.renewal(record, standby, active, true, now).map(|at| (at, Purpose::Renewal));
        let proven = record.last_drill.as_ref().map_or(active.authenticated_at, |drill| drill.at);
        // Any login that succeeded has shown the same.
        let proven = proven.max(active.authenticated_at).max(standby.authenticated_at);
        let drill =
            settings.drill.map(|period| (schedule::drill(proven, period, settings.quiet_hours), Purpose::Drill));
        let again = record.upkeep.retry_at.filter(|_| record.upkeep.given_up.is_some()).map(|at| (at, Purpose::Drill));
        if record.upkeep.given_up.is_some() && again.is_none() {
            return None;
        }
        let (at, purpose) = [renewal, drill, again].into_iter().flatten().min_by_key(|(at, _)| *at)?;
        Some((record.upkeep.retry_at.map_or(at, |retry| retry.max(at)), purpose))
    }

    fn renewal(&self, record: &PortalRecord, slot: &Slot, twin: &Slot, standby: bool, now: Time) -> Option<Time> {
        let limit = record.learned(now).absolute?;
        schedule::renewal(slot, twin, limit, standby, self.portal.settings().quiet_hours)
    }

    /// Lets the standby serve before the active session ends of age; that one is renewed as a standby then.
    async fn hand_over(&mut self, record: &PortalRecord, now: Time) -> Result<(), StoreError> {
        let (Some(active), Some(standby)) = (record.serving(), record.ready_standby()) else { return Ok(()) };
        let due =
            |slot, twin, is_standby| self.renewal(record, slot, twin, is_standby, now).is_some_and(|at| at <= now);
        let younger = standby.authenticated_at > active.authenticated_at;
        if !self.portal.parallel() || !younger || !due(active, standby, false) || due(standby, active, true) {
            return Ok(());
        }
        let (id, why) = (active.session_id.clone(), "before the active session ends of age, the standby took over");
        let promote = |record: &mut PortalRecord| {
            let same = record.serving().is_some_and(|slot| slot.session_id == id) && !record.paused;
            same && record.promote_because(now, why)
        };
        if self.portal.change(promote).await? {
            let name = self.portal.name();
            tracing::info!(portal = name, "portal {name}: {why}");
            self.portal.wake();
        }
        Ok(())
    }
}

//! What sessions need while they live, and the jobs for it: looks, places in a browser, refreshes. Decides by the record and
//! the clock alone; what a job comes to is `settle`'s business, and logins are that of `logins`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Done, Job, Keeper, LOOK_AGAIN, PLACE_AGAIN, Waiting};
use crate::browsers::{Context, Seat};
use crate::clock::Time;
use crate::portals::check::{self, Verdict};
use crate::portals::relay::refreshable;
use crate::portals::session::Session;
use crate::portals::state::{PortalRecord, Role, Slot};
use crate::portals::{moving, repair, schedule, tab};
use crate::store::StoreError;

impl Keeper {
    /// Looks at living sessions when their time has come, and once more at those that seem dead before a login is spent.
    pub(super) async fn plan_looks(&mut self, record: &PortalRecord, now: Time) -> Result<(), StoreError> {
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
                    let verdict = check::check(&portal, &session).await;
                    if verdict == Verdict::Alive
                        && let Err(error) = tab::follow(&portal, &session).await
                    {
                        tracing::debug!(portal = portal.name(), "what a tab did was not looked at: {error}");
                    }
                    Done::Checked(session, verdict)
                });
            }
        }
        Ok(())
    }

    pub(super) fn next_look(&self, now: Time) -> Time {
        let idle = self.record().learned(now).idle;
        let every = schedule::check_every(self.portal.recipe().check.every, idle);
        now + self.portal.tools().random.jitter(every, 10)
    }

    /// Gives living sessions a place in a browser: after a restart, and when a browser has died.
    pub(super) fn plan_places(&mut self, record: &PortalRecord, now: Time) {
        if self.place_again.is_some_and(|at| at > now && at <= now + PLACE_AGAIN) {
            return;
        }
        for (_, slot) in record.slots().filter(|(_, slot)| !slot.expired) {
            let Some(session) = self.portal.session(&slot.session_id) else { continue };
            let former = session.context();
            if former.as_ref().is_some_and(|context| context.is_alive()) {
                continue;
            }
            let (portal, seat) = (self.portal.clone(), self.free_seat(record, &slot.session_id));
            self.start(Job::Place(slot.session_id.clone()), async move {
                let placed = repair::place_again(&portal, &session, seat).await;
                Done::Placed { session, again: former.is_some(), placed }
            });
        }
    }

    /// Moves sessions out of browsers that retire, one at a time, what stands by first. A place without one is given up.
    pub(super) fn plan_moves(&mut self, record: &PortalRecord, now: Time) {
        self.ready = self.ready.take().filter(|context| context.is_alive() && !context.is_retiring());
        let mut due = None;
        for (role, slot) in record.slots() {
            let Some((session, context)) = self.place_of(slot) else { continue };
            context.set_serving(role == Role::Active);
            if context.is_alive() && context.is_retiring() {
                due = Some((session, context));
            }
        }
        let waits = self.place_again.is_some_and(|at| at > now && at <= now + PLACE_AGAIN);
        let moves = self.running.keys().any(|job| matches!(job, Job::Move(_)));
        if let Some((session, former)) = due.filter(|_| !waits && !moves) {
            let portal = self.portal.clone();
            self.start(Job::Move(session.id().to_owned()), async move {
                let moved = moving::move_on(&portal, &session, former).await;
                Done::Moved(session, moved)
            });
        }
    }

    fn place_of(&self, slot: &Slot) -> Option<(Arc<Session>, Arc<Context>)> {
        let session = self.portal.session(&slot.session_id)?;
        let context = session.context()?;
        Some((session, context))
    }

    /// The browser in which no other session of this portal lives, so that one crash does not take both.
    pub(super) fn free_seat(&self, record: &PortalRecord, but: &str) -> Seat {
        let others = record.slots().filter(|(_, slot)| slot.session_id != but && !slot.expired);
        let mut contexts = others.filter_map(|(_, slot)| self.portal.session(&slot.session_id)?.context());
        match contexts.find(|context| context.is_alive()) {
            Some(context) => context.seat().other(),
            None if record.active.as_ref().is_some_and(|slot| slot.session_id != but) => Seat::B,
            None => Seat::A,
        }
    }

    pub(super) fn plan_refreshes(&mut self) {
        // Who comes after a refresh with a value from before it needs no second one.
        let renewed = |waiting: &mut Waiting| {
            let session = self.portal.session(&waiting.session_id);
            session.is_some_and(|session| refreshable(&self.portal, &session) != waiting.refused)
        };
        for waiting in self.waiting.extract_if(.., renewed) {
            let _ = waiting.done.send(true);
        }
        let wanted: BTreeSet<_> = self.waiting.iter().map(|waiting| waiting.session_id.clone()).collect();
        for id in wanted {
            let Some(session) = self.portal.session(&id) else {
                self.waiting.retain(|waiting| waiting.session_id != id);
                continue;
            };
            let (portal, job) = (self.portal.clone(), Job::Refresh(id));
            if self.running.contains_key(&job) {
                continue;
            }
            let waiting = self.waiting.iter_mut().filter(|waiting| waiting.session_id == session.id());
            waiting.for_each(|waiting| waiting.served = true);
            self.start(job, async move {
                let refreshed = repair::refresh(&portal, &session).await;
                Done::Refreshed(session, refreshed)
            });
        }
    }

    /// Answers those whose refresh has ended; whoever came while it was under way waits for the next one.
    pub(super) fn answer(&mut self, id: &str, refreshed: bool) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.session_id == id && waiting.served) {
            // A caller that has gone away needs no answer.
            let _ = waiting.done.send(refreshed);
        }
    }
}

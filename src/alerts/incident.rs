//! The incident: the record of what is wrong with one subject, and the rules of who is told when.
//!
//! The rules are pure functions from one incident to the next; sealing and storing are the business of `telling`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::outbox::{Carrier, Pending};
use crate::store::{Kind, Record};

/// What is or was wrong with one subject. The subject is the record's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Incident {
    /// Fresh with every opening.
    pub(super) id: String,
    pub(super) opened_at: Time,
    /// The latest cause.
    pub(super) cause: String,
    /// The latest title and body, sealed.
    pub(super) detail: Vec<u8>,
    pub(super) state: State,
    /// Whether someone has been told of this opening.
    pub(super) told: bool,
    /// Messages made so far; numbers their ids.
    pub(super) sequence: u32,
    /// When each cause was last told, across openings; kept as long as it matters.
    pub(super) last_sent: BTreeMap<String, Time>,
    /// The message that waits for the cooldown's end.
    pub(super) held: Option<Held>,
    /// Messages that the outbox has not taken yet.
    pub(super) pending: Vec<Pending>,
}

/// Whether an incident lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Open,
    Resolved(Time),
}

/// A message that is sent at the end of the cooldown, if its incident is still open then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) until: Time,
    pub(super) cause: String,
    pub(super) message: Pending,
}

/// The kinds of records that are kept here.
pub const KINDS: &[Kind] = &[Kind::of::<Incident>()];

impl Record for Incident {
    const SPACE: &'static str = "incident";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

impl Carrier for Incident {
    fn pending(&self) -> &[Pending] {
        &self.pending
    }

    fn pending_mut(&mut self) -> &mut Vec<Pending> {
        &mut self.pending
    }
}

/// What is to be done about a failure that was just reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    /// Send at this moment, unless it is over by then.
    Hold(Time),
    /// Someone knows, or will in a moment.
    Already,
}

impl Incident {
    /// A failure reported at `now`: the incident it belongs to, and what to do. `fresh_id` is used if one begins.
    pub(super) fn raised(
        old: Option<&Self>,
        cause: &str,
        fresh_id: &str,
        now: Time,
        cooldown: Duration,
    ) -> (Self, Verdict) {
        let mut this = match old {
            Some(old) if old.state == State::Open => old.clone(),
            _ => Self::opened(old, cause, fresh_id, now),
        };
        cause.clone_into(&mut this.cause);
        // A clock that was set back must not make a cooldown longer than it is.
        this.last_sent.retain(|_, sent| now < *sent + cooldown && *sent <= now);
        let verdict = match this.last_sent.get(cause) {
            None => Verdict::Send,
            Some(_) if this.told || this.held.is_some() => Verdict::Already,
            Some(sent) => Verdict::Hold(*sent + cooldown),
        };
        (this, verdict)
    }

    fn opened(old: Option<&Self>, cause: &str, id: &str, now: Time) -> Self {
        Self {
            id: id.to_owned(),
            opened_at: now,
            cause: cause.to_owned(),
            detail: Vec::new(),
            state: State::Open,
            told: false,
            sequence: 0,
            last_sent: old.map(|old| old.last_sent.clone()).unwrap_or_default(),
            held: None,
            pending: old.map(|old| old.pending.clone()).unwrap_or_default(),
        }
    }

    /// The id of the next message.
    pub(super) fn next_message_id(&mut self) -> String {
        self.sequence += 1;
        format!("{}-{}", self.id, self.sequence)
    }

    /// Sends `message` about `cause` now. What was held back about another cause is said by it.
    pub(super) fn tell(&mut self, cause: &str, message: Pending, now: Time) {
        self.held = None;
        self.told = true;
        self.last_sent.insert(cause.to_owned(), now);
        self.pending.push(message);
    }

    /// When the message that was held back is due.
    pub(super) fn due(&self) -> Option<Time> {
        self.held.as_ref().filter(|_| self.state == State::Open).map(|held| held.until)
    }

    /// The incident with its held message sent, if that is due.
    pub(super) fn released(&self, now: Time) -> Option<Self> {
        self.due().filter(|due| *due <= now)?;
        let mut this = self.clone();
        let held = this.held.take()?;
        this.tell(&held.cause, held.message, now);
        Some(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn told(cause: &str, when: Time) -> Incident {
        let (mut incident, verdict) = Incident::raised(None, cause, "first", when, COOLDOWN);
        assert_eq!(verdict, Verdict::Send);
        incident.told = true;
        incident.last_sent.insert(cause.to_owned(), when);
        incident
    }

    #[test]
    fn a_cause_is_told_once_in_a_cooldown_and_another_cause_has_its_own() {
        let open = told("no_sms", at(0));
        let raise = |cause, when| Incident::raised(Some(&open), cause, "second", when, COOLDOWN);
        assert_eq!(raise("no_sms", at(599)).1, Verdict::Already);
        assert_eq!(raise("captcha", at(1)).1, Verdict::Send);
        let (again, verdict) = raise("no_sms", at(600));
        assert_eq!((verdict, again.id.as_str(), again.opened_at), (Verdict::Send, "first", at(0)));
    }

    #[test]
    fn an_incident_that_begins_in_the_cooldown_waits_for_its_end() {
        let mut over = told("no_sms", at(0));
        over.state = State::Resolved(at(60));
        let (mut new, verdict) = Incident::raised(Some(&over), "no_sms", "second", at(120), COOLDOWN);
        assert_eq!((verdict, new.id.as_str(), new.told), (Verdict::Hold(at(600)), "second", false));
        assert_eq!(new.released(at(900)), None, "nothing was held");
        new.state = State::Resolved(at(130));
        assert_eq!(new.due(), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_silence_alerts() {
        let open = told("no_sms", at(10_000));
        assert_eq!(Incident::raised(Some(&open), "no_sms", "x", at(500), COOLDOWN).1, Verdict::Send);
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let mut incident = told("no_sms", at(1_700_000_000));
        incident.detail = vec![1, 2, 3];
        crate::store::golden::<Incident>(
            &incident,
            "056669727374fd0068e5cf8b010000066e6f5f736d730301020300010001066e6f5f736d73fd0068e5cf8b0100000000",
        );
    }
}

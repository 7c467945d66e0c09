//! The stored form of a flow, and of the messages that no longer fit into it.
//!
//! A flow is one record, so that everything about it changes in one step. Its newest messages are in it; older ones are
//! moved to pages, records of their own that never change again: a page holds the messages that followed the page before,
//! and is written before the change that takes them out of the flow, which counts it.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::clock::Time;
use crate::store::{self, Record};

/// Bytes of messages in the record from which on the older ones move to a page, and how many messages.
const TAIL: usize = 8 * 1024;
const TAIL_COUNT: usize = 100;
/// Bytes and number of messages that stay in the record.
const KEPT: usize = 2 * 1024;
const KEPT_COUNT: usize = 20;
/// What a message takes besides its text.
const AROUND: usize = 24;
/// Requests with an idempotency key that are remembered to have been carried out: more than can be under way at once when
/// a process dies.
const REMEMBERED: usize = 256;

/// What tells one call, or row of calls, from every other; keys for providers are made of it.
pub(super) type Token = [u8; 16];

/// The kinds of records that are kept here.
pub const KINDS: &[store::Kind] = &[store::Kind::of::<FlowRecord>(), store::Kind::of::<Page>()];

/// A flow's record, by `flow/id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecord {
    pub(super) status: String,
    /// When the status last changed.
    pub(super) since: Time,
    /// The client's JSON object as text: bincode cannot decode free-form values, and text keeps every digit.
    pub(super) data: String,
    /// The flags that are set, in the order in which they were.
    pub(super) flags: Vec<String>,
    /// The newest messages.
    pub(super) tail: Vec<Message>,
    /// How many pages hold the messages before those, and how many messages.
    pub(super) pages: u32,
    pub(super) paged: u64,
    /// Bytes of all messages.
    pub(super) said: u64,
    /// What was carried out for requests with an idempotency key, newest last.
    pub(super) applied: Vec<u64>,
    /// A transition whose call is under way.
    pub(super) claim: Option<Claim>,
    /// What is done in the background.
    pub(super) job: Option<Job>,
    /// What failed in the background for good, for an operator to try again.
    pub(super) failed: Option<Job>,
    pub(super) created_at: Time,
    pub(super) updated_at: Time,
}

impl Record for FlowRecord {
    const SPACE: &'static str = "flow";
    const SCHEMA: u8 = 1;
    // What a call has come to must be noted, or it is made again; what is new asks for room first.
    const URGENT: bool = true;
    const BACKLOG: usize = store::CROWD;
}

/// Something that a flow has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// When.
    pub at: Time,
    /// How it is meant.
    pub kind: Kind,
    /// The text.
    pub text: String,
}

impl Message {
    fn size(&self) -> usize {
        self.text.len() + AROUND
    }
}

/// A page of older messages, by `flow/id/number`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page(pub(super) Vec<Message>);

impl Record for Page {
    const SPACE: &'static str = "flow-messages";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

/// A transition that is claimed while its call is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) token: Token,
    pub(super) transition: String,
    /// What was sent with it, to be merged when the call has succeeded.
    pub(super) sent: String,
    /// The request's idempotency key.
    pub(super) once: Option<u64>,
    pub(super) since: Time,
}

/// The calls of a transition that are made in the background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) token: Token,
    pub(super) transition: String,
    /// The number of the call that is next; those before it are done.
    pub(super) call: u32,
    /// How often that one has failed.
    pub(super) failures: u32,
    /// When it is made.
    pub(super) due: Time,
    pub(super) since: Time,
}

impl FlowRecord {
    pub(super) fn new(status: &str, data: String, now: Time) -> Self {
        Self {
            status: status.to_owned(),
            since: now,
            data,
            flags: Vec::new(),
            tail: Vec::new(),
            pages: 0,
            paged: 0,
            said: 0,
            applied: Vec::new(),
            claim: None,
            job: None,
            failed: None,
            created_at: now,
            updated_at: now,
        }
    }

    pub(super) fn say(&mut self, at: Time, kind: Kind, text: &str) {
        let message = Message { at, kind, text: text.to_owned() };
        self.said += message.size() as u64;
        self.tail.push(message);
    }

    pub(super) fn set(&mut self, flags: &[String]) {
        for flag in flags {
            if !self.flags.contains(flag) {
                self.flags.push(flag.clone());
            }
        }
    }

    pub(super) fn move_to(&mut self, status: &str, now: Time) {
        status.clone_into(&mut self.status);
        self.since = now;
    }

    pub(super) fn remember(&mut self, once: Option<u64>) {
        self.applied.extend(once);
        let surplus = self.applied.len().saturating_sub(REMEMBERED);
        self.applied.drain(..surplus);
    }

    pub(super) fn has_applied(&self, once: Option<u64>) -> bool {
        once.is_some_and(|once| self.applied.contains(&once))
    }

    /// Bytes of data that it answers for: its own, and what waits to be merged when a call has succeeded.
    pub(super) fn weight(&self) -> usize {
        self.data.len() + self.claim.as_ref().map_or(0, |claim| claim.sent.len())
    }

    /// Whether the call of this token is still wanted.
    pub(super) fn wants(&self, token: &Token) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.token == *token)
            || self.job.as_ref().is_some_and(|job| job.token == *token)
    }

    /// The messages that should move to the next page; None while there are few.
    pub(super) fn surplus(&self) -> Option<Page> {
        let size = self.tail.iter().map(Message::size).sum::<usize>();
        if size < TAIL && self.tail.len() < TAIL_COUNT {
            return None;
        }
        let (mut kept, mut bytes) = (0, 0);
        for message in self.tail.iter().rev().take(KEPT_COUNT) {
            bytes += message.size();
            if bytes > KEPT {
                break;
            }
            kept += 1;
        }
        Some(Page(self.tail[..self.tail.len() - kept].to_vec()))
    }

    /// The record without the first `count` messages, which are on page `page`; unless somebody else moved them already.
    pub(super) fn without(&self, page: u32, count: usize) -> Self {
        let mut record = self.clone();
        if record.pages == page && count <= record.tail.len() {
            record.tail.drain(..count);
            record.pages += 1;
            record.paged += count as u64;
        }
        record
    }

    /// How many messages there are.
    pub(super) fn messages(&self) -> u64 {
        self.paged + self.tail.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::MAX_TEXT;
    use crate::flows::definition::FLAGS;
    use crate::flows::transition::MAX_DATA;
    use crate::store::{MAX_PAYLOAD, golden, payload};

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let now = Time::from_millis(1_700_000_000_000);
        let mut record = FlowRecord::new("started", "{\"이름\":1.10}".to_owned(), now);
        record.say(now, Kind::Success, "말");
        record.set(&["asked".to_owned()]);
        record.remember(Some(7));
        let (token, transition) = ([1; 16], "ask".to_owned());
        let once = Some(7);
        record.claim = Some(Claim { token, transition: transition.clone(), sent: "{}".to_owned(), once, since: now });
        record.job = Some(Job { token, transition, call: 1, failures: 2, due: now, since: now });
        golden::<FlowRecord>(
            &record,
            "0773746172746564fd0068e5cf8b0100000f7b22ec9db4eba684223a312e31307d010561736b656401fd0068e5cf8b0100000103eba790\
             00001b010701010101010101010101010101010101010361736b027b7d0107fd0068e5cf8b0100000101010101010101010101010101010\
             1010361736b0102fd0068e5cf8b010000fd0068e5cf8b01000000fd0068e5cf8b010000fd0068e5cf8b010000",
        );
        golden::<Page>(&Page(record.tail), "01fd0068e5cf8b0100000103eba790");
    }

    #[test]
    fn the_largest_flow_fits_into_a_record() {
        let (now, name) = (Time::from_millis(i64::MAX as u64 / 2), "n".repeat(64));
        let mut record = FlowRecord::new(&name, "d".repeat(MAX_DATA / 2), now);
        let job = Job { token: [255; 16], transition: name.clone(), call: 99, failures: 20, due: now, since: now };
        let sent = "d".repeat(MAX_DATA - MAX_DATA / 2);
        record.claim = Some(Claim { token: [255; 16], transition: name, sent, once: Some(u64::MAX), since: now });
        (record.job, record.failed) = (Some(job.clone()), Some(job));
        for once in 0..REMEMBERED as u64 {
            record.remember(Some(u64::MAX - once));
        }
        // Twice, for a definition that has changed all their names.
        record.set(&(0..2 * FLAGS).map(|number| format!("{number:064}")).collect::<Vec<_>>());
        while record.tail.len() < TAIL_COUNT - 1 {
            record.say(now, Kind::Error, &"m".repeat((TAIL - 1) / (TAIL_COUNT - 1) - AROUND));
        }
        assert_eq!(record.surplus(), None);
        record.say(now, Kind::Error, &"m".repeat(MAX_TEXT));
        let length = payload(&record).len();
        assert!(length <= MAX_PAYLOAD, "{length}");
        assert!(length > MAX_PAYLOAD - 2048, "{length}: the bounds leave more than they need");
    }

    #[test]
    fn surplus_messages_leave_once_and_the_newest_stay() {
        let mut record = FlowRecord::new("started", "{}".to_owned(), Time::from_millis(1));
        for number in 0..TAIL_COUNT {
            assert_eq!(record.surplus(), None);
            record.say(Time::from_millis(number as u64), Kind::Info, "말");
        }
        let Page(page) = record.surplus().unwrap();
        assert_eq!(page.len(), TAIL_COUNT - KEPT_COUNT);
        let after = record.without(0, page.len());
        assert_eq!((after.tail.len(), after.pages, after.messages()), (KEPT_COUNT, 1, TAIL_COUNT as u64));
        assert_eq!(after.without(0, page.len()), after, "somebody else was faster");
        let mut record = FlowRecord::new("started", "{}".to_owned(), Time::from_millis(1));
        record.say(Time::from_millis(1), Kind::Info, &"x".repeat(TAIL));
        assert_eq!(record.surplus().unwrap().0.len(), 1, "one that is large does not stay");
    }

    #[test]
    fn a_flag_is_set_once_and_keys_are_remembered_for_a_while() {
        let mut record = FlowRecord::new("started", "{}".to_owned(), Time::from_millis(1));
        record.set(&["a".to_owned(), "a".to_owned()]);
        assert_eq!(record.flags, ["a"]);
        for once in 0..=REMEMBERED as u64 {
            record.remember(Some(once));
        }
        assert!(!record.has_applied(Some(0)) && record.has_applied(Some(1)) && !record.has_applied(None));
    }
}

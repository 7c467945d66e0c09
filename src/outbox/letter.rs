//! The record of one message in the outbox, and the states it goes through.
//!
//! queued → sending → sent, or back to queued with a reason, or failed. A letter found in `sending` at start was cut off
//! by the end of the process and is sent again under the same Message-ID: delivery is at least once, and exactly once
//! where the process did not die between the recipient's "ok" and ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::Kind;
use super::{Channel, File, Message};
use crate::clock::Time;
use crate::ids::Random;
use crate::store::{self, Record};

/// How long after its creation a message is still tried.
pub(super) const PATIENCE: Duration = Duration::from_secs(48 * 3600);
/// How long a delivered message is remembered, so that the same id is not sent again.
pub(super) const REMEMBERED: Duration = Duration::from_secs(48 * 3600);
/// How long a message that failed stays visible to the operator.
pub(super) const FAILED_SHOWN: Duration = Duration::from_secs(30 * 24 * 3600);

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Pauses move by this share either way, in per cent.
const JITTER: u32 = 20;

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its next attempt.
    Queued,
    /// An attempt is being made, or was when the process ended.
    Sending,
    /// The recipient's side has accepted it.
    Sent(Time),
    /// It will not be tried again, for this reason.
    Failed(String),
}

/// One message as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) channel: Channel,
    pub(super) created_at: Time,
    /// The content, sealed; once delivered only its subject.
    pub(super) sealed: Vec<u8>,
    pub(super) files: Vec<File>,
    pub(super) state: State,
    pub(super) attempts: u32,
    /// Not tried before this moment.
    pub(super) next_at: Time,
    pub(super) last_error: Option<String>,
    /// From then on it is of no use.
    pub(super) expires_at: Option<Time>,
}

/// The kinds of records that are kept here.
pub(super) const KINDS: &[store::Kind] = &[store::Kind::of::<Letter>()];

impl Record for Letter {
    const SPACE: &'static str = "outbox";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

impl Letter {
    /// One that nobody has tried to deliver yet, without its content.
    pub(super) fn new(message: &Message) -> Self {
        let Message { channel, files, created_at, expires_at, .. } = message.clone();
        Self {
            channel,
            created_at,
            sealed: Vec::new(),
            files,
            state: State::Queued,
            attempts: 0,
            next_at: created_at,
            last_error: None,
            expires_at,
        }
    }

    /// The place that the sealed content of letter `id` is bound to.
    pub(super) fn context(id: &str) -> String {
        format!("{}/{id}", Self::SPACE)
    }

    /// Whether it still waits to be delivered through `kind`.
    pub(super) fn waits_for(&self, kind: Kind) -> bool {
        self.channel.kind() == kind && matches!(self.state, State::Queued | State::Sending)
    }

    /// When it is given up.
    pub(super) fn give_up_at(&self) -> Time {
        let patience = self.created_at + PATIENCE;
        self.expires_at.map_or(patience, |moment| moment.min(patience))
    }
}

/// The pause after the given number of failures in a row: 5 s doubling to 15 min, moved by up to a fifth.
pub(super) fn pause_after(failures: u32, random: &Random) -> Duration {
    use backon::BackoffBuilder;
    let pauses =
        backon::ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE).without_max_times();
    // From the ninth on all are the longest one.
    let nth = failures.saturating_sub(1).min(8) as usize;
    random.jitter(pauses.build().nth(nth).unwrap_or(LONGEST_PAUSE), JITTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_5_s_to_15_min() {
        let random = Random::seeded(1);
        for (failures, seconds) in [(1, 5), (2, 10), (3, 20), (8, 640), (9, 900), (500, 900)] {
            let (pause, base) = (pause_after(failures, &random), Duration::from_secs(seconds));
            assert!(pause >= base * 8 / 10 && pause <= base * 12 / 10, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let letter = Letter {
            channel: Channel::Mail { to: "ops@example.com".to_owned() },
            created_at: Time::from_millis(1_700_000_000_000),
            sealed: vec![1, 2, 3],
            files: vec![File { id: "f".to_owned(), name: "n".to_owned(), mime: "m".to_owned(), length: 300 }],
            state: State::Failed("없음".to_owned()),
            attempts: 2,
            next_at: Time::from_millis(1_700_000_005_000),
            last_error: Some("550".to_owned()),
            expires_at: None,
        };
        let golden = "000f6f7073406578616d706c652e636f6dfd0068e5cf8b01000003010203010166016e016dfb2c010306ec9786ec9d8c02fd887be5cf8b010000010335353000";
        crate::store::golden::<Letter>(&letter, golden);
    }
}

//! The stored form of a session.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::store::{self, Kind, Record};

/// A session's record, by `space/id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The client's JSON object as text: bincode cannot decode free-form values, and text keeps every digit.
    pub(super) data: String,
    ttl_ms: u64,
    pub(super) created_at: Time,
    pub(super) updated_at: Time,
}

/// The kinds of records that are kept here.
pub const KINDS: &[Kind] = &[Kind::of::<SessionRecord>()];

impl Record for SessionRecord {
    const SPACE: &'static str = "session";
    const SCHEMA: u8 = 1;
    const BACKLOG: usize = store::CROWD;
}

impl SessionRecord {
    pub(super) fn new(data: String, ttl: Duration, created_at: Time, updated_at: Time) -> Self {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self { data, ttl_ms, created_at, updated_at }
    }

    pub(super) const fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::golden;

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let (made, changed) = (Time::from_millis(1_700_000_000_000), Time::from_millis(1_700_000_005_000));
        let record = SessionRecord::new("{\"이름\":1.10}".to_owned(), Duration::from_secs(86_400), made, changed);
        golden::<SessionRecord>(
            &record,
            "0f7b22ec9db4eba684223a312e31307dfc005c2605fd0068e5cf8b010000fd887be5cf8b010000",
        );
    }
}

//! The stored form of a session.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::store::Record;

/// A session's record, by `space/id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The client's JSON object as text: bincode cannot decode free-form values, and text keeps every digit.
    pub(super) data: String,
    ttl_ms: u64,
    pub(super) created_at: Time,
    pub(super) updated_at: Time,
}

impl Record for SessionRecord {
    const SPACE: &'static str = "session";
    const SCHEMA: u8 = 1;
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

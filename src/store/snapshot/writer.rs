//! Writes a snapshot's bytes from its pairs. Knows no file and no store: whoever has it carries the bytes on.

use super::format::{Account, FORMAT, FULL_BODY, Head, Kind, MAGIC, MAX_BODY, pair_head};
use crate::store::engine::Table;

/// A snapshot that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    account: Account,
    /// Bytes that nobody has taken yet.
    ready: Vec<u8>,
    /// The frame that is being filled.
    kind: Kind,
    body: Vec<u8>,
    number: u32,
}

impl Writer {
    /// A snapshot that begins with `head`.
    pub(super) fn new(head: &Head) -> Self {
        let json = serde_json::to_vec(head).unwrap_or_default();
        let account = Account::new(&json);
        let ready = [&MAGIC[..], &[FORMAT]].concat();
        let mut writer = Self { account, ready, kind: Kind::Records, body: Vec::new(), number: 0 };
        writer.frame(Kind::Head, &json);
        writer
    }

    /// Adds the next pair; records first, in the order of their keys.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.account.count(table, key, value)?;
        let kind = Kind::holding(table).ok_or("this table is no part of a snapshot")?;
        if kind != self.kind || self.body.len() >= FULL_BODY {
            self.close_frame();
        }
        self.kind = kind;
        self.body.extend(pair_head(key, value));
        self.body.extend(key);
        self.body.extend(value);
        Ok(())
    }

    /// Ends the snapshot.
    pub(super) fn finish(&mut self) {
        self.close_frame();
        let tail = self.account.clone().close();
        self.frame(Kind::End, &serde_json::to_vec(&tail).unwrap_or_default());
    }

    /// Ends the bytes before the snapshot is whole: whoever reads them learns why.
    pub(super) fn break_off(&mut self, reason: &str) {
        self.body.clear();
        let reason: String = reason.chars().take(MAX_BODY / 8).collect();
        self.frame(Kind::Broken, reason.as_bytes());
    }

    /// How many bytes there are to take.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The bytes since they were last taken.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    fn close_frame(&mut self) {
        if !self.body.is_empty() {
            let body = std::mem::take(&mut self.body);
            self.frame(self.kind, &body);
        }
    }

    fn frame(&mut self, kind: Kind, body: &[u8]) {
        let start = self.ready.len();
        self.ready.push(kind as u8);
        self.ready.extend(self.number.to_le_bytes());
        self.ready.extend((body.len() as u32).to_le_bytes());
        self.ready.extend(body);
        let crc = crc32fast::hash(&self.ready[start..]);
        self.ready.extend(crc.to_le_bytes());
        self.number += 1;
    }
}

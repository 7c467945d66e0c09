//! `localStorage` in and out of a context without touching the network: an offline tab visits each origin, and what would
//! be the portal's page is an empty one of ours. So saved values are in place before any script of the portal runs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::context::Origins;
use super::tab::{Tab, Traffic};
use super::{CALL_LIMIT, Chrome, eyes, wire};
use crate::browsers::error::{BrowserError, NetCause};
use crate::browsers::state::StorageText;
use crate::clock;

/// The storage that this is about.
pub(super) const LOCAL: &str = "localStorage";

/// What `eyes.js` found stored.
#[derive(Deserialize)]
pub(super) struct Stored {
    /// As much of it as the budget allowed; `None` when that is nothing.
    pub(super) text: Option<String>,
    left_out: u32,
}

impl Stored {
    /// Tells what the budget did not allow.
    pub(super) fn warn(&self, origin: &str) {
        let left_out = self.left_out;
        if left_out > 0 {
            tracing::warn!(origin, left_out, "{left_out} large entries in the storage of {origin} are not saved");
        }
    }
}

/// An offline tab in one context.
pub(super) struct Storage(Tab);

impl Storage {
    /// Opens the tab.
    pub(super) async fn open(chrome: &Chrome, context: &str) -> Result<Self, BrowserError> {
        Tab::open(chrome, context, None, Traffic::Offline, Origins::default()).await.map(Self)
    }

    /// What is stored for each of `origins`, as far as `budget` bytes reach, the smallest entries of each first.
    pub(super) async fn read(
        &self,
        origins: &[String],
        mut budget: usize,
    ) -> Result<BTreeMap<String, StorageText>, BrowserError> {
        let mut found = BTreeMap::new();
        for origin in origins {
            visit(&self.0, origin).await?;
            let stored: Stored = self.0.eyes.see("stored", json!([LOCAL, budget])).await?;
            stored.warn(origin);
            if let Some(text) = stored.text {
                budget = budget.saturating_sub(text.len());
                found.insert(origin.clone(), StorageText(text));
            }
        }
        Ok(found)
    }

    /// Stores `entries` for `origin` beside what is there.
    pub(super) async fn write(&self, origin: &str, entries: &StorageText) -> Result<(), BrowserError> {
        visit(&self.0, origin).await?;
        self.0.eyes.see("restore", json!([LOCAL, entries.0])).await
    }

    /// Closes the tab.
    pub(super) async fn close(self) -> Result<(), BrowserError> {
        self.0.close().await
    }
}

/// Brings a tab that is offline to `origin`.
pub(super) async fn visit(tab: &Tab, origin: &str) -> Result<(), BrowserError> {
    let navigated = tab.session.call(wire::navigate(&format!("{origin}/"))).await?;
    if let Some(text) = navigated.error_text {
        let cause = NetCause::from_chromium(&text);
        return Err(BrowserError::Navigation { url: origin.to_owned(), cause });
    }
    let arriving = async {
        while !tab.eyes.see::<String>("url", json!([])).await?.starts_with(origin) {
            clock::pause(eyes::LOOK_AGAIN).await;
        }
        Ok(())
    };
    let hung = BrowserError::Hung { call: "Page.navigate", limit: CALL_LIMIT };
    clock::within(CALL_LIMIT, arriving).await.unwrap_or(Err(hung))
}

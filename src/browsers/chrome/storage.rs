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

/// The most that is exported of a context, in bytes: with its cookies it must fit into a record of the store (64 KiB).
const BUDGET: usize = 32 * 1024;

/// What `eyes.js` found stored.
#[derive(Deserialize)]
struct Stored {
    text: Option<String>,
    left_out: u32,
}

/// An offline tab in one context.
pub(super) struct Storage(Tab);

impl Storage {
    /// Opens the tab.
    pub(super) async fn open(chrome: &Chrome, context: &str) -> Result<Self, BrowserError> {
        Tab::open(chrome, context, None, Traffic::Offline, Origins::default()).await.map(Self)
    }

    /// What is stored for each of `origins`, as far as the budget reaches, the smallest entries of each first.
    pub(super) async fn read(&self, origins: &[String]) -> Result<BTreeMap<String, StorageText>, BrowserError> {
        let (mut found, mut budget) = (BTreeMap::new(), BUDGET);
        for origin in origins {
            self.visit(origin).await?;
            let Stored { text, left_out } = self.0.eyes.see("stored", json!([budget])).await?;
            if left_out > 0 {
                tracing::warn!(origin, left_out, "{left_out} large entries in the storage of {origin} are not saved");
            }
            if let Some(text) = text {
                budget = budget.saturating_sub(text.len());
                found.insert(origin.clone(), StorageText(text));
            }
        }
        Ok(found)
    }

    /// Stores `entries` for `origin` beside what is there.
    pub(super) async fn write(&self, origin: &str, entries: &StorageText) -> Result<(), BrowserError> {
        self.visit(origin).await?;
        self.0.eyes.see("restore", json!([entries.0])).await
    }

    /// Closes the tab.
    pub(super) async fn close(self) -> Result<(), BrowserError> {
        self.0.close().await
    }

    async fn visit(&self, origin: &str) -> Result<(), BrowserError> {
        let navigated = self.0.session.call(wire::navigate(&format!("{origin}/"))).await?;
        if let Some(text) = navigated.error_text {
            let cause = NetCause::from_chromium(&text);
            return Err(BrowserError::Navigation { url: origin.to_owned(), cause });
        }
        let arriving = async {
            while !self.0.eyes.see::<String>("url", json!([])).await?.starts_with(origin) {
                clock::pause(eyes::LOOK_AGAIN).await;
            }
            Ok(())
        };
        let hung = BrowserError::Hung { call: "Page.navigate", limit: CALL_LIMIT };
        clock::within(CALL_LIMIT, arriving).await.unwrap_or(Err(hung))
    }
}

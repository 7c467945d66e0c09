//! Tabs that stay open: one whose `sessionStorage` is the session, and an empty one that only makes calls.
//!
//! `sessionStorage` dies with its tab, so it is exported and put into a new tab before any script of the portal runs
//! there: the new tab first visits the origin offline, like `storage` does, and is let onto the network afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use url::Url;

use super::context::{BUDGET, Context};
use super::page::{Page, PageOptions};
use super::storage::{LOCAL, Stored, visit};
use super::tab::Traffic;
use super::wire;
use crate::browsers::error::BrowserError;
use crate::browsers::state::{KeptTab, SavedState, StorageText};

/// How long a renderer may take to crash on request.
const CRASH: Duration = Duration::from_secs(1);

impl Context {
    /// A page on `origin` with nothing in it, loaded from nowhere, that can make calls ([`Page::call`]).
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn blank_page(&self, origin: &str, options: PageOptions) -> Result<Page, BrowserError> {
        let page = self.offline_page().await?;
        visit(&page.tab, origin).await?;
        page.take_calls(options).await?;
        Ok(page)
    }

    /// A tab with what `kept` has of `sessionStorage`, that can make calls. It shows nothing yet.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn restored_page(&self, kept: &KeptTab, options: PageOptions) -> Result<Page, BrowserError> {
        let page = self.offline_page().await?;
        for (origin, entries) in &kept.session_storage {
            visit(&page.tab, origin).await?;
            page.tab.eyes.see::<()>("restore", json!(["sessionStorage", entries.0])).await?;
        }
        page.take_calls(options).await?;
        Ok(page)
    }

    /// As [`Context::export`], with what `page` keeps: that first, for the session is there.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn export_with(&self, page: &Page, former: Option<KeptTab>) -> Result<SavedState, BrowserError> {
        let kept = page.kept(former).await?;
        let state = self.export_within(BUDGET.saturating_sub(size(&kept.session_storage)), Some(page)).await?;
        Ok(SavedState { kept: Some(kept), ..state })
    }

    /// What has become of `former`, looked at without opening a tab: cookies, and where `page` is kept its storages.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn follow(&self, page: Option<&Page>, former: SavedState) -> Result<SavedState, BrowserError> {
        let mut state = SavedState { cookies: self.cookies().await?, ..former };
        if let Some(page) = page {
            let kept = page.kept(state.kept.take()).await?;
            let budget = BUDGET.saturating_sub(size(&kept.session_storage));
            page.stored_into(&mut state.local_storage, LOCAL, budget).await?;
            state.kept = Some(kept);
        }
        Ok(state)
    }
}

impl Page {
    /// Makes the page able to make calls. From now on no service worker answers its requests, and a request that wants a
    /// password typed by a person gets its 401.
    ///
    /// # Errors
    /// When the page has gone or does not answer.
    pub async fn take_calls(&self, options: PageOptions) -> Result<(), BrowserError> {
        self.tab.take_calls(Traffic::from(options)).await
    }

    /// Whether the tab lives, as far as the browser has told.
    pub fn is_open(&self) -> bool {
        self.tab.session.is_open()
    }

    /// Ends a page that does not answer, together with its renderer: one that spins would go on for ever.
    pub async fn give_up(&self) {
        // A renderer that crashes does not answer.
        let _ = self.tab.session.call_within(CRASH, wire::PageCrash {}).await;
        self.tab.session.end(BrowserError::Closed);
    }

    /// What is lost with this tab: where it is, without query and fragment, and its `sessionStorage`. What `former` knows
    /// of other origins is kept.
    async fn kept(&self, former: Option<KeptTab>) -> Result<KeptTab, BrowserError> {
        let mut kept = former.unwrap_or_default();
        if let Some(mut url) = self.stored_into(&mut kept.session_storage, "sessionStorage", BUDGET).await? {
            url.set_query(None);
            url.set_fragment(None);
            kept.url = url.into();
        }
        Ok(kept)
    }

    /// Puts what the present document's origin has stored in place of what `all` has of it, and returns where that is.
    pub(super) async fn stored_into(
        &self,
        all: &mut BTreeMap<String, StorageText>,
        area: &str,
        budget: usize,
    ) -> Result<Option<Url>, BrowserError> {
        let url = Url::parse(&self.url().await?).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else { return Ok(None) };
        let origin = url.origin().ascii_serialization();
        let stored: Stored = self.tab.eyes.see("stored", json!([area, budget])).await?;
        stored.warn(&origin);
        match stored.text {
            Some(text) => drop(all.insert(origin, StorageText(text))),
            None => drop(all.remove(&origin)),
        }
        Ok(Some(url))
    }
}

/// What stored entries take, in bytes.
pub(super) fn size(storage: &BTreeMap<String, StorageText>) -> usize {
    storage.values().map(|text| text.0.len()).sum()
}

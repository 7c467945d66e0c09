//! A session's own incognito context: its cookies and storage, shared with nobody, gone when disposed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use headless_chrome::protocol::cdp::{Browser, Target};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::identity::Identity;
use super::kept::size;
use super::page::{Page, PageOptions};
use super::storage::{LOCAL, Storage};
use super::tab::{Tab, Traffic};
use super::{Chrome, Litter, wire};
use crate::browsers::error::BrowserError;
use crate::browsers::seat::{Entry, Seat};
use crate::browsers::state::{Cookie, SavedState};
use crate::browsers::tenancy::Tenant;
use crate::clock::Time;

/// The most that is exported of a context's storages, in bytes: with its cookies it must fit into a record of the store
/// (64 KiB).
pub(super) const BUDGET: usize = 32 * 1024;
/// Origins a context remembers for export; a portal has a handful.
const ORIGINS: usize = 32;

/// How a context starts.
#[derive(Clone, Debug, Default)]
pub struct ContextOptions {
    /// What to put back before anything is loaded.
    pub restore: Option<SavedState>,
    /// The `User-Agent` of its pages; the browser's own when absent. With one set, Chromium sends no client hints.
    pub user_agent: Option<String>,
}

/// An incognito context in one browser process. Dropped, it is disposed of in the background.
#[derive(Debug)]
pub struct Context {
    chrome: Chrome,
    /// Its name in the protocol; empty once disposed of.
    id: String,
    seat: Seat,
    generation: u64,
    user_agent: Option<String>,
    visited: Origins,
    tenant: Tenant,
}

impl Context {
    /// Opens a context in the process that was entered, and restores what was saved.
    pub(in crate::browsers) async fn open(entry: Entry, options: ContextOptions) -> Result<Self, BrowserError> {
        let Entry { chrome, seat, generation, tenant } = entry;
        let id = chrome.call(wire::create_context()).await?.browser_context_id;
        let visited = Origins::default();
        let context = Self { chrome, id, seat, generation, user_agent: options.user_agent, visited, tenant };
        let deny = Browser::SetDownloadBehavior {
            behavior: Browser::SetDownloadBehaviorBehaviorOption::Deny,
            browser_context_id: Some(context.id.clone()),
            download_path: None,
            events_enabled: None,
        };
        context.chrome.call(deny).await?;
        if let Some(state) = options.restore {
            context.restore(&state).await?;
        }
        Ok(context)
    }

    /// The seat whose process this context lives in.
    pub const fn seat(&self) -> Seat {
        self.seat
    }

    /// Which process of that seat, counted from 1: another generation has none of our contexts.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether its process still lives.
    pub fn is_alive(&self) -> bool {
        !self.chrome.gone().is_cancelled()
    }

    /// Whether its process has lost its seat to a fresh one and waits for its contexts to move there. It still works, for
    /// ten minutes at most.
    pub fn is_retiring(&self) -> bool {
        self.tenant.is_retiring()
    }

    /// Says whether callers are served from this context's session; of two processes that are due to be replaced, the one
    /// from which fewer are served goes first.
    pub fn set_serving(&self, serving: bool) {
        self.tenant.set_serving(serving);
    }

    /// Cancelled when its process has died.
    pub fn gone(&self) -> CancellationToken {
        // A child: what a caller does with it must not reach the connection.
        self.chrome.gone().child_token()
    }

    /// Opens a tab.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn page(&self, options: PageOptions) -> Result<Page, BrowserError> {
        Page::open(&self.chrome, &self.id, self.user_agent.as_deref(), options, self.visited.clone()).await
    }

    /// Opens a tab that goes nowhere: every page that it visits is an empty one of ours.
    pub(super) async fn offline_page(&self) -> Result<Page, BrowserError> {
        let user_agent = self.user_agent.as_deref();
        let tab = Tab::open(&self.chrome, &self.id, user_agent, Traffic::Offline, self.visited.clone()).await?;
        Ok(Page { tab })
    }

    /// All cookies of the context, HttpOnly included.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn cookies(&self) -> Result<Vec<Cookie>, BrowserError> {
        let found = self.chrome.call(wire::GetCookies { browser_context_id: self.id.clone() }).await?;
        Ok(found.cookies.into_iter().map(Cookie::from).collect())
    }

    /// Sets cookies, over those of the same name, domain and path. One that Chromium finds invalid is left out with a
    /// warning that names it: one bad cookie must not cost the session.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn set_cookies(&self, cookies: &[Cookie]) -> Result<(), BrowserError> {
        let cookies: Vec<_> = cookies.iter().map(wire::WireCookie::from).collect();
        match self.set(&cookies).await {
            // The browser refuses all for one without saying which.
            Err(BrowserError::Protocol { .. }) => {}
            done => return done,
        }
        for cookie in cookies {
            match self.set(std::slice::from_ref(&cookie)).await {
                Err(BrowserError::Protocol { detail, .. }) => {
                    tracing::warn!("the browser refuses the cookie {}: {detail}", cookie.name());
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Makes these the context's cookies: sets them and removes every other one. Returns what the context holds then, in
    /// the browser's own words.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn replace_cookies(&self, cookies: &[Cookie]) -> Result<Vec<Cookie>, BrowserError> {
        let stays = |held: &Cookie| cookies.iter().any(|cookie| cookie.same_place(held));
        let gone = self.cookies().await?.into_iter().filter(|held| !stays(held));
        // What has expired is what a browser removes.
        let gone: Vec<_> = gone.map(|cookie| Cookie { expires: Some(Time::from_millis(1000)), ..cookie }).collect();
        self.set_cookies(&gone).await?;
        self.set_cookies(cookies).await?;
        self.cookies().await
    }

    async fn set(&self, cookies: &[wire::WireCookie]) -> Result<(), BrowserError> {
        self.chrome.call(wire::SetCookies { browser_context_id: &self.id, cookies }).await.map(drop)
    }

    /// Everything that must survive the process: all cookies, and the `localStorage` of every origin that a page of this
    /// context has shown or that was restored (at most 32). Needs no open page and asks nothing of the network. Storage
    /// beyond 32 KiB is left out with a warning, large entries first.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn export(&self) -> Result<SavedState, BrowserError> {
        self.export_within(BUDGET, None).await
    }

    /// As [`Context::export`], with a tab of this context that is open: what it shows is asked where it is, which spares
    /// the opening of another one (about 100 ms).
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn export_beside(&self, page: &Page) -> Result<SavedState, BrowserError> {
        self.export_within(BUDGET, Some(page)).await
    }

    pub(super) async fn export_within(
        &self,
        mut budget: usize,
        open: Option<&Page>,
    ) -> Result<SavedState, BrowserError> {
        let cookies = self.cookies().await?;
        let mut origins = self.visited.all();
        let mut local_storage = BTreeMap::new();
        // A page that does not answer, or may not look at its own storage, is asked from outside like any other origin.
        if let Some(page) = open
            && let Ok(Some(url)) = page.stored_into(&mut local_storage, LOCAL, budget).await
        {
            let shown = url.origin().ascii_serialization();
            origins.retain(|origin| *origin != shown);
            budget = budget.saturating_sub(size(&local_storage));
        }
        if !origins.is_empty() {
            let storage = Storage::open(&self.chrome, &self.id).await?;
            local_storage.extend(storage.read(&origins, budget).await?);
            storage.close().await?;
        }
        Ok(SavedState { cookies, local_storage, ..SavedState::default() })
    }

    async fn restore(&self, state: &SavedState) -> Result<(), BrowserError> {
        self.set_cookies(&state.cookies).await?;
        if state.local_storage.is_empty() {
            return Ok(());
        }
        let storage = Storage::open(&self.chrome, &self.id).await?;
        for (origin, entries) in &state.local_storage {
            storage.write(origin, entries).await?;
            self.visited.add(origin);
        }
        storage.close().await
    }

    /// What the browser says about itself in this context's requests, measured on loopback once a process.
    ///
    /// # Errors
    /// When the process has died or does not answer.
    pub async fn identity(&self) -> Result<Identity, BrowserError> {
        self.chrome.identities.of(&self.chrome, self.user_agent.as_deref()).await
    }

    /// Throws the context away, with its tabs, cookies and storage.
    ///
    /// # Errors
    /// When the process does not answer; that the context is gone already is none.
    pub async fn dispose(mut self) -> Result<(), BrowserError> {
        let method = Target::DisposeBrowserContext { browser_context_id: std::mem::take(&mut self.id) };
        match self.chrome.call(method).await {
            Ok(_) | Err(BrowserError::Gone | BrowserError::Protocol { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            self.chrome.discard(Litter::Context(std::mem::take(&mut self.id)));
        }
    }
}

/// The origins that pages of a context have shown; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(Arc<Mutex<BTreeSet<String>>>);

impl Origins {
    /// Remembers the origin of `url`, if it is one that can store something and there is room.
    pub(super) fn add(&self, url: &str) {
        let Ok(url) = Url::parse(url) else { return };
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(url.scheme(), "http" | "https") && origins.len() < ORIGINS {
            origins.insert(url.origin().ascii_serialization());
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

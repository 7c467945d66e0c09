//! A tab: a target of our own with a session on it, eyes, and somebody who answers its events.
//!
//! The answering task accepts dialogs, decides on paused requests, passes on what is observed of calls and notices a
//! crash. It ends with the session; the tab is closed when dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use headless_chrome::protocol::cdp::{Emulation, Fetch, Network, Page, Target};
use tokio::sync::mpsc;

use super::address::permits;
use super::calls::Calls;
use super::connection::Event;
use super::context::Origins;
use super::eyes::Eyes;
use super::session::Session;
use super::{Chrome, Litter, pulse, wire};
use crate::browsers::error::BrowserError;
use crate::browsers::tenancy::Tenancy;

/// Texts of dialogs kept a tab, and characters a text.
const DIALOGS: usize = 10;
const DIALOG_TEXT: usize = 500;

/// A tab of ours; closed when dropped.
#[derive(Debug)]
pub(super) struct Tab {
    /// The browser that it is in.
    pub(super) chrome: Chrome,
    /// Its name in the protocol; empty once closed.
    target: String,
    /// Calls into the tab.
    pub(super) session: Session,
    /// Looks into the tab.
    pub(super) eyes: Eyes,
    /// What is observed of the calls that it makes for us.
    pub(super) calls: Calls,
    traffic: Rules,
    dialogs: Dialogs,
}

/// What the tab's requests may do.
#[derive(Clone, Debug)]
pub(super) enum Traffic {
    /// Go anywhere.
    Free,
    /// Go to these origins only (ASCII form); all else fails as blocked by the client. `data:` and `blob:` pass.
    Only(Vec<String>),
    /// Go nowhere: every request is answered with an empty page.
    Offline,
}

/// What holds at present.
type Rules = Arc<Mutex<Traffic>>;

/// Texts of the dialogs a page has shown, oldest first.
type Dialogs = Arc<Mutex<VecDeque<String>>>;

impl Tab {
    /// Opens a blank tab in the context `context`. What the tab visits is added to `visited`.
    pub(super) async fn open(
        chrome: &Chrome,
        context: &str,
        user_agent: Option<&str>,
        traffic: Traffic,
        visited: Origins,
    ) -> Result<Self, BrowserError> {
        let target = chrome.call(wire::create_tab(context)).await?.target_id;
        // From here on a failure closes the tab.
        let litter = Unattached { chrome, target: Some(target.clone()) };
        let (session, events) = Session::attach(&chrome.connection, target.clone()).await?;
        litter.attached();
        let eyes = Eyes::on(session.clone(), target.clone());
        let (dialogs, calls, rules) = (Dialogs::default(), Calls::default(), Arc::new(Mutex::new(traffic.clone())));
        let answerer = Answerer {
            session: session.clone(),
            traffic: Arc::clone(&rules),
            visited,
            dialogs: dialogs.clone(),
            calls: calls.clone(),
            tenancy: chrome.tenancy.clone(),
        };
        let tab = Self { chrome: chrome.clone(), target, session, eyes, calls, traffic: rules, dialogs };
        chrome.life.spawn("browser tab", answerer.run(events));
        chrome.life.spawn("browser tab's pulse", pulse::watch(tab.session.clone(), tab.target.clone(), chrome.clone()));
        tab.prepare(user_agent, &traffic).await?;
        Ok(tab)
    }

    async fn prepare(&self, user_agent: Option<&str>, traffic: &Traffic) -> Result<(), BrowserError> {
        tokio::try_join!(
            self.session.call(wire::InspectorEnable {}),
            self.session.call(wire::PageEnable {}),
            self.session.call(wire::SetFocusEmulationEnabled { enabled: true }),
        )?;
        if let Some(user_agent) = user_agent {
            let method = Emulation::SetUserAgentOverride {
                user_agent: user_agent.into(),
                accept_language: None,
                platform: None,
                user_agent_metadata: None,
            };
            self.session.call(method).await?;
        }
        if !matches!(traffic, Traffic::Free) {
            // A service worker would answer requests before we see them.
            self.session.call(Network::SetBypassServiceWorker { bypass: true }).await?;
            self.session.call(wire::intercept(false)).await?;
        }
        Ok(())
    }

    /// Gets ready for calls that the page makes for us, and lets requests do from now on what `traffic` says.
    pub(super) async fn take_calls(&self, traffic: Traffic) -> Result<(), BrowserError> {
        let scripts_only = matches!(traffic, Traffic::Free);
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner) = traffic;
        self.session.call(wire::NetworkEnable::QUIET).await?;
        // A service worker would answer in the portal's place.
        self.session.call(Network::SetBypassServiceWorker { bypass: true }).await?;
        self.session.call(wire::intercept(scripts_only)).await.map(drop)
    }

    /// Texts of the last dialogs the page showed, oldest first.
    pub(super) fn dialogs(&self) -> Vec<String> {
        self.dialogs.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Closes the tab and waits until the browser has said so.
    pub(super) async fn close(mut self) -> Result<(), BrowserError> {
        self.session.end(BrowserError::Closed);
        let target_id = std::mem::take(&mut self.target);
        self.chrome.call(Target::CloseTarget { target_id }).await.map(drop)
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.session.end(BrowserError::Closed);
        if !self.target.is_empty() {
            self.chrome.discard(Litter::Tab(std::mem::take(&mut self.target)));
        }
    }
}

/// Closes a tab that was created but never attached.
struct Unattached<'a> {
    chrome: &'a Chrome,
    target: Option<String>,
}

impl Unattached<'_> {
    fn attached(mut self) {
        self.target = None;
    }
}

impl Drop for Unattached<'_> {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            self.chrome.discard(Litter::Tab(target));
        }
    }
}

/// Answers a tab's events until there are no more.
struct Answerer {
    session: Session,
    traffic: Rules,
    visited: Origins,
    dialogs: Dialogs,
    calls: Calls,
    tenancy: Tenancy,
}

impl Answerer {
    async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            if let Err(error) = self.answer(event).await {
                // The page may have moved on meanwhile, and if the tab is ending, its callers are told why.
                tracing::debug!("an event of a tab stayed unanswered: {error}");
            }
        }
        self.session.end_with_pipe();
        self.calls.end();
    }

    async fn answer(&self, event: Event) -> Result<(), BrowserError> {
        match event.method.as_str() {
            "Inspector.targetCrashed" => self.session.end(BrowserError::Crashed),
            "Page.javascriptDialogOpening" => {
                if let Some(dialog) = event.read::<wire::DialogOpening>() {
                    self.remember(&dialog.message);
                }
                self.session.call(Page::HandleJavaScriptDialog { accept: true, prompt_text: None }).await?;
            }
            "Page.frameNavigated" => {
                if let Some(wire::FrameNavigated { frame }) = event.read()
                    && frame.parent_id.is_none()
                {
                    self.visited.add(&frame.url);
                    self.calls.end();
                    self.tenancy.navigated();
                }
            }
            "Fetch.requestPaused" => {
                if let Some(paused) = event.read::<wire::RequestPaused>() {
                    self.decide(paused).await?;
                }
            }
            "Fetch.authRequired" => {
                if let Some(wire::AuthRequired { request_id }) = event.read() {
                    self.session.call(wire::no_password(request_id)).await?;
                }
            }
            _ => self.calls.hear(event),
        }
        Ok(())
    }

    fn remember(&self, message: &str) {
        let mut dialogs = self.dialogs.lock().unwrap_or_else(PoisonError::into_inner);
        if dialogs.len() == DIALOGS {
            dialogs.pop_front();
        }
        dialogs.push_back(message.chars().take(DIALOG_TEXT).collect());
    }

    async fn decide(&self, paused: wire::RequestPaused) -> Result<(), BrowserError> {
        let wire::RequestPaused { request_id, request } = paused;
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match &traffic {
            Traffic::Offline => self.session.call(wire::fulfil_empty(request_id)).await.map(drop),
            Traffic::Only(allowed) if !permits(allowed, &request.url) => {
                let error_reason = Network::ErrorReason::BlockedByClient;
                self.session.call(Fetch::FailRequest { request_id, error_reason }).await.map(drop)
            }
            Traffic::Free | Traffic::Only(_) => self.session.call(wire::let_go(request_id)).await.map(drop),
        }
    }
}

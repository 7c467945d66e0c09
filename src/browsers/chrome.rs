//! The DevTools protocol, spoken with one running Chromium. The only place that does; types come from headless_chrome's
//! generated protocol, and from `wire` where those are wrong or too strict for a newer browser.
//!
//! [`Chrome`] is the browser as a whole, [`Context`] a session in it, [`Page`] a tab of that session. Everything here fails
//! with an error instead of waiting without a limit, and everything opened is closed again when dropped.

mod address;
mod calls;
mod connection;
mod context;
mod eyes;
mod fetch;
mod identity;
mod kept;
mod keys;
mod page;
mod pointer;
mod pulse;
mod session;
mod storage;
mod surrogates;
mod tab;
mod wire;

use std::time::Duration;

use headless_chrome::protocol::cdp::Target;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use connection::{Connection, Event, Message};
use identity::Identities;

use session::Session;

use super::error::BrowserError;
use super::tenancy::Tenancy;
use crate::lifecycle::Lifecycle;

pub use context::{Context, ContextOptions};
pub use fetch::{Area, CallError, PageAnswer, PageBody, PageCall, Piece};
pub use identity::Identity;
pub use keys::Key;
pub use page::{Landing, Page, PageOptions};

/// How long one call may take unless its caller says otherwise.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Contexts and tabs that may wait to be closed after a drop; what exceeds it stays until its process ends.
const LITTER_LIMIT: usize = 256;
/// How long a page may take to give up a call: one that hangs must not keep the rest from being closed.
const GIVE_UP: Duration = Duration::from_secs(1);

/// A connection to one browser process; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Chrome {
    connection: Connection,
    litter: mpsc::Sender<Litter>,
    life: Lifecycle,
    tenancy: Tenancy,
    identities: Identities,
}

/// What its owner dropped and somebody has to close.
#[derive(Debug)]
enum Litter {
    Context(String),
    Tab(String),
    Call { session: Session, world: u32, expression: String },
}

impl Chrome {
    /// Speaks over a fresh pipe. The browser may not be listening yet: see [`Chrome::ready`].
    pub(super) fn connect(to: pipe::Sender, from: pipe::Receiver, life: &Lifecycle) -> Self {
        let connection = Connection::open(to, from, life);
        let (litter, found) = mpsc::channel(LITTER_LIMIT);
        let events = connection.subscribe("");
        life.spawn("browser steward", Steward { connection: connection.clone() }.run(events, found));
        Self { connection, litter, life: life.clone(), tenancy: Tenancy::default(), identities: Identities::default() }
    }

    /// Waits for the first answer and arranges that popups are reported.
    pub(super) async fn ready(&self, limit: Duration) -> Result<(), BrowserError> {
        self.ping(limit).await?;
        self.call(wire::discover_pages()).await.map(drop)
    }

    /// Asks for a sign of life, which is the number of contexts that the process holds.
    pub(super) async fn ping(&self, limit: Duration) -> Result<usize, BrowserError> {
        let held = self.connection.call(None, &wire::GetBrowserContexts {}, limit).await?;
        Ok(held.browser_context_ids.len())
    }

    /// Asks the browser to end in order. The end shows as [`Chrome::gone`].
    pub(super) async fn close(&self, limit: Duration) -> Result<(), BrowserError> {
        self.connection.call(None, &wire::Close {}, limit).await.map(drop)
    }

    /// Cancelled when the pipe has ended: the process is dead, or as good as.
    pub(super) fn gone(&self) -> CancellationToken {
        self.connection.gone()
    }

    /// Who lives in the process.
    pub(super) const fn tenancy(&self) -> &Tenancy {
        &self.tenancy
    }

    /// Gives up the connection: every call under way or to come returns [`BrowserError::Gone`].
    pub(super) fn abandon(&self) {
        self.gone().cancel();
    }

    async fn call<M: Message>(&self, method: M) -> Result<M::ReturnObject, BrowserError> {
        self.connection.call(None, &method, CALL_LIMIT).await
    }

    /// Has something closed by the steward; for drops, which cannot wait.
    fn discard(&self, litter: Litter) {
        if let Err(error) = self.litter.try_send(litter)
            && !self.gone().is_cancelled()
        {
            tracing::warn!("a dropped browser context stays open until its process ends: {error}");
        }
    }
}

/// The task that closes what nobody needs: popups that portals open, and what was dropped.
struct Steward {
    connection: Connection,
}

impl Steward {
    async fn run(self, mut events: mpsc::Receiver<Event>, mut litter: mpsc::Receiver<Litter>) {
        let gone = self.connection.gone();
        loop {
            let done = tokio::select! {
                () = gone.cancelled() => return,
                Some(event) = events.recv() => self.close_popup(&event).await,
                Some(litter) = litter.recv() => self.close(litter).await,
            };
            if let Err(error) = done {
                // Closing what is closed already is no failure; anything else ends with the process.
                tracing::debug!("the browser did not close something: {error}");
            }
        }
    }

    /// Every tab of ours is made by us; one with an opener was made by a page. Its `window.open` still succeeds.
    async fn close_popup(&self, event: &Event) -> Result<(), BrowserError> {
        match event.as_popup() {
            Some(target_id) => self.close(Litter::Tab(target_id)).await,
            None => Ok(()),
        }
    }

    async fn close(&self, litter: Litter) -> Result<(), BrowserError> {
        match litter {
            Litter::Context(browser_context_id) => {
                let method = Target::DisposeBrowserContext { browser_context_id };
                self.connection.call(None, &method, CALL_LIMIT).await.map(drop)
            }
            Litter::Tab(target_id) => {
                self.connection.call(None, &Target::CloseTarget { target_id }, CALL_LIMIT).await.map(drop)
            }
            Litter::Call { session, world, expression } => {
                session.call_within(GIVE_UP, wire::evaluate(expression, world)).await.map(drop)
            }
        }
    }
}

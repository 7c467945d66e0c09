//! The tab that belongs to a session: the one of its login where the session lives in it (`keep_tab`), else an empty one
//! that only makes calls. It is opened when first needed, and again after its browser or its renderer has died.
//!
//! A kept tab is brought back from what was last known of it, so that no login is spent on a crash. While the browser is
//! the one who calls, its cookies are the truth and the jar follows. Where the jar calls, a kept tab has its cookies lent
//! from the first moment on: its page goes on by itself, and may change them before any work begins.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::jar::Lent;
use super::login::page_options;
use super::portal::Portal;
use super::recipe::{Recipe, Via};
use super::repair;
use super::session::Session;
use crate::browsers::{BrowserError, Context, Cookie, KeptTab, Page, SavedState, Seat};
use crate::clock;

/// Calls that one session's page makes at once: as many connections as Chromium opens to one host.
const PLACES: usize = 6;
/// How long browser work waits for the calls under way before it breaks them off.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the portal's page may take to load.
const LOAD: Duration = Duration::from_secs(20);
/// How long the opening of a tab may take, and the wait for somebody else's: a browser's start, and a load.
const OPEN: Duration = Duration::from_secs(60);
/// How often the tab is looked at again because a call's answer changed the session meanwhile.
const LOOKS: usize = 3;

/// What a session knows of its tab.
pub(super) struct Tabs {
    places: Arc<Semaphore>,
    // Held while a tab is opened, so that everybody waits for the same one.
    open: Mutex<Option<Arc<OpenTab>>>,
}

/// An open tab, and the context that it is in.
#[derive(Debug)]
pub(super) struct OpenTab {
    page: Arc<Page>,
    context: Arc<Context>,
}

/// A kept tab that nobody else uses for a while.
pub(super) struct Work {
    tab: Arc<OpenTab>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Default for Tabs {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), open: Mutex::default() }
    }
}

impl fmt::Debug for Tabs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tabs").field("free", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl Tabs {
    /// A place for one call, as soon as there is one.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.places);
        match places.acquire_owned().await {
            Ok(place) => place,
            // Nobody ever closes it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Lets go of the tab: it belongs to a context that the session has left.
    pub(super) async fn forget(&self) {
        *self.open.lock().await = None;
    }
}

impl OpenTab {
    /// The page itself.
    pub(super) fn page(&self) -> &Page {
        &self.page
    }

    /// Whether it is the session's tab still: it lives, and in the session's present context.
    fn serves(&self, session: &Session) -> bool {
        let present = session.context().is_some_and(|context| Arc::ptr_eq(&context, &self.context));
        present && self.context.is_alive() && self.page.is_open()
    }
}

impl Work {
    /// The page to work in.
    pub(super) fn page(&self) -> &Page {
        &self.tab.page
    }

    /// What there is to be saved after it; `former` is what was known of the tab before.
    pub(super) async fn export(&self, former: Option<KeptTab>) -> Result<SavedState, BrowserError> {
        self.tab.context.export_with(&self.tab.page, former).await
    }
}

/// Whether sessions have a tab that stays open, their own or one for calls.
pub(super) fn stays_open(recipe: &Recipe) -> bool {
    recipe.browser.keep_tab || leads(recipe)
}

/// Brings the session and its tab into the process that has the seat now. Calls and work under way are waited for, as with
/// any work.
pub(super) async fn move_on(portal: &Portal, session: &Session, seat: Seat) -> Result<(), BrowserError> {
    let mut lent = repair::turn(session).await?;
    let _all = quiet(session).await;
    repair::reclaim(session, &mut lent).await?;
    repair::place(portal, session, seat, &mut lent).await
}

/// Takes over the tab of a login, whose browser held the cookies `held` when they were read.
pub(super) async fn adopt(
    portal: &Portal,
    session: &Session,
    page: Arc<Page>,
    context: Arc<Context>,
    held: Vec<Cookie>,
) {
    let mut lent = session.work().await;
    *session.tabs().open.lock().await = Some(Arc::new(OpenTab { page, context }));
    if !leads(portal.recipe()) {
        *lent = Some(Lent::new(session.jar().export(), held));
    }
}

/// All places for calls: whoever does not finish in time is broken off by what follows, and told so.
async fn quiet(session: &Session) -> Option<OwnedSemaphorePermit> {
    let places = Arc::clone(&session.tabs().places);
    clock::within(DRAIN, places.acquire_many_owned(PLACES as u32)).await.ok().and_then(Result::ok)
}

/// Whether the browser makes the calls, so that its cookies are the newer ones and the jar's are not.
pub(super) fn leads(recipe: &Recipe) -> bool {
    recipe.relay.via == Via::Browser
}

/// The session's tab; a new one where there is none that lives. Where the jar makes the calls, it is for whoever has the turn
/// to work in the session, with the jar's cookies lent.
pub(super) async fn open(portal: &Portal, session: &Session) -> Result<Arc<OpenTab>, BrowserError> {
    in_time(OPEN, opened(portal, session)).await
}

/// What an opening comes to within `limit`.
async fn in_time<T>(
    limit: Duration,
    opening: impl Future<Output = Result<T, BrowserError>>,
) -> Result<T, BrowserError> {
    let late = |_| Err(BrowserError::Hung { call: "the opening of a tab", limit });
    clock::within(limit, opening).await.unwrap_or_else(late)
}

async fn opened(portal: &Portal, session: &Session) -> Result<Arc<OpenTab>, BrowserError> {
    let mut open = session.tabs().open.lock().await;
    if let Some(tab) = open.as_ref().filter(|tab| tab.serves(session)) {
        return Ok(Arc::clone(tab));
    }
    let context = repair::context(portal, session).await?;
    let page = if portal.recipe().browser.keep_tab {
        restored(portal, session, &context).await?
    } else {
        let origin = portal.recipe().base_url.origin().ascii_serialization();
        context.blank_page(&origin, page_options(portal)).await?
    };
    let tab = Arc::new(OpenTab { page: Arc::new(page), context });
    *open = Some(Arc::clone(&tab));
    Ok(tab)
}

async fn restored(portal: &Portal, session: &Session, context: &Context) -> Result<Page, BrowserError> {
    let kept = session.state().kept.unwrap_or_default();
    let page = context.restored_page(&kept, page_options(portal)).await?;
    page.goto(home(portal, session).as_str(), LOAD).await?;
    Ok(page)
}

/// Where the session's tab belongs: where a kept one was last, if that was on the portal, else at its start page.
pub(super) fn home(portal: &Portal, session: &Session) -> Url {
    let base = &portal.recipe().base_url;
    let kept = session.state().kept.and_then(|kept| Url::parse(&kept.url).ok());
    kept.filter(|url| url.origin() == base.origin()).unwrap_or_else(|| base.clone())
}

/// Loads the portal again in a tab that has gone elsewhere.
pub(super) async fn bring_home(portal: &Portal, session: &Session, tab: &OpenTab) -> Result<(), BrowserError> {
    tab.page.goto(home(portal, session).as_str(), LOAD).await.map(drop)
}

/// The kept tab, for work that navigates or must not be disturbed. Calls wait until it is done.
pub(super) async fn work(portal: &Portal, session: &Session) -> Result<Work, BrowserError> {
    let all = quiet(session).await;
    let tab = open(portal, session).await?;
    Ok(Work { tab, _all: all })
}

/// Has the jar and the saved state follow what the tab has done by itself. Opens nothing and loads nothing. A tab that the
/// session has left is let go of: it would hold its browser.
pub(super) async fn follow(portal: &Portal, session: &Session) -> Result<(), BrowserError> {
    let tab = {
        let mut open = session.tabs().open.lock().await;
        open.take_if(|tab| !tab.serves(session));
        open.clone()
    };
    let Some(tab) = tab else { return Ok(()) };
    let page = portal.recipe().browser.keep_tab.then_some(tab.page());
    for _ in 0..LOOKS {
        let seen = session.changes();
        let state = match tab.context.follow(page, session.state()).await {
            Err(error @ BrowserError::Hung { .. }) => {
                tab.page.give_up().await;
                return Err(error);
            }
            state => state?,
        };
        if session.follow(state, seen, leads(portal.recipe())) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_a_tab_for_ever() {
        let tabs = Tabs::default();
        let _opening = tabs.open.lock().await;
        let waits = async {
            drop(tabs.open.lock().await);
            Ok(())
        };
        let limit = Duration::from_millis(1);
        let hung = BrowserError::Hung { call: "the opening of a tab", limit };
        assert_eq!(in_time(limit, waits).await, Err(hung));
    }
}

//! What the browser does for a session after its login: a second look when it seems dead, fresh values, a new place after
//! the browser died, a picture.
//!
//! The jar is the truth while no tab is open: it is lent to the context before browser work and taken back after it, also
//! when the work failed or was cut off, and merged with what calls under way changed meanwhile. One works in a session at
//! a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use url::Url;

use super::check::{self, Verdict};
use super::jar::Lent;
use super::login::{page_options, read_value};
use super::portal::Portal;
use super::recipe::{Action, Answer};
use super::session::Session;
use crate::browsers::{BrowserError, Context, ContextOptions, Page, Seat};
use crate::clock;

const LOAD: Duration = Duration::from_secs(20);
const READ: Duration = Duration::from_secs(10);
/// How long one waits for another's work in the session: a browser's start, a load and a read.
const TURN: Duration = Duration::from_secs(60);

/// Gives a session a context in the browser on `seat`, from what is saved.
pub(super) async fn place(portal: &Portal, session: &Session, seat: Seat) -> Result<Arc<Context>, BrowserError> {
    let user_agent = portal.recipe().browser.user_agent.clone();
    let options = ContextOptions { restore: Some(session.state()), user_agent };
    let context = Arc::new(portal.pool().open(seat, options).await?);
    session.set_context(Some(Arc::clone(&context)));
    Ok(context)
}

/// One piece of browser work in a session.
struct Work<'a> {
    portal: &'a Portal,
    session: &'a Session,
    context: Arc<Context>,
    page: Page,
    lent: MutexGuard<'a, Option<Lent>>,
}

impl<'a> Work<'a> {
    /// Opens a tab in the session's context, with the jar's cookies in it; in a new one when its browser has died.
    async fn begin(portal: &'a Portal, session: &'a Session) -> Result<Self, BrowserError> {
        let busy = BrowserError::Hung { call: "the work before", limit: TURN };
        let mut lent = clock::within(TURN, session.work()).await.map_err(|_| busy)?;
        let living = session.context().filter(|context| context.is_alive());
        if let (Some(context), Some(former)) = (&living, lent.take()) {
            take_back(session, context, &former).await?;
        }
        let jar = session.jar().export();
        let (context, held) = match living {
            Some(context) => {
                let held = context.replace_cookies(&jar).await?;
                (context, held)
            }
            None => {
                let context = place(portal, session, Seat::A).await?;
                let held = context.cookies().await?;
                (context, held)
            }
        };
        *lent = Some(Lent::new(jar, held));
        let page = context.page(page_options(portal)).await?;
        Ok(Self { portal, session, context, page, lent })
    }

    /// Loads a page of the portal.
    async fn goto(&mut self, url: &Url) -> Result<(), BrowserError> {
        if let Some(lent) = self.lent.as_mut() {
            lent.asks(self.session.jar().ask());
        }
        let landing = self.page.goto(url.as_str(), LOAD).await?;
        let check = &self.portal.recipe().check;
        let body = if check.expiry_needs_body() { Some(self.page.html().await?) } else { None };
        let body = body.as_deref().map(str::as_bytes);
        let here = Url::parse(&landing.url).ok().filter(|here| here != url);
        // The browser has followed the redirect, if there was one.
        let sent_away = Answer { status: 302, location: here.as_ref(), body: None };
        let shown = Answer { status: landing.status, location: None, body };
        if let Some(lent) = self.lent.as_mut().filter(|_| check.is_expired(&sent_away) || check.is_expired(&shown)) {
            lent.refused();
        }
        Ok(())
    }

    /// Takes back what was lent and closes the tab.
    async fn end(mut self) -> Result<(), BrowserError> {
        if let Some(lent) = self.lent.take() {
            let taken = take_back(self.session, &self.context, &lent).await;
            if taken.is_err() {
                *self.lent = Some(lent);
            }
            taken?;
        }
        self.page.close().await
    }
}

/// Merges what the browser holds into the session.
async fn take_back(session: &Session, context: &Context, lent: &Lent) -> Result<(), BrowserError> {
    if !lent.was_refused() {
        session.take_back(lent, context.export().await?);
    }
    Ok(())
}

/// Lets the browser look at a session that seems expired: some portals only want their page loaded again. The verdict is
/// the check's after that.
pub(super) async fn second_look(portal: &Portal, session: &Session) -> Result<Verdict, BrowserError> {
    let recipe = portal.recipe();
    let look = || check::check(&portal.tools().upstream, recipe, session);
    let mut first = look().await;
    if matches!(first, Verdict::Expired(_)) && session.concede() {
        first = look().await;
    }
    if !matches!(first, Verdict::Expired(_)) {
        return Ok(first);
    }
    let mut work = Work::begin(portal, session).await?;
    let loaded = work.goto(&recipe.base_url).await;
    let ended = work.end().await;
    loaded.and(ended)?;
    Ok(look().await)
}

/// Reads the value that `relay.refresh` names from its page.
pub(super) async fn refresh(portal: &Portal, session: &Session) -> Result<(), BrowserError> {
    let Some(refresh) = &portal.recipe().relay.refresh else { return Ok(()) };
    let mut work = Work::begin(portal, session).await?;
    let read = async {
        work.goto(&refresh.page).await?;
        saved_value(portal, &work.page, &refresh.save).await
    };
    let read = read.await;
    let ended = work.end().await;
    session.set_value(&refresh.save, read?);
    ended
}

/// The first of the recipe's `save` steps of that name that finds something.
async fn saved_value(portal: &Portal, page: &Page, name: &str) -> Result<String, BrowserError> {
    let mut missing = BrowserError::NotFound { selector: name.to_owned() };
    for step in portal.recipe().saves(name) {
        if let Action::Save { selector, attribute, .. } = &step.action {
            match read_value(page, selector, attribute.as_deref(), READ).await {
                Err(error @ BrowserError::NotFound { .. }) => missing = error,
                found => return found,
            }
        }
    }
    Err(missing)
}

/// A picture of the start page in the session.
pub(super) async fn picture(portal: &Portal, session: &Session) -> Result<Vec<u8>, BrowserError> {
    let mut work = Work::begin(portal, session).await?;
    let shown = async {
        work.goto(&portal.recipe().base_url).await?;
        work.page.screenshot(&[], std::slice::from_ref(&portal.settings().password)).await
    };
    let shown = shown.await;
    work.end().await?;
    shown
}

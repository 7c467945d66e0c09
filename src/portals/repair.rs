//! What the browser does for a session after its login: a second look when it seems dead, fresh values, a new place after
//! the browser died, a picture.
//!
//! Where the jar makes the calls, it is the truth: it is lent to the context before browser work and taken back after it,
//! also when the work failed or was cut off, and merged with what calls under way changed meanwhile. Where the browser makes
//! them, the jar follows the browser. A session that keeps its tab is looked after in that tab, never in a new one, where
//! nobody would be logged in. One works in a session at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use url::Url;

use super::check::{self, Verdict};
use super::jar::Lent;
use super::login::{page_options, read_value};
use super::portal::Portal;
use super::recipe::{Action, Answer};
use super::session::{Session, short};
use super::tab;
use crate::browsers::{BrowserError, Context, ContextOptions, Page, SavedState, Seat};
use crate::clock;

const LOAD: Duration = Duration::from_secs(20);
const READ: Duration = Duration::from_secs(10);
/// How long one waits for another's work in the session: a browser's start, a load and a read.
const TURN: Duration = Duration::from_secs(60);
/// How often the browser is looked at again because a call's answer changed the session meanwhile.
const LOOKS: usize = 3;

/// Gives a session whose browser has died a context in the one on `seat`.
pub(super) async fn place_again(portal: &Portal, session: &Session, seat: Seat) -> Result<(), BrowserError> {
    let mut lent = turn(session).await?;
    reclaim(session, &mut lent).await?;
    place(portal, session, seat, &mut lent).await
}

/// Waits for the turn to work in the session.
pub(super) async fn turn(session: &Session) -> Result<MutexGuard<'_, Option<Lent>>, BrowserError> {
    let busy = BrowserError::Hung { call: "the work before", limit: TURN };
    clock::within(TURN, session.work()).await.map_err(|_| busy)
}

/// Gives a session a context in the browser on `seat`, from what is saved and what its tab has done since. What was lent to
/// the former one must have been taken back.
pub(super) async fn place(
    portal: &Portal,
    session: &Session,
    seat: Seat,
    lent: &mut Option<Lent>,
) -> Result<(), BrowserError> {
    if let Err(error) = tab::follow(portal, session).await {
        tracing::debug!(portal = portal.name(), "what a tab did last is lost: {error}");
    }
    let context = move_to(portal, session, seat).await?;
    session.tabs().forget().await;
    if portal.recipe().browser.keep_tab {
        let back = async {
            lend_where_due(portal, session, &context, lent).await?;
            tab::open(portal, session).await
        };
        if let Err(error) = back.await {
            // The next call or check tries again.
            tracing::warn!(portal = portal.name(), "the tab of session {} is not back: {error}", short(session.id()));
        }
    }
    Ok(())
}

async fn move_to(portal: &Portal, session: &Session, seat: Seat) -> Result<Arc<Context>, BrowserError> {
    let user_agent = portal.recipe().browser.user_agent.clone();
    let options = ContextOptions { restore: Some(session.state()), user_agent };
    let context = Arc::new(portal.pool().open(seat, options).await?);
    session.set_context(Some(Arc::clone(&context)));
    Ok(context)
}

/// The session's context; a new one, from what is saved, when its browser has died.
pub(super) async fn context(portal: &Portal, session: &Session) -> Result<Arc<Context>, BrowserError> {
    match session.context() {
        Some(context) if context.is_alive() => Ok(context),
        former => move_to(portal, session, former.map_or(Seat::A, |context| context.seat())).await,
    }
}

/// Takes back what an earlier worker was given who was cut off. Who is cut off in this leaves it to the next one.
pub(super) async fn reclaim(session: &Session, lent: &mut Option<Lent>) -> Result<(), BrowserError> {
    if let (Some(context), Some(former)) = (session.context().filter(|context| context.is_alive()), lent.as_ref())
        && !former.was_refused()
    {
        session.take_back(former, context.export().await?);
    }
    *lent = None;
    Ok(())
}

/// Where browser work is done: a tab for it alone, or the one that the session keeps.
enum Bench {
    Own(Box<Page>),
    Kept(tab::Work),
}

/// One piece of browser work in a session.
struct Work<'a> {
    portal: &'a Portal,
    session: &'a Session,
    context: Arc<Context>,
    bench: Bench,
    lent: MutexGuard<'a, Option<Lent>>,
}

impl<'a> Work<'a> {
    /// Opens a tab in the session's context, or takes the one that it keeps, with the jar's cookies in it; in a new context
    /// when its browser has died.
    async fn begin(portal: &'a Portal, session: &'a Session) -> Result<Self, BrowserError> {
        let mut lent = turn(session).await?;
        reclaim(session, &mut lent).await?;
        let context = context(portal, session).await?;
        // Before a tab is brought back, whose page may change cookies as soon as it has loaded.
        lend_where_due(portal, session, &context, &mut lent).await?;
        let bench = match portal.recipe().browser.keep_tab {
            true => Bench::Kept(tab::work(portal, session).await?),
            false => Bench::Own(Box::new(context.page(page_options(portal)).await?)),
        };
        Ok(Self { portal, session, context, bench, lent })
    }

    fn page(&self) -> &Page {
        match &self.bench {
            Bench::Own(page) => page,
            Bench::Kept(work) => work.page(),
        }
    }

    /// Loads a page of the portal.
    async fn goto(&mut self, url: &Url) -> Result<(), BrowserError> {
        if let Some(lent) = self.lent.as_mut() {
            lent.asks(self.session.jar().ask());
        }
        let landing = self.page().goto(url.as_str(), LOAD).await?;
        let check = &self.portal.recipe().check;
        let body = if check.expiry_needs_body() { Some(self.page().html().await?) } else { None };
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

    /// Has the session take over what was done, and closes the tab unless the session keeps it.
    async fn end(mut self) -> Result<(), BrowserError> {
        match self.lent.take() {
            Some(lent) => {
                let taken = self.take_back(&lent).await;
                if taken.is_err() {
                    *self.lent = Some(lent);
                }
                taken?;
            }
            None => self.follow().await?,
        }
        match self.bench {
            Bench::Own(page) => page.close().await,
            // Its page goes on by itself, and may change cookies until the next work.
            Bench::Kept(_) => lend_where_due(self.portal, self.session, &self.context, &mut self.lent).await,
        }
    }

    async fn export(&self) -> Result<SavedState, BrowserError> {
        match &self.bench {
            Bench::Own(page) => self.context.export_beside(page).await,
            Bench::Kept(work) => work.export(self.session.state().kept).await,
        }
    }

    /// Merges what the browser holds into the session.
    async fn take_back(&self, lent: &Lent) -> Result<(), BrowserError> {
        if !lent.was_refused() {
            self.session.take_back(lent, self.export().await?);
        }
        Ok(())
    }

    /// Has the jar follow a browser that makes the calls itself.
    async fn follow(&self) -> Result<(), BrowserError> {
        for _ in 0..LOOKS {
            let seen = self.session.changes();
            if self.session.follow(self.export().await?, seen, true) {
                break;
            }
        }
        Ok(())
    }
}

/// Puts the jar's cookies into a browser, unless that one makes the calls: then its own are the newer ones.
async fn lend_where_due(
    portal: &Portal,
    session: &Session,
    context: &Context,
    lent: &mut Option<Lent>,
) -> Result<(), BrowserError> {
    if !tab::leads(portal.recipe()) {
        *lent = Some(lend(session, context).await?);
    }
    Ok(())
}

async fn lend(session: &Session, context: &Context) -> Result<Lent, BrowserError> {
    let jar = session.jar().export();
    let held = context.replace_cookies(&jar).await?;
    Ok(Lent::new(jar, held))
}

/// Lets the browser look at a session that seems expired: some portals only want their page loaded again. The verdict is
/// the check's after that.
pub(super) async fn second_look(portal: &Portal, session: &Session) -> Result<Verdict, BrowserError> {
    let look = || check::check(portal, session);
    let mut first = look().await;
    if matches!(first, Verdict::Expired(_)) && session.concede() {
        first = look().await;
    }
    if !matches!(first, Verdict::Expired(_)) {
        return Ok(first);
    }
    let mut work = Work::begin(portal, session).await?;
    let loaded = work.goto(&tab::home(portal, session)).await;
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
        saved_value(portal, work.page(), &refresh.save).await
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

/// A picture of the start page in the session, or of the tab that it keeps, as it is.
pub(super) async fn picture(portal: &Portal, session: &Session) -> Result<Vec<u8>, BrowserError> {
    let secrets = std::slice::from_ref(&portal.settings().password);
    let recipe = portal.recipe();
    if recipe.browser.keep_tab && tab::leads(recipe) {
        return tab::open(portal, session).await?.page().screenshot(&[], secrets).await;
    }
    let mut work = Work::begin(portal, session).await?;
    let shown = async {
        if !recipe.browser.keep_tab {
            work.goto(&recipe.base_url).await?;
        }
        work.page().screenshot(&[], secrets).await
    };
    let shown = shown.await;
    work.end().await?;
    shown
}

//! What the browser does for a session after its login: a second look when it seems dead, fresh values, a new place after
//! the browser died, a picture.
//!
//! The jar is the truth while no tab is open: it is pushed into the context before browser work and pulled after it. A
//! session that keeps its tab is looked after in that tab, never in a new one, where nobody would be logged in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, Verdict};
use super::login::{page_options, read_value};
use super::portal::Portal;
use super::recipe::Action;
use super::session::{Session, short};
use super::tab;
use crate::browsers::{BrowserError, Context, ContextOptions, Page, Seat};

const LOAD: Duration = Duration::from_secs(20);
const READ: Duration = Duration::from_secs(10);

/// Gives a session a context in the browser on `seat`, from what is saved and what its tab has done since.
pub(super) async fn place(portal: &Portal, session: &Session, seat: Seat) -> Result<(), BrowserError> {
    if let Err(error) = tab::follow(portal, session).await {
        tracing::debug!(portal = portal.name(), "what a tab did last is lost: {error}");
    }
    move_to(portal, session, seat).await?;
    if portal.recipe().browser.keep_tab
        && let Err(error) = tab::open(portal, session).await
    {
        // The next call or check tries again.
        tracing::warn!(portal = portal.name(), "the tab of session {} is not back: {error}", short(session.id()));
    }
    Ok(())
}

async fn move_to(portal: &Portal, session: &Session, seat: Seat) -> Result<Arc<Context>, BrowserError> {
    let user_agent = portal.recipe().browser.user_agent.clone();
    let options = ContextOptions { restore: Some(session.state()), user_agent };
    let context = Arc::new(portal.tools().pool.open(seat, options).await?);
    session.set_context(Some(Arc::clone(&context)));
    Ok(context)
}

/// The session's context with the jar's cookies in it; a new one when its browser has died. Where the browser itself calls,
/// its cookies are the newer ones already.
pub(super) async fn context(portal: &Portal, session: &Session) -> Result<Arc<Context>, BrowserError> {
    let former = session.context();
    match former.as_ref().filter(|context| context.is_alive()) {
        Some(context) => {
            if !tab::leads(portal.recipe()) {
                context.set_cookies(&session.jar().export()).await?;
            }
            Ok(Arc::clone(context))
        }
        None => move_to(portal, session, former.map_or(Seat::A, |context| context.seat())).await,
    }
}

/// Where browser work is done: a tab for it alone, or the one that the session keeps.
enum Bench {
    Own(Page, Arc<Context>),
    Kept(tab::Work),
}

impl Bench {
    async fn open(portal: &Portal, session: &Session) -> Result<Self, BrowserError> {
        if portal.recipe().browser.keep_tab {
            return tab::work(portal, session).await.map(Self::Kept);
        }
        let context = context(portal, session).await?;
        Ok(Self::Own(context.page(page_options(portal)).await?, context))
    }

    fn page(&self) -> &Page {
        match self {
            Self::Own(page, _) => page,
            Self::Kept(work) => work.page(),
        }
    }

    /// Has the session take over what was done, and clears up.
    async fn close(self, session: &Session, values: BTreeMap<String, String>) -> Result<(), BrowserError> {
        match self {
            Self::Own(page, context) => {
                session.take_over(context.export().await?, values);
                page.close().await
            }
            Self::Kept(work) => {
                session.take_over(work.export(session.state().kept).await?, values);
                Ok(())
            }
        }
    }
}

/// Lets the browser look at a session that seems expired: some portals only want their page loaded again. The verdict is
/// the check's after that.
pub(super) async fn second_look(portal: &Portal, session: &Session) -> Result<Verdict, BrowserError> {
    let first = check::check(portal, session).await;
    if !matches!(first, Verdict::Expired(_)) {
        return Ok(first);
    }
    let bench = Bench::open(portal, session).await?;
    bench.page().goto(tab::home(portal, session).as_str(), LOAD).await?;
    bench.close(session, BTreeMap::new()).await?;
    Ok(check::check(portal, session).await)
}

/// Reads the value that `relay.refresh` names from its page.
pub(super) async fn refresh(portal: &Portal, session: &Session) -> Result<(), BrowserError> {
    let recipe = portal.recipe();
    let Some(refresh) = &recipe.relay.refresh else { return Ok(()) };
    let bench = Bench::open(portal, session).await?;
    bench.page().goto(refresh.page.as_str(), LOAD).await?;
    let value = saved_value(portal, bench.page(), &refresh.save).await?;
    bench.close(session, BTreeMap::from([(refresh.save.clone(), value)])).await
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
    if portal.recipe().browser.keep_tab {
        return tab::open(portal, session).await?.page().screenshot(&[]).await;
    }
    let bench = Bench::open(portal, session).await?;
    bench.page().goto(portal.recipe().base_url.as_str(), LOAD).await?;
    let picture = bench.page().screenshot(&[]).await?;
    bench.close(session, BTreeMap::new()).await?;
    Ok(picture)
}

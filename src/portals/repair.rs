//! What the browser does for a session after its login: a second look when it seems dead, fresh values, a new place after
//! the browser died, a picture.
//!
//! The jar is the truth while no tab is open: it is pushed into the context before browser work and pulled after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, Verdict};
use super::login::{page_options, read_value};
use super::portal::Portal;
use super::recipe::Action;
use super::session::Session;
use crate::browsers::{BrowserError, Context, ContextOptions, Page, Seat};

const LOAD: Duration = Duration::from_secs(20);
const READ: Duration = Duration::from_secs(10);

/// Gives a session a context in the browser on `seat`, from what is saved.
pub(super) async fn place(portal: &Portal, session: &Session, seat: Seat) -> Result<Arc<Context>, BrowserError> {
    let user_agent = portal.recipe().browser.user_agent.clone();
    let options = ContextOptions { restore: Some(session.state()), user_agent };
    let context = Arc::new(portal.pool().open(seat, options).await?);
    session.set_context(Some(Arc::clone(&context)));
    Ok(context)
}

/// The session's context with the jar's cookies in it; a new one when its browser has died.
async fn context(portal: &Portal, session: &Session) -> Result<Arc<Context>, BrowserError> {
    match session.context().filter(|context| context.is_alive()) {
        Some(context) => {
            context.set_cookies(&session.jar().export()).await?;
            Ok(context)
        }
        None => place(portal, session, Seat::A).await,
    }
}

/// Lets the browser look at a session that seems expired: some portals only want their page loaded again. The verdict is
/// the check's after that.
pub(super) async fn second_look(portal: &Portal, session: &Session) -> Result<Verdict, BrowserError> {
    let recipe = portal.recipe();
    let first = check::check(&portal.tools().upstream, recipe, session).await;
    if !matches!(first, Verdict::Expired(_)) {
        return Ok(first);
    }
    let context = context(portal, session).await?;
    let page = context.page(page_options(portal)).await?;
    page.goto(recipe.base_url.as_str(), LOAD).await?;
    session.take_over(context.export().await?, BTreeMap::new());
    page.close().await?;
    Ok(check::check(&portal.tools().upstream, recipe, session).await)
}

/// Reads the value that `relay.refresh` names from its page.
pub(super) async fn refresh(portal: &Portal, session: &Session) -> Result<(), BrowserError> {
    let recipe = portal.recipe();
    let Some(refresh) = &recipe.relay.refresh else { return Ok(()) };
    let context = context(portal, session).await?;
    let page = context.page(page_options(portal)).await?;
    page.goto(refresh.page.as_str(), LOAD).await?;
    let value = saved_value(portal, &page, &refresh.save).await?;
    session.take_over(context.export().await?, BTreeMap::from([(refresh.save.clone(), value)]));
    page.close().await
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
    let context = context(portal, session).await?;
    let page = context.page(page_options(portal)).await?;
    page.goto(portal.recipe().base_url.as_str(), LOAD).await?;
    let picture = page.screenshot(&[]).await?;
    session.take_over(context.export().await?, BTreeMap::new());
    page.close().await?;
    Ok(picture)
}

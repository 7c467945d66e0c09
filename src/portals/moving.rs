//! A session moves from a browser process that retires into the one that has its seat now. Nothing is loaded and nobody logs
//! in; what works in the session finishes where it began.

use std::sync::Arc;
use std::time::Duration;

use super::portal::Portal;
use super::session::Session;
use super::{repair, tab};
use crate::browsers::{BrowserError, Context, ContextOptions};
use crate::clock::{self, Stopwatch};

/// How long work under way is waited for: a load and a read, and a browser that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Gives the session a context beside the one that it has, in the process that follows that one's.
pub(super) async fn move_on(portal: &Portal, session: &Session, former: Arc<Context>) -> Result<(), BrowserError> {
    if tab::stays_open(portal.recipe()) {
        return tab::move_on(portal, session, former.seat()).await;
    }
    let since = Stopwatch::start();
    // Nobody begins work in it meanwhile. Whoever works there for longer than that takes back what was lent.
    let mut turn = clock::within(PATIENCE, session.work()).await.ok();
    if let Some(lent) = &mut turn {
        repair::reclaim(session, lent).await?;
    }
    loop {
        while since.elapsed() < PATIENCE && session.is_working(&former) {
            clock::pause(LOOK_AGAIN).await;
        }
        let (state, user_agent) = (session.state(), portal.recipe().browser.user_agent.clone());
        let options = ContextOptions { restore: Some(state.clone()), user_agent };
        let next = Arc::new(portal.pool().open(former.seat(), options).await?);
        if session.move_to(Arc::clone(&next), &former, &state) {
            return Ok(());
        }
        if since.elapsed() >= PATIENCE {
            // Whoever still works there keeps the place, but what is stored there last stays there.
            session.set_context(Some(next));
            return Ok(());
        }
    }
}

//! The pulse of a tab: notices a renderer that spins or hangs, which no event tells of, and gives the tab up. The browser
//! itself is well then, and so are the context's other tabs.
//!
//! Asks only for the value of `0`; what the page does to its own objects cannot change the answer.

use std::time::Duration;

use super::session::Session;
use super::{Chrome, Litter, wire};
use crate::browsers::error::BrowserError;
use crate::clock;

/// Between two looks at a tab from which somebody awaits an answer.
const EVERY: Duration = Duration::from_secs(2);
/// One look in so many is also taken where nobody does: a tab that stays open may begin to spin by itself.
const IDLE: u32 = 15;
/// How long the answer may take: a page that starts up, decodes a large answer or waits for a synchronous request is busy
/// for seconds. With the pause before, a call learns of it within 9 s, before it ends by its own limit.
const LIMIT: Duration = Duration::from_secs(7);

/// Watches the tab `target` until its session ends; ends that and closes the tab when the renderer does not answer.
pub(super) async fn watch(session: Session, target: String, chrome: Chrome) {
    let mut skipped = 0;
    loop {
        tokio::select! {
            () = session.ended() => return,
            () = clock::pause(EVERY) => {}
        }
        skipped += 1;
        if !session.is_awaited() && skipped < IDLE {
            continue;
        }
        skipped = 0;
        // An error is an answer too: of a page between two documents, or of a browser that says that the tab is gone.
        if let Err(BrowserError::Hung { .. }) = session.call_within(LIMIT, wire::Pulse::default()).await {
            tracing::warn!("a tab does not answer and is closed, its renderer with it");
            session.end(BrowserError::Unresponsive);
            // Closing ends a renderer that does not listen within half a second.
            return chrome.discard(Litter::Tab(target));
        }
    }
}

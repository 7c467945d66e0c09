//! A live session at a portal: its jar, its saved values, its browser context, and what of it is still to be saved.
//!
//! Its sealed copy is written whenever something changed that the portal might insist on.

mod sealed;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::jar::{Disputed, Jar, Lent, Merge};
use super::learning::Pulse;
use super::recipe::{Template, Variable};
use super::tab::Tabs;
use crate::browsers::{Context, Cookie, Identity, KeptTab, Piece, SavedState, StorageText};
use crate::clock::{Clock, Time};
pub(super) use sealed::KINDS;
pub use sealed::SaveError;

/// A session that the portal knows, or knew. Its cookies and values are as good as passwords: `Debug` shows none.
pub struct Session {
    id: String,
    jar: Jar,
    identity: Identity,
    // Plain mutexes: held for field access, never across an await.
    kept: Mutex<Kept>,
    checked: Mutex<Option<(Time, bool)>>,
    // Another one has logged in, and this one has not been found alive since.
    doubted: AtomicBool,
    life: Mutex<Life>,
    context: Mutex<Option<Arc<Context>>>,
    tabs: Tabs,
    // Held while a browser works in the session; what it was given stays there until it has been taken back.
    lent: tokio::sync::Mutex<Option<Lent>>,
    // It has lost its place: nothing of it is to be kept any more.
    ended: AtomicBool,
    // How many changes there were that the portal might insist on, how many of them the sealed copy holds, and whether
    // anything else has changed since.
    changes: AtomicU64,
    saved: AtomicU64,
    refreshed: AtomicBool,
    // How often a look has found it alive.
    proofs: AtomicU64,
}

/// What a session carries beside its cookies.
struct Kept {
    local_storage: BTreeMap<String, StorageText>,
    /// What is known of the tab that it keeps.
    tab: Option<KeptTab>,
    values: BTreeMap<String, String>,
    disputed: Option<Disputed>,
}

/// What this process has seen of a session's life.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// When the portal last knew it; also on the clock that nobody sets, if that was seen by this process.
    alive_at: Option<(Time, Option<Duration>)>,
    /// The longest pause between two such moments.
    pause: Duration,
    /// When it was first found to be ended.
    ended_at: Option<Time>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &short(&self.id))
            .field("checked", &self.checked())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that has just logged in.
    pub fn new(id: String, state: SavedState, values: BTreeMap<String, String>, identity: Identity) -> Self {
        let jar = Jar::new(&state.cookies);
        let kept = Mutex::new(Kept { local_storage: state.local_storage, tab: state.kept, values, disputed: None });
        Self {
            id,
            jar,
            identity,
            kept,
            checked: Mutex::default(),
            doubted: AtomicBool::new(false),
            life: Mutex::default(),
            context: Mutex::default(),
            tabs: Tabs::default(),
            lent: tokio::sync::Mutex::default(),
            ended: AtomicBool::new(false),
            // Not in the store yet, so there is something to be saved.
            changes: AtomicU64::new(1),
            saved: AtomicU64::new(0),
            refreshed: AtomicBool::new(false),
            proofs: AtomicU64::new(0),
        }
    }

    /// Its id; the first eight characters are enough to tell sessions apart in a log.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its cookies.
    pub fn jar(&self) -> &Jar {
        &self.jar
    }

    /// What its browser says about itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When it was last checked and whether it was alive then.
    pub fn checked(&self) -> Option<(Time, bool)> {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a look has found it alive: where this has grown since a request was sent, its answer is no news.
    pub fn proofs(&self) -> u64 {
        self.proofs.load(Ordering::SeqCst)
    }

    /// Notes a check.
    pub fn set_checked(&self, at: Time, alive: bool) {
        self.proofs.fetch_add(u64::from(alive), Ordering::SeqCst);
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, alive));
        if alive {
            self.doubted.store(false, Ordering::SeqCst);
        }
    }

    /// Notes that another session of the account has logged in, which may have ended this one.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::SeqCst);
    }

    /// Whether it has not been found alive since another one logged in.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::SeqCst)
    }

    /// The portal has just answered this session as one that it knows.
    pub fn proven(&self, clock: &Clock) {
        let (now, passed) = (clock.now(), clock.passed());
        let mut life = self.life();
        let pause = match life.alive_at {
            Some((_, Some(before))) => passed.saturating_sub(before),
            Some((before, None)) => now.since(before),
            None => Duration::ZERO,
        };
        life.pause = life.pause.max(pause);
        (life.alive_at, life.ended_at) = (Some((now, Some(passed))), None);
    }

    /// An earlier process saw it alive at this moment.
    pub fn was_alive(&self, at: Time) {
        self.life().alive_at = Some((at, None));
    }

    /// The portal has just said that it does not know this session.
    pub fn denied(&self, at: Time) {
        self.life().ended_at.get_or_insert(at);
    }

    /// When it was first found to be ended by this process, unless it has been proven since.
    pub fn ended_at(&self) -> Option<Time> {
        self.life().ended_at
    }

    /// What is known about its life, beyond what is `kept` in the record.
    pub fn pulse(&self, kept: &Pulse) -> Pulse {
        let life = *self.life();
        kept.with(life.alive_at.map(|(at, _)| at), life.pause)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its place in a browser, if it has one.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives it a place in a browser; the former one is disposed of when nobody uses it any more.
    pub fn set_context(&self, context: Option<Arc<Context>>) {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = context;
    }

    /// Whether somebody beside this session and the asker has its place, to work there.
    pub(super) fn is_working(&self, place: &Arc<Context>) -> bool {
        let own = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::strong_count(place) > 1 + usize::from(own.as_ref().is_some_and(|own| Arc::ptr_eq(own, place)))
    }

    /// Exchanges its place for one that `restored` was put into. False when somebody works in the former one, or has worked
    /// there since, and what was done would be left behind.
    pub(super) fn move_to(&self, next: Arc<Context>, former: &Arc<Context>, restored: &SavedState) -> bool {
        let mut own = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        if !own.as_ref().is_some_and(|own| Arc::ptr_eq(own, former)) {
            // It has another place already.
            return true;
        }
        // The jar's cookies go into every place before work; only what is stored there could be left behind.
        let stored = |state: &SavedState| SavedState { cookies: Vec::new(), ..state.clone() };
        // One is its own, one the asker's.
        let idle = Arc::strong_count(former) == 2 && stored(&self.state()) == stored(restored);
        if idle {
            *own = Some(next);
        }
        idle
    }

    /// Its tab, where it has one that stays open.
    pub(super) const fn tabs(&self) -> &Tabs {
        &self.tabs
    }

    /// Cookies and storage as they are now, to be put into a browser.
    pub fn state(&self) -> SavedState {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (local_storage, tab) = (kept.local_storage.clone(), kept.tab.clone());
        SavedState { cookies: self.jar.export(), local_storage, kept: tab }
    }

    /// Waits for the turn to work in the session with a browser. What is inside was given to an earlier worker who was cut
    /// off: it is to be taken back first.
    pub(super) async fn work(&self) -> tokio::sync::MutexGuard<'_, Option<Lent>> {
        self.lent.lock().await
    }

    /// Merges what the browser holds after it worked in the session; it is to be saved. Storage is the browser's alone.
    pub fn take_back(&self, lent: &Lent, state: SavedState) {
        let disputed = self.jar.take_back(lent, &state.cookies);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.local_storage = state.local_storage;
        kept.tab = state.kept.or(kept.tab.take());
        if !disputed.is_empty() {
            kept.disputed = Some(disputed);
        }
        self.merged(Merge::Changed);
    }

    /// The names of its saved values.
    pub fn value_names(&self) -> Vec<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).values.keys().cloned().collect()
    }

    /// The portal refuses the session: where the last browser work left a dispute about cookies, it is decided the other
    /// way. Returns whether there was one.
    pub fn concede(&self) -> bool {
        let disputed = self.kept.lock().unwrap_or_else(PoisonError::into_inner).disputed.take();
        if let Some(disputed) = &disputed {
            self.jar.concede(disputed);
            self.merged(Merge::Changed);
        }
        disputed.is_some()
    }

    /// Keeps a value that was read from a page; it is to be saved.
    pub fn set_value(&self, name: &str, value: String) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).values.insert(name.to_owned(), value);
        self.merged(Merge::Changed);
    }

    /// A saved value as it is now.
    pub fn value(&self, name: &str) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).values.get(name).cloned()
    }

    /// Says that the session has lost its place. From now on nothing of it is saved, whatever its last calls still bring:
    /// its copy would come back after it was removed.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// How many changes there were, to see later whether there were more.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Takes over what the browser held when there had been `seen` changes; false when there were more since. Without
    /// `cookies` the jar is left alone: an answer may be changing it right now.
    pub(super) fn follow(&self, state: SavedState, seen: u64, cookies: bool) -> bool {
        let before = self.state();
        let same_cookies = |expiry| !cookies || sorted(&state.cookies, expiry) == sorted(&before.cookies, expiry);
        let stored = (&state.kept, &state.local_storage) == (&before.kept, &before.local_storage);
        let merge = match stored && same_cookies(false) {
            true if same_cookies(true) => return true,
            true => Merge::Refreshed,
            false => Merge::Changed,
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.changes() != seen {
            return false;
        }
        if cookies {
            self.jar.replace(&state.cookies);
        }
        (kept.local_storage, kept.tab) = (state.local_storage, state.kept);
        self.merged(merge);
        true
    }

    /// The recipe's headers for a page that fills in what it has stored.
    pub(super) fn header_pieces(&self, templates: &[(HeaderName, Template)]) -> Vec<(String, Vec<Piece>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = |variable: &Variable| match variable {
            Variable::Saved(name) => kept.values.get(name).map(|value| Cow::Borrowed(value.as_str())),
            Variable::Username | Variable::Password | Variable::Stored { .. } => None,
        };
        let filled = |(name, template): &(HeaderName, Template)| Some((name.to_string(), template.pieces(saved)?));
        templates.iter().filter_map(filled).collect()
    }

    /// Renders the recipe's headers with the saved values and adds them.
    pub fn add_headers(&self, templates: &[(HeaderName, Template)], headers: &mut HeaderMap) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, template) in templates {
            let rendered = template.render(|variable| match variable {
                Variable::Saved(name) => kept.values.get(name).map(|value| Cow::Borrowed(value.as_str())),
                Variable::Username | Variable::Password | Variable::Stored { .. } => None,
            });
            // A value that was not saved, or that HTTP cannot carry, leaves the header out: the portal will say so.
            let Ok(rendered) = rendered else { continue };
            if let Ok(value) = HeaderValue::try_from(rendered.expose()) {
                headers.insert(name.clone(), value);
            }
        }
    }

    /// Notes what an answer did to the jar.
    pub fn merged(&self, merge: Merge) {
        match merge {
            Merge::Nothing => {}
            Merge::Refreshed => self.refreshed.store(true, Ordering::SeqCst),
            Merge::Changed => drop(self.changes.fetch_add(1, Ordering::SeqCst)),
        }
    }

    /// The greatest change that the sealed copy does not hold.
    pub fn unsaved(&self) -> Merge {
        if self.changes.load(Ordering::SeqCst) > self.saved.load(Ordering::SeqCst) {
            Merge::Changed
        } else if self.refreshed.load(Ordering::SeqCst) {
            Merge::Refreshed
        } else {
            Merge::Nothing
        }
    }
}

/// The cookies in an order that does not depend on who listed them, with or without the seconds of their expiry.
fn sorted(cookies: &[Cookie], with_expiry: bool) -> Vec<[String; 5]> {
    let row = |cookie: &Cookie| {
        let Cookie { name, value, domain, path, .. } = cookie.clone();
        let expiry = cookie.expires.filter(|_| with_expiry).map(|time| time.as_millis() / 1000);
        [name, domain, path, value, expiry.map(|seconds| seconds.to_string()).unwrap_or_default()]
    };
    let mut rows: Vec<_> = cookies.iter().map(row).collect();
    rows.sort_unstable();
    rows
}

/// The first eight characters of a session id, for logs.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests;

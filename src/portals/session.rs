//! A live session at a portal: its jar, its saved values, its browser context, and its sealed copy in the store.
//!
//! The copy is what makes a restart cost no SMS. It is sealed as one piece and written whenever something in it changed
//! that the portal might insist on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::jar::{Disputed, Jar, Lent, Merge};
use super::learning::Pulse;
use super::recipe::{Template, Variable};
use super::tab::Tabs;
use crate::browsers::{Context, Cookie, Identity, KeptTab, Piece, SavedState, StorageText};
use crate::clock::{Clock, Time};
use crate::secret::{Vault, VaultError};
use crate::store::{Decision, Expires, Record, Store, StoreError, Stored};

/// Sealed copies looked at together.
const PAGE: usize = 16;

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

/// The sealed copy, by `portal/session`.
#[derive(Serialize, Deserialize)]
struct SavedSession {
    sealed: Vec<u8>,
}

impl Record for SavedSession {
    const SPACE: &'static str = "portal-session";
    const SCHEMA: u8 = 1;
}

/// What is inside the seal.
#[derive(Serialize, Deserialize)]
struct Contents {
    state: SavedState,
    values: BTreeMap<String, String>,
    identity: Identity,
}

/// Why a saved session could not be kept or brought back.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seal does not open, or could not be made.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The contents are not what this version writes.
    #[error("the saved session is not readable: {0}")]
    Contents(#[from] serde_json::Error),
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

    /// Writes the sealed copy. When this returns, every change before the call is in it, whoever wrote it.
    ///
    /// # Errors
    /// [`SaveError`]; the session itself goes on, but a restart would need a login.
    pub async fn save(&self, portal: &str, store: &Store, vault: &Vault) -> Result<(), SaveError> {
        let place = place(portal, &self.id);
        let changes = self.changes.load(Ordering::SeqCst);
        // Before the export: a change that comes in between is saved twice rather than never.
        self.refreshed.store(false, Ordering::SeqCst);
        // Sealed in its turn, not before: of two saves at once the later one must not write the older cookies.
        let put = |_: Option<&_>| match self.seal(&place, vault) {
            // Asked in its turn as well: the copy is removed after the end was said.
            _ if self.ended.load(Ordering::SeqCst) => Decision::Keep(Ok(())),
            Ok(sealed) => Decision::Put(SavedSession { sealed }, Expires::Unchanged, Ok(())),
            Err(error) => Decision::Keep(Err(error)),
        };
        let saved = match store.update(&place, put).await {
            Ok(updated) => updated.answer,
            Err(error) => Err(error.into()),
        };
        // Also after a failure, but then to be tried again at leisure: what fails now would fail with every call.
        self.saved.fetch_max(changes, Ordering::SeqCst);
        self.refreshed.fetch_or(saved.is_err(), Ordering::SeqCst);
        saved
    }

    fn seal(&self, place: &str, vault: &Vault) -> Result<Vec<u8>, SaveError> {
        let values = self.kept.lock().unwrap_or_else(PoisonError::into_inner).values.clone();
        let contents = Contents { state: self.state(), values, identity: self.identity.clone() };
        Ok(vault.seal(place, &serde_json::to_vec(&contents)?)?)
    }

    /// Brings a session back from its sealed copy; None when there is none.
    ///
    /// # Errors
    /// [`SaveError`] when the copy cannot be read.
    pub fn load(portal: &str, id: &str, store: &Store, vault: &Vault) -> Result<Option<Self>, SaveError> {
        let place = place(portal, id);
        let Some(saved) = store.get::<SavedSession>(&place)? else { return Ok(None) };
        let contents: Contents = serde_json::from_slice(&vault.open(&place, &saved.value.sealed)?)?;
        let session = Self::new(id.to_owned(), contents.state, contents.values, contents.identity);
        session.saved.store(session.changes.load(Ordering::SeqCst), Ordering::SeqCst);
        Ok(Some(session))
    }

    /// Removes the sealed copies of the portal's sessions that are not `known` any more: of replaced ones, and of those
    /// that a crash left behind between a copy and the record that was to name it.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn forget_others(portal: &str, known: impl Fn(&str) -> bool, store: &Store) -> Result<(), StoreError> {
        for id in copies(portal, store).await?.iter().filter(|id| !known(id)) {
            store.update::<SavedSession, _>(&place(portal, id), |_| Decision::Delete(())).await?;
        }
        Ok(())
    }

    /// Says when the sealed copies of the portal's sessions are to go.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn keep_copies(portal: &str, expires: Expires, store: &Store) -> Result<(), StoreError> {
        for id in copies(portal, store).await? {
            let keep = |old: Option<&Stored<SavedSession>>| match old {
                Some(old) => Decision::Put(SavedSession { sealed: old.value.sealed.clone() }, expires, ()),
                None => Decision::Keep(()),
            };
            store.update(&place(portal, &id), keep).await?;
        }
        Ok(())
    }
}

/// The ids of the portal's sessions of which there are sealed copies.
async fn copies(portal: &str, store: &Store) -> Result<Vec<String>, StoreError> {
    let prefix = place(portal, "");
    let (mut after, mut ids) = (prefix.clone(), Vec::new());
    loop {
        let page = store.list::<SavedSession>(Some(&after), PAGE).await?;
        for (place, _) in &page {
            let Some(id) = place.strip_prefix(&prefix) else { return Ok(ids) };
            ids.push(id.to_owned());
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after.clone_from(last),
            _ => return Ok(ids),
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

fn place(portal: &str, id: &str) -> String {
    format!("{portal}/{id}")
}

/// The first eight characters of a session id, for logs.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use url::Url;

    use super::*;
    use crate::browsers::{Cookie, KeptTab};
    use crate::lifecycle::Lifecycle;
    use crate::store::Durability;

    /// A session whose cookie and saved value are `secret`.
    fn session(secret: &str) -> Session {
        let cookie = Cookie {
            name: "SID".to_owned(),
            value: secret.to_owned(),
            domain: "acme.example".to_owned(),
            path: "/".to_owned(),
            expires: None,
            secure: true,
            http_only: true,
            same_site: None,
            partition: None,
        };
        let state = SavedState { cookies: vec![cookie], ..SavedState::default() };
        let values = BTreeMap::from([("csrf".to_owned(), secret.to_owned())]);
        let identity = Identity {
            user_agent: String::new(),
            accept_language: String::new(),
            client_hints: Vec::new(),
            document: Vec::new(),
            fetch: Vec::new(),
        };
        Session::new("0123456789abcdef".to_owned(), state, values, identity)
    }

    #[tokio::test]
    async fn what_could_not_be_saved_is_still_to_be_saved() {
        let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(Time::from_millis(1)));
        let store = Store::open(dir.path(), Durability::Interval, clock, &life).unwrap();
        let vault = Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap();
        let large = session(&"x".repeat(crate::store::MAX_PAYLOAD));
        large.merged(Merge::Changed);
        assert!(large.save("acme", &store, &vault).await.is_err());
        assert_eq!(large.unsaved(), Merge::Refreshed);
        let small = session("1");
        small.take_back(&Lent::default(), small.state());
        assert_eq!(small.unsaved(), Merge::Changed, "what a browser did is to be saved");
        small.save("acme", &store, &vault).await.unwrap();
        assert_eq!(small.unsaved(), Merge::Nothing);
        life.shutdown(Duration::from_secs(5)).await;
    }

    #[test]
    fn what_a_tab_did_is_followed_unless_an_answer_was_newer() {
        let session = session("1");
        let mut seen = session.state();
        assert!(session.follow(seen.clone(), session.changes(), true));
        assert_eq!(session.changes(), 1, "nothing has changed");
        seen.kept = Some(KeptTab { url: "https://acme.example/".to_owned(), ..KeptTab::default() });
        let before = session.changes();
        session.merged(Merge::Changed);
        assert!(!session.follow(seen.clone(), before, true), "a cookie came meanwhile and must not be lost");
        assert!(session.follow(seen.clone(), session.changes(), true));
        assert_eq!((session.state().kept, session.changes()), (seen.kept.clone(), 3));
        // The answer has changed the jar, and has not said so yet.
        let url = Url::parse("https://acme.example/").unwrap();
        session.jar().merge(&url, session.jar().ask(), ["SID=2; Path=/; Secure"].into_iter());
        seen.kept = None;
        assert!(session.follow(seen, session.changes(), false));
        assert_eq!(session.state().cookies[0].value, "2");
    }

    #[tokio::test]
    async fn copies_that_nobody_names_are_removed() {
        let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(Time::from_millis(1)));
        let store = Store::open(dir.path(), Durability::Interval, clock, &life).unwrap();
        let vault = Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap();
        let identity = session("").identity().clone();
        for n in 0..2 * PAGE {
            let session = Session::new(format!("{n:02}"), SavedState::default(), BTreeMap::new(), identity.clone());
            session.save("acme", &store, &vault).await.unwrap();
            session.save("acme2", &store, &vault).await.unwrap();
        }
        Session::forget_others("acme", |id| id == "07" || id == "31", &store).await.unwrap();
        let left = store.list::<SavedSession>(None, 100).await.unwrap();
        let left: Vec<_> =
            left.iter().map(|(place, _)| place.as_str()).filter(|place| !place.starts_with("acme2")).collect();
        assert_eq!(left, ["acme/07", "acme/31"]);
        assert_eq!(store.list::<SavedSession>(Some("acme2/"), 100).await.unwrap().len(), 2 * PAGE);
        life.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn a_session_that_has_ended_does_not_come_back() {
        let (dir, life, clock) = (tempfile::tempdir().unwrap(), Lifecycle::new(), Clock::held(Time::from_millis(1)));
        let store = Store::open(dir.path(), Durability::Interval, clock, &life).unwrap();
        let vault = Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap();
        let session = session("1");
        session.save("acme", &store, &vault).await.unwrap();
        session.end();
        Session::forget_others("acme", |_| false, &store).await.unwrap();
        // Its last call comes home with a new cookie.
        session.merged(Merge::Changed);
        session.save("acme", &store, &vault).await.unwrap();
        assert_eq!(session.unsaved(), Merge::Nothing, "and nobody tries for ever");
        assert!(Session::load("acme", session.id(), &store, &vault).unwrap().is_none());
        life.shutdown(Duration::from_secs(5)).await;
    }

    #[test]
    fn a_session_prints_neither_cookies_nor_values() {
        let session = session("s3cret");
        let shown = format!("{session:?} {:?}", session.jar());
        assert!(shown.contains("01234567") && !shown.contains("s3cret"), "{shown}");
    }
}

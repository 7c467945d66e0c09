//! A live session at a portal: its jar, its saved values, its browser context, and its sealed copy in the store.
//!
//! The copy is what makes a restart cost no SMS. It is sealed as one piece and written whenever something in it changed
//! that the portal might insist on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::jar::{Jar, Merge};
use super::recipe::{Template, Variable};
use crate::browsers::{Context, Identity, SavedState};
use crate::clock::Time;
use crate::secret::{Vault, VaultError};
use crate::store::{Decision, Expires, Record, Store, StoreError};

/// A session that the portal knows, or knew.
#[derive(Debug)]
pub struct Session {
    id: String,
    jar: Jar,
    identity: Identity,
    // Plain mutexes: held for field access, never across an await.
    kept: Mutex<Kept>,
    checked: Mutex<Option<(Time, bool)>>,
    context: Mutex<Option<Arc<Context>>>,
    // How often something changed that must not be lost, and up to which of these times the sealed copy has it all.
    changes: AtomicU64,
    saved: AtomicU64,
    refreshed: AtomicBool,
    // Copies are written one after the other, or an earlier one could be written over a later one.
    saving: tokio::sync::Mutex<()>,
}

/// What a session carries beside its cookies.
#[derive(Debug, Default)]
struct Kept {
    state: SavedState,
    values: BTreeMap<String, String>,
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

impl Session {
    /// A session that has just logged in.
    pub fn new(id: String, state: SavedState, values: BTreeMap<String, String>, identity: Identity) -> Self {
        let jar = Jar::new(&state.cookies);
        let kept = Mutex::new(Kept { state, values });
        Self {
            id,
            jar,
            identity,
            kept,
            checked: Mutex::default(),
            context: Mutex::default(),
            changes: AtomicU64::new(1),
            saved: AtomicU64::new(0),
            refreshed: AtomicBool::new(false),
            saving: tokio::sync::Mutex::default(),
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

    /// Notes a check.
    pub fn set_checked(&self, at: Time, alive: bool) {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, alive));
    }

    /// Its place in a browser, if it has one.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives it a place in a browser; the former one is disposed of when nobody uses it any more.
    pub fn set_context(&self, context: Option<Arc<Context>>) {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = context;
    }

    /// Cookies and storage as they are now, to be put into a browser.
    pub fn state(&self) -> SavedState {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        SavedState { cookies: self.jar.export(), ..kept.state.clone() }
    }

    /// Takes over what the browser holds after it worked in the session.
    pub fn take_over(&self, state: SavedState, values: BTreeMap<String, String>) {
        self.jar.replace(&state.cookies);
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.state = state;
            kept.values.extend(values);
        }
        self.merged(Merge::Changed);
    }

    /// Renders the recipe's headers with the saved values and adds them.
    pub fn add_headers(&self, templates: &[(HeaderName, Template)], headers: &mut HeaderMap) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, template) in templates {
            let rendered = template.render(|variable| match variable {
                Variable::Saved(name) => kept.values.get(name).map(|value| Cow::Borrowed(value.as_str())),
                Variable::Username | Variable::Password => None,
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

    /// The greatest change that is not in the sealed copy on disk yet.
    pub fn unsaved(&self) -> Merge {
        if self.changes.load(Ordering::SeqCst) > self.saved.load(Ordering::SeqCst) {
            Merge::Changed
        } else if self.refreshed.load(Ordering::SeqCst) {
            Merge::Refreshed
        } else {
            Merge::Nothing
        }
    }

    /// Writes the sealed copy if it lacks something. Many callers at once share few writes, and each returns when what
    /// it saw changed is durable.
    ///
    /// # Errors
    /// [`SaveError`]; the session itself goes on, but a restart would need a login.
    pub async fn save(&self, portal: &str, store: &Store, vault: &Vault) -> Result<(), SaveError> {
        let _turn = self.saving.lock().await;
        if self.unsaved() == Merge::Nothing {
            return Ok(());
        }
        let place = place(portal, &self.id);
        // Before the export: a change that comes in between is saved twice rather than never.
        let changes = self.changes.load(Ordering::SeqCst);
        self.refreshed.store(false, Ordering::SeqCst);
        let contents = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let state = SavedState { cookies: self.jar.export(), ..kept.state.clone() };
            Contents { state, values: kept.values.clone(), identity: self.identity.clone() }
        };
        let sealed = vault.seal(&place, &serde_json::to_vec(&contents)?)?;
        let put = |_: Option<&_>| Decision::Put(SavedSession { sealed: sealed.clone() }, Expires::Never, ());
        store.update(&place, put).await?;
        self.saved.store(changes, Ordering::SeqCst);
        Ok(())
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

    /// Removes the sealed copy.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn forget(portal: &str, id: &str, store: &Store) -> Result<(), StoreError> {
        store.update::<SavedSession, _>(&place(portal, id), |_| Decision::Delete(())).await.map(|_| ())
    }
}

fn place(portal: &str, id: &str) -> String {
    format!("{portal}/{id}")
}

/// The first eight characters of a session id, for logs.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

//! The sealed copies of sessions in the store: what makes a restart cost no SMS. A copy is sealed as one piece, names its
//! place in the seal, and belongs to a session that has a place at its portal; nothing here decides when it is written.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::Session;
use crate::browsers::{Identity, SavedState};
use crate::secret::{Vault, VaultError};
use crate::store::{Decision, Expires, Kind, Record, Store, StoreError, Stored};

/// Sealed copies looked at together.
pub(super) const PAGE: usize = 16;

/// The sealed copy, by `portal/session`.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedSession {
    sealed: Vec<u8>,
}

/// The kinds of records that are kept here.
pub(in crate::portals) const KINDS: &[Kind] = &[Kind::of::<SavedSession>()];

impl Record for SavedSession {
    const SPACE: &'static str = "portal-session";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
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

fn place(portal: &str, id: &str) -> String {
    format!("{portal}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::golden;

    #[test]
    fn the_bytes_on_disk_are_golden() {
        golden::<SavedSession>(&SavedSession { sealed: vec![1, 2, 3] }, "03010203");
    }
}

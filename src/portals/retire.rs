//! Portals that are not in the configuration any more. Their records and sealed sessions are kept for a while, because a
//! section that was removed by mistake must not cost an SMS; their alerts are over, because nobody can answer them.

use std::time::Duration;

use super::portal::Tools;
use super::session::Session;
use super::state::PortalRecord;
use crate::alerts::AlertError;
use crate::store::{Decision, Expires, StoreError, Stored};

/// How long a removed portal is remembered.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);
/// Records looked at together.
const PAGE: usize = 32;

/// Why a removed portal could not be put aside; it is tried again with the next change of the configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum RetireError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Alert(#[from] AlertError),
}

/// Puts aside what is known of every portal that is not `kept`.
pub(super) async fn all_but(kept: impl Fn(&str) -> bool, tools: &Tools) -> Result<(), RetireError> {
    let mut after: Option<String> = None;
    loop {
        let page = tools.store.list::<PortalRecord>(after.as_deref(), PAGE).await?;
        for (name, stored) in page.iter().filter(|(name, _)| !kept(name)) {
            retire(name, stored, tools).await?;
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
            _ => return Ok(()),
        }
    }
}

async fn retire(name: &str, stored: &Stored<PortalRecord>, tools: &Tools) -> Result<(), RetireError> {
    if stored.value.alert.is_some() {
        let title = format!("Portal {name} is not watched any more");
        let body = format!("Portal {name} was taken out of the configuration.");
        tools.alerts.resolve(&subject(name), &title, &body).await?;
    }
    if stored.expires.is_some() {
        return Ok(());
    }
    let gone = Expires::At(tools.clock.now() + REMEMBERED);
    // The copies first: a record that goes without them would leave them behind for ever.
    Session::keep_copies(name, gone, &tools.store).await?;
    let retire = |old: Option<&Stored<PortalRecord>>| {
        let Some(old) = old else { return Decision::Keep(()) };
        let mut record = old.value.clone();
        record.alert = None;
        Decision::Put(record, gone, ())
    };
    tools.store.update(name, retire).await?;
    tracing::info!(portal = name, "portal {name} is not configured any more; what is known of it is kept for 30 days");
    Ok(())
}

/// What a portal's alerts are about.
pub(super) fn subject(name: &str) -> String {
    format!("portal/{name}")
}

//! The audit log and the signing keys, for the command line.

use axum::Extension;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::Control;
use crate::accounts::audit::{MAX_PAGE, Numbered, Verdict, Who};
use crate::accounts::{KeyView, KeysError, Rotation};
use crate::http::client::Peer;
use crate::http::json::Json;
use crate::http::params::Query;
use crate::http::problem::Problem;

/// Lines of the audit log, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lines {
    /// Each with its number.
    pub lines: Vec<Numbered>,
}

/// The signing keys, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyList {
    /// Those that count.
    pub keys: Vec<KeyView>,
}

/// How a new key takes over.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Whether the old keys count no more from now on.
    pub at_once: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    before: Option<u64>,
    limit: Option<usize>,
}

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/audit", get(list))
        .route("/audit/verify", get(verify))
        .route("/accounts/keys", get(keys).post(rotate))
}

/// Who is at the other end of the socket, as the audit log names them.
pub(super) fn operator(peer: Peer) -> Who {
    Who::Operator(account(peer))
}

/// The account on the machine that is at the other end.
pub(in crate::http) fn account(peer: Peer) -> String {
    match peer {
        Peer::Unix { uid, .. } => format!("uid {uid}"),
        Peer::Tcp(address) => address.to_string(),
    }
}

async fn list(State(control): State<Control>, Query(page): Query<PageQuery>) -> Result<Json<Lines>, Problem> {
    let audit = control.0.reach.accounts.audit();
    let lines = audit.list(page.before, page.limit.unwrap_or(MAX_PAGE)).await;
    Ok(Json(Lines { lines: lines.map_err(|error| Problem::store(&error, "the audit log could not be read"))? }))
}

async fn verify(State(control): State<Control>) -> Result<Json<Verdict>, Problem> {
    let verdict = control.0.reach.accounts.audit().verify().await;
    verdict.map(Json).map_err(|error| Problem::store(&error, "the audit log could not be read"))
}

async fn keys(State(control): State<Control>) -> Result<Json<KeyList>, Problem> {
    let keys = control.0.reach.accounts.keys().list();
    Ok(Json(KeyList { keys: keys.map_err(|error| Problem::store(&error, "the signing keys could not be read"))? }))
}

async fn rotate(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    Json(new): Json<NewKey>,
) -> Result<Json<KeyList>, Problem> {
    let how = if new.at_once { Rotation::AtOnce } else { Rotation::Overlap };
    let keys = control.0.reach.accounts.keys().rotate(how, operator(peer)).await.map_err(|error| match error {
        KeysError::Pending(_) | KeysError::Full(_) => Problem::conflict("busy", error.to_string()),
        KeysError::Store(error) => Problem::store(&error, "the signing keys could not be changed"),
        error => {
            tracing::error!(%error, "the signing keys could not be changed: {error}");
            Problem::internal()
        }
    })?;
    tracing::info!("a new signing key was made, {how}");
    Ok(Json(KeyList { keys }))
}

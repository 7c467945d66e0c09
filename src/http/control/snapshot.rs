//! A snapshot of the store, streamed to the command that asked: the caller writes the file, with the caller's own rights.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::Control;
use crate::http::problem::Problem;
use crate::store::snapshot::SnapshotError;

/// The bytes of a snapshot. When it fails on the way its last bytes say why; a caller that reads too slowly is cut off like
/// any other.
pub(super) async fn take(State(control): State<Control>) -> Result<Response, Problem> {
    let snapshot = control.0.reach.store.snapshot().await.map_err(|error| match error {
        SnapshotError::Busy => Problem::conflict("busy", error.to_string()),
        error => {
            tracing::error!(%error, "no snapshot could be taken: {error}");
            Problem::internal()
        }
    })?;
    tracing::info!("a snapshot is being taken for the command line");
    let portions = stream::unfold(snapshot, |mut snapshot| async move {
        let portion = snapshot.portion().await?;
        Some((Ok::<_, Infallible>(portion), snapshot))
    });
    Ok(([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(portions)).into_response())
}

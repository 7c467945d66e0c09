//! `GET /api/sessions/{space}/changes`: what happens to the sessions of a space, as server-sent events that can be
//! resumed. A slow reader costs nothing: events wait in the feed, and whoever falls too far behind is told to start anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use utoipa::ToSchema;

use super::params::Path;
use super::problem::{Problem, ProblemDocument};
use super::sessions::Api;
use crate::config;
use crate::operators::{Operators, Principal};
use crate::sessions::{Behind, Feed, Position, Reader, SessionError};

/// Events written at once.
const TOGETHER: usize = 100;
/// A sign of life for clients and whatever stands between.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client shall wait before it comes back.
pub(super) const RETRY: Duration = Duration::from_secs(1);

#[derive(Serialize, ToSchema)]
struct SessionChange<'a> {
    id: &'a str,
    /// Its version then; its last one when it went.
    version: u64,
}

/// What happens to the sessions of a space
///
/// Server-sent events `created`, `changed`, `deleted` and `expired` with `{"id","version"}`, never data, in the order in
/// which they became durable. `Last-Event-ID` resumes; the event `reset` says that more was missed than is kept (1000
/// events, or the process was started again): list the sessions, and go on reading. Ends with the token.
#[utoipa::path(get, path = "/api/sessions/{space}/changes", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = SessionChange),
        (status = 400, description = "`invalid_event_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`too_many_readers`", body = ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn changes(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Path(space): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !config::is_name(&space) {
        return Err(SessionError::Space.into());
    }
    let feed = api.sessions.feed().clone();
    let position = match headers.get("last-event-id") {
        Some(text) => position(text)?,
        None => feed.end(),
    };
    let reader = feed.read(&space, position).ok_or_else(too_many)?;
    Ok(answer(events(feed, reader, api.operators.clone(), principal)))
}

/// An answer that goes on as long as there are events, with a sign of life while there are none.
pub(super) fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut answer = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // nginx buffers answers unless it is told not to.
    answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// There are as many readers as may be.
pub(super) fn too_many() -> Problem {
    let detail = "As many read changes as may at once.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", detail).retry_after(Duration::from_secs(5))
}

fn position(text: &HeaderValue) -> Result<Position, Problem> {
    let parsed = text.to_str().ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        Problem::bad_request("invalid_event_id", "Last-Event-ID is no id of this feed.").field("Last-Event-ID")
    })
}

/// The first event tells the position, so that a client that is cut off before anything happened can resume too.
fn events(
    feed: Feed,
    reader: Reader,
    operators: Operators,
    principal: Principal,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let hello = Event::default().event("ready").id(reader.position().to_string()).retry(RETRY).data("{}");
    let batches = stream::unfold(reader, move |mut reader| {
        let (feed, operators, token) = (feed.clone(), operators.clone(), principal.id.clone());
        async move {
            let behind = reader.next(TOGETHER).await?;
            // The client comes back, and hears then what is the matter.
            if !operators.is_good(&token).unwrap_or(false) {
                return None;
            }
            let batch = match behind {
                Behind::Lost => vec![Event::default().event("reset").id(reader.position().to_string()).data("{}")],
                Behind::Events(events) => events.iter().map(|event| rendered(&feed, event)).collect(),
            };
            Some((stream::iter(batch.into_iter().map(Ok)), reader))
        }
    });
    stream::iter([Ok(hello)]).chain(batches.flatten())
}

fn rendered(feed: &Feed, event: &crate::sessions::Event) -> Event {
    let change = SessionChange { id: &event.id, version: event.version };
    // Two plain fields always become JSON.
    let data = serde_json::to_string(&change).unwrap_or_default();
    Event::default().event(event.happened.as_str()).id(feed.at(event.number).to_string()).data(data)
}

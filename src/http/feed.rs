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
use crate::operators::Principal;
use crate::operators::places::{Places, Seat};
use crate::sessions::{Behind, Feed, Position, Reader, SessionError};

/// Events written at once.
const TOGETHER: usize = 100;
/// A sign of life for clients and whatever stands between; and how long a token that has ended may go unnoticed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
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
/// events, or the process was started again): list the sessions, and go on reading. Ends with the token, 15 s after it
/// at the latest. Of 768 readers one token has at most 576.
#[utoipa::path(get, path = "/api/sessions/{space}/changes", tag = "sessions", security(("operator" = ["sessions"])),
    params(("space" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = SessionChange),
        (status = 400, description = "`invalid_event_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_readers`: so many of this token read already", body = ProblemDocument, content_type = "application/problem+json"),
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
    let seat = seat(&api.readers, &principal)?;
    let reader = feed.read(&space, position).ok_or_else(too_many)?;
    Ok(answer(events(Listening { api, feed, principal, reader, _seat: seat })))
}

/// An answer that goes on as long as there are events, with a sign of life while there are none.
pub(super) fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut answer = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // nginx buffers answers unless it is told not to.
    answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A place for another stream of this token.
pub(super) fn seat(places: &Places, principal: &Principal) -> Result<Seat, Problem> {
    places.take(&principal.id).ok_or_else(|| {
        let detail = format!("This token reads {} streams already, as many as one may.", places.each());
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_readers", detail);
        problem.retry_after(Duration::from_secs(5))
    })
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

/// Who listens to what.
struct Listening {
    api: Arc<Api>,
    feed: Feed,
    principal: Principal,
    reader: Reader,
    _seat: Seat,
}

/// The first event tells the position, so that a client that is cut off before anything happened can resume too.
fn events(listening: Listening) -> impl Stream<Item = Result<Event, Infallible>> {
    let position = listening.reader.position().to_string();
    let hello = Event::default().event("ready").id(position).retry(RETRY).data("{}");
    let batches = stream::unfold(listening, |mut listening| async move {
        let batch = listening.next().await?;
        Some((stream::iter(batch.into_iter().map(Ok)), listening))
    });
    stream::iter([Ok(hello)]).chain(batches.flatten())
}

impl Listening {
    async fn next(&mut self) -> Option<Vec<Event>> {
        let behind = loop {
            tokio::select! {
                behind = self.reader.next(TOGETHER) => break behind?,
                () = self.api.clock.sleep(HEARTBEAT) => self.is_welcome().then_some(())?,
            }
        };
        self.is_welcome().then(|| match behind {
            Behind::Lost => {
                let position = self.reader.position().to_string();
                vec![Event::default().event("reset").id(position).data("{}")]
            }
            Behind::Events(events) => events.iter().map(|event| rendered(&self.feed, event)).collect(),
        })
    }

    /// Otherwise the client comes back, and hears then what is the matter.
    fn is_welcome(&self) -> bool {
        self.api.operators.is_good(&self.principal.id).unwrap_or(false)
    }
}

fn rendered(feed: &Feed, event: &crate::sessions::Event) -> Event {
    let change = SessionChange { id: &event.id, version: event.version };
    // Two plain fields always become JSON.
    let data = serde_json::to_string(&change).unwrap_or_default();
    Event::default().event(event.happened.as_str()).id(feed.at(event.number).to_string()).data(data)
}

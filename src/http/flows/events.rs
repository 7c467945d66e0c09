//! `GET /api/flows/{flow}/{id}/events`: every version of a flow, in order, as server-sent events that can be resumed. A slow
//! reader costs nothing: versions wait in the feed, and whoever falls too far behind is given the whole flow.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};

use super::view::FlowView;
use super::{Api, ProblemDocument};
use crate::flows::{Flow, Reader, Step};
use crate::http::feed::{HEARTBEAT, RETRY, answer, seat, too_many};
use crate::http::params::Path;
use crate::http::problem::Problem;
use crate::operators::Principal;
use crate::operators::places::Seat;

/// Every version of a flow
///
/// Server-sent events `version` with the flow as an answer to a change shows it, the present one first, each with its
/// version as the id. `Last-Event-ID` resumes after that version, after a restart too: with the versions that followed, or,
/// when those are not kept any more, with the event `reset` and the flow as it stands. The event `end` tells that it is
/// over (`reason`: `final`, `deleted` or `expired`); who comes back after it is answered 204. Ends with the token, 15 s after
/// it at the latest. One token follows at most three quarters of the flows that may be followed at once.
#[utoipa::path(get, path = "/api/flows/{flow}/{id}/events", tag = "flows", security(("operator" = ["flows"])),
    params(("flow" = String, Path), ("id" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = FlowView),
        (status = 204, description = "It is over, and nothing has followed the version that `Last-Event-ID` names"),
        (status = 400, description = "`invalid_event_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_flow` or `unknown_flow_id`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_readers`: so many of this token read already", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`too_many_readers`", body = ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path((flow, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = headers.get("last-event-id").map(version).transpose()?;
    let now = api.flows.get(&flow, &id).await?;
    if seen == Some(now.version) && now.is_over() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let seat = seat(&api.readers, &principal)?;
    let (first, reader) = api.flows.follow(&flow, &id, seen).await?.ok_or_else(too_many)?;
    Ok(answer(stream_of(Following { api, principal, flow, id, reader, first, _seat: seat })))
}

/// Who follows what.
struct Following {
    api: Api,
    principal: Principal,
    flow: String,
    id: String,
    reader: Reader,
    first: Option<Step>,
    _seat: Seat,
}

fn version(text: &HeaderValue) -> Result<u64, Problem> {
    let parsed = text.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    parsed.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Problem::bad_request("invalid_event_id", "Last-Event-ID is no version of a flow.").field("Last-Event-ID")
    })
}

/// A comment comes first, so that a client knows that it is heard.
fn stream_of(following: Following) -> impl Stream<Item = Result<Event, Infallible>> {
    let hello = Event::default().comment("following").retry(RETRY);
    let events = stream::unfold(following, |mut following| async move {
        let step = following.next().await?;
        Some((Ok(rendered(&step)), following))
    });
    stream::iter([Ok(hello)]).chain(events)
}

impl Following {
    async fn next(&mut self) -> Option<Step> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let step = loop {
            tokio::select! {
                step = self.api.flows.next(&mut self.reader, &self.flow, &self.id) => break step,
                () = self.api.clock.sleep(HEARTBEAT) => self.is_welcome().then_some(())?,
            }
        };
        let step = match step {
            Ok(step) => step?,
            Err(error) => {
                let (flow, id) = (&self.flow, &self.id);
                tracing::error!(flow = %flow, id = %id, %error, "the events of flow {flow} {id} cannot be read: {error}");
                return None;
            }
        };
        self.is_welcome().then_some(step)
    }

    /// Otherwise the client comes back, and hears then what is the matter.
    fn is_welcome(&self) -> bool {
        self.api.operators.is_good(&self.principal.id).unwrap_or(false)
    }
}

fn rendered(step: &Step) -> Event {
    let whole = |name: &str, flow: &Arc<Flow>| {
        // Strings and numbers always become JSON.
        let data = serde_json::to_string(&FlowView::new(flow, flow.newest())).unwrap_or_default();
        Event::default().event(name).id(flow.version.to_string()).data(data)
    };
    match step {
        Step::Version(flow) => whole("version", flow),
        Step::Reset(flow) => whole("reset", flow),
        Step::Ended(ended) => Event::default().event("end").data(format!("{{\"reason\":\"{}\"}}", ended.as_str())),
    }
}

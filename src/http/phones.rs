//! The routes of phones: `/api/phones`, `/api/phones/{phone}`, `/api/phones/{phone}/sms`.

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::Raw;
use super::json::Json;
use super::params::Path;
use super::portals::Api;
use super::problem::{Problem, ProblemDocument};
use crate::portals::forwarders::{Incoming, Rejected};
use crate::portals::inbox::InboxError;
use crate::portals::phones::{Answer, PhoneError, Report};

/// The longest request that a phone may send, in bytes: the longest multipart SMS has 39 015 letters, and an app's JSON
/// may write each Korean one in six.
const MAX_SMS: usize = 256 * 1024;

/// What operators may look at.
pub(super) fn read() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// What phones send to. Each proves itself in its forwarder's way.
pub(super) fn receive() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(receive_sms)).route_layer(DefaultBodyLimit::max(MAX_SMS))
}

#[derive(Serialize, ToSchema)]
struct PhoneList {
    phones: Vec<Report>,
}

/// All phones
#[utoipa::path(get, path = "/api/phones", tag = "phones", security(("operator" = ["portals:read"])),
    responses((status = 200, description = "In the order of their names", body = PhoneList)))]
async fn list(State(api): State<Api>) -> Result<Json<PhoneList>, Problem> {
    let phones = api.portals.phones().map_err(|error| refusal(&error))?;
    Ok(Json(PhoneList { phones }))
}

/// What is known about a phone
#[utoipa::path(get, path = "/api/phones/{phone}", tag = "phones", security(("operator" = ["portals:read"])),
    params(("phone" = String, Path, description = "Its name in the configuration")),
    responses((status = 200, body = Report),
        (status = 404, description = "`unknown_phone`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn show(State(api): State<Api>, Path(phone): Path<String>) -> Result<Json<Report>, Problem> {
    api.portals.phone(&phone).map(Json).map_err(|error| refusal(&error))
}

/// An SMS, from the phone that forwards it
///
/// Body and signature are the forwarder's own. Always 200 to an authentic message.
#[utoipa::path(post, path = "/api/phones/{phone}/sms", tag = "phones", params(("phone" = String, Path)),
    request_body(content = String, description = "As the phone's forwarder sends it, at most 256 KiB", content_type = "*/*"),
    responses((status = 200, body = Answer),
        (status = 400, description = "`malformed_sms`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "`bad_signature`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_phone`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn receive_sms(
    State(api): State<Api>,
    Path(phone): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Json<Answer>, Problem> {
    let header = |name: &str| {
        let mut sent = headers.get_all(name).iter();
        // Of two signatures nobody knows which one counts.
        sent.next().filter(|_| sent.next().is_none())?.to_str().ok()
    };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let incoming = Incoming { header: &header, target, body: &body, now: api.clock.now() };
    api.portals.receive(&phone, &incoming).await.map(Json).map_err(|error| refusal(&error))
}

fn refusal(error: &PhoneError) -> Problem {
    let detail = error.to_string();
    match error {
        PhoneError::Unknown(_) => {
            Problem::not_found("unknown_phone", "No phone of that name is configured.").field("phone")
        }
        PhoneError::Rejected(Rejected::Malformed { field }) => {
            Problem::bad_request("malformed_sms", detail).field(field.clone())
        }
        PhoneError::Rejected(_) => Problem::new(StatusCode::UNAUTHORIZED, "bad_signature", detail),
        PhoneError::Inbox(InboxError::Store(error)) => Problem::store(error, "a phone's record"),
        PhoneError::Inbox(_) => {
            tracing::error!(%error, "a phone's record: {error}");
            Problem::internal()
        }
    }
}

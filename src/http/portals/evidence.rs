//! The routes of what a page looked like when a login failed. The page is sent as plain text and never as HTML: it is a
//! stranger's document, to be read and not to be run on our origin.

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::json::Json;
use super::super::params::Path;
use super::super::problem::{Problem, ProblemDocument};
use super::Api;
use crate::clock::Time;
use crate::portals::evidence::{Exhibit, Part};

/// The routes; behind the scope `portals:read`.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(picture)).routes(routes!(page))
}

#[derive(Serialize, ToSchema)]
#[schema(as = PortalEvidence)]
struct ExhibitView {
    /// Its number, counted for each portal from 1.
    id: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Time,
    /// The cause of the failure, as in `last_failure`.
    cause: &'static str,
    detail: String,
    /// Whether there is a picture.
    picture: bool,
    /// Whether there is a page.
    page: bool,
}

impl From<Exhibit> for ExhibitView {
    fn from(exhibit: Exhibit) -> Self {
        let Exhibit { number, at, cause, detail, picture, page } = exhibit;
        Self { id: number, at, cause: cause.as_str(), detail, picture: picture > 0, page: page > 0 }
    }
}

#[derive(Serialize, ToSchema)]
struct EvidenceList {
    evidence: Vec<ExhibitView>,
}

#[derive(Deserialize)]
struct Which {
    portal: String,
    id: u64,
}

/// What pages looked like when logins failed, newest first
#[utoipa::path(get, path = "/api/portals/{portal}/evidence", tag = "portals",
    security(("operator" = ["portals:read"])), params(("portal" = String, Path)),
    responses((status = 200, description = "The last 5, for 30 days at most", body = EvidenceList),
        (status = 404, description = "`unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn list(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<EvidenceList>, Problem> {
    let evidence = api.portal(&name)?.evidence()?.into_iter().map(ExhibitView::from).collect();
    Ok(Json(EvidenceList { evidence }))
}

/// The window as it was, with passwords and codes masked
#[utoipa::path(get, path = "/api/portals/{portal}/evidence/{id}/picture", tag = "portals",
    security(("operator" = ["portals:read"])), params(("portal" = String, Path), ("id" = u64, Path)),
    responses((status = 200, content_type = "image/png", body = Vec<u8>),
        (status = 404, description = "`unknown_evidence` or `unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn picture(State(api): State<Api>, Path(which): Path<Which>) -> Result<Response, Problem> {
    part(&api, &which, Part::Picture, "image/png")
}

/// The document as it was, as text: HTML without scripts and without values
#[utoipa::path(get, path = "/api/portals/{portal}/evidence/{id}/page", tag = "portals",
    security(("operator" = ["portals:read"])), params(("portal" = String, Path), ("id" = u64, Path)),
    responses((status = 200, content_type = "text/plain", body = String),
        (status = 404, description = "`unknown_evidence` or `unknown_portal`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn page(State(api): State<Api>, Path(which): Path<Which>) -> Result<Response, Problem> {
    part(&api, &which, Part::Page, "text/plain; charset=utf-8")
}

fn part(api: &Api, which: &Which, part: Part, kind: &'static str) -> Result<Response, Problem> {
    let bytes = api.portal(&which.portal)?.exhibit(which.id, part)?;
    let missing = || Problem::not_found("unknown_evidence", "Nothing of that kind is kept.").field("id");
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, bytes.ok_or_else(missing)?).into_response())
}

//! The API's description, served at `/openapi.json`: what the routes themselves declare, completed with what the edge
//! does to all of them. Describes, never decides.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Info, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{MEDIA_TYPE, Problem, ProblemDocument};

/// The security scheme of operator tokens: a route says `security(("operator" = ["its:scope"]))`.
const OPERATOR: &str = "operator";
/// The security scheme of users: a route says `security(("user" = []))`.
const USER: &str = "user";

/// `/openapi.json` for the routes that `description` lists.
pub(super) fn route(mut description: OpenApi) -> Router {
    complete(&mut description);
    let document = match description.to_json() {
        Ok(text) => Some(Bytes::from(text)),
        Err(error) => {
            tracing::error!(%error, "the API description cannot be written: {error}");
            None
        }
    };
    let page = move || {
        let document = document.clone().ok_or_else(Problem::internal);
        std::future::ready(document.map(|document| ([(header::CONTENT_TYPE, "application/json")], document)))
    };
    Router::new().route("/openapi.json", get(page))
}

fn complete(description: &mut OpenApi) {
    let mut info = Info::new("Nightporter", env!("CARGO_PKG_VERSION"));
    info.description = Some("Keeps logged-in sessions alive and true. Every error is an RFC 9457 problem.".to_owned());
    description.info = info;
    let mut schemas = vec![(ProblemDocument::name().into_owned(), ProblemDocument::schema())];
    ProblemDocument::schemas(&mut schemas);
    let operator = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("npt_…")
        .description(Some("An operator's token, made with `nightporter token add NAME --scope …`."))
        .build();
    let user = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A user's access token, from a login; browsers send it as the cookie `__Host-nightporter`."))
        .build();
    let ours = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(OPERATOR, SecurityScheme::Http(operator))
        .security_scheme(USER, SecurityScheme::Http(user))
        .build();
    let components = description.components.get_or_insert_default();
    components.schemas.extend(ours.schemas);
    components.security_schemes.extend(ours.security_schemes);
    for (changes, operation) in description.paths.paths.values_mut().flat_map(operations) {
        complete_operation(operation, changes);
    }
}

/// All of a path, each with whether its method is one that changes something.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, put, post, delete, options, head, patch, trace, query, .. } = item;
    let reading = [get, options, head, trace, query].into_iter().flatten().map(|operation| (false, operation));
    reading.chain([put, post, delete, patch].into_iter().flatten().map(|operation| (true, operation)))
}

/// Adds the problems that the edge, the extractors and the token check answer for every route of a kind. What a route
/// declares itself stays.
fn complete_operation(operation: &mut Operation, changes: bool) {
    let mut problems = vec![
        ("400", "The request cannot be understood: head, path, query, header or body"),
        ("408", "The request did not arrive in time"),
        ("500", "`internal_error`: something failed on our side"),
    ];
    if changes {
        problems.push(("507", "`storage_full`: the disk is nearly full; nothing was changed"));
    }
    if let Some(body) = &operation.request_body {
        problems.push(("413", "`body_too_large`"));
        // Bodies of other types are read by the route itself, in its own words.
        let json = matches!(body, RefOr::T(body) if body.content.contains_key("application/json"));
        if json {
            problems.push(("415", "`unsupported_media_type`"));
            problems.push(("422", "A field is unknown, missing or does not fit; `field` names it"));
        }
    }
    if operation.security.as_ref().is_some_and(|needed| !needed.is_empty()) {
        problems.push(("401", "`unauthorized` or `invalid_token`"));
        problems.push(("403", "`insufficient_scope`: the token lacks the scope"));
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in problems {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
    }
}

/// A problem among the answers that a route declares.
pub(super) fn problem(description: &str) -> Response {
    let schema = Ref::from_schema_name(ProblemDocument::name());
    ResponseBuilder::new()
        .description(description)
        .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

//! The operator's pages: HTML made here, for people without a terminal at hand. Plain forms and no scripts; a page shows what
//! the domains say and asks them for what a person wants. No rule lives here.

mod code_link;

use std::sync::LazyLock;

use askama::Template;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;

use crate::http::problem::Problem;
use crate::portals::Portals;
use crate::secret;

/// The style of every page, inside the page: it needs nothing but itself.
const STYLE: &str = include_str!("console/style.css");

/// Nothing from anywhere, but for the one style and forms that come back here.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = data_encoding::HEXLOWER.decode(secret::fingerprint(STYLE.as_bytes()).as_bytes()).unwrap_or_default();
    let style = data_encoding::BASE64.encode(&digest);
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
});

/// The routes of all pages.
pub fn routes(portals: &Portals) -> OpenApiRouter {
    code_link::routes(portals.clone())
}

/// A page as an answer that nobody keeps, frames or passes on.
fn page(status: StatusCode, template: &impl Template) -> Response {
    let html = match template.render() {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "a page cannot be made: {error}");
            return Problem::internal().into_response();
        }
    };
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ];
    (status, headers, html).into_response()
}

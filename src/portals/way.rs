//! The way to the portal: how a request gets there in the name of a session and what comes back. There are two, and the
//! recipe chooses: an HTTP client with the session's cookies, and a page of the session's own.
//!
//! Calls and checks go the same way, so that what a check says holds for calls. A way sends once and decides nothing:
//! verdicts are `check`'s, sending again is `relay`'s.

mod page;

use hyper::header::{HeaderMap, HeaderName};
use hyper::{Method, Response, Uri};

use super::portal::Portal;
use super::recipe::{Template, Via};
use super::session::Session;
use super::upstream::{Body, Reuse, Upstream, UpstreamError};

/// One request to the portal.
pub(super) struct Outbound<'a> {
    /// The method.
    pub(super) method: Method,
    /// Where, on the portal's own origin.
    pub(super) uri: &'a Uri,
    /// Headers that are known already.
    pub(super) headers: HeaderMap,
    /// Headers of the recipe, to be filled in with what the session knows; they go over the others.
    pub(super) templates: &'a [(HeaderName, Template)],
    /// The body.
    pub(super) body: Body,
    /// Which connections may carry it, where that is ours to choose: a browser chooses its own.
    pub(super) reuse: Reuse,
}

/// Sends a request in the name of `session` and returns the answer's head with its body still to come. The answer's
/// cookies are merged into the jar and taken off the answer.
///
/// # Errors
/// [`UpstreamError`], told apart by whether sending again is safe.
pub(super) async fn send(
    portal: &Portal,
    session: &Session,
    outbound: Outbound<'_>,
) -> Result<Response<Body>, UpstreamError> {
    match portal.recipe().relay.via {
        Via::Http => by_jar(&portal.tools().upstream, session, outbound).await,
        // On the heap: opening a tab, and a browser for it, is deep, and every relayed call would carry room for it.
        Via::Browser => Box::pin(page::send(portal, session, outbound)).await,
    }
}

/// The way of the HTTP client.
pub(super) async fn by_jar(
    upstream: &Upstream,
    session: &Session,
    outbound: Outbound<'_>,
) -> Result<Response<Body>, UpstreamError> {
    let Outbound { method, uri, mut headers, templates, body, reuse } = outbound;
    session.add_headers(templates, &mut headers);
    upstream.send_on(reuse, session, method, uri, headers, body).await
}

//! The way through a page: `fetch()` in a tab of the session, with its cookies, its storage and its connections.
//!
//! What a browser does differently from the jar's client, and no recipe can change:
//! - the path is written as browsers write it: `.` and `..` are resolved, and some characters percent-encoded;
//! - `Accept-Encoding`, `User-Agent`, `Origin`, `Referer` and a few more headers are the browser's, several of one name
//!   become one, and `Cache-Control: no-cache` is added, since nothing may come from its cache;
//! - an answer arrives decoded, without `Content-Encoding` and the length that went with it; a redirect without its body;
//! - a request body is read whole before it is sent, GET and HEAD have none;
//! - Chromium sends a request again by itself, once, when a kept connection breaks before an answer has begun.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT,
};
use hyper::{Method, Response, StatusCode, Uri};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::Outbound;
use crate::browsers::{CallError, PageAnswer, PageBody, PageCall, Piece};
use crate::clock;
use crate::portals::jar::Asked;
use crate::portals::portal::Portal;
use crate::portals::recipe::Template;
use crate::portals::session::Session;
use crate::portals::tab::{self, OpenTab};
use crate::portals::upstream::{self, ANSWER, Body, BoxError, IDLE, UpstreamError};

/// The largest request body. It crosses to the browser in one message and is told of in another, three to seven times as
/// large, which must stay within what the pipe takes (32 MiB).
const BODY: usize = 4 * 1024 * 1024;
/// What no page may send (Fetch, 2.2.1).
const FORBIDDEN: [&str; 3] = ["CONNECT", "TRACE", "TRACK"];
/// Pages that may turn out to be useless before one sends: one that died unnoticed, and one that had gone elsewhere.
const PAGES: usize = 3;

/// Sends a request through the session's tab, opening that if need be.
pub(super) async fn send(
    portal: &Portal,
    session: &Session,
    outbound: Outbound<'_>,
) -> Result<Response<Body>, UpstreamError> {
    let url = address(portal, outbound.uri)?;
    if FORBIDDEN.iter().any(|name| outbound.method.as_str().eq_ignore_ascii_case(name)) {
        return Err(UpstreamError::Unsupported(format!("a browser sends no {}", outbound.method)));
    }
    let place = clock::within(ANSWER, session.tabs().place()).await;
    let place = place.map_err(|_| UpstreamError::NotSent("the session's page is busy".to_owned()))?;
    let Outbound { method, headers, templates, body, .. } = outbound;
    let body = whole(&method, body).await?;
    let call = PageCall {
        origin: url.origin().ascii_serialization(),
        url: url.to_string(),
        method: method.as_str().to_owned(),
        headers: pieces(session, headers, templates),
        body,
    };
    let mut why = String::new();
    for _ in 0..PAGES {
        let tab =
            Box::pin(tab::open(portal, session)).await.map_err(|error| UpstreamError::NotSent(error.to_string()))?;
        let asked = session.jar().ask();
        match tab.page().call(&call, ANSWER).await {
            Ok(answer) => {
                take_cookies(session, &url, asked, &answer);
                return Ok(response(answer, tab, place));
            }
            Err(CallError::Lost(why)) => return Err(UpstreamError::InDoubt(why)),
            Err(error @ CallError::Away) => {
                why = error.to_string();
                tab::bring_home(portal, session, &tab)
                    .await
                    .map_err(|error| UpstreamError::NotSent(error.to_string()))?;
            }
            Err(CallError::NotSent(why)) => return Err(UpstreamError::NotSent(why)),
            Err(CallError::Page(gone)) => why = gone,
        }
    }
    Err(UpstreamError::NotSent(why))
}

/// The address as the browser will write it; refused where that would be another site.
fn address(portal: &Portal, uri: &Uri) -> Result<Url, UpstreamError> {
    let url = Url::parse(&uri.to_string()).map_err(|error| UpstreamError::Invalid(error.to_string()))?;
    let ours = url.origin() == portal.recipe().base_url.origin();
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if ours && plain { Ok(url) } else { Err(UpstreamError::Invalid("the path leaves the portal".to_owned())) }
}

/// The whole body, where the method can have one.
async fn whole(method: &Method, body: Body) -> Result<Option<Bytes>, UpstreamError> {
    use hyper::body::Body as _;
    if body.is_end_stream() {
        return Ok(None);
    }
    let (bytes, _, ended) = upstream::peek(body, BODY, ANSWER).await.map_err(UpstreamError::Body)?;
    if !ended {
        let late = || UpstreamError::Body(BoxError::from("the request body did not arrive in time"));
        return Err(if bytes.len() == BODY { UpstreamError::TooLarge(BODY) } else { late() });
    }
    match *method {
        _ if bytes.is_empty() => Ok(None),
        Method::GET | Method::HEAD => Err(UpstreamError::Unsupported(format!(
            "this portal is called by a browser, which sends no body with {method}"
        ))),
        _ => Ok(Some(bytes)),
    }
}

/// The headers for the page: what the browser says of itself it says itself.
fn pieces(
    session: &Session,
    mut headers: HeaderMap,
    templates: &[(HeaderName, Template)],
) -> Vec<(String, Vec<Piece>)> {
    for name in [USER_AGENT, ACCEPT_LANGUAGE, ACCEPT_ENCODING, CONTENT_LENGTH] {
        headers.remove(name);
    }
    for (name, _) in templates {
        headers.remove(name);
    }
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    let own = headers.iter().map(|(name, value)| (name.to_string(), vec![Piece::Text { text: text(value) }]));
    own.chain(session.header_pieces(templates)).collect()
}

/// Has the jar follow what the answer set in the browser.
fn take_cookies(session: &Session, url: &Url, asked: Asked, answer: &PageAnswer) {
    let set = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(SET_COOKIE.as_str()));
    session.merged(session.jar().merge(url, asked, set.map(|(_, value)| value.as_str())));
}

/// The portal's answer in the form that the relay and the check know. The tab is held until its end.
fn response(answer: PageAnswer, tab: Arc<OpenTab>, place: OwnedSemaphorePermit) -> Response<Body> {
    let PageAnswer { status, headers, body } = answer;
    let mut response = Response::new(stream_of(body, tab, place));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in &headers {
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()));
        if let (Ok(name), Ok(value)) = pair
            && name != SET_COOKIE
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn stream_of(body: PageBody, tab: Arc<OpenTab>, place: OwnedSemaphorePermit) -> Body {
    let frames = stream::unfold(Some((body, tab, place)), |state| async move {
        let (mut body, tab, place) = state?;
        match body.next(IDLE).await {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some((body, tab, place)))),
            Ok(None) => None,
            Err(error) => Some((Err(BoxError::from(error)), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

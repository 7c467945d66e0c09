//! The verdict: is a session alive?
//!
//! A transport error is *unknown*, never expired: a portal that is down must not cost a login. Redirects are not followed,
//! because a followed redirect to a login page is a 200.

use std::future::Future;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use hyper::{Response, Uri};
use url::Url;

use super::plain;
use super::portal::Portal;
use super::recipe::{Answer, Recipe};
use super::session::Session;
use super::upstream::{self, Body, Reuse, Upstream, UpstreamError};
use super::way::{self, Outbound};
use crate::clock;

/// How much of an answer's body is looked at: login pages and JSON errors show themselves early.
const LOOK: usize = 64 * 1024;
/// How long is waited for that much.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// How long a check may take altogether.
const CHECK: Duration = Duration::from_secs(20);

/// What a look at a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The portal knows it.
    Alive,
    /// The portal wants a login; in words how that showed.
    Expired(String),
    /// Neither: the portal is down, slow or strange. No login is spent on that.
    Unknown(String),
}

/// Sends the recipe's check request in the session, the way that the recipe's calls go.
pub(super) async fn check(portal: &Portal, session: &Session) -> Verdict {
    let recipe = portal.recipe();
    let Some(uri) = uri(recipe) else { return nowhere() };
    in_time(recipe, &uri, way::send(portal, session, asked(recipe, &uri))).await
}

/// The same with the session's cookies alone, whatever the recipe says.
pub async fn check_by_jar(upstream: &Upstream, recipe: &Recipe, session: &Session) -> Verdict {
    let Some(uri) = uri(recipe) else { return nowhere() };
    in_time(recipe, &uri, way::by_jar(upstream, session, asked(recipe, &uri))).await
}

fn uri(recipe: &Recipe) -> Option<Uri> {
    recipe.check.request.url.as_str().parse().ok()
}

fn nowhere() -> Verdict {
    Verdict::Unknown("the check's path is none".to_owned())
}

fn asked<'a>(recipe: &'a Recipe, uri: &'a Uri) -> Outbound<'a> {
    let request = &recipe.check.request;
    let (method, headers, body) = (request.method.clone(), HeaderMap::new(), upstream::no_body());
    Outbound { method, uri, headers, templates: &request.headers, body, reuse: Reuse::Any }
}

async fn in_time(
    recipe: &Recipe,
    uri: &Uri,
    sent: impl Future<Output = Result<Response<Body>, UpstreamError>>,
) -> Verdict {
    let judged = async {
        match sent.await {
            Ok(answer) => judge(recipe, uri, answer).await,
            Err(error) => Verdict::Unknown(error.to_string()),
        }
    };
    let late = |_| Verdict::Unknown(format!("no answer within {} s", CHECK.as_secs()));
    clock::within(CHECK, judged).await.unwrap_or_else(late)
}

async fn judge(recipe: &Recipe, uri: &Uri, answer: Response<Body>) -> Verdict {
    let (head, body) = answer.into_parts();
    let looked = match upstream::peek(body, LOOK, LOOK_TIME).await {
        Ok((looked, _, _)) => looked,
        Err(error) => return Verdict::Unknown(error.to_string()),
    };
    let (location, text) = (location(&head.headers, uri), plain::text(&head.headers, &looked));
    let answer = Answer { status: head.status.as_u16(), location: location.as_ref(), body: Some(&text) };
    if recipe.check.is_expired(&answer) {
        return Verdict::Expired(describe(&answer));
    }
    if recipe.check.alive.matches(&answer) { Verdict::Alive } else { Verdict::Unknown(describe(&answer)) }
}

/// Whether a relayed answer means "logged out"; gives the answer back whole.
///
/// # Errors
/// When the answer's body breaks off while it is looked at.
pub async fn logged_out(
    recipe: &Recipe,
    asked: &Uri,
    answer: Response<Body>,
) -> Result<(Option<String>, Response<Body>), upstream::BoxError> {
    let (head, body) = answer.into_parts();
    let location = location(&head.headers, asked);
    let mut seen = Answer { status: head.status.as_u16(), location: location.as_ref(), body: None };
    if recipe.check.is_expired(&seen) {
        return Ok((Some(describe(&seen)), Response::from_parts(head, body)));
    }
    if !recipe.check.expiry_needs_body() || !readable(&head.headers) {
        return Ok((None, Response::from_parts(head, body)));
    }
    let (looked, body, _) = upstream::peek(body, LOOK, LOOK_TIME).await?;
    let text = plain::text(&head.headers, &looked);
    seen.body = Some(&text);
    let told = recipe.check.is_expired(&seen).then(|| describe(&seen));
    Ok((told, Response::from_parts(head, body)))
}

/// Whether a body can hold a login page or a JSON error.
fn readable(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("text/plain");
    let kind = kind.to_ascii_lowercase();
    kind.starts_with("text/") || ["json", "html", "xml", "javascript"].iter().any(|name| kind.contains(name))
}

/// Where an answer points, resolved against what was asked for.
fn location(headers: &HeaderMap, asked: &Uri) -> Option<Url> {
    let to = headers.get(LOCATION)?.to_str().ok()?;
    Url::parse(&asked.to_string()).ok()?.join(to).ok()
}

fn describe(answer: &Answer<'_>) -> String {
    match answer.location {
        // Without the query: it may hold tokens.
        Some(to) => format!("answered {} to {}", answer.status, to.path()),
        None => format!("answered {}", answer.status),
    }
}

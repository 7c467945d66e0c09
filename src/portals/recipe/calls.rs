//! The parts of a recipe about calls to the portal: `[check]`, whether the session lives, and `[relay]`, how calls
//! are sent.

use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use url::Url;

use super::cached::{self, Cached};
use super::steps::Site;
use super::template::{Template, Variable};
use crate::browsers::Area;
use crate::calls::{self, Answer, Predicate};
use crate::config::{Field, Section, choice, duration, unknown};

/// `[check]`: how to tell whether a session is alive.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The time between two looks. At least 5 s, default 60 s.
    pub every: Duration,
    /// What is asked.
    pub request: Request,
    /// What the answer looks like while the session lives.
    pub alive: Predicate,
    /// What an answer can look like when it does not: any of these, also for relayed calls.
    pub expired: Vec<Predicate>,
}

impl Check {
    /// Whether the answer means "logged out". An answer that is neither this nor alive tells nothing.
    pub fn is_expired(&self, answer: &Answer<'_>) -> bool {
        self.expired.iter().any(|predicate| predicate.matches(answer))
    }

    /// Whether telling "logged out" takes the body.
    pub fn expiry_needs_body(&self) -> bool {
        self.expired.iter().any(Predicate::needs_body)
    }
}

/// A call to the portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD` or `POST` without a body.
    pub method: Method,
    /// Where, on the portal's own origin.
    pub url: Url,
    /// What is sent besides what a browser sends.
    pub headers: Vec<(HeaderName, Template)>,
}

/// `[relay]`: how calls are sent through a session, and checks: what a check says must hold for calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// Default [`Via::Http`].
    pub via: Via,
    /// What is added to every call.
    pub headers: Vec<(HeaderName, Template)>,
    /// How a saved value is renewed when the portal refuses it.
    pub refresh: Option<Refresh>,
    /// What may be answered from memory for a while.
    pub cache: Vec<Cached>,
}

/// What carries a relayed call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// An HTTP client with the session's cookies.
    #[default]
    Http,
    /// `fetch()` in a page of the session, for portals that keep their session in it or accept nothing but a browser.
    Browser,
}

/// `[relay] refresh`: a value that goes stale while the session lives, such as a CSRF token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The answers that mean "stale".
    pub status: Vec<u16>,
    /// The page that carries a fresh value.
    pub page: Url,
    /// The name of the `save` step that tells where in the page it is.
    pub save: String,
}

const METHODS: &[(&str, Method)] = &[("GET", Method::GET), ("HEAD", Method::HEAD), ("POST", Method::POST)];
const VIAS: &[(&str, Via)] = &[("http", Via::Http), ("browser", Via::Browser)];

/// What the relay sets itself: a recipe that set them would break the session or the framing.
const OWN_HEADERS: [&str; 8] =
    ["host", "cookie", "content-length", "transfer-encoding", "connection", "upgrade", "proxy-authorization", "te"];

/// Reads `[check]`; `saved` are the names that the login saves.
pub(super) fn check(root: &Section<'_>, site: &Site<'_>, saved: &[String]) -> Option<Check> {
    let Some(field) = root.field("check") else {
        root.problem("the section [check] is missing: how to tell that the session is alive");
        return None;
    };
    let section = field.read(Field::section)?;
    let every = section.or("every", "60s", duration::within(Duration::from_secs(5)..=Duration::from_secs(86_400)));
    let request = section.required("request", Field::section).map(|section| request(&section, site, saved));
    let alive = section.required("alive", Field::section).map(|section| calls::read_predicate(&section));
    let expired = expired(&section);
    section.finish();
    let check = Check { every: every?, request: request??, alive: alive??, expired: expired? };
    if check.request.method == Method::HEAD && check.alive.needs_body() {
        section.problem("alive looks into the body, but the answer to HEAD has none");
    }
    Some(check)
}

fn expired(section: &Section<'_>) -> Option<Vec<Predicate>> {
    let items = section.required("expired", Field::items)?;
    if items.is_empty() {
        section.problem("expired needs at least one predicate: nothing else tells that the portal logged us out");
        return None;
    }
    let count = items.len();
    let good: Vec<_> = items.iter().filter_map(|item| calls::read_predicate(&item.read(Field::section)?)).collect();
    (good.len() == count).then_some(good)
}

fn request(section: &Section<'_>, site: &Site<'_>, saved: &[String]) -> Option<Request> {
    let method = section.or("method", "GET", method);
    let url = section.required("path", |field| site.path(field.text()?));
    let headers = headers(section, saved);
    section.finish();
    Some(Request { method: method?, url: url?, headers: headers? })
}

fn method(field: &Field<'_>) -> Result<Method, String> {
    let word = field.text()?;
    let found = METHODS.iter().find(|(name, _)| *name == word).map(|(_, method)| method.clone());
    found.ok_or_else(|| format!("expected GET, HEAD or POST, got \"{word}\""))
}

fn headers(section: &Section<'_>, saved: &[String]) -> Option<Vec<(HeaderName, Template)>> {
    let Some(field) = section.field("headers") else { return Some(Vec::new()) };
    let entries = field.read(Field::section)?.entries();
    let count = entries.len();
    let one = |(name, field): (String, Field<'_>)| {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            field.problem("is not the name of an HTTP header");
            return None;
        };
        if OWN_HEADERS.contains(&header.as_str()) {
            field.problem("is set by Nightporter itself");
            return None;
        }
        Some((header, field.read(|field| header_value(field, saved))?))
    };
    let good: Vec<_> = entries.into_iter().filter_map(one).collect();
    (good.len() == count).then_some(good)
}

fn header_value(field: &Field<'_>, saved: &[String]) -> Result<Template, String> {
    let template = Template::parse(field.text()?).map_err(|error| error.to_string())?;
    if let Some(bad) = template.literals().find(|text| !text.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
        return Err(format!("a header value is printable ASCII, got \"{}\"", bad.escape_debug()));
    }
    let missing = |variable: &&Variable| matches!(variable, Variable::Saved(name) if !saved.contains(name));
    if let Some(name) = template.variables().find(missing) {
        let known: Vec<&str> = saved.iter().map(String::as_str).chain(["username", "password"]).collect();
        return Err(unknown(&format!("name {{{{{name}}}}}"), &name.to_string(), &known));
    }
    Ok(template)
}

/// Reads `[relay]`; `saved` are the names that the login saves.
pub(super) fn relay(root: &Section<'_>, site: &Site<'_>, saved: &[String]) -> Option<Relay> {
    let section = root.section_or_empty("relay")?;
    let via = section.or("via", "http", choice(VIAS));
    let headers = headers(&section, saved);
    let refresh = section.section("refresh").map(|section| refresh(&section, site, saved));
    let cache = cached::read(&section);
    section.finish();
    let refresh = match refresh {
        Some(refresh) => Some(refresh?),
        None => None,
    };
    Some(Relay { via: via?, headers: headers?, refresh, cache: cache? })
}

/// What a page has stored can only be sent by that page.
pub(super) fn agree(root: &Section<'_>, browser: &super::Browser, check: &Check, relay: &Relay) {
    if browser.keep_tab && relay.via == Via::Http {
        root.warning(
            "keep_tab keeps the tab open, but with via = \"http\" neither calls nor checks see anything of it but cookies",
        );
    }
    for (section, headers) in [("check", &check.request.headers), ("relay", &relay.headers)] {
        for variable in headers.iter().flat_map(|(_, template)| template.variables()) {
            let Variable::Stored { area, .. } = variable else { continue };
            let problem = match area {
                _ if relay.via != Via::Browser => "is known to the page alone: set via = \"browser\" in [relay]",
                Area::Session if !browser.keep_tab => "is gone with the tab: set keep_tab = true in [browser]",
                Area::Session | Area::Local => continue,
            };
            if let Some(field) = root.field(section) {
                field.problem(format!("{{{{{variable}}}}} {problem}"));
            }
        }
    }
}

fn refresh(section: &Section<'_>, site: &Site<'_>, saved: &[String]) -> Option<Refresh> {
    let status = section.list("status", calls::status);
    let page = section.required("page", |field| site.path(field.text()?));
    let save = section.required("save", |field| {
        let name = field.text()?;
        let found = saved.iter().find(|saved| *saved == name).cloned();
        found.ok_or_else(|| unknown(&format!("saved name \"{name}\""), name, saved))
    });
    section.finish();
    if status.as_ref().is_some_and(Vec::is_empty) {
        section.problem("status is missing: the answers that mean that the value is stale, such as [403]");
        return None;
    }
    Some(Refresh { status: status?, page: page?, save: save? })
}

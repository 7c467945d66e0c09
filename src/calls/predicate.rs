//! What an answer means: predicates over status, redirect, JSON and body.
//!
//! Pure: whoever has an answer asks. Within one predicate every condition must hold; several predicates are a choice.

use std::fmt;

use serde_json::Value;
use url::Url;

use crate::config::{Field, Section};

/// An answer, as far as a predicate looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The `Location`, resolved against the URL that was asked for.
    pub location: Option<&'a Url>,
    /// The body in UTF-8, whole or its beginning; `None` when it was not kept. Without it a condition on the body does
    /// not hold.
    pub body: Option<&'a [u8]>,
}

/// Conditions that all hold for the answers that are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predicate {
    status: Vec<u16>,
    redirect: Option<Target>,
    json: Vec<(String, Value)>,
    body: Option<String>,
}

impl Predicate {
    /// That the status is one of success.
    pub fn successful() -> Self {
        Self { status: (200..300).collect(), ..Self::default() }
    }

    /// Whether it can only be told with the body; without such a predicate the body need not be kept.
    pub fn needs_body(&self) -> bool {
        !self.json.is_empty() || self.body.is_some()
    }

    /// Whether `answer` is meant.
    pub fn matches(&self, answer: &Answer<'_>) -> bool {
        let status = self.status.is_empty() || self.status.contains(&answer.status);
        let redirect = self.redirect.as_ref().is_none_or(|target| {
            (300..400).contains(&answer.status) && answer.location.is_some_and(|location| target.matches(location))
        });
        status && redirect && self.body_matches(answer.body)
    }

    fn body_matches(&self, body: Option<&[u8]>) -> bool {
        if !self.needs_body() {
            return true;
        }
        let Some(body) = body else { return false };
        let text = self.body.as_ref().is_none_or(|text| contains(body, text.as_bytes()));
        text && (self.json.is_empty() || self.json_matches(body))
    }

    fn json_matches(&self, body: &[u8]) -> bool {
        // A byte order mark is common before JSON from older servers.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        serde_json::from_slice::<Value>(body)
            .is_ok_and(|document| self.json.iter().all(|(pointer, wanted)| document.pointer(pointer) == Some(wanted)))
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// The beginning of a URL: a path on any host, or an absolute URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The path starts with this.
    Path(String),
    /// The origin is this one's, and the path starts with this one's.
    Absolute(Url),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Absolute(url) => url.fmt(f),
        }
    }
}

impl Target {
    /// Whether `url` starts so.
    pub fn matches(&self, url: &Url) -> bool {
        match self {
            Self::Path(path) => url.path().starts_with(path),
            Self::Absolute(start) => url.origin() == start.origin() && url.path().starts_with(start.path()),
        }
    }

    /// Reads `/path` or an absolute URL without a query.
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, String> {
        let text = field.text()?;
        let expected = || "expected a path such as /login, or a whole URL; without ? and #".to_owned();
        if text.contains(['?', '#']) {
            return Err(expected());
        }
        if text.starts_with('/') && !text.starts_with("//") {
            // Written as the browser will report it: /로그인 is sent percent-encoded.
            let url = Url::parse("http://portal.invalid").and_then(|base| base.join(text)).map_err(|_| expected())?;
            return Ok(Self::Path(url.path().to_owned()));
        }
        let url = Url::parse(text).map_err(|_| expected())?;
        if matches!(url.scheme(), "http" | "https") { Ok(Self::Absolute(url)) } else { Err(expected()) }
    }
}

/// Reads one predicate; one that is empty would hold for every answer and is a problem.
pub(crate) fn read(section: &Section<'_>) -> Option<Predicate> {
    let status = section.list("status", status);
    let redirect = section.optional("redirect", Target::read);
    let json = section.section("json").map(|section| json(&section));
    let body = section.optional("body", |field| match field.text()? {
        "" => Err("must not be empty".to_owned()),
        text => Ok(text.to_owned()),
    });
    section.finish();
    if !["status", "redirect", "json", "body"].iter().any(|key| section.has(key)) {
        section.problem("needs at least one of status, redirect, json and body");
        return None;
    }
    let lost = (section.has("redirect") && redirect.is_none()) || (section.has("body") && body.is_none());
    let json = match json {
        Some(json) => json?,
        None => Vec::new(),
    };
    (!lost).then_some(Predicate { status: status?, redirect, json, body })
}

/// Reads an HTTP status.
pub(crate) fn status(field: &Field<'_>) -> Result<u16, String> {
    let number = field.integer()?;
    let status = u16::try_from(number).ok().filter(|status| (100..600).contains(status));
    status.ok_or_else(|| format!("expected an HTTP status between 100 and 599, got {number}"))
}

/// Whether `text` is a JSON pointer; in words what it should be.
pub(crate) fn pointer(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with('/') {
        return Ok(());
    }
    Err(format!("a JSON pointer starts with \"/\": write \"/{}\"", text.replace('.', "/")))
}

fn json(section: &Section<'_>) -> Option<Vec<(String, Value)>> {
    let entries = section.entries();
    if entries.is_empty() {
        section.problem("must not be empty");
        return None;
    }
    let count = entries.len();
    let one = |(pointer, field): (String, Field<'_>)| {
        if let Err(reason) = self::pointer(&pointer) {
            field.problem(reason);
            return None;
        }
        Some((pointer, field.read(Field::json)?))
    };
    let good: Vec<_> = entries.into_iter().filter_map(one).collect();
    (good.len() == count).then_some(good)
}

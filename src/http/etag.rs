//! Entity tags of versioned records, and the preconditions built on them. A record's tag is its version: `"7"`.
//!
//! `If-Match` compares strongly: a version is exact or it is not that version. `If-None-Match` compares weakly, because a
//! proxy that compresses answers weakens their tags (RFC 9110, 13.1).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::problem::Problem;

/// The ETag of a record at `version`.
pub fn etag(version: u64) -> HeaderValue {
    // Digits between quotes are always a valid header value.
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// The versions that a precondition header names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Tags {
    #[default]
    Absent,
    Any,
    Listed(Vec<Tag>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    opaque: String,
}

impl Tags {
    /// Whether they name the version; with `weakly`, weak tags do too.
    fn name(&self, version: u64, weakly: bool) -> bool {
        match self {
            Self::Absent => false,
            Self::Any => true,
            Self::Listed(tags) => {
                let version = version.to_string();
                tags.iter().any(|tag| (weakly || !tag.weak) && tag.opaque == version)
            }
        }
    }
}

/// The client's `If-Match`: change the record only if it still is at one of these versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IfMatch(Tags);

impl IfMatch {
    /// Whether the header came at all.
    pub fn is_present(&self) -> bool {
        self.0 != Tags::Absent
    }

    /// The same, where the contract demands the header.
    ///
    /// # Errors
    /// 428 `precondition_required` when it is missing.
    pub fn required(self) -> Result<Self, Problem> {
        if self.is_present() {
            return Ok(self);
        }
        Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition_required",
            "Say with If-Match which version this changes.",
        )
        .field("If-Match"))
    }

    /// Whether a change of the record at `version` (`None`: there is no record) is allowed. An absent header allows all.
    pub fn allows(&self, version: Option<u64>) -> bool {
        !self.is_present() || version.is_some_and(|version| self.0.name(version, false))
    }

    /// As [`IfMatch::allows`], as an answer.
    ///
    /// # Errors
    /// 412 `precondition_failed` when it does not.
    pub fn check(&self, version: Option<u64>) -> Result<(), Problem> {
        if self.allows(version) { Ok(()) } else { Err(precondition_failed()) }
    }
}

/// The client's `If-None-Match`: answer only if the record is at none of these versions; `*` asks that there be none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IfNoneMatch(Tags);

impl IfNoneMatch {
    /// Whether it asks that there be no record.
    pub fn is_any(&self) -> bool {
        self.0 == Tags::Any
    }

    /// For a read: whether the client already has the record at `version`, so that 304 is the answer.
    pub fn has(&self, version: u64) -> bool {
        self.0.name(version, true)
    }

    /// For a write: whether it is allowed when the record is at `version` (`None`: there is none).
    pub fn allows(&self, version: Option<u64>) -> bool {
        !version.is_some_and(|version| self.has(version))
    }

    /// As [`IfNoneMatch::allows`], as an answer.
    ///
    /// # Errors
    /// 412 `precondition_failed` when it does not.
    pub fn check(&self, version: Option<u64>) -> Result<(), Problem> {
        if self.allows(version) { Ok(()) } else { Err(precondition_failed()) }
    }
}

/// 412: the record is not at the version that the client knows.
pub fn precondition_failed() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "The record has changed since the version that this request names.",
    )
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read(&parts.headers, &header::IF_MATCH, "If-Match").map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read(&parts.headers, &header::IF_NONE_MATCH, "If-None-Match").map(Self)
    }
}

fn read(headers: &HeaderMap, name: &HeaderName, label: &'static str) -> Result<Tags, Problem> {
    let mut tags = Tags::Absent;
    for line in headers.get_all(name) {
        let read = line.to_str().ok().and_then(|text| parse(text.trim()));
        tags = match (tags, read) {
            (Tags::Absent, Some(read)) => read,
            (Tags::Listed(mut known), Some(Tags::Listed(more))) => {
                known.extend(more);
                Tags::Listed(known)
            }
            _ => {
                let detail = format!("{label} is neither * nor a list of quoted tags.");
                return Err(Problem::bad_request("invalid_precondition", detail).field(label));
            }
        };
    }
    Ok(tags)
}

fn parse(mut rest: &str) -> Option<Tags> {
    if rest == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    loop {
        let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |rest| (true, rest));
        let (tag, behind) = quoted.strip_prefix('"')?.split_once('"')?;
        tags.push(Tag { weak, opaque: tag.to_owned() });
        let behind = behind.trim_start();
        if behind.is_empty() {
            return Some(Tags::Listed(tags));
        }
        rest = behind.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(lines: &[&str]) -> Result<IfMatch, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        read(&headers, &header::IF_MATCH, "If-Match").map(IfMatch).map_err(|problem| problem.code())
    }

    #[test]
    fn only_the_exact_strong_version_matches() {
        assert_eq!(etag(7), "\"7\"");
        let one = if_match(&["\"7\""]).unwrap();
        assert!(one.allows(Some(7)) && !one.allows(Some(8)) && !one.allows(None));
        let list = if_match(&["\"5\", \"a,b\" ,W/\"7\"", "\"9\""]).unwrap();
        assert!(list.allows(Some(5)) && list.allows(Some(9)) && !list.allows(Some(7)));
        for text in ["W/\"7\"", "\"07\"", "\" 7\"", "\"\""] {
            assert!(!if_match(&[text]).unwrap().allows(Some(7)), "{text}");
        }
        let any = if_match(&["*"]).unwrap();
        assert!(any.allows(Some(1)) && !any.allows(None));
    }

    #[test]
    fn absence_allows_unless_required_and_nonsense_is_refused() {
        let absent = if_match(&[]).unwrap();
        assert!(absent.allows(None) && absent.allows(Some(1)));
        assert_eq!(absent.required().unwrap_err().code(), "precondition_required");
        for text in ["7", "\"7", "w/\"7\"", "\"7\",", "\"7\" \"8\"", "", "*, \"7\""] {
            assert_eq!(if_match(&[text]), Err("invalid_precondition"), "{text}");
        }
        assert_eq!(if_match(&["*", "\"7\""]), Err("invalid_precondition"));
    }

    #[test]
    fn if_none_match_is_for_caches_and_for_creation() {
        let star = IfNoneMatch(parse("*").unwrap());
        assert!(star.allows(None) && !star.allows(Some(1)) && star.has(3));
        let seven = IfNoneMatch(parse("\"7\"").unwrap());
        assert!(seven.has(7) && !seven.has(8));
        let weak = IfNoneMatch(parse("W/\"7\"").unwrap());
        assert!(weak.has(7) && !weak.allows(Some(7)) && weak.allows(Some(8)));
        assert!(!IfNoneMatch::default().has(7) && IfNoneMatch::default().allows(Some(7)));
    }
}

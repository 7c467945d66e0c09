//! RFC 9457 problems: the one form in which the edge says no.
//!
//! `type` is always `about:blank`, so `title` is the status phrase; what a program switches on is `code`, which never
//! changes its meaning. A detail is written for the caller: no path, panic, cookie or secret may get into one.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::store::StoreError;

/// The media type of every problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// When to ask again for what found the disk full: it takes a person to make room.
const STORAGE_RETRY: std::time::Duration = std::time::Duration::from_secs(30);

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"nightporter\"");
const CHALLENGE_INVALID: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"nightporter\", error=\"invalid_token\"");

/// A refusal or failure on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    members: Map<String, Value>,
    headers: HeaderMap,
}

/// How a problem looks on the wire; for the API description only.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes what Problem::render writes")]
pub struct ProblemDocument {
    /// Always `about:blank`.
    #[schema(rename = "type", example = "about:blank")]
    r#type: String,
    /// The status phrase.
    #[schema(example = "Not Found")]
    title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// What happened, for a person.
    detail: String,
    /// A stable word that a program can switch on.
    #[schema(example = "not_found")]
    code: String,
    /// The same as the header `X-Request-Id`.
    request_id: String,
    /// The field, parameter or header that was refused, where there is one.
    field: Option<String>,
}

impl Problem {
    /// A problem with a stable snake_case `code` and a `detail` for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut headers = HeaderMap::new();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 demands a challenge with every 401, so it cannot be forgotten here.
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        Self(Box::new(Parts { status, code, detail: detail.into(), members: Map::new(), headers }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401 `unauthorized`: no credentials came.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 401 `invalid_token`: the credentials that came are not, or no longer, good.
    pub fn invalid_token(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", detail).header(header::WWW_AUTHENTICATE, CHALLENGE_INVALID)
    }

    /// 403: the credentials are good but do not allow this.
    pub fn forbidden(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 409: the request is at odds with the present state.
    pub fn conflict(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422: well-formed, but a value is not acceptable.
    pub fn unprocessable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 503 with `Retry-After` in whole seconds, at least one.
    pub fn unavailable(
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
        retry_after: std::time::Duration,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(retry_after)
    }

    /// 500 `internal_error`. Says nothing about the cause: log that where it is handled.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Something failed on our side. The request id finds it in the log.",
        )
    }

    /// 507 `storage_full` while the disk has no room, or 500. Tells the log what was being done.
    pub(super) fn store(error: &StoreError, doing: &str) -> Self {
        if error.is_full() {
            let detail = match error {
                StoreError::Full { .. } => {
                    "The disk is nearly full, so nothing new is stored; nothing was changed. Ask again later."
                }
                _ => "The disk is full. Whether anything was changed is seen when there is room: ask again later.",
            };
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", detail).retry_after(STORAGE_RETRY);
        }
        tracing::error!(%error, "{doing}: {error}");
        Self::internal()
    }

    /// The same problem with a header more; replaces one of that name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The same problem with `Retry-After`, rounded up to whole seconds, at least one.
    #[must_use]
    pub fn retry_after(self, span: std::time::Duration) -> Self {
        let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// The same problem after which the connection is closed.
    #[must_use]
    pub fn closing(self) -> Self {
        self.header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// The same problem with an extension member, such as the legal transitions of an illegal one. The seven standard
    /// names cannot be overwritten.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// The same problem naming the field, parameter or header at fault.
    #[must_use]
    pub fn field(self, name: impl Into<String>) -> Self {
        self.with("field", name.into())
    }

    /// The same problem under another status and code, where one reader's finding is another's refusal.
    #[must_use]
    pub(super) fn recoded(mut self, status: StatusCode, code: &'static str) -> Self {
        self.0.status = status;
        self.0.code = code;
        self
    }

    /// The status it will be answered with.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The word that a program switches on.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The answer for a request known as `request_id`.
    pub fn render(&self, request_id: Option<&str>) -> Response {
        let parts = &self.0;
        let mut document = parts.members.clone();
        document.insert("type".to_owned(), "about:blank".into());
        document.insert("title".to_owned(), parts.status.canonical_reason().unwrap_or("Error").into());
        document.insert("status".to_owned(), parts.status.as_u16().into());
        document.insert("detail".to_owned(), parts.detail.as_ref().into());
        document.insert("code".to_owned(), parts.code.into());
        if let Some(id) = request_id {
            document.insert("request_id".to_owned(), id.into());
        }
        let mut response = Response::new(Body::from(Value::Object(document).to_string()));
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers.clone();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    }
}

impl IntoResponse for Problem {
    /// Leaves the problem in the response's extensions, where the outermost layer finds it and writes it again with the
    /// request id.
    fn into_response(self) -> Response {
        let mut response = self.render(None);
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem that was kept as it was answered, without the id of any request. Left in a response's extensions, it is written
/// with the id of the one that it answers now.
#[derive(Clone, Debug)]
pub(super) struct Kept(pub(super) Map<String, Value>);

/// Writes a problem that a handler answered with again, now with the request id; keeps headers that layers in between
/// have added (`Allow`, `Cache-Control`). Other answers pass unchanged. Also tells the problem's code, for the log.
pub(super) fn finish(mut response: Response, request_id: &str) -> (Response, Option<&'static str>) {
    if let Some(Kept(mut document)) = response.extensions_mut().remove::<Kept>() {
        document.insert("request_id".to_owned(), request_id.into());
        *response.body_mut() = Body::from(Value::Object(document).to_string());
    }
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return (response, None) };
    let (parts, _) = response.into_parts();
    let mut rendered = problem.render(Some(request_id));
    for (name, value) in &parts.headers {
        if name != header::CONTENT_LENGTH && !rendered.headers().contains_key(name) {
            rendered.headers_mut().append(name, value.clone());
        }
    }
    (rendered, Some(problem.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_members_win_and_every_401_carries_a_challenge() {
        let problem = Problem::unauthorized("누구세요").with("code", "spoofed").with("legal", vec!["a"]);
        let response = problem.render(Some("r1"));
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], CHALLENGE);
        let body = futures_util::FutureExt::now_or_never(axum::body::to_bytes(response.into_body(), 4096));
        let document: Value = serde_json::from_slice(&body.unwrap().unwrap()).unwrap();
        assert_eq!(
            document,
            serde_json::json!({"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "누구세요",
                "code": "unauthorized", "request_id": "r1", "legal": ["a"]})
        );
        let challenge = Problem::invalid_token("expired").render(None).headers()[header::WWW_AUTHENTICATE].clone();
        assert_eq!(challenge, CHALLENGE_INVALID);
    }

    #[test]
    fn retry_after_rounds_up() {
        let value = |millis| {
            let problem = Problem::unavailable("no_live_session", "x", std::time::Duration::from_millis(millis));
            problem.render(None).headers()[header::RETRY_AFTER].clone()
        };
        assert_eq!(
            (value(0), value(1000), value(1001)),
            ("1".parse().unwrap(), "1".parse().unwrap(), "2".parse().unwrap())
        );
    }
}

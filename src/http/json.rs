//! JSON bodies, read strictly both ways: what is ambiguous or unknown is refused with the name of the field.
//!
//! Bodies are read twice: once for what serde lets pass (duplicate keys, depth), at any depth and also where the target
//! is free-form, and once into the target type. Error texts never repeat a value that the client sent, because values
//! may be secrets.

use std::collections::BTreeSet;
use std::fmt;

use axum::body::Body;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::body;
use super::problem::Problem;

/// Levels of arrays and objects that a body may nest; far more than any real one, far fewer than a stack holds.
pub const MAX_DEPTH: usize = 64;
/// Bytes that most answers fit into.
const USUAL: usize = 1024;

/// A JSON body in, or out.
///
/// In: always an object; `T` should `deny_unknown_fields`. 415 without `application/json` (PATCH also takes
/// `application/merge-patch+json`), 400 for what is not JSON, has a key twice or nests too deep, 422 for a field that
/// does not fit, each with the field's path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_media_type(request.method(), request.headers())?;
        let bytes = body::read(request).await?;
        parse(&bytes).map(Self)
    }
}

/// For routes whose body may be left out: `None` when none came, whatever its type would have been. Anything else is read
/// as strictly as ever.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, Problem> {
        let media_type = check_media_type(request.method(), request.headers());
        let bytes = body::read(request).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        media_type?;
        parse(&bytes).map(|value| Some(Self(value)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut bytes = Vec::with_capacity(USUAL);
        match serde_json::to_writer(&mut bytes, &self.0) {
            Ok(()) => {
                let mut response = Response::new(Body::from(bytes));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON: {error}");
                Problem::internal().into_response()
            }
        }
    }
}

/// Whether the body is said to be JSON; PATCH may also send a merge patch.
///
/// # Errors
/// 415 when it is not.
pub fn check_media_type(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let fine = match (types.next(), types.next()) {
        (Some(only), None) => only.to_str().is_ok_and(|text| is_json(text, method == Method::PATCH)),
        _ => false,
    };
    if fine {
        return Ok(());
    }
    let detail = "Send the body as application/json in UTF-8.";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

fn is_json(media_type: &str, patch: bool) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let known = essence.eq_ignore_ascii_case("application/json")
        || (patch && essence.eq_ignore_ascii_case("application/merge-patch+json"));
    known
        && parts.all(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

/// Reads a JSON object as strictly as [`Json`] does, for bodies that came another way.
///
/// # Errors
/// The problem to answer with.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::bad_request("empty_body", "This request needs a JSON body."));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| Problem::bad_request("invalid_json", "The body is not valid UTF-8."))?;
    check_shape(text)?;
    // Left to itself, serde reads an array into a struct by position.
    if !text.trim_start().starts_with('{') {
        return Err(Problem::unprocessable("invalid_field", "The body is not a JSON object."));
    }
    // Where it does not fit is of interest only then.
    serde_json::from_str(text).or_else(|_| {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            misfit(&path, &error.inner().to_string())
        })
    })
}

fn check_shape(text: &str) -> Result<(), Problem> {
    let (mut fault, mut path) = (None, String::new());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let walked = Walk { depth: 0, path: &mut path, fault: &mut fault }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    let Err(error) = walked else { return Ok(()) };
    Err(match fault {
        Some(Fault::Duplicate(path)) => {
            Problem::bad_request("duplicate_field", format!("The body names the field {path} twice.")).field(path)
        }
        Some(Fault::TooDeep) => {
            Problem::bad_request("invalid_json", format!("The body nests deeper than {MAX_DEPTH} levels."))
        }
        None if unreadable(&error).is_some() => {
            let detail = format!("{path} does not fit: {}.", unreadable(&error).unwrap_or_default());
            Problem::unprocessable("invalid_field", detail).field(path)
        }
        None => {
            let what = if error.classify() == Category::Eof { "ends too early" } else { "is not valid JSON" };
            let (line, column) = (error.line(), error.column());
            Problem::bad_request("invalid_json", format!("The body {what} at line {line}, column {column}."))
                .with("line", line)
                .with("column", column)
        }
    })
}

/// What JSON allows and no value here can hold, told by the reader's own words for it.
fn unreadable(error: &serde_json::Error) -> Option<&'static str> {
    let said = error.to_string();
    if said.starts_with("number out of range") {
        return Some("the number is beyond what 64-bit floating point holds; send it as a string");
    }
    let surrogate = ["lone leading surrogate", "unexpected end of hex escape"];
    surrogate.iter().any(|words| said.starts_with(words)).then_some("the text has half a surrogate pair")
}

/// Tells in which field a value does not fit, from serde's own words for it.
pub(super) fn misfit(path: &str, message: &str) -> Problem {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let quoted = |prefix: &str| message.strip_prefix(prefix)?.split_once('`').map(|(name, _)| name);
    let within = |name: &str| match path {
        "." => name.to_owned(),
        // For an unknown field serde's path may already end with it.
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    if let Some(name) = quoted("unknown field `") {
        let field = within(name);
        return Problem::unprocessable("unknown_field", format!("There is no field {field} here.")).field(field);
    }
    if let Some(name) = quoted("missing field `") {
        let field = within(name);
        return Problem::unprocessable("missing_field", format!("The field {field} is missing.")).field(field);
    }
    if let Some(name) = quoted("duplicate field `") {
        let field = within(name);
        return Problem::bad_request("duplicate_field", format!("The field {field} is there twice.")).field(field);
    }
    let field = if path == "." { "the body" } else { path };
    let problem = Problem::unprocessable("invalid_field", format!("{field} does not fit: {}.", without_value(message)));
    if path == "." { problem } else { problem.field(path) }
}

// "invalid type: string \"hunter2\", expected u32" becomes "expected u32, got string".
fn without_value(message: &str) -> String {
    let unexpected = ["invalid type: ", "invalid value: "].iter().find_map(|prefix| message.strip_prefix(prefix));
    if let Some((got, expected)) = unexpected.and_then(|rest| rest.rsplit_once(", expected ")) {
        let kind = got.split(" `").next().unwrap_or(got).split(" \"").next().unwrap_or(got);
        return format!("expected {expected}, got {kind}");
    }
    if let Some((_, expected)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "))
    {
        return format!("expected {expected}");
    }
    message.to_owned()
}

enum Fault {
    Duplicate(String),
    TooDeep,
}

/// Walks through a JSON text, building nothing.
struct Walk<'a> {
    depth: usize,
    path: &'a mut String,
    fault: &'a mut Option<Fault>,
}

impl Walk<'_> {
    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth == MAX_DEPTH {
            *self.fault = Some(Fault::TooDeep);
            return Err(E::custom("too deep"));
        }
        Ok(())
    }

    fn below(&mut self) -> Walk<'_> {
        Walk { depth: self.depth + 1, path: self.path, fault: self.fault }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.enter()?;
        let outer = self.path.len();
        for index in 0_usize.. {
            self.path.push_str(&format!("[{index}]"));
            let more = seq.next_element_seed(self.below())?;
            self.path.truncate(outer);
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.enter()?;
        let outer = self.path.len();
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if outer > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if !seen.insert(key) {
                *self.fault = Some(Fault::Duplicate(self.path.clone()));
                return Err(A::Error::custom("duplicate"));
            }
            map.next_value_seed(self.below())?;
            self.path.truncate(outer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[expect(dead_code, reason = "only its type matters")]
        lines: Vec<Line>,
        #[serde(default)]
        #[expect(dead_code, reason = "only its type matters")]
        free: Value,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[expect(dead_code, reason = "only its type matters")]
        count: u32,
        #[serde(default)]
        #[expect(dead_code, reason = "only its type matters")]
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Rice,
        Kimchi,
        Tea,
    }

    fn refusal(text: &str) -> (u16, Value) {
        let problem = parse::<Order>(text.as_bytes()).unwrap_err();
        let body = problem.render(None).into_body();
        let bytes = futures_util::FutureExt::now_or_never(axum::body::to_bytes(body, 65536)).unwrap().unwrap();
        (problem.status().as_u16(), serde_json::from_slice(&bytes).unwrap())
    }

    fn code_and_field(text: &str) -> (u16, String, Value) {
        let (status, document) = refusal(text);
        (status, document["code"].as_str().unwrap().to_owned(), document["field"].clone())
    }

    #[test]
    fn each_misfit_names_its_field() {
        let cases = [
            (r#"{"lines":[],"extra":1}"#, 422, "unknown_field", json!("extra")),
            (r#"{"lines":[{"count":1,"Count":2}]}"#, 422, "unknown_field", json!("lines[0].Count")),
            (r#"{"lines":[{"count":1},{}]}"#, 422, "missing_field", json!("lines[1].count")),
            (r#"{"free":{}}"#, 422, "missing_field", json!("lines")),
            (r#"{"lines":[{"count":"one"}]}"#, 422, "invalid_field", json!("lines[0].count")),
            (r#"{"lines":[{"count":-1}]}"#, 422, "invalid_field", json!("lines[0].count")),
            (r#"{"lines":7}"#, 422, "invalid_field", json!("lines")),
            (r#" [[]]"#, 422, "invalid_field", json!(null)),
            (r#""text""#, 422, "invalid_field", json!(null)),
            (r#"{"lines":[],"lines":[]}"#, 400, "duplicate_field", json!("lines")),
            (r#"{"lines":[],"free":{"a":[{"b":1,"\u0062":2}]}}"#, 400, "duplicate_field", json!("free.a[0].b")),
        ];
        for (text, status, code, field) in cases {
            assert_eq!(code_and_field(text), (status, code.to_owned(), field), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for text in ["{", "{} {}", "{\"a\":1,}", "\u{feff}{}", "NaN", "{'a':1}", "01"] {
            assert_eq!(code_and_field(text).1, "invalid_json", "{text}");
        }
        assert_eq!(refusal("{\n  \"a\" 1}").1["line"], 2);
        assert_eq!(code_and_field("").1, "empty_body");
        assert_eq!(parse::<Value>(b"\"\xff\"").unwrap_err().code(), "invalid_json");
    }

    #[test]
    fn depth_is_limited_and_korean_passes() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(parse::<Value>(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse::<Value>(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().code(), "invalid_json");
        assert_eq!(parse::<Value>(nested(100_000).as_bytes()).unwrap_err().code(), "invalid_json");
        assert_eq!(parse::<Value>(r#"{"이름":"홍길동"}"#.as_bytes()).unwrap(), json!({"이름": "홍길동"}));
    }

    #[test]
    fn a_refusal_repeats_no_value() {
        for text in [
            r#"{"lines":[{"count":"hunter2, expected"}]}"#,
            r#"{"lines":"hunter2"}"#,
            r#"{"lines":[{"count":1,"kind":"hunter2"}]}"#,
        ] {
            let (_, document) = refusal(text);
            assert!(!document.to_string().contains("hunter2"), "{document}");
        }
        assert_eq!(
            refusal(r#"{"lines":[{"count":1,"kind":"x"}]}"#).1["detail"],
            "lines[0].kind does not fit: expected one of `rice`, `kimchi`, `tea`."
        );
        let _ = (Kind::Rice, Kind::Kimchi, Kind::Tea);
    }

    #[test]
    fn media_types_are_read_with_their_parameters() {
        assert!(is_json("application/json", false) && is_json("Application/JSON; charset=\"UTF-8\"", false));
        assert!(is_json("application/merge-patch+json", true) && !is_json("application/merge-patch+json", false));
        assert!(!is_json("application/json; charset=euc-kr", false) && !is_json("text/json", false));
        assert!(!is_json("application/jsonp", false) && !is_json("", false));
    }
}

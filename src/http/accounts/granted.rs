//! What a login gives, in the body for programs and as cookies for browsers.
//!
//! A browser keeps the access token in `__Host-nightporter`, which no other host and no path can overwrite, and what refreshes
//! it in a cookie that goes to the routes below `/api/auth` alone. Scripts of a page see neither.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::Grant;
use crate::http::json::Json;

/// The cookie with the access token.
const ACCESS: &str = "__Host-nightporter";
const ACCESS_RULES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";
/// The cookie with the refresh token.
const REFRESH: &str = "__Secure-nightporter-refresh";
const REFRESH_RULES: &str = "Path=/api/auth; Secure; HttpOnly; SameSite=Strict";

/// What a login gives.
#[derive(Serialize, ToSchema)]
pub(super) struct Granted {
    access_token: String,
    #[schema(value_type = String, example = "Bearer")]
    token_type: &'static str,
    /// Seconds that the access token is good.
    expires_in: u64,
    refresh_token: String,
    session_id: String,
}

/// The answer to whoever has logged in, or refreshed.
pub(super) fn granted(grant: &Grant) -> Response {
    let view = Granted {
        access_token: grant.access.expose().to_owned(),
        token_type: "Bearer",
        expires_in: grant.expires_in.as_secs(),
        refresh_token: grant.refresh.expose().to_owned(),
        session_id: grant.session.to_string(),
    };
    let access = format!("{ACCESS}={}; {ACCESS_RULES}; Max-Age={}", view.access_token, view.expires_in);
    let refresh_for = grant.session_left.as_secs();
    let refresh = format!("{REFRESH}={}; {REFRESH_RULES}; Max-Age={refresh_for}", view.refresh_token);
    set(Json(view).into_response(), [access, refresh])
}

/// The same answer, after which a browser has no tokens of ours.
pub(super) fn forgotten(response: Response) -> Response {
    let access = format!("{ACCESS}=; {ACCESS_RULES}; Max-Age=0");
    set(response, [access, format!("{REFRESH}=; {REFRESH_RULES}; Max-Age=0")])
}

fn set(mut response: Response, cookies: [String; 2]) -> Response {
    for cookie in cookies {
        if let Ok(value) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    response
}

/// The access token among the cookies.
pub(super) fn access_cookie(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, ACCESS)
}

/// The refresh token among the cookies.
pub(super) fn refresh_cookie(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, REFRESH)
}

/// The value of the one cookie of that name. Two of a name, which no browser sends of these, are none.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim_matches(' ').split_once('='));
    let mut found = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
    found.next().filter(|value| found.next().is_none() && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_taken_when_it_is_there_once() {
        let found = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            access_cookie(&headers).map(str::to_owned)
        };
        assert_eq!(found(&["a=1; __Host-nightporter=x.y.z; b=2"]).as_deref(), Some("x.y.z"));
        assert_eq!(found(&["a=1", "__Host-nightporter=x"]).as_deref(), Some("x"));
        assert_eq!(found(&["__Host-nightporter=x; __Host-nightporter=y"]), None);
        assert_eq!(found(&["__Host-nightporter=x", "__Host-nightporter=x"]), None);
        assert_eq!(found(&["__host-nightporter=x; __Host-nightporter2=x; __Host-nightporter="]), None);
    }
}

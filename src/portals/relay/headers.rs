//! What crosses over in headers, and what stays on its side: credentials, what belongs to one connection, and what would
//! speak for an origin that is not its own.

use hyper::Method;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::Call;
use crate::portals::portal::Portal;

/// Other upgrades may be ignored (RFC 9110, 7.8), and must be: some clients offer `h2c` with every request.
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// The caller's headers as the portal may see them.
pub(super) fn request_headers(portal: &Portal, call: &Call) -> HeaderMap {
    let mut headers = call.headers.clone();
    strip_hop_by_hop(&mut headers);
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, HOST, FORWARDED, CONTENT_LENGTH, EXPECT, ORIGIN] {
        headers.remove(name);
    }
    if call.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0") {
        // A body sets its own length; where there is none nothing does, and some servers refuse a POST without one.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let ours = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-session-") || name.starts_with("x-forwarded-") || name == "x-park-timeout"
    };
    let names: Vec<_> = headers.keys().filter(|name| ours(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    let origin = portal.recipe().base_url.origin().ascii_serialization();
    if let Ok(referer) = HeaderValue::try_from(format!("{origin}/")) {
        headers.insert(REFERER, referer);
    }
    if !matches!(call.method, Method::GET | Method::HEAD)
        && let Ok(origin) = HeaderValue::try_from(origin)
    {
        headers.insert(ORIGIN, origin);
    }
    if portal.recipe().check.expiry_needs_body() {
        // The expiry shows in the body, and a compressed one cannot be read on the way.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers
}

/// Removes what belongs to one connection only (RFC 9110, 7.6.1).
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<_> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in [CONNECTION, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, x-mine"), ("x-mine", "1"), ("keep-alive", "5"), ("te", "trailers"), ("x-kept", "1")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-kept"]);
    }
}

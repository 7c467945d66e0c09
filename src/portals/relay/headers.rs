//! What crosses over in headers, and what stays on its side: credentials, what belongs to one connection, and what would
//! speak for an origin that is not its own.

use hyper::Method;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER, UPGRADE,
};

use super::Call;
use crate::portals::portal::Portal;

/// Other upgrades may be ignored (RFC 9110, 7.8), and must be: some clients offer `h2c` with every request.
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Ends with a dash: all names that begin so.
type Names = &'static [&'static str];

/// What says who the caller is or where it stands, or is meant for this relay.
const CALLER_ONLY: Names = &[
    "authorization",
    "cf-connecting-ip",
    "client-ip",
    "cookie",
    "cookie2",
    "expect",
    "fastly-client-ip",
    "forwarded",
    "host",
    "origin",
    "proxy-",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded-",
    "x-original-forwarded-for",
    "x-park-timeout",
    "x-real-ip",
    "x-session-",
];

/// What speaks for the origin that sent it: its cookies, and rules and promises that a browser would keep for ours.
/// `WWW-Authenticate` and `Location` stay, because a caller needs them to understand the answer.
const PORTAL_ONLY: Names = &[
    "access-control-",
    "alt-svc",
    "authentication-info",
    "clear-site-data",
    "expect-ct",
    "nel",
    "origin-agent-cluster",
    "proxy-",
    "public-key-pins",
    "public-key-pins-report-only",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "x-session-",
];

/// What belongs to one connection (RFC 9110, 7.6.1), beside what `Connection` names.
const ONE_CONNECTION: Names =
    &["connection", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// The caller's headers as the portal may see them.
pub(super) fn request_headers(portal: &Portal, call: &Call) -> HeaderMap {
    let mut headers = call.headers.clone();
    strip_hop_by_hop(&mut headers);
    remove(&mut headers, CALLER_ONLY);
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

/// Takes off an answer's headers what is not for the caller.
pub(super) fn answer_headers(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove(headers, PORTAL_ONLY);
}

fn remove(headers: &mut HeaderMap, names: Names) {
    let gone = |name: &HeaderName| {
        let is = |known: &&str| if known.ends_with('-') { name.as_str().starts_with(known) } else { name == known };
        names.iter().any(is)
    };
    let gone: Vec<_> = headers.keys().filter(|name| gone(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Removes what belongs to one connection only. The length of a body does not, whatever `Connection` says.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<_> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(|name| name != CONTENT_LENGTH)
        .collect();
    for name in listed {
        headers.remove(name);
    }
    remove(headers, ONE_CONNECTION);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(names: &[(&'static str, &'static str)]) -> HeaderMap {
        names.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn hop_by_hop_headers_stay_behind() {
        let mut headers = map(&[
            ("connection", "close, x-mine, content-length"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("content-length", "3"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["content-length", "x-kept"]);
    }

    #[test]
    fn what_speaks_for_the_portal_s_origin_does_not_speak_for_ours() {
        let kept = [("www-authenticate", "Basic"), ("location", "/x"), ("content-security-policy", "x"), ("x-a", "1")];
        let mut headers = map(&kept);
        let gone =
            ["set-cookie", "set-cookie2", "clear-site-data", "access-control-allow-origin", "proxy-status", "nel"];
        headers.extend(map(&gone.map(|name| (name, "1"))));
        answer_headers(&mut headers);
        assert_eq!(headers, map(&kept));
    }
}

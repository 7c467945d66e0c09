//! Judges one request head, byte for byte, before hyper sees it.
//!
//! hyper quietly repairs what a strict server must refuse: it drops a second equal Content-Length, and drops
//! Content-Length beside Transfer-Encoding. Both are how requests are smuggled past a proxy that reads them the other
//! way. The parser here is httparse, the very one that hyper uses, so that the two cannot read a head differently. A
//! head is refused or passed on unchanged; nothing here mends one.

use std::mem::MaybeUninit;

use axum::http::uri::{Authority, Uri};
use axum::http::{Method, StatusCode};

use super::limits::MAX_HEADERS;
use super::problem::Problem;
use super::request_id;

/// How the body behind a head is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes, zero for no body at all.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Why a request is answered before any route sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
    /// The client's own request id, where the head could be read that far.
    pub(super) request_id: Option<String>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { status, code, detail, request_id: None }
    }

    /// What the client is told; the connection cannot be trusted any further.
    pub(super) fn problem(&self) -> Problem {
        Problem::new(self.status, self.code, self.detail).closing()
    }
}

/// 400 for a head that is no HTTP.
pub(super) const fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "malformed_request", detail)
}

const fn framing_refused(detail: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "ambiguous_length", detail)
}

/// Reads a complete head, empty line included.
pub(super) fn judge(head: &[u8]) -> Result<Framing, Refusal> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(malformed("The request head does not end where it should.")),
        Err(httparse::Error::TooManyHeaders) => return Err(too_large("The request has more than 100 headers.")),
        Err(httparse::Error::Version) => {
            return Err(Refusal::new(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "version_not_supported",
                "This server speaks HTTP/1.1.",
            ));
        }
        Err(_) => return Err(malformed("The request head is not valid HTTP/1.1.")),
    }
    check(head, &request).map_err(|refusal| Refusal {
        request_id: only(request.headers, "x-request-id").and_then(request_id::valid).map(str::to_owned),
        ..refusal
    })
}

/// 431 for a head beyond the limits.
pub(super) const fn too_large(detail: &'static str) -> Refusal {
    Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail)
}

fn check(head: &[u8], request: &httparse::Request<'_, '_>) -> Result<Framing, Refusal> {
    let bare = |at: usize| at == 0 || head[at - 1] != b'\r';
    if memchr::memchr_iter(b'\n', head).any(bare) {
        return Err(malformed("Every line of a request head ends with CR LF."));
    }
    let old = request.version == Some(0);
    check_target(request.method.unwrap_or_default(), request.path.unwrap_or_default())?;
    check_host(request.headers, old)?;
    framing(request.headers, old)
}

fn check_target(method: &str, target: &str) -> Result<(), Refusal> {
    let refused = |detail| Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_target", detail));
    let Ok(uri) = target.parse::<Uri>() else { return refused("The request target is not a valid URI.") };
    if method == Method::CONNECT.as_str() || target == "*" {
        return refused("This server is no proxy: name a path.");
    }
    let absolute = uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
    if !target.starts_with('/') && !absolute {
        return refused("The request target is neither a path nor an http URL.");
    }
    if target.contains('#') {
        return refused("A request target has no fragment.");
    }
    Ok(())
}

fn check_host(headers: &[httparse::Header<'_>], old: bool) -> Result<(), Refusal> {
    let refused = |detail| Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_host", detail));
    let mut hosts = values(headers, "host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => refused("The request has more than one Host header."),
        // HTTP/1.0 did not know the header; health checks of proxies still speak it.
        (None, _) if old => Ok(()),
        (None, _) => refused("The request has no Host header."),
        (Some(host), _) => match Authority::try_from(host) {
            Ok(authority) if !authority.as_str().contains('@') => Ok(()),
            _ => refused("The Host header is not a host."),
        },
    }
}

fn framing(headers: &[httparse::Header<'_>], old: bool) -> Result<Framing, Refusal> {
    let mut lengths = values(headers, "content-length");
    let mut codings = values(headers, "transfer-encoding");
    match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, _, None, _) => Ok(Framing::Length(0)),
        (_, Some(_), ..) => Err(framing_refused("The request has more than one Content-Length.")),
        (Some(_), _, Some(_), _) => Err(framing_refused("The request has both Content-Length and Transfer-Encoding.")),
        (.., Some(_)) => Err(framing_refused("The request has more than one Transfer-Encoding.")),
        (Some(length), None, None, None) => {
            // Rust's own number parser would take a leading plus.
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number = digits.then(|| std::str::from_utf8(length).ok()?.parse().ok()).flatten();
            number.map(Framing::Length).ok_or(framing_refused("The Content-Length is not a number."))
        }
        (None, None, Some(_), None) if old => Err(framing_refused("HTTP/1.0 has no Transfer-Encoding.")),
        (None, None, Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, None, Some(_), None) => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "unsupported_transfer_encoding",
            "The only transfer encoding here is chunked.",
        )),
    }
}

fn values<'a>(headers: &'a [httparse::Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn only<'a>(headers: &'a [httparse::Header<'a>], name: &'static str) -> Option<&'a [u8]> {
    let mut all = values(headers, name);
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(head: &str) -> Result<Framing, &'static str> {
        judge(head.as_bytes()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn sound_heads_pass_with_their_framing() {
        assert_eq!(code("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(code("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(code("GET http://a.example/x?y HTTP/1.1\r\nHost: a.example:80\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(code("POST / HTTP/1.1\r\nHost: [::1]:80\r\ncontent-LENGTH: 12\r\n\r\n"), Ok(Framing::Length(12)));
        assert_eq!(code("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"), Ok(Framing::Chunked));
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        for lines in [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(
                code(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")),
                Err("ambiguous_length"),
                "{lines}"
            );
        }
        assert_eq!(code("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err("ambiguous_length"));
        assert_eq!(
            code("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            Err("unsupported_transfer_encoding")
        );
    }

    #[test]
    fn hosts_and_targets_are_read_strictly() {
        for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a, b\r\n", "Host: u@a\r\n", "Host:\r\n", "Host: a/b\r\n"] {
            assert_eq!(code(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")), Err("invalid_host"), "{hosts}");
        }
        assert_eq!(code("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), Err("invalid_host"));
        for line in ["OPTIONS *", "CONNECT a:443", "GET a:80", "GET ftp://a/", "GET /a#b", "GET a"] {
            assert_eq!(code(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")), Err("invalid_target"), "{line}");
        }
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET /\r\n\r\n",
        ] {
            assert_eq!(code(head), Err("malformed_request"), "{head:?}");
        }
        assert_eq!(code("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Err("version_not_supported"));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(100));
        assert_eq!(code(&many), Err("headers_too_large"));
    }
}

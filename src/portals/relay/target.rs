//! Where a relayed request goes: the portal's origin with the caller's path and query, and nowhere else. Nothing here
//! decodes, resolves or mends a path.

use hyper::Uri;
use url::Url;

use super::RelayError;

/// Puts the caller's path and query behind the portal's origin, byte for byte, and nowhere else.
pub(super) fn target(base: &Url, path_and_query: &str) -> Result<Uri, RelayError> {
    let invalid = || RelayError::Invalid("the path must begin with a slash and stay on the portal".to_owned());
    // Never parsed as a reference: "//evil", "/@evil" and "/..;" are paths on the portal here.
    if !path_and_query.starts_with('/') || path_and_query.contains(['\\', '#']) {
        return Err(invalid());
    }
    let authority = &base[url::Position::BeforeHost..url::Position::AfterPort];
    let uri = Uri::builder().scheme(base.scheme()).authority(authority).path_and_query(path_and_query);
    uri.build().map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_portal() {
        let base = Url::parse("https://acme.example").unwrap();
        for (path, wanted) in [
            ("/api/orders?x=1%2F&y=%EA%B0%80", "https://acme.example/api/orders?x=1%2F&y=%EA%B0%80"),
            ("/a/../b", "https://acme.example/a/../b"),
            ("//evil.example/x", "https://acme.example//evil.example/x"),
            ("/@evil.example", "https://acme.example/@evil.example"),
            ("/https://evil.example/", "https://acme.example/https://evil.example/"),
            ("/a?u=http://evil.example", "https://acme.example/a?u=http://evil.example"),
            ("/a%2e%2e/b%00", "https://acme.example/a%2e%2e/b%00"),
        ] {
            assert_eq!(target(&base, path).unwrap().to_string(), wanted, "{path}");
        }
        for path in ["", "evil.example", "http://evil.example/", "/\\evil.example", "?x", "/a#b"] {
            assert!(target(&base, path).is_err(), "{path}");
        }
    }
}

//! Addresses: which a page may load, and how much of one may be shown.

use url::Url;

/// The origin of `url` in ASCII (`https://acme.example`), if it is a URL at all.
pub(super) fn origin_of(url: &str) -> Option<String> {
    Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
}

/// `url` up to its query or fragment, which may hold tokens.
pub(super) fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Whether a page that is kept to the origins `allowed` may load `url`. What is inside the page itself it always may.
pub(super) fn permits(allowed: &[String], url: &str) -> bool {
    // Compared as origins, so that `https://acme.example.evil.example` gains nothing by its beginning.
    Url::parse(url).is_ok_and(|url| match url.scheme() {
        "data" | "blob" | "about" => true,
        _ => allowed.contains(&url.origin().ascii_serialization()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_as_a_whole_or_not_at_all() {
        let allowed = ["https://acme.example".to_owned()];
        assert!(permits(&allowed, "https://acme.example/login?x=1"));
        assert!(permits(&allowed, "https://acme.example:443/"));
        assert!(permits(&allowed, "data:text/plain,x"));
        for other in [
            "http://acme.example/",
            "https://acme.example.evil.example/",
            "https://acme.example@evil.example/",
            "https://acme.example:8443/",
            "file:///etc/passwd",
            "nonsense",
        ] {
            assert!(!permits(&allowed, other), "{other}");
        }
    }
}

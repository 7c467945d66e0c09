//! Domain-bound codes: a line that names the site and the code, `@acme.example #123456`.
//!
//! The format is WICG's "origin-bound one-time codes". The point of it is that a code for one site is never given to
//! another; so a line for a foreign site condemns the whole message. WICG calls a site ours that has the same registrable
//! domain. Which names are sold by whom changes weekly and is not known here; so ours is what lies above or below the
//! portal's own host, which never leads to another's, and not what lies beside it. WICG wants it to be the last line. Forwarders append
//! lines of their own or make one line of all, so it counts wherever it stands.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use url::Host;

use super::MAX_CODE;

/// A code bound to a site.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Where the code stands.
    pub(super) place: Range<usize>,
    /// Whom it is for.
    pub(super) site: Site,
}

/// Whom a code is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Site {
    Ours,
    Other,
}

// A host name has labels with a dot between them, so that `@com` binds nothing. Compiled once; the tests compile it as well.
#[expect(clippy::expect_used, reason = "constant pattern")]
static LINE: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?m)(?:^| )@((?:[\pL\pN-]+\.)+[\pL\pN-]+) +#([0-9A-Za-z]+)(?:[ .,]|$)";
    Regex::new(pattern).expect("a constant pattern")
});

/// The codes that are bound in a text, for the portal at `host`.
pub(super) fn codes(text: &str, host: &str) -> Vec<Bound> {
    let bound = LINE.captures_iter(text).filter_map(|found| {
        let (site, code) = (found.get(1)?.as_str(), found.get(2)?);
        let site = if kin(site, host) { Site::Ours } else { Site::Other };
        (code.len() <= MAX_CODE).then(|| Bound { place: code.range(), site })
    });
    bound.collect()
}

/// Whether one of `site` and `host` is the other or below it. Both as a browser would write them: lowercase, Korean names in
/// Punycode. Nothing is below a host without a dot: that may be everybody's.
fn kin(site: &str, host: &str) -> bool {
    let ascii = |name: &str| Host::parse(name.trim_end_matches('.')).map(|host| host.to_string());
    let (Ok(site), Ok(host)) = (ascii(site), ascii(host)) else { return false };
    let within =
        |low: &str, high: &str| low.strip_suffix(high).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    within(&host, &site) || (host.contains('.') && within(&site, &host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(text: &str) -> Vec<Site> {
        let codes = codes(text, "login.acme.example");
        assert!(codes.iter().all(|code| &text[code.place.clone()] == "747723"), "{text}: {codes:?}");
        codes.into_iter().map(|code| code.site).collect()
    }

    #[test]
    fn a_code_is_for_the_site_and_what_lies_above_or_below_it() {
        for line in [
            "@login.acme.example #747723",
            "@acme.example #747723",
            "@ACME.example #747723 %frame.example",
            "@www.login.acme.example #747723",
        ] {
            assert_eq!(sites(line), [Site::Ours], "{line}");
        }
        // Neither a host beside ours, nor one that merely ends or begins alike.
        for line in [
            "@shop.acme.example #747723",
            "@me.example #747723",
            "@evil.example #747723",
            "@mylogin.acme.example #747723",
            "@login.acme.example.evil.example #747723",
        ] {
            assert_eq!(sites(line), [Site::Other], "{line}");
        }
        for line in ["@example #747723", "@acme.example 747723", "acme.example #747723", "@acme.example #", "@a..b #1"]
        {
            assert_eq!(sites(line), [], "{line}");
        }
        assert_eq!(codes("@www.acme.example #1", "acme.example")[0].site, Site::Ours);
        assert_eq!(codes("@www.localhost #1", "localhost")[0].site, Site::Other);
        assert_eq!(codes("@부릉.example #1", "xn--ox2bn6e.example")[0].site, Site::Ours);
    }

    #[test]
    fn it_counts_wherever_it_stands() {
        for text in ["코드 안내\n\n@acme.example #747723\nSIM 1, 2025-11-20", "코드 안내 @acme.example #747723 SIM 1"]
        {
            assert_eq!(sites(text), [Site::Ours], "{text}");
        }
    }
}

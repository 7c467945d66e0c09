//! Domain-bound codes: a last line that names the site and the code, `@acme.example #123456`.
//!
//! The format is WICG's "origin-bound one-time codes". The point of it is that a code for one site is never given to
//! another; so a line for a foreign site condemns the whole message.

use super::MAX_CODE;

/// What the last line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The code, for our site.
    Code(String),
    /// A code, for another site.
    Elsewhere,
    /// Nothing of the kind, or there is no host to compare with.
    No,
}

/// Reads the last line for the portal at `host`.
pub(super) fn read(text: &str, host: Option<&str>) -> Bound {
    let (Some(host), Some(line)) = (host, text.lines().last()) else { return Bound::No };
    let mut fields = line.split_whitespace();
    let site = fields.next().and_then(|field| field.strip_prefix('@'));
    let code = fields.next().and_then(|field| field.strip_prefix('#'));
    let (Some(site), Some(code)) = (site, code) else { return Bound::No };
    let wellformed = (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    match wellformed && is_site(site) {
        false => Bound::No,
        true if covers(site, host) => Bound::Code(code.to_owned()),
        true => Bound::Elsewhere,
    }
}

/// Whether this can be a host name: labels with a dot between them, so that `@com` binds nothing.
fn is_site(site: &str) -> bool {
    let label = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '-');
    site.contains('.') && site.split('.').all(label)
}

/// Whether `host` is `site` or below it.
fn covers(site: &str, host: &str) -> bool {
    let (site, host) = (site.to_lowercase(), host.trim_end_matches('.').to_lowercase());
    host.strip_suffix(&site).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_for_the_site_and_what_lies_below_it() {
        let read = |line: &str| super::read(&format!("코드 안내\n\n{line}"), Some("login.acme.example"));
        let code = || Bound::Code("747723".to_owned());
        assert_eq!(read("@login.acme.example #747723"), code());
        assert_eq!(read("@acme.example #747723"), code());
        assert_eq!(read("@ACME.example #747723 %frame.example"), code());
        assert_eq!(read("@www.login.acme.example #747723"), Bound::Elsewhere);
        assert_eq!(read("@me.example #747723"), Bound::Elsewhere, "no label boundary");
        assert_eq!(read("@evil.example #747723"), Bound::Elsewhere);
        for line in ["@example #747723", "@acme.example 747723", "acme.example #747723", "@acme.example #", "@a..b #1"]
        {
            assert_eq!(read(line), Bound::No, "{line}");
        }
        assert_eq!(super::read("@acme.example #747723", None), Bound::No);
    }

    #[test]
    fn only_the_last_line_binds() {
        assert_eq!(super::read("@acme.example #747723\nmore", Some("acme.example")), Bound::No);
    }
}

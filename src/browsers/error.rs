//! What can go wrong with a browser, told so that a caller can decide: whose fault it is ([`BrowserError::kind`]) and what
//! to say to the operator. No variant carries page text, cookies or typed values.

use std::fmt;
use std::time::Duration;

/// Why a browser, a context or a page did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrowserError {
    /// There is no browser to start.
    #[error("no browser found (tried {tried}); install one with `apt install chromium` or set browser.binary")]
    NotInstalled {
        /// The paths looked at, separated by commas.
        tried: String,
    },
    /// Chromium refuses to run because its sandbox cannot work here.
    #[error(
        "Chromium's sandbox cannot work here: {detail}; allow unprivileged user namespaces for this service, or, knowing \
         that pages are then no longer contained, set browser.sandbox = false"
    )]
    Sandbox {
        /// What Chromium said.
        detail: String,
    },
    /// The process could not be started, or ended before it was ready.
    #[error("the browser does not start: {reason}")]
    Launch {
        /// What the operating system or Chromium said.
        reason: String,
    },
    /// The process has died; its contexts and pages are gone with it.
    #[error("the browser process is gone")]
    Gone,
    /// The browser did not answer a call in time.
    #[error("the browser did not answer {call} within {limit:?}")]
    Hung {
        /// The CDP method.
        call: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The page's renderer crashed; a new page in the same context works.
    #[error("the page crashed")]
    Crashed,
    /// The page's renderer did not answer for seconds and was ended; a new page in the same context works.
    #[error("the page does not answer any more: a script in it never ends")]
    Unresponsive,
    /// The page is closed.
    #[error("the page is closed")]
    Closed,
    /// The main document could not be loaded.
    #[error("{url} could not be loaded: {cause}")]
    Navigation {
        /// The address without query and fragment, which may hold tokens.
        url: String,
        /// What the network said.
        cause: NetCause,
    },
    /// Nothing on the page matched in time.
    #[error("nothing on the page matches {selector:?}")]
    NotFound {
        /// The selector, or the selectors separated by commas.
        selector: String,
    },
    /// Something matched but a person could not have used it.
    #[error("{selector:?} is on the page but cannot be used: {why}")]
    NotUsable {
        /// The selector.
        selector: String,
        /// `hidden`, `disabled`, `moving`, `read-only`, or what covers it.
        why: String,
    },
    /// A `<select>` has no such option.
    #[error("{selector:?} has no option {option:?}")]
    NoOption {
        /// The selector of the list.
        selector: String,
        /// The value or label asked for.
        option: String,
    },
    /// The address never matched.
    #[error("the page's address did not become {pattern:?}")]
    UrlMismatch {
        /// The pattern asked for.
        pattern: String,
    },
    /// The selector is not CSS.
    #[error("{selector:?} is not a valid CSS selector")]
    InvalidSelector {
        /// The selector.
        selector: String,
    },
    /// The browser refused a call, or answered what nobody expects.
    #[error("{call}: {detail}")]
    Protocol {
        /// The CDP method.
        call: &'static str,
        /// The browser's words.
        detail: String,
    },
}

/// Whose fault an error is, which decides what the keeper does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The portal cannot be reached: wait, spend nothing.
    PortalDown,
    /// The page is not what the recipe expects: a person must look.
    PageChanged,
    /// Our browser failed: try again in a fresh one.
    BrowserFailed,
}

impl BrowserError {
    /// Whose fault this is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Navigation { cause: NetCause::NotAllowed | NetCause::Aborted, .. }
            | Self::NotFound { .. }
            | Self::NotUsable { .. }
            | Self::NoOption { .. }
            | Self::UrlMismatch { .. }
            | Self::InvalidSelector { .. } => Kind::PageChanged,
            Self::Navigation { .. } => Kind::PortalDown,
            Self::NotInstalled { .. }
            | Self::Sandbox { .. }
            | Self::Launch { .. }
            | Self::Gone
            | Self::Hung { .. }
            | Self::Crashed
            | Self::Unresponsive
            | Self::Closed
            | Self::Protocol { .. } => Kind::BrowserFailed,
        }
    }
}

/// Why a document could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetCause {
    /// Nobody listens there.
    Refused,
    /// The name does not resolve.
    Dns,
    /// No answer in time.
    TimedOut,
    /// The certificate or the TLS handshake is bad.
    Tls,
    /// The address is outside the origins that the page was opened for.
    NotAllowed,
    /// The answer was no document: a download, an empty answer, or another navigation came in between.
    Aborted,
    /// Any other network error, by Chromium's name for it.
    Other(String),
}

impl NetCause {
    /// Reads Chromium's `net::ERR_…`.
    pub(super) fn from_chromium(text: &str) -> Self {
        let name = text.trim_start_matches("net::ERR_");
        match name {
            "CONNECTION_REFUSED" => Self::Refused,
            "NAME_NOT_RESOLVED" | "NAME_RESOLUTION_FAILED" | "DNS_TIMED_OUT" => Self::Dns,
            "TIMED_OUT" | "CONNECTION_TIMED_OUT" => Self::TimedOut,
            "BLOCKED_BY_CLIENT" => Self::NotAllowed,
            "ABORTED" => Self::Aborted,
            _ if name.starts_with("CERT_") || name.starts_with("SSL_") => Self::Tls,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for NetCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Dns => "the name does not resolve",
            Self::TimedOut => "no answer in time",
            Self::Tls => "the TLS connection is not trustworthy",
            Self::NotAllowed => "outside the allowed origins",
            Self::Aborted => "the answer is no document",
            Self::Other(text) => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_portal_a_changed_page_and_a_broken_browser_are_told_apart() {
        let navigation = |text| {
            BrowserError::Navigation { url: "https://a.example/".into(), cause: NetCause::from_chromium(text) }.kind()
        };
        assert_eq!(navigation("net::ERR_CONNECTION_REFUSED"), Kind::PortalDown);
        assert_eq!(navigation("net::ERR_CERT_DATE_INVALID"), Kind::PortalDown);
        assert_eq!(navigation("net::ERR_EMPTY_RESPONSE"), Kind::PortalDown);
        assert_eq!(navigation("net::ERR_BLOCKED_BY_CLIENT"), Kind::PageChanged);
        assert_eq!(BrowserError::NotFound { selector: "#go".into() }.kind(), Kind::PageChanged);
        assert_eq!(BrowserError::Crashed.kind(), Kind::BrowserFailed);
    }
}

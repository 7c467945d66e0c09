//! What of a session survives its browser: cookies, `localStorage` and, of a tab that is kept, `sessionStorage`, as plain
//! records that the store can keep.
//!
//! IndexedDB is not covered. Values are as good as passwords: `Debug` shows names only, and whoever
//! stores this encrypts it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// Everything that is put back into a fresh context so that the portal recognises the session.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// All cookies of the context, HttpOnly and session cookies included.
    pub cookies: Vec<Cookie>,
    /// `localStorage` by origin (`https://acme.example`); only origins with something in it.
    pub local_storage: BTreeMap<String, StorageText>,
    /// The tab that stays open, for portals that live in it.
    #[serde(default)]
    pub kept: Option<KeptTab>,
}

/// What is lost with a tab, and put into the one that takes its place.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTab {
    /// Where it was, without query and fragment, which may hold what is good for once.
    pub url: String,
    /// `sessionStorage` by origin; only origins with something in it.
    pub session_storage: BTreeMap<String, StorageText>,
}

/// What one origin has in a storage: the JSON text of an array of `[key, value]`, as JavaScript wrote it.
///
/// It stays text because portals store what is not Unicode (unpaired surrogates, as some compressors write): JSON escapes
/// carry that losslessly, a Rust string per value could not.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageText(pub String);

/// One cookie, with everything that decides where it is sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value: a secret.
    pub value: String,
    /// Where it is sent: with a leading dot also to subdomains, without one to this host only.
    pub domain: String,
    /// The path it is sent below.
    pub path: String,
    /// When it expires; `None` for a session cookie, which lives as long as the context.
    pub expires: Option<Time>,
    /// Sent over HTTPS only (and to loopback, which browsers trust).
    pub secure: bool,
    /// Hidden from scripts.
    pub http_only: bool,
    /// What the portal said about cross-site requests; `None` when it said nothing.
    pub same_site: Option<SameSite>,
    /// Set for a partitioned (CHIPS) cookie: the site whose pages it belongs to.
    pub partition: Option<Partition>,
}

impl Cookie {
    /// Whether setting one replaces the other: the same name, domain and path (RFC 6265, 5.3).
    pub fn same_place(&self, other: &Self) -> bool {
        self.name == other.name && self.domain == other.domain && self.path == other.path
    }
}

/// The `SameSite` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SameSite {
    /// Same-site requests only.
    Strict,
    /// Same-site requests and top-level navigations.
    Lax,
    /// Any request.
    None,
}

/// The partition key of a partitioned cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The site of the top-level page, as `https://acme.example`.
    pub top_level_site: String,
    /// Whether a frame of another site lay between the page and the cookie's frame.
    pub cross_site_ancestor: bool,
}

impl fmt::Debug for SavedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedState")
            .field("cookies", &self.cookies)
            .field("local_storage", &self.local_storage.keys())
            .field("kept", &self.kept)
            .finish()
    }
}

impl fmt::Debug for KeptTab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptTab")
            .field("url", &self.url)
            .field("session_storage", &self.session_storage.keys())
            .finish()
    }
}

impl fmt::Debug for StorageText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageText({} bytes)", self.0.len())
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({} for {}{})", self.name, self.domain, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_state_survives_the_binary_codec_and_never_prints_a_value() {
        let state = SavedState {
            cookies: vec![Cookie {
                name: "sid".into(),
                value: "s3cret".into(),
                domain: ".acme.example".into(),
                path: "/".into(),
                expires: Some(Time::from_millis(1_700_000_000_000)),
                secure: true,
                http_only: true,
                same_site: Some(SameSite::Lax),
                partition: None,
            }],
            local_storage: BTreeMap::from([(
                "https://acme.example".into(),
                StorageText(r#"[["토큰","s3cret\ud800"]]"#.into()),
            )]),
            kept: Some(KeptTab {
                url: "https://acme.example/app".into(),
                session_storage: BTreeMap::from([(
                    "https://acme.example".into(),
                    StorageText(r#"[["bearer","s3cret"]]"#.into()),
                )]),
            }),
        };
        let bytes = bincode::serialize(&state).unwrap();
        assert_eq!(bincode::deserialize::<SavedState>(&bytes).unwrap(), state);
        let shown = format!("{state:?}");
        assert!(
            shown.contains("sid") && shown.contains("https://acme.example") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}

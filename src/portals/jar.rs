//! The jar: a session's cookies as the portal last set them.
//!
//! The rules of cookies are the `cookie_store` crate's; this adds what a session needs: whether a merge changed anything
//! worth saving, and the way to and from the browser. Values never leave except towards the portal and the browser.

mod lent;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie_store::{CookieDomain, CookieExpiration, CookieStore, RawCookie};
use url::Url;

use crate::browsers::{Cookie, SameSite};
use crate::clock::Time;
pub use lent::{Disputed, Lent};

/// Cookies whose last setting is remembered; a portal has a dozen.
const REMEMBERED: usize = 512;

/// Cookies of one session; shared between calls in flight.
pub struct Jar(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    store: CookieStore,
    /// Requests that have taken cookies along.
    asked: u64,
    /// By which of them each cookie was last set: requests overtake one another, and the answer to an earlier one must not
    /// bring back what a later one's has replaced.
    set_by: BTreeMap<Place, u64>,
}

/// Name, domain and path: what a cookie is known by.
type Place = (String, String, String);

/// The place of a request among those that took cookies along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked(u64);

impl fmt::Debug for Jar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jar").finish_non_exhaustive()
    }
}

/// What merging an answer's `Set-Cookie` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Merge {
    /// Nothing was set.
    Nothing,
    /// The same values, with a new expiry perhaps: can be saved at leisure.
    Refreshed,
    /// A value came, changed or went: lost, the session may be lost with it.
    Changed,
}

impl Jar {
    /// A jar with the cookies that the browser exported.
    pub fn new(cookies: &[Cookie]) -> Self {
        let mut inside = Inside::default();
        cookies.iter().for_each(|cookie| put(&mut inside.store, cookie));
        Self(Mutex::new(inside))
    }

    /// Takes over what a browser holds that makes the calls itself.
    pub(super) fn replace(&self, cookies: &[Cookie]) {
        let inside = &mut *self.lock();
        inside.store.clear();
        cookies.iter().for_each(|cookie| put(&mut inside.store, cookie));
    }

    /// The `Cookie` header for a request to `url`, None when no cookie belongs there; and the request's place among others,
    /// for [`Jar::merge`].
    pub fn header(&self, url: &Url) -> (Option<String>, Asked) {
        let mut inside = self.lock();
        inside.asked += 1;
        let mut matching = inside.store.matches(url);
        // RFC 6265, 5.4: longer paths first; some servers take the first of two equal names.
        matching.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.as_ref().len()));
        let pairs: Vec<_> = matching.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
        ((!pairs.is_empty()).then(|| pairs.join("; ")), Asked(inside.asked))
    }

    /// Merges the `Set-Cookie` headers of an answer from `url` to the request of that place.
    pub fn merge<'a>(&self, url: &Url, asked: Asked, set_cookies: impl Iterator<Item = &'a str>) -> Merge {
        let mut merge = Merge::Nothing;
        let inside = &mut *self.lock();
        for header in set_cookies {
            let Ok(raw) = RawCookie::parse(header.to_owned()) else { continue };
            let Ok(cookie) = cookie_store::Cookie::try_from_raw_cookie(&raw, url) else { continue };
            let place = place(&to_browser(&cookie));
            if inside.set_by.get(&place).is_some_and(|last| *last > asked.0) {
                continue;
            }
            let before = value_of(&inside.store, url, raw.name());
            if inside.store.insert_raw(&raw, url).is_err() {
                continue;
            }
            if inside.set_by.len() >= REMEMBERED {
                inside.set_by.clear();
            }
            inside.set_by.insert(place, asked.0);
            let changed = before != value_of(&inside.store, url, raw.name());
            merge = merge.max(if changed { Merge::Changed } else { Merge::Refreshed });
        }
        merge
    }

    /// All cookies in the browser's form, for a context or for the store.
    pub fn export(&self) -> Vec<Cookie> {
        self.lock().store.iter_unexpired().map(to_browser).collect()
    }

    // Held for map operations only, never across an await.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a cookie over from the browser.
fn put(store: &mut CookieStore, cookie: &Cookie) {
    let scheme = if cookie.secure { "https" } else { "http" };
    let Ok(url) = Url::parse(&format!("{scheme}://{}{}", host(cookie), cookie.path)) else { return };
    // A cookie that the browser accepted and the crate refuses (a public suffix, say) is of no use to us either.
    let _ = store.insert_raw(&from_browser(cookie), &url);
}

/// What a cookie is known by here: whether it goes to subdomains is no part of that.
fn place(cookie: &Cookie) -> Place {
    (cookie.name.clone(), host(cookie).to_owned(), cookie.path.clone())
}

/// The domain under which the crate keeps a cookie, whether or not it goes to subdomains.
fn host(cookie: &Cookie) -> &str {
    cookie.domain.trim_start_matches('.')
}

/// All values that a request to `url` would carry under `name`.
fn value_of(store: &CookieStore, url: &Url, name: &str) -> Vec<String> {
    store
        .matches(url)
        .into_iter()
        .filter(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned())
        .collect()
}

fn from_browser(cookie: &Cookie) -> RawCookie<'static> {
    let mut raw = RawCookie::new(cookie.name.clone(), cookie.value.clone());
    raw.set_path(cookie.path.clone());
    raw.set_secure(cookie.secure);
    raw.set_http_only(cookie.http_only);
    raw.set_same_site(cookie.same_site.map(|same_site| match same_site {
        SameSite::Strict => cookie::SameSite::Strict,
        SameSite::Lax => cookie::SameSite::Lax,
        SameSite::None => cookie::SameSite::None,
    }));
    if cookie.domain.starts_with('.') {
        raw.set_domain(cookie.domain.clone());
    }
    if let Some(moment) = cookie.expires.and_then(offset_date_time) {
        raw.set_expires(moment);
    }
    raw
}

fn to_browser(cookie: &cookie_store::Cookie<'static>) -> Cookie {
    let domain = match &cookie.domain {
        CookieDomain::HostOnly(host) => host.clone(),
        CookieDomain::Suffix(suffix) => format!(".{suffix}"),
        CookieDomain::NotPresent | CookieDomain::Empty => String::new(),
    };
    let expires = match &cookie.expires {
        CookieExpiration::AtUtc(moment) => u64::try_from(moment.unix_timestamp()).ok(),
        CookieExpiration::SessionEnd => None,
    };
    Cookie {
        name: cookie.name().to_owned(),
        value: cookie.value().to_owned(),
        domain,
        path: cookie.path.as_ref().to_owned(),
        expires: expires.map(|seconds| Time::from_millis(seconds * 1000)),
        secure: cookie.secure().unwrap_or(false),
        http_only: cookie.http_only().unwrap_or(false),
        same_site: cookie.same_site().map(|same_site| match same_site {
            cookie::SameSite::Strict => SameSite::Strict,
            cookie::SameSite::Lax => SameSite::Lax,
            cookie::SameSite::None => SameSite::None,
        }),
        partition: None,
    }
}

fn offset_date_time(moment: Time) -> Option<cookie::time::OffsetDateTime> {
    let seconds = i64::try_from(moment.as_millis() / 1000).ok()?;
    cookie::time::OffsetDateTime::from_unix_timestamp(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn header(jar: &Jar, to: &str) -> Option<String> {
        jar.header(&url(to)).0
    }

    fn cookie(name: &str, domain: &str, path: &str) -> Cookie {
        Cookie {
            name: name.to_owned(),
            value: "1".to_owned(),
            domain: domain.to_owned(),
            path: path.to_owned(),
            expires: None,
            secure: false,
            http_only: true,
            same_site: Some(SameSite::Lax),
            partition: None,
        }
    }

    #[test]
    fn cookies_go_where_the_browser_would_send_them() {
        let jar = Jar::new(&[
            cookie("host", "acme.example", "/"),
            cookie("wide", ".acme.example", "/"),
            cookie("deep", "acme.example", "/api"),
            cookie("other", "other.example", "/"),
        ]);
        assert_eq!(header(&jar, "http://acme.example/api/x").unwrap().split("; ").next(), Some("deep=1"));
        assert_eq!(header(&jar, "http://sub.acme.example/").unwrap(), "wide=1");
        assert_eq!(header(&jar, "http://evil.example/"), None);
        let mut names: Vec<_> = jar.export().into_iter().map(|cookie| (cookie.name, cookie.domain)).collect();
        names.sort();
        assert_eq!(names[0], ("deep".to_owned(), "acme.example".to_owned()));
        assert_eq!(names[3], ("wide".to_owned(), ".acme.example".to_owned()));
    }

    #[test]
    fn a_merge_tells_rotation_from_refreshing() {
        let jar = Jar::new(&[cookie("SID", "127.0.0.1", "/")]);
        let here = "http://127.0.0.1:9000/api";
        let merge = |set: &[&str]| jar.merge(&url(here), jar.header(&url(here)).1, set.iter().copied());
        assert_eq!(merge(&[]), Merge::Nothing);
        assert_eq!(merge(&["SID=1; Path=/; Max-Age=600"]), Merge::Refreshed);
        assert_eq!(merge(&["SID=2; Path=/; HttpOnly"]), Merge::Changed);
        assert_eq!(header(&jar, here).unwrap(), "SID=2");
        assert_eq!(merge(&["SID=; Path=/; Max-Age=0"]), Merge::Changed);
        assert_eq!(header(&jar, here), None);
        assert_eq!(merge(&["x=1; Domain=evil.example", "\u{1}"]), Merge::Nothing);
    }

    #[test]
    fn a_late_answer_to_an_early_request_brings_nothing_back() {
        let jar = Jar::new(&[cookie("SID", "127.0.0.1", "/")]);
        let here = url("http://127.0.0.1:9000/api");
        let [first, second] = [jar.header(&here).1, jar.header(&here).1];
        assert_eq!(jar.merge(&here, second, ["SID=later; Path=/"].into_iter()), Merge::Changed);
        assert_eq!(jar.merge(&here, first, ["SID=early; Path=/", "mine=1; Path=/"].into_iter()), Merge::Changed);
        assert_eq!(jar.merge(&here, first, ["SID=; Path=/; Max-Age=0"].into_iter()), Merge::Nothing);
        let told = jar.header(&here).0.unwrap();
        assert!(told.contains("SID=later") && told.contains("mine=1"), "{told}");
    }

    #[test]
    fn secure_cookies_stay_off_plain_connections() {
        let mut secure = cookie("s", "acme.example", "/");
        secure.secure = true;
        let jar = Jar::new(&[secure]);
        assert!(header(&jar, "http://acme.example/").is_none());
        assert_eq!(header(&jar, "https://acme.example/").unwrap(), "s=1");
        assert!(jar.export()[0].secure);
    }
}

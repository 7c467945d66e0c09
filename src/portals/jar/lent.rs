//! The way of cookies through browser work: lent to the browser, changed there and here at the same time, merged after it.
//!
//! For each cookie (name, domain, path) the side that changed it since it was lent wins, deletions included. Where both
//! did, the later request's answer wins, as the portal's last word: the browser's counts as asked when it began to load its
//! page. That is a guess within some milliseconds, so what lost is kept as [`Disputed`], to be put in should the portal
//! refuse the other. A new expiry alone is no change that could win against a new value.

use std::collections::BTreeMap;

use cookie_store::CookieStore;

use super::{Asked, Inside, Jar, Place, place, put, to_browser};
use crate::browsers::Cookie;

/// What a browser was given.
#[derive(Clone, Debug, Default)]
pub struct Lent {
    /// The jar's cookies then.
    jar: Vec<Cookie>,
    /// The same as the browser holds them, which tells them in its own words.
    held: Vec<Cookie>,
    /// When the browser last began to load a page.
    asked: Option<Asked>,
    /// Whether the portal has sent the browser away meanwhile.
    refused: bool,
}

/// What one side held and the jar holds otherwise now, because both changed it. May be empty.
#[derive(Debug, Default)]
#[must_use = "the portal may refuse what the jar holds"]
pub struct Disputed(Vec<(Place, Option<Cookie>)>);

impl Lent {
    /// Cookies `jar` that were put into a browser, and what it `held` after that.
    pub const fn new(jar: Vec<Cookie>, held: Vec<Cookie>) -> Self {
        Self { jar, held, asked: None, refused: false }
    }

    /// Notes that the browser is about to load a page.
    pub const fn asks(&mut self, asked: Asked) {
        self.asked = Some(asked);
    }

    /// Notes that the portal took the browser for a stranger: what it sets from then on is a stranger's.
    pub const fn refused(&mut self) {
        self.refused = true;
    }

    /// Whether it did.
    pub const fn was_refused(&self) -> bool {
        self.refused
    }
}

impl Disputed {
    /// Whether there is nothing to dispute.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Jar {
    /// Merges what the browser holds after its work with what the jar has become meanwhile.
    pub fn take_back(&self, lent: &Lent, held: &[Cookie]) -> Disputed {
        let Inside { store, set_by, .. } = &mut *self.lock();
        let now: Vec<_> = store.iter_unexpired().map(to_browser).collect();
        let (before, after) = (by_place(&lent.held), by_place(held));
        let (ours_before, ours) = (by_place(&lent.jar), by_place(&now));
        let mut disputed = Vec::new();
        for (place, cookie) in changes(&before, &after) {
            let anew = value(cookie) != value(before.get(&place).copied());
            let own = ours.get(&place).copied();
            let changed = value(own) != value(ours_before.get(&place).copied());
            let later = set_by.get(&place).is_some_and(|last| lent.asked.is_some_and(|asked| *last > asked.0));
            if changed && anew && value(cookie) != value(own) {
                let (winner, loser) = if later { (own, cookie) } else { (cookie, own) };
                set(store, &place, winner);
                disputed.push((place, loser.cloned()));
            } else if !changed {
                set(store, &place, cookie);
            }
        }
        Disputed(disputed)
    }

    /// A place among the requests for a browser that is about to load a page.
    pub fn ask(&self) -> Asked {
        let inside = &mut *self.lock();
        inside.asked += 1;
        Asked(inside.asked)
    }

    /// Decides otherwise: what lost is put into the jar.
    pub fn concede(&self, disputed: &Disputed) {
        let store = &mut self.lock().store;
        disputed.0.iter().for_each(|(place, cookie)| set(store, place, cookie.as_ref()));
    }
}

/// The cookies that came, went or are not as they were.
fn changes<'a>(
    before: &BTreeMap<Place, &Cookie>,
    after: &BTreeMap<Place, &'a Cookie>,
) -> Vec<(Place, Option<&'a Cookie>)> {
    let gone = before.keys().filter(|place| !after.contains_key(*place)).map(|place| (place.clone(), None));
    let differs = after.iter().filter(|(place, cookie)| before.get(*place) != Some(cookie));
    gone.chain(differs.map(|(place, cookie)| (place.clone(), Some(*cookie)))).collect()
}

fn set(store: &mut CookieStore, (name, domain, path): &Place, cookie: Option<&Cookie>) {
    // Removed in any case: a cookie that goes to subdomains now must not leave its narrower self behind.
    store.remove(domain, path, name);
    if let Some(cookie) = cookie {
        put(store, cookie);
    }
}

fn by_place(cookies: &[Cookie]) -> BTreeMap<Place, &Cookie> {
    cookies.iter().map(|cookie| (place(cookie), cookie)).collect()
}

fn value(cookie: Option<&Cookie>) -> Option<&str> {
    cookie.map(|cookie| cookie.value.as_str())
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::clock::Time;

    fn cookie(name: &str, value: &str) -> Cookie {
        Cookie {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: "acme.example".to_owned(),
            path: "/".to_owned(),
            expires: None,
            secure: true,
            http_only: true,
            same_site: None,
            partition: None,
        }
    }

    fn set_here(jar: &Jar, header: &str) {
        let url = Url::parse("https://acme.example/").unwrap();
        jar.merge(&url, jar.header(&url).1, [header].into_iter());
    }

    fn told(jar: &Jar) -> String {
        let mut pairs: Vec<_> =
            jar.export().into_iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        pairs.sort();
        pairs.join(" ")
    }

    /// A jar whose cookies a, b and c were lent to a browser.
    fn lend() -> (Jar, Lent, Vec<Cookie>) {
        let held = ["a", "b", "c"].map(|name| cookie(name, "0")).to_vec();
        let jar = Jar::new(&held);
        let lent = Lent::new(jar.export(), held.clone());
        (jar, lent, held)
    }

    #[test]
    fn the_side_that_changed_a_cookie_wins() {
        let (jar, lent, mut held) = lend();
        set_here(&jar, "a=here; Path=/; Secure");
        set_here(&jar, "new_here=1; Path=/");
        held[1].value = "there".to_owned();
        held.push(cookie("new_there", "1"));
        assert!(jar.take_back(&lent, &held).is_empty());
        assert_eq!(told(&jar), "a=here b=there c=0 new_here=1 new_there=1");
    }

    #[test]
    fn what_one_side_deleted_is_gone() {
        let (jar, lent, mut held) = lend();
        set_here(&jar, "a=; Path=/; Max-Age=0");
        held.remove(1);
        assert!(jar.take_back(&lent, &held).is_empty());
        assert_eq!(told(&jar), "c=0", "the browser still held a, and nobody there had touched it");
    }

    #[test]
    fn of_two_changes_the_later_one_s_stays_until_the_portal_refuses_it() {
        let (jar, mut lent, mut held) = lend();
        set_here(&jar, "a=here; Path=/; Secure");
        lent.asks(jar.ask());
        for name in ["b", "c"] {
            set_here(&jar, &format!("{name}=here; Path=/; Secure"));
        }
        held[0].value = "there".to_owned();
        held[1].value = "there".to_owned();
        held.remove(2);
        let disputed = jar.take_back(&lent, &held);
        assert_eq!((told(&jar).as_str(), disputed.is_empty()), ("a=there b=here c=here", false));
        jar.concede(&disputed);
        assert_eq!(told(&jar), "a=here b=there");
        let (jar, lent, mut held) = lend();
        set_here(&jar, "a=same; Path=/; Secure");
        held[0].value = "same".to_owned();
        assert!(jar.take_back(&lent, &held).is_empty(), "both say the same");
    }

    #[test]
    fn a_new_expiry_is_taken_but_wins_against_no_value() {
        let (jar, lent, mut held) = lend();
        set_here(&jar, "a=here; Path=/; Secure");
        let late = Some(Time::from_millis(4_000_000_000_000));
        held[0].expires = late;
        held[1].expires = late;
        assert!(jar.take_back(&lent, &held).is_empty());
        assert_eq!(told(&jar), "a=here b=0 c=0");
        let expires: Vec<_> = jar.export().into_iter().filter(|cookie| cookie.expires == late).collect();
        assert_eq!(expires.iter().map(|cookie| cookie.name.as_str()).collect::<Vec<_>>(), ["b"]);
        // A cookie that goes to subdomains now replaces the one that did not.
        let (jar, lent, mut held) = lend();
        (held[0].domain, held[0].value) = (".acme.example".to_owned(), "wide".to_owned());
        assert!(jar.take_back(&lent, &held).is_empty());
        assert_eq!(told(&jar), "a=wide b=0 c=0");
    }
}

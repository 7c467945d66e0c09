//! `[[relay.cache]]`: parts of the portal whose answers may be a little old.

use std::time::Duration;

use crate::config::{Field, Section, duration};

/// A part of the portal's paths whose answers are kept for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// This path and everything below it: `/api/orders` covers `/api/orders/7`, not `/api/orders-old`.
    pub path: String,
    /// How old an answer may become. 1 s to 24 h.
    pub ttl: Duration,
}

impl Cached {
    /// Whether `path`, as it is written, is in this part.
    pub fn covers(&self, path: &str) -> bool {
        begins(path, &self.path)
    }

    /// Whether a change at `path` may change answers of this part: at a path within it or above it, in any case of
    /// letters, or at one whose meaning is the portal's secret (escapes, dots, parameters).
    pub fn touched_by(&self, path: &str) -> bool {
        let unclear = path.contains(['%', ';', '\\']) || path.contains("//") || path.contains("/.");
        let (path, own) = (path.trim_end_matches('/').to_ascii_lowercase(), self.path.to_ascii_lowercase());
        unclear || begins(&path, &own) || begins(&own, &path)
    }
}

/// Whether `path` is `start`, or below it.
fn begins(path: &str, start: &str) -> bool {
    path.strip_prefix(start.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reads the entries of `[[relay.cache]]`.
pub(super) fn read(relay: &Section<'_>) -> Option<Vec<Cached>> {
    let Some(field) = relay.field("cache") else { return Some(Vec::new()) };
    let items = field.read(Field::items)?;
    let count = items.len();
    let one = |item: &Field<'_>| {
        let section = item.read(Field::section)?;
        let path = section.required("path", path);
        let ttl = section.required("ttl", duration::within(Duration::from_secs(1)..=Duration::from_secs(86_400)));
        section.finish();
        Some(Cached { path: path?, ttl: ttl? })
    };
    let good: Vec<Cached> = items.iter().filter_map(one).collect();
    if let Some(twice) =
        good.iter().enumerate().find(|(at, one)| good[..*at].iter().any(|other| other.path == one.path))
    {
        items.get(twice.0)?.problem(format!("the path {} is there twice", twice.1.path));
        return None;
    }
    (good.len() == count).then_some(good)
}

fn path(field: &Field<'_>) -> Result<String, String> {
    let text = field.text()?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"%?#;\\*".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(plain) || text.contains("//") || text.contains("/.") {
        return Err("expected a plain path such as \"/api/orders\", without query, escapes or dots".to_owned());
    }
    Ok(if text.len() > 1 { text.trim_end_matches('/').to_owned() } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_whole_segments_and_a_change_counts_wherever_it_may_matter() {
        let orders = Cached { path: "/api/orders".to_owned(), ttl: Duration::from_secs(1) };
        for (path, covered, touched) in [
            ("/api/orders", true, true),
            ("/api/orders/", true, true),
            ("/api/orders/7/lines", true, true),
            ("/api/orders-old", false, false),
            ("/api/ORDERS/7", false, true),
            ("/api", false, true),
            ("/", false, true),
            ("/api/customers", false, false),
            ("/api/customers/../orders", false, true),
            ("/api/%6Frders", false, true),
            ("/api//orders", false, true),
            ("/api;v=1/orders", false, true),
        ] {
            assert_eq!((orders.covers(path), orders.touched_by(path)), (covered, touched), "{path}");
        }
        let all = Cached { path: "/".to_owned(), ttl: Duration::from_secs(1) };
        assert!(all.covers("/") && all.covers("/x") && all.touched_by("/x/y"));
    }
}

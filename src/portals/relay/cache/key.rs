//! What a call means for the cache: read through it, a change that it must not survive, or neither; and what makes two
//! reads the same: everything that the portal would see of them.

use hyper::Method;
use hyper::body::Body as _;
use hyper::header::{
    CACHE_CONTROL, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    PRAGMA, RANGE,
};

use crate::portals::portal::Portal;
use crate::portals::recipe::Cached;
use crate::portals::relay::Call;

/// What makes two reads the same.
pub(super) type Key = Vec<u8>;

/// A call in the eyes of the cache.
pub(in crate::portals::relay) enum Course<'a> {
    /// It takes no part.
    Past,
    /// It may be answered by what is kept for this part of the portal.
    Read(&'a Cached),
    /// It may change what is kept for these parts.
    Write(Vec<&'a Cached>),
}

/// Names that ask for a part of an answer, or for one on a condition.
const SPECIAL: [HeaderName; 6] = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
/// Names under which frameworks look for the real method.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// Names that tell calls apart and mean nothing to an answer; and the browser's own, which the session replaces.
const NOISE: [&str; 5] = ["x-request-id", "traceparent", "tracestate", "baggage", "user-agent"];

/// What `call` means for the cache of `portal`.
pub(in crate::portals::relay) fn course<'a>(portal: &'a Portal, call: &Call) -> Course<'a> {
    let parts = &portal.recipe().relay.cache;
    if parts.is_empty() {
        return Course::Past;
    }
    let path = call.path_and_query.split('?').next().unwrap_or_default();
    let has = |name: &&str| call.headers.contains_key(*name);
    let read = matches!(call.method, Method::GET | Method::HEAD) && !OVERRIDES.iter().any(has);
    if !read && call.method != Method::OPTIONS {
        return Course::Write(parts.iter().filter(|part| part.touched_by(path)).collect());
    }
    // Who insists on a session or an epoch wants to be served there.
    let insists = call.epoch.is_some() || (call.session.is_some() && !call.fallback);
    let special = SPECIAL.iter().any(|name| call.headers.contains_key(name)) || has(&"idempotency-key");
    if !read || insists || special || !call.body.is_end_stream() || wants_fresh(&call.headers) {
        return Course::Past;
    }
    let narrowest = parts.iter().filter(|part| part.covers(path)).max_by_key(|part| part.path.len());
    narrowest.map_or(Course::Past, Course::Read)
}

fn wants_fresh(headers: &HeaderMap) -> bool {
    let said = [CACHE_CONTROL, PRAGMA].map(|name| headers.get_all(name).iter().cloned().collect::<Vec<_>>()).concat();
    let words = said.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.map(str::trim).any(|word| {
        ["no-cache", "no-store", "max-age=0"].iter().any(|fresh| word.to_ascii_lowercase().starts_with(fresh))
    })
}

/// The key of a read: account, generation of the part, path and query, and the headers that the portal would see. The
/// session is not in it, because both are the same account; the method neither, because HEAD is a GET without its body.
pub(super) fn key(portal: &Portal, generation: u64, path_and_query: &str, headers: &HeaderMap) -> Key {
    let seen = headers.iter().filter(|(name, _)| !NOISE.contains(&name.as_str()));
    let mut seen: Vec<_> =
        seen.map(|(name, value)| [name.as_str().as_bytes(), b":", value.as_bytes()].concat()).collect();
    // Stable, so that the order of values under one name stays; the order of names means nothing.
    seen.sort_by(|a, b| a.split(|byte| *byte == b':').next().cmp(&b.split(|byte| *byte == b':').next()));
    let generation = generation.to_string();
    let head = [portal.name(), &portal.settings().basis, &generation, path_and_query].map(str::as_bytes);
    [&head.join(&b'\n'), &seen.join(&b'\n')].map(Vec::as_slice).join(&b'\n')
}

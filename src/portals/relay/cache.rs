//! Answers that are kept for a while where the recipe says so, so that ten jobs that ask the same do not hammer the
//! portal: one request at a time for the same thing, and its answer for whoever asks within the time.
//!
//! The recipe's word counts, not the portal's `Cache-Control`: portals forbid caching everywhere, and the operator knows
//! better where a few seconds do no harm. Kept are whole answers with status 200 only, never what the relay did not show
//! to its caller, in memory only and never across accounts. A change through the relay empties the parts it may touch.

mod flights;
mod key;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AGE, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, VARY};
use hyper::{Method, Response, StatusCode};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Kept;

use super::meter::Meter;
use super::{RelayError, Relayed, Sending};
use crate::clock::Time;
use crate::portals::portal::Portal;
use crate::portals::recipe::Cached;
use crate::portals::upstream::{self, Body};
use flights::{Flights, Follow, Lead, Seat};
use key::Key;
pub(super) use key::{Course, course};

/// The largest answer that is kept or shared.
const ENTRY: usize = 1024 * 1024;
/// Memory for all of them.
const TOTAL: u64 = 32 * 1024 * 1024;
/// How long is waited for that much of an answer.
const ENTRY_TIME: Duration = Duration::from_secs(30);
/// How long a call waits for another one's answer before it asks for itself: as long as a portal may take to begin one.
const PATIENCE: Duration = Duration::from_secs(60);
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 512;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The cache of the process; clones share it. `Debug` shows nothing of what is kept.
#[derive(Clone)]
pub(super) struct Cache(Arc<Inner>);

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("entries", &self.0.kept.len()).finish_non_exhaustive()
    }
}

struct Inner {
    kept: Kept<Key, Arc<Stored>, Weight>,
    flights: Flights<Key, Landed>,
    /// By portal and part; grows with every change, so that no read finds what was kept, or asked for, before it.
    generations: Mutex<HashMap<(String, String), u64>>,
}

/// An answer that can be given again.
struct Stored {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    session_id: String,
    epoch: u64,
    at: Duration,
}

/// What came of a request that others wait for.
#[derive(Clone)]
enum Landed {
    Answer(Arc<Stored>),
    /// Too large to be shared.
    Large,
    /// As for the one that asked: what is true for all of them.
    Unreachable(String),
    InDoubt(String),
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Arc<Stored>> for Weight {
    fn weight(&self, key: &Key, stored: &Arc<Stored>) -> u64 {
        let headers: usize = stored.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        (OVERHEAD + key.len() + headers + stored.body.len()) as u64
    }
}

impl Default for Cache {
    fn default() -> Self {
        // As many entries as fit when each is as large as may be; smaller ones are more, and the weight decides. So few
        // that the library makes one shard of them, in which every entry fits.
        let entries = TOTAL as usize / ENTRY;
        let kept = Kept::with_weighter(entries, TOTAL, Weight);
        Self(Arc::new(Inner { kept, flights: Flights::default(), generations: Mutex::default() }))
    }
}

/// A change on its way: what it may touch is forgotten when it leaves and once more when its outcome is there, so that
/// nobody keeps what was read in between.
pub(super) struct Changing<'a> {
    cache: &'a Cache,
    portal: &'a Portal,
    parts: Vec<&'a Cached>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.cache.forget(self.portal, &self.parts);
    }
}

impl Cache {
    /// Forgets `parts` now and when the result is dropped.
    pub(super) fn change<'a>(&'a self, portal: &'a Portal, parts: Vec<&'a Cached>) -> Changing<'a> {
        self.forget(portal, &parts);
        Changing { cache: self, portal, parts }
    }

    fn forget(&self, portal: &Portal, parts: &[&Cached]) {
        let mut generations = self.generations();
        for part in parts {
            *generations.entry((portal.name().to_owned(), part.path.clone())).or_default() += 1;
        }
    }

    fn generation(&self, portal: &Portal, part: &Cached) -> u64 {
        self.generations().get(&(portal.name().to_owned(), part.path.clone())).copied().unwrap_or_default()
    }

    // A plain mutex: held for a look into the map, never across an await.
    fn generations(&self) -> MutexGuard<'_, HashMap<(String, String), u64>> {
        self.0.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers `sending`, a read within `part`: from what is kept, from an equal one under way, or by making it.
    pub(super) async fn read(
        &self,
        mut sending: Sending<'_>,
        part: &Cached,
        path_and_query: &str,
        meter: &mut Meter,
    ) -> Result<Relayed, RelayError> {
        let portal = sending.portal;
        let key = key::key(portal, self.generation(portal, part), path_and_query, &sending.headers);
        loop {
            let now = portal.tools().clock.passed();
            if let Some(stored) = self.0.kept.get(&key) {
                let age = now.saturating_sub(stored.at);
                if age < part.ttl {
                    meter.spared();
                    return Ok(again(&stored, &sending, "hit", age));
                }
                self.0.kept.remove(&key);
            }
            if sending.method == Method::HEAD {
                // Its answer has no body that could be kept; nor is it worth a wait.
                return Ok(marked(sending.run(meter).await?, "miss"));
            }
            let follow = match self.0.flights.join(&key) {
                Seat::Lead(lead) => return self.lead(&mut sending, lead, &key, meter).await,
                Seat::Follow(follow) => follow,
            };
            match wait(portal, follow, sending.deadline).await? {
                Wait::Gone => {}
                Wait::Alone | Wait::Landed(Landed::Large) => return Ok(marked(sending.run(meter).await?, "miss")),
                Wait::Landed(Landed::Answer(stored)) => {
                    meter.spared();
                    return Ok(again(&stored, &sending, "shared", Duration::ZERO));
                }
                Wait::Landed(Landed::Unreachable(why)) => return Err(RelayError::Unreachable(why)),
                Wait::Landed(Landed::InDoubt(why)) => return Err(RelayError::InDoubt(why)),
            }
        }
    }

    /// Makes the request, for itself and for all who wait.
    async fn lead(
        &self,
        sending: &mut Sending<'_>,
        lead: Lead<Key, Landed>,
        key: &Key,
        meter: &mut Meter,
    ) -> Result<Relayed, RelayError> {
        let looked = async {
            let relayed = sending.run(meter).await?;
            let (head, body) = relayed.answer.into_parts();
            let broke = |error: upstream::BoxError| RelayError::InDoubt(error.to_string());
            let (seen, whole, ended) = upstream::peek(body, ENTRY + 1, ENTRY_TIME).await.map_err(broke)?;
            let Relayed { session_id, fallback, epoch, .. } = relayed;
            Ok(((head, seen, whole, ended), (session_id, fallback, epoch)))
        };
        let ((head, seen, whole, ended), (session_id, fallback, epoch)) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                match &error {
                    RelayError::Unreachable(why) => lead.land(Landed::Unreachable(why.clone())),
                    RelayError::InDoubt(why) => lead.land(Landed::InDoubt(why.clone())),
                    // Its own affair: how long it would be parked, for instance. Somebody else may lead.
                    _ => drop(lead),
                }
                return Err(error);
            }
        };
        let body = if ended {
            let at = sending.portal.tools().clock.passed();
            let (status, headers, body) = (head.status, head.headers.clone(), seen.clone());
            let stored = Arc::new(Stored { status, headers, body, session_id: session_id.clone(), epoch, at });
            if may_be_kept(&stored) {
                // Before it lands: nobody may find neither the flight nor the answer.
                self.0.kept.insert(key.clone(), Arc::clone(&stored));
            }
            lead.land(Landed::Answer(stored));
            full(seen)
        } else {
            lead.land(Landed::Large);
            whole
        };
        let answer = Response::from_parts(head, body);
        Ok(marked(Relayed { answer, session_id, fallback, epoch }, "miss"))
    }
}

/// What came of waiting.
enum Wait {
    Landed(Landed),
    /// The one that was waited for was given up.
    Gone,
    /// It takes too long.
    Alone,
}

/// Waits for another one's request, but no longer than a call of one's own would be parked while no session lives.
async fn wait(portal: &Portal, follow: Follow<Landed>, deadline: Time) -> Result<Wait, RelayError> {
    let (clock, mut live) = (&portal.tools().clock, portal.live());
    let patience = portal.now() + PATIENCE;
    let hopeless = async {
        clock.sleep_until(deadline).await;
        if live.wait_for(|live| live.record.serving().is_none()).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        landed = follow.landed() => Ok(landed.map_or(Wait::Gone, Wait::Landed)),
        () = hopeless => Err(RelayError::NoLiveSession),
        () = clock.sleep_until(patience) => Ok(Wait::Alone),
    }
}

/// Whether an answer may be given again later, not only to those who asked for it at the same time.
fn may_be_kept(stored: &Stored) -> bool {
    let varies = stored.headers.get_all(VARY).iter().any(|value| value.as_bytes().trim_ascii() == b"*");
    stored.status == StatusCode::OK && !varies && !stored.headers.contains_key(CONTENT_RANGE)
}

/// A stored answer for another call.
fn again(stored: &Stored, sending: &Sending<'_>, how: &'static str, age: Duration) -> Relayed {
    let body = if sending.method == Method::HEAD { Bytes::new() } else { stored.body.clone() };
    let mut answer = Response::new(full(body));
    *answer.status_mut() = stored.status;
    *answer.headers_mut() = stored.headers.clone();
    answer.headers_mut().insert(AGE, HeaderValue::from(age.as_secs()));
    let fallback = sending.session.as_ref().is_some_and(|named| *named != stored.session_id);
    let relayed = Relayed { answer, session_id: stored.session_id.clone(), fallback, epoch: stored.epoch };
    marked(relayed, how)
}

fn marked(mut relayed: Relayed, how: &'static str) -> Relayed {
    relayed.answer.headers_mut().insert(X_CACHE, HeaderValue::from_static(how));
    relayed
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

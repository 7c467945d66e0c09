//! The relay: a batch job's request, sent to the portal inside a live session, and the portal's answer sent back.
//!
//! The caller never sees an expiry: an answer that means "logged out" expires the session, the standby takes over, and the
//! request is sent again. Neither the caller's credentials nor the portal's cookies cross over. The request stays on the
//! portal's origin because only its path and query are the caller's. A request whose outcome is unknown is sent again
//! only where that is harmless.

mod cache;
mod headers;
mod meter;
mod outgoing;
mod target;

use std::fmt;
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::{Method, Response, Uri};

use super::check::{self, Verdict};
use super::jar::Merge;
use super::portal::{Picked, Portal};
use super::session::{Session, short};
use super::upstream::{self, Body, Reuse, UpstreamError};
use super::way::{self, Outbound};
use crate::clock::Time;
use crate::store::StoreError;
use cache::{Cache, Course};
use meter::Meter;
use outgoing::{Kept, Outgoing};

/// How often one request may be sent: through an expiry, to a session that seems to have healed, after refreshed values,
/// and after a lost answer.
const SENDS: u32 = 7;
/// How long a request waits after a value could not be refreshed, the first time and at most. Nearly always a browser has
/// just died, and another is on its way.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A request on its way through. `Debug` leaves out what may be secret: the query, and headers such as `Authorization`.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query at the portal, beginning with a slash, still encoded as the caller sent it.
    pub path_and_query: String,
    /// The caller's headers.
    pub headers: HeaderMap,
    /// The caller's body.
    pub body: Body,
    /// The session that the caller names.
    pub session: Option<String>,
    /// Whether another one may serve instead.
    pub fallback: bool,
    /// How long to wait for a session.
    pub park: Duration,
    /// The only epoch in which it may be sent: what was begun on one session may have no sense on another.
    pub epoch: Option<u64>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next();
        f.debug_struct("Call").field("method", &self.method).field("path", &path).finish_non_exhaustive()
    }
}

/// The portal's answer, and which session got it.
#[derive(Debug)]
pub struct Relayed {
    /// Status, headers and body as the portal sent them, less its cookies.
    pub answer: Response<Body>,
    /// The session that served.
    pub session_id: String,
    /// Whether it is another one than the caller named.
    pub fallback: bool,
    /// The portal's epoch when it was sent.
    pub epoch: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No session came alive in time.
    #[error("no session of the portal is alive; try again later")]
    NoLiveSession,
    /// The session that was named is not alive, and the caller allows no other.
    #[error("the session is not alive, and X-Session-Fallback forbids another")]
    SessionGone,
    /// The portal's epoch is not the one that the caller insists on; nothing was sent in another.
    #[error("the portal's epoch is {now}, and X-Session-Epoch allows only {wanted}")]
    StaleEpoch {
        /// The epoch that the caller named.
        wanted: u64,
        /// The present one.
        now: u64,
    },
    /// The request left and no answer came; the portal may have acted on it.
    #[error("whether the portal acted on the request is unknown: {0}")]
    InDoubt(String),
    /// The portal cannot be reached; nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The session expired under a request whose body was too large to keep for a second sending.
    #[error("the session expired and the body is too large to be sent again; send the request again")]
    NotReplayable,
    /// The request asks for a WebSocket.
    #[error("the relay carries HTTP requests and answers only, no WebSocket")]
    Upgrade,
    /// The body is larger than the way to this portal carries, in bytes.
    #[error("this portal is called by a browser (via = \"browser\"), which carries a body of at most {} MiB", .0 >> 20)]
    TooLarge(usize),
    /// The way to this portal cannot carry such a request.
    #[error("{0}")]
    Unsupported(String),
    /// The request cannot be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// The caller's body broke off.
    #[error("the request body broke off")]
    Body(upstream::BoxError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The relay of the process; clones share its memory.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    kept: Kept,
    cache: Cache,
}

impl Relay {
    /// Sends `call` through a live session of `portal`.
    ///
    /// # Errors
    /// [`RelayError`]; only `InDoubt` leaves open whether the portal has acted.
    pub async fn send(&self, portal: &Portal, call: Call) -> Result<Relayed, RelayError> {
        let mut meter = Meter::new(portal.name());
        let sent = self.carry(portal, call, &mut meter).await;
        meter.done(sent.as_ref().err());
        sent
    }

    async fn carry(&self, portal: &Portal, call: Call, meter: &mut Meter) -> Result<Relayed, RelayError> {
        if headers::wants_websocket(&call.headers) {
            return Err(RelayError::Upgrade);
        }
        let uri = target::target(&portal.recipe().base_url, &call.path_and_query)?;
        let course = cache::course(portal, &call);
        let deadline = portal.now() + call.park;
        let harmless = harmless(&call);
        let headers = headers::request_headers(portal, &call);
        let body = self.kept.keep(&call.headers, call.body).await?;
        let Call { method, session, fallback, epoch, path_and_query, .. } = call;
        let mut sending = Sending { portal, method, uri, headers, session, fallback, epoch, deadline, harmless, body };
        match course {
            Course::Past => sending.run(meter).await,
            Course::Read(part) => self.cache.read(sending, part, &path_and_query, meter).await,
            Course::Write(parts) => {
                let _changing = self.cache.change(portal, parts);
                sending.run(meter).await
            }
        }
    }
}

/// One request, to be sent until there is an answer for the caller.
struct Sending<'a> {
    portal: &'a Portal,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    session: Option<String>,
    fallback: bool,
    epoch: Option<u64>,
    deadline: Time,
    harmless: bool,
    body: Outgoing,
}

impl Sending<'_> {
    async fn run(&mut self, meter: &mut Meter) -> Result<Relayed, RelayError> {
        let portal = self.portal;
        let (mut doubted, mut confirmed, mut expiries) = (false, false, 0);
        let mut renewals = Renewals::default();
        let mut sends = 0;
        // What waits for a value to be refreshed is limited by its deadline.
        while sends - renewals.failed < SENDS {
            sends += 1;
            let picked = self.pick(meter).await?;
            let (proofs, value) = (picked.session.proofs(), refreshable(portal, &picked.session));
            let (expired, answer) = match self.ask(&picked, doubted).await {
                Ok(answered) => answered,
                Err(AskError::Upstream(UpstreamError::InDoubt(_)))
                    if self.harmless && !doubted && self.body.again() =>
                {
                    doubted = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(why) = expired {
                // The first verdict costs nothing. A second one for the same request may be about the request: a path that
                // this account may not see must not take every session down. Or the session has healed since, and the
                // portal is asked once more.
                expiries += 1;
                if expiries > 1 && is_alive(portal, &picked).await {
                    if std::mem::replace(&mut confirmed, true) || !self.body.again() {
                        return Ok(relayed(&picked, answer));
                    }
                } else if picked.session.proofs() == proofs {
                    // Found alive after this request had left, the session is not what the late answer says.
                    portal.expire(picked.session.id(), &why).await?;
                }
                meter.resent();
            } else if renewals.may_help(&picked) && wants_refresh(portal, answer.status().as_u16()) && self.body.again()
            {
                if !renewals.renew(portal, &picked, value.as_deref(), self.deadline).await {
                    return Ok(relayed(&picked, answer));
                }
            } else {
                return Ok(relayed(&picked, answer));
            }
            if !self.body.again() {
                return Err(RelayError::NotReplayable);
            }
        }
        Err(RelayError::NoLiveSession)
    }

    /// The session for one sending, in the only epoch that the caller allows if it names one.
    async fn pick(&mut self, meter: &mut Meter) -> Result<Picked, RelayError> {
        let Some(wanted) = self.epoch else { return self.pick_in_any(meter).await };
        let portal = self.portal;
        let stale = |now| RelayError::StaleEpoch { wanted, now };
        let picked = tokio::select! {
            // An epoch never comes back: there is nothing to be parked for.
            biased;
            now = left(portal, wanted) => return Err(stale(now)),
            picked = self.pick_in_any(meter) => picked?,
        };
        if picked.epoch == wanted { Ok(picked) } else { Err(stale(picked.epoch)) }
    }

    async fn pick_in_any(&mut self, meter: &mut Meter) -> Result<Picked, RelayError> {
        let (portal, named) = (self.portal, self.session.as_deref());
        let picked = match portal.pick(named, self.fallback) {
            Some(picked) => picked,
            None if named.is_some() && !self.fallback => return Err(RelayError::SessionGone),
            None => {
                meter.parked();
                let parked = portal.pick_by(named, self.fallback, self.deadline).await;
                parked.ok_or(RelayError::NoLiveSession)?
            }
        };
        if let (true, Some(named)) = (picked.fallback, named) {
            let (named, serving) = (short(named), short(picked.session.id()));
            tracing::info!(portal = portal.name(), "[Session Fallback] requested({named}) → active({serving})");
        }
        Ok(picked)
    }

    /// Sends the request once. Returns the answer, and why it means "logged out" if it does.
    async fn ask(&mut self, picked: &Picked, doubted: bool) -> Result<(Option<String>, Response<Body>), AskError> {
        let portal = self.portal;
        let body = self.body.take().ok_or(AskError::NotReplayable)?;
        let reuse = match self.harmless && self.body.again() {
            true if doubted => Reuse::Never,
            true => Reuse::Any,
            false => Reuse::Young,
        };
        let (method, headers) = (self.method.clone(), self.headers.clone());
        let templates = &portal.recipe().relay.headers;
        let outbound = Outbound { method, uri: &self.uri, headers, templates, body, reuse };
        let answer = way::send(portal, &picked.session, outbound).await?;
        if picked.session.unsaved() == Merge::Changed {
            // A value that the portal changed must survive our own death, or the session might not.
            portal.save(&picked.session).await;
        }
        let looked = check::logged_out(portal.recipe(), &self.uri, answer).await;
        if looked.as_ref().is_ok_and(|(expired, answer)| expired.is_none() && answer.status().as_u16() < 400) {
            picked.session.proven(&portal.tools().clock);
        }
        looked.map_err(|error| UpstreamError::InDoubt(error.to_string()).into())
    }
}

/// Why one sending got no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("the body was sent already")]
    NotReplayable,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

impl From<AskError> for RelayError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NotReplayable => Self::NotReplayable,
            AskError::Upstream(error) => error.into(),
        }
    }
}

/// Waits until the portal has left `epoch`, and tells the one that it is in then.
async fn left(portal: &Portal, epoch: u64) -> u64 {
    let mut live = portal.live();
    let now = live.wait_for(|live| live.record.epoch != epoch).await.map(|live| live.record.epoch);
    match now {
        Ok(now) => now,
        Err(_) => std::future::pending().await,
    }
}

impl From<UpstreamError> for RelayError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::NotSent(why) => Self::Unreachable(why),
            UpstreamError::InDoubt(why) => Self::InDoubt(why),
            UpstreamError::Body(cause) => Self::Body(cause),
            UpstreamError::TooLarge(limit) => Self::TooLarge(limit),
            UpstreamError::Unsupported(why) => Self::Unsupported(why),
            UpstreamError::Invalid(why) => Self::Invalid(why),
        }
    }
}

/// What the recipe's own check says about the session.
async fn is_alive(portal: &Portal, picked: &Picked) -> bool {
    check::check(portal, &picked.session).await == Verdict::Alive
}

fn relayed(picked: &Picked, mut answer: Response<Body>) -> Relayed {
    headers::answer_headers(answer.headers_mut());
    Relayed { answer, session_id: picked.session.id().to_owned(), fallback: picked.fallback, epoch: picked.epoch }
}

/// Whether an answer means that a saved value went stale.
fn wants_refresh(portal: &Portal, status: u16) -> bool {
    portal.recipe().relay.refresh.as_ref().is_some_and(|refresh| refresh.status.contains(&status))
}

/// The value that `relay.refresh` renews, as the session has it now.
pub(super) fn refreshable(portal: &Portal, session: &Session) -> Option<String> {
    portal.recipe().relay.refresh.as_ref().and_then(|refresh| session.value(&refresh.save))
}

/// What was done about refused values for one request.
#[derive(Default)]
struct Renewals {
    /// The session that last got a new value for it.
    renewed: Option<String>,
    /// How often none could be had: a browser died, or the session is over and its next answer says so.
    failed: u32,
}

impl Renewals {
    /// A refusal of a fresh value is the portal's own.
    fn may_help(&self, picked: &Picked) -> bool {
        self.renewed.as_deref() != Some(picked.session.id())
    }

    /// Sees to it that the session has another value than the refused one; false where the portal has no other. Where that
    /// could not be found out, the refused request has done nothing and may be sent again: after a pause, until `deadline`.
    async fn renew(&mut self, portal: &Portal, picked: &Picked, refused: Option<&str>, deadline: Time) -> bool {
        let is_new = || refreshable(portal, &picked.session).as_deref() != refused;
        let fetched = is_new() || portal.refresh(picked.session.id(), refused).await;
        match (is_new(), fetched) {
            (true, _) => self.renewed = Some(picked.session.id().to_owned()),
            (false, true) => return false,
            (false, false) => {
                let pause = (FIRST_PAUSE * 2_u32.pow(self.failed.min(8))).min(LONGEST_PAUSE);
                self.failed += 1;
                if portal.now() + pause > deadline {
                    return false;
                }
                portal.tools().clock.sleep(pause).await;
            }
        }
        true
    }
}

/// Sending it twice does no harm, by HTTP's own rules or by the caller's word.
fn harmless(call: &Call) -> bool {
    matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS) || call.headers.contains_key("idempotency-key")
}

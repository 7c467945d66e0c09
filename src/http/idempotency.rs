//! `Idempotency-Key`: a POST that creates or sends something is carried out once for a key, and its answer is given again
//! to whoever repeats it within a day.
//!
//! The key counts for one principal, method and path. It is claimed durably before the work begins, and the work goes on
//! when its client leaves, so a claim never hangs. A claim without an answer that nobody is at any more, because the process
//! died or could not note the end, is taken over: the work begins anew with the same [`Once::seed`], from which it derives
//! its ids, so that what was made already is found and not made twice. What failed on our side (5xx), came too often (429)
//! or says `Retry-After` may be tried again, in the same way. Nothing here knows what the work is.

use std::collections::HashSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::body::Raw;
use super::problem::{Kept, MEDIA_TYPE, Problem};
use crate::clock::{Clock, Time};
use crate::ids::Random;
use crate::lifecycle::{Lifecycle, panic_message};
use crate::operators::Principal;
use crate::secret::Vault;
use crate::store::{Decision, Expires, Kind, Record, Store, StoreError, Stored};

/// How long an answer is remembered.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest key.
const LONGEST: usize = 255;
/// A record holds so much of an answer's body; longer ones take several.
const PIECE: usize = 48 * 1024;
/// The largest answer that is remembered.
const ANSWER: usize = 1024 * 1024;
/// The header.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Headers that belong to an answer rather than to the exchange.
const REMEMBERED: [HeaderName; 3] =
    [axum::http::header::CONTENT_TYPE, axum::http::header::ETAG, axum::http::header::LOCATION];

/// Remembers answers; clones share it.
#[derive(Clone, Debug)]
pub struct Idempotency {
    store: Store,
    clock: Clock,
    vault: Arc<Vault>,
    random: Random,
    life: Lifecycle,
    /// What this process is at.
    running: Arc<Running>,
}

/// Requests that are being carried out, by the ids of their notes.
#[derive(Debug, Default)]
struct Running(Mutex<HashSet<String>>);

impl Running {
    /// Held for an access, never across an await.
    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to carry a request out, until it is dropped.
struct Turn {
    id: String,
    running: Arc<Running>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.ids().remove(&self.id);
    }
}

/// What a request is, as far as its key counts.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asks.
    pub principal: Principal,
    /// How.
    pub method: Method,
    /// For what.
    pub path: String,
    /// With which headers.
    pub headers: HeaderMap,
    /// With which body, read as it came.
    pub body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let principal = Extension::<Principal>::from_request_parts(&mut parts, state).await;
        let Extension(principal) = principal.map_err(IntoResponse::into_response)?;
        let (method, uri, headers) = (parts.method.clone(), parts.uri.clone(), parts.headers.clone());
        let body = Raw::from_request(Request::from_parts(parts, body), state).await;
        let Raw(body) = body.map_err(IntoResponse::into_response)?;
        Ok(Self { principal, method, path: uri.path().to_owned(), headers, body })
    }
}

/// The one time that work is carried out.
#[derive(Clone, Debug, Default)]
pub struct Once {
    /// The same for every attempt until there is an answer, and for nothing else; None without a key. 256 bits that nobody
    /// can guess.
    pub seed: Option<[u8; 32]>,
}

/// A key that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    /// Of the request's body.
    body: String,
    seed: [u8; 32],
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// It has no answer that stands. Somebody is at it, or it may be tried again.
    Begun,
    Answered {
        status: u16,
        headers: Vec<(String, Vec<u8>)>,
        pieces: u32,
    },
}

/// The kinds of records that are kept here.
pub const KINDS: &[Kind] = &[Kind::of::<Used>(), Kind::of::<Piece>()];

impl Record for Used {
    const SPACE: &'static str = "idempotency";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

/// A part of an answer's body.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Piece(Vec<u8>);

impl Record for Piece {
    const SPACE: &'static str = "idempotency-body";
    const SCHEMA: u8 = 1;
    const URGENT: bool = true;
}

/// What to do with a request that carries a key.
enum Claim {
    /// It is ours to carry out, with this seed.
    Work([u8; 32]),
    /// It was answered.
    Replay(State),
    /// It is being carried out.
    Running,
    /// The key was used for something else.
    Another,
    /// There is no room for a note of the work, so it is not begun.
    Refused(StoreError),
}

impl Idempotency {
    /// Answers are kept in `store`, keyed by what `vault` makes of the request.
    pub fn new(store: Store, clock: Clock, vault: Arc<Vault>, random: Random, life: &Lifecycle) -> Self {
        Self { store, clock, vault, random, life: life.clone(), running: Arc::default() }
    }

    /// Carries `work` out, or gives the answer that it had before.
    pub async fn once<F>(&self, asked: &Asked, work: impl FnOnce(Once) -> F) -> Response
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let key = match key(&asked.headers) {
            Ok(Some(key)) => key,
            Ok(None) => return work(Once::default()).await,
            Err(problem) => return problem.into_response(),
        };
        let id = self.vault.fingerprint(&[
            b"idempotency",
            asked.principal.id.as_bytes(),
            asked.method.as_str().as_bytes(),
            asked.path.as_bytes(),
            key.as_bytes(),
        ]);
        let id = data_encoding::HEXLOWER.encode(&id);
        // Keyed, because a body may hold a password: a bare fingerprint could be guessed at faster than its hash.
        let body = data_encoding::HEXLOWER.encode(&self.vault.fingerprint(&[b"idempotency body", &asked.body]));
        let turn = self.turn(&id);
        match self.claim(&id, &body, turn.is_some()).await {
            Ok(Claim::Work(seed)) => self.carry_out(id, turn, work(Once { seed: Some(seed) })).await,
            Ok(Claim::Replay(state)) => self.replay(&id, state).unwrap_or_else(|error| failed(&error)),
            Ok(Claim::Running) => {
                let detail = "The same request is still being carried out.";
                Problem::conflict("idempotency_running", detail).retry_after(Duration::from_secs(1)).into_response()
            }
            Ok(Claim::Another) => {
                let detail = "This key was used with another body.";
                Problem::unprocessable("idempotency_mismatch", detail).field(KEY.as_str()).into_response()
            }
            Ok(Claim::Refused(error)) | Err(error) => failed(&error),
        }
    }

    /// The turn at the request with this note; None while somebody has it.
    fn turn(&self, id: &str) -> Option<Turn> {
        let fresh = self.running.ids().insert(id.to_owned());
        fresh.then(|| Turn { id: id.to_owned(), running: Arc::clone(&self.running) })
    }

    async fn claim(&self, id: &str, body: &str, has_turn: bool) -> Result<Claim, StoreError> {
        let (end, fresh) = (self.end(), self.random.bytes());
        let claimed = self.store.update::<Used, _>(id, |old| {
            let seed = match old.map(|old| &old.value) {
                Some(used) if used.body != body => return Decision::Keep(Claim::Another),
                Some(used @ Used { state: State::Answered { .. }, .. }) => {
                    return Decision::Keep(Claim::Replay(used.state.clone()));
                }
                _ if !has_turn => return Decision::Keep(Claim::Running),
                None => fresh,
                Some(used) => used.seed,
            };
            // What has begun is noted to its end whatever the disk; so on a full one, nothing begins.
            if let Err(full) = self.store.takes_new() {
                return Decision::Keep(Claim::Refused(full));
            }
            let used = Used { body: body.to_owned(), seed, state: State::Begun };
            Decision::Put(used, Expires::At(end), Claim::Work(seed))
        });
        Ok(claimed.await?.answer)
    }

    /// The client may leave; the work, and the note of its answer, do not.
    async fn carry_out(
        &self,
        id: String,
        turn: Option<Turn>,
        work: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        let this = self.clone();
        let work = async move {
            let _turn = turn;
            this.remember(&id, caught(work).await).await
        };
        self.to_its_end(work).await
    }

    /// Carries `work` out to its end also when its client leaves meanwhile: for what must not stop halfway, whether or not its
    /// answer may be kept.
    pub async fn to_its_end(&self, work: impl Future<Output = Response> + Send + 'static) -> Response {
        let (tell, told) = oneshot::channel();
        let work = async move {
            // Nobody waits for it any more if the client has left.
            let _ = tell.send(caught(work).await);
        };
        self.life.spawn("request that is carried to its end", work.in_current_span());
        told.await.unwrap_or_else(|_| Problem::internal().into_response())
    }

    async fn remember(&self, id: &str, answer: Response) -> Response {
        let (head, body) = answer.into_parts();
        // What asks to come again is no last word either.
        let later = head.headers.contains_key(RETRY_AFTER);
        let again = later || head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS;
        let kept = match to_bytes(body, ANSWER).await {
            // Nothing was changed, and notes of that would fill what is left of the disk.
            Ok(body) if head.status == StatusCode::INSUFFICIENT_STORAGE => self.forget(id).await.map(|()| body),
            Ok(body) if again => Ok(body),
            Ok(body) => self.keep(id, head.status, &head.headers, &body).await.map(|()| body),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be remembered: {error}");
                return Problem::internal().into_response();
            }
        };
        match kept {
            Ok(body) => Response::from_parts(head, Body::from(body)),
            // The work is done, whatever became of the note of it.
            Err(error) => {
                tracing::error!(%error, "an answer could not be remembered: {error}");
                Problem::internal().into_response()
            }
        }
    }

    async fn forget(&self, id: &str) -> Result<(), StoreError> {
        self.store.update::<Used, _>(id, |_| Decision::Delete(())).await.map(|_| ())
    }

    async fn keep(&self, id: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), StoreError> {
        let (end, mut pieces) = (self.end(), 0);
        // Before the record that counts them.
        for piece in body.chunks(PIECE) {
            let put = |_: Option<&_>| Decision::Put(Piece(piece.to_vec()), Expires::At(end), ());
            self.store.update::<Piece, _>(&format!("{id}/{pieces}"), put).await?;
            pieces += 1;
        }
        let remembered = |name: &HeaderName| Some((name.to_string(), headers.get(name)?.as_bytes().to_vec()));
        let headers: Vec<_> = REMEMBERED.iter().filter_map(remembered).collect();
        self.settle(id, State::Answered { status: status.as_u16(), headers, pieces }).await
    }

    /// Says how the work ended.
    async fn settle(&self, id: &str, state: State) -> Result<(), StoreError> {
        let put = |old: Option<&Stored<Used>>| match old {
            Some(old) => Decision::Put(Used { state: state.clone(), ..old.value.clone() }, Expires::Unchanged, ()),
            None => Decision::Keep(()),
        };
        self.store.update::<Used, _>(id, put).await.map(|_| ())
    }

    fn replay(&self, id: &str, state: State) -> Result<Response, StoreError> {
        let State::Answered { status, headers, pieces } = state else { return Ok(Problem::internal().into_response()) };
        let mut body = Vec::new();
        for piece in 0..pieces {
            match self.store.get::<Piece>(&format!("{id}/{piece}"))? {
                Some(found) => body.extend(found.value.0),
                None => return Ok(Problem::internal().into_response()),
            }
        }
        let is_problem = headers.iter().any(|(name, value)| name == "content-type" && value == MEDIA_TYPE.as_bytes());
        let problem = is_problem.then(|| serde_json::from_slice(&body).ok()).flatten();
        let mut response = Response::new(Body::from(body));
        if let Some(problem) = problem {
            response.extensions_mut().insert(Kept(problem));
        }
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
        Ok(response)
    }

    fn end(&self) -> Time {
        self.clock.now() + KEPT
    }
}

/// The key, if there is one.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut sent = headers.get_all(KEY).iter();
    let key = match (sent.next(), sent.next()) {
        (None, _) => return Ok(None),
        (Some(only), None) => only.to_str().unwrap_or_default(),
        (Some(_), Some(_)) => "",
    };
    if (1..=LONGEST).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(Some(key.to_owned()));
    }
    let detail = format!("Idempotency-Key is one header of 1 to {LONGEST} printable ASCII characters.");
    Err(Problem::bad_request("invalid_idempotency_key", detail).field(KEY.as_str()))
}

/// What `work` answers; a panic is an answer of ours, not the end of the process.
async fn caught(work: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let reason = panic_message(&*panic);
        tracing::error!(reason, "a request that is carried to its end panicked: {reason}");
        Problem::internal().into_response()
    })
}

fn failed(error: &StoreError) -> Response {
    Problem::store(error, "an idempotency key could not be looked up").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Settings, golden, space};

    #[tokio::test]
    async fn on_a_full_disk_no_work_begins_and_what_was_begun_is_noted() {
        let (dir, random) = (tempfile::tempdir().unwrap(), Random::seeded(1));
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let vault = Arc::new(Vault::from_file(&dir.path().join("key"), &random).unwrap());
        let open = |reserve| {
            let (life, settings) = (Lifecycle::new(), Settings { reserve, ..Durability::Acknowledged.into() });
            let store = Store::open(&dir.path().join("store"), settings, clock.clone(), &life).unwrap();
            (Idempotency::new(store, clock.clone(), Arc::clone(&vault), random.clone(), &life), life)
        };
        let principal = Principal { id: "a".to_owned(), name: "a".to_owned(), scopes: [].into() };
        let answer = |idempotency: Idempotency, key: &'static str| {
            let (principal, headers) =
                (principal.clone(), HeaderMap::from_iter([(KEY, HeaderValue::from_static(key))]));
            async move {
                let (method, path) = (Method::POST, "/".to_owned());
                let asked = Asked { principal, method, path, headers, body: Bytes::new() };
                idempotency.once(&asked, |_| async { StatusCode::CREATED.into_response() }).await.status().as_u16()
            }
        };
        let (idempotency, life) = open(space::LEAST_RESERVE);
        assert_eq!(answer(idempotency.clone(), "first").await, 201);
        assert!(life.shutdown(Duration::from_secs(60)).await);
        drop(idempotency);

        let (idempotency, _life) = open(2 * space::free(dir.path()).unwrap());
        assert_eq!(answer(idempotency.clone(), "first").await, 201, "what is stored is answered");
        assert_eq!(answer(idempotency.clone(), "second").await, 507);
        let notes = idempotency.store.list::<Used>(None, 9).await.unwrap();
        assert_eq!(notes.len(), 1, "a refused key leaves nothing");
        idempotency.settle(&notes[0].0, State::Begun).await.unwrap();
        assert_eq!(answer(idempotency, "first").await, 507, "another attempt is a beginning too");
    }

    #[tokio::test]
    async fn a_claim_whose_end_could_not_be_noted_is_taken_over_once_nobody_is_at_it() {
        let (dir, random) = (tempfile::tempdir().unwrap(), Random::seeded(1));
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let vault = Arc::new(Vault::from_file(&dir.path().join("key"), &random).unwrap());
        let life = Lifecycle::new();
        let store = Store::open(&dir.path().join("store"), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let idempotency = Idempotency::new(store, clock, vault, random, &life);
        let claim = async || {
            let turn = idempotency.turn("a");
            let claimed = idempotency.claim("a", "body", turn.is_some()).await.unwrap();
            (turn, claimed)
        };
        let (turn, Claim::Work(seed)) = claim().await else { panic!("it was free") };
        assert!(matches!(claim().await, (None, Claim::Running)));
        drop(turn);
        let (Some(_turn), Claim::Work(again)) = claim().await else { panic!("it hangs until the process ends") };
        assert_eq!(again, seed, "what was made already is found");
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let used = |state| Used { body: "ab".to_owned(), seed: [7; 32], state };
        golden::<Used>(&used(State::Begun), "026162070707070707070707070707070707070707070707070707070707070707070700");
        let headers = vec![("etag".to_owned(), vec![34])];
        golden::<Used>(
            &used(State::Answered { status: 201, headers, pieces: 2 }),
            "026162070707070707070707070707070707070707070707070707070707070707070701c9010465746167012202",
        );
        golden::<Piece>(&Piece(vec![1, 2, 3]), "03010203");
    }
}

//! One pipe to one browser: calls out, answers and events in, dispatched by number and session.
//!
//! Nothing here waits for anybody: a session that does not read its events is cut off rather than letting it stop the
//! answers of all others.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headless_chrome::protocol::cdp::types::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{surrogates, wire};
use crate::browsers::error::BrowserError;
use crate::browsers::frames::{Frame, Frames};
use crate::clock;
use crate::lifecycle::Lifecycle;

/// The largest message read: a screenshot of a long page is a few MB, everything else is bounded where it is asked for.
const MESSAGE_LIMIT: usize = 32 * 1024 * 1024;
/// Calls that may wait for the pipe to take them.
const OUTGOING_LIMIT: usize = 64;
/// Events a session may be behind before it is cut off.
const EVENT_LIMIT: usize = 1024;

/// A call that can be sent: one of headless_chrome's, or one of `wire`'s.
pub(super) trait Message: Method + Serialize {}
impl<M: Method + Serialize> Message for M {}

/// The pipe; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    outgoing: mpsc::Sender<Vec<u8>>,
    routes: Mutex<Routes>,
    next_id: AtomicU32,
    gone: CancellationToken,
}

/// Where what comes in goes to.
#[derive(Debug, Default)]
struct Routes {
    calls: HashMap<u32, oneshot::Sender<Result<Value, Refusal>>>,
    /// By session; the browser's own events have the empty name.
    sessions: HashMap<String, mpsc::Sender<Event>>,
}

/// Something that happened in a session.
#[derive(Debug)]
pub(super) struct Event {
    /// Its CDP name.
    pub(super) method: String,
    params: Value,
}

impl Event {
    /// Its parameters, or `None` when they are not what we know.
    pub(super) fn read<T: DeserializeOwned>(self) -> Option<T> {
        serde_json::from_value(self.params).ok()
    }

    /// The target that a page opened, if this is the news of one.
    pub(super) fn as_popup(&self) -> Option<String> {
        if self.method != "Target.targetCreated" {
            return None;
        }
        let created = wire::TargetCreated::deserialize(&self.params).ok()?;
        created.target_info.opener_id.is_some().then_some(created.target_info.target_id)
    }
}

#[derive(Serialize)]
struct Outgoing<'a, M> {
    id: u32,
    method: &'static str,
    params: &'a M,
    #[serde(rename = "sessionId", skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

#[derive(Deserialize)]
struct Incoming {
    id: Option<u32>,
    #[serde(rename = "sessionId", default)]
    session: String,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
}

/// The browser's "no".
#[derive(Debug, Deserialize)]
struct Refusal {
    message: String,
}

impl Connection {
    /// Starts the two tasks that read and write until the pipe ends.
    pub(super) fn open(to: pipe::Sender, from: pipe::Receiver, life: &Lifecycle) -> Self {
        let (outgoing, queue) = mpsc::channel(OUTGOING_LIMIT);
        let (routes, next_id, gone) = (Mutex::default(), AtomicU32::new(1), CancellationToken::new());
        let connection = Self(Arc::new(Shared { outgoing, routes, next_id, gone: gone.clone() }));
        life.spawn("browser pipe writer", write(to, queue, gone));
        life.spawn("browser pipe reader", connection.clone().read(from));
        connection
    }

    /// Cancelled when the pipe has ended.
    pub(super) fn gone(&self) -> CancellationToken {
        self.0.gone.clone()
    }

    /// The events of `session` from now on. The channel ends when the session does.
    pub(super) fn subscribe(&self, session: &str) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENT_LIMIT);
        self.routes().sessions.insert(session.to_owned(), sender);
        receiver
    }

    /// Stops dispatching to `session`.
    pub(super) fn unsubscribe(&self, session: &str) {
        self.routes().sessions.remove(session);
    }

    /// Calls `method` in `session` (or of the browser itself) and waits for its answer, at most `limit`.
    pub(super) async fn call<M: Message>(
        &self,
        session: Option<&str>,
        method: &M,
        limit: Duration,
    ) -> Result<M::ReturnObject, BrowserError> {
        let protocol = |detail| BrowserError::Protocol { call: M::NAME, detail };
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let outgoing = Outgoing { id, method: M::NAME, params: method, session };
        let mut frame = serde_json::to_vec(&outgoing).map_err(|error| protocol(error.to_string()))?;
        frame.push(0);
        let answer = clock::within(limit, self.exchange(id, frame))
            .await
            .map_err(|_| BrowserError::Hung { call: M::NAME, limit })??
            .map_err(|refusal| protocol(refusal.message))?;
        serde_json::from_value(answer).map_err(|error| protocol(error.to_string()))
    }

    async fn exchange(&self, id: u32, frame: Vec<u8>) -> Result<Result<Value, Refusal>, BrowserError> {
        let (sender, answer) = oneshot::channel();
        self.routes().calls.insert(id, sender);
        // Removed again however this ends, also when the caller gives up.
        let _entry = Entry { connection: self, id };
        let round_trip = async {
            self.0.outgoing.send(frame).await.map_err(|_| BrowserError::Gone)?;
            answer.await.map_err(|_| BrowserError::Gone)
        };
        tokio::select! {
            biased;
            () = self.0.gone.cancelled() => Err(BrowserError::Gone),
            answered = round_trip => answered,
        }
    }

    async fn read(self, from: pipe::Receiver) {
        let mut frames = Frames::new(from, 0, MESSAGE_LIMIT);
        loop {
            let frame =
                tokio::select! { biased; () = self.0.gone.cancelled() => break, frame = frames.next() => frame };
            match frame {
                Ok(Some(Frame::Whole(bytes))) => self.dispatch(&bytes),
                Ok(Some(Frame::TooLong)) => {
                    tracing::warn!("skipped a message of the browser over {MESSAGE_LIMIT} bytes");
                }
                Ok(None) | Err(_) => break,
            }
        }
        self.0.gone.cancel();
        *self.routes() = Routes::default();
    }

    fn dispatch(&self, bytes: &[u8]) {
        let read = serde_json::from_slice::<Incoming>(bytes);
        let Ok(incoming) = read.or_else(|_| serde_json::from_slice(&surrogates::mended(bytes))) else {
            // Its content stays out of the log: it may be a page's.
            tracing::warn!("skipped a message of the browser that is no CDP ({} bytes)", bytes.len());
            return;
        };
        match incoming {
            Incoming { id: Some(id), result, error, .. } => {
                let waiting = self.routes().calls.remove(&id);
                if let Some(waiting) = waiting {
                    let _ = waiting.send(error.map_or(Ok(result), Err));
                }
            }
            Incoming { method: Some(method), session, params, .. } => self.deliver(&session, Event { method, params }),
            _ => {}
        }
    }

    fn deliver(&self, session: &str, event: Event) {
        if event.method == "Target.detachedFromTarget" {
            if let Some(detached) = event.read::<wire::Detached>() {
                self.unsubscribe(&detached.session_id);
            }
            return;
        }
        let mut routes = self.routes();
        let full = routes.sessions.get(session).is_some_and(|events| events.try_send(event).is_err());
        if full {
            routes.sessions.remove(session);
        }
    }

    // A plain mutex: held for a map access, never across an await.
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.0.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry<'a> {
    connection: &'a Connection,
    id: u32,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.connection.routes().calls.remove(&self.id);
    }
}

async fn write(mut to: pipe::Sender, mut queue: mpsc::Receiver<Vec<u8>>, gone: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = gone.cancelled() => return,
            frame = queue.recv() => {
                let Some(frame) = frame else { return };
                // A stopped browser fills the pipe and would hold this write for ever.
                let written = tokio::select! { biased; () = gone.cancelled() => return, done = to.write_all(&frame) => done };
                if written.is_err() {
                    return gone.cancel();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (pipe::Sender, pipe::Receiver) {
        pipe::pipe().unwrap()
    }

    async fn answer(from: &mut Frames<pipe::Receiver>, to: &mut pipe::Sender, reply: impl Fn(u64) -> String) {
        let Some(Frame::Whole(bytes)) = from.next().await.unwrap() else { panic!("no call") };
        let call: Value = serde_json::from_slice(&bytes).unwrap();
        to.write_all(reply(call["id"].as_u64().unwrap()).as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn answers_find_their_calls_and_a_refusal_carries_the_browsers_words() {
        let life = Lifecycle::new();
        let ((to, far_in), (mut far_out, from)) = (pair(), pair());
        let connection = Connection::open(to, from, &life);
        let mut far_in = Frames::new(far_in, 0, 1000);
        let limit = Duration::from_secs(5);
        let reply = |id| {
            format!("not json\0{{\"id\":999,\"result\":{{}}}}\0{{\"id\":{id},\"result\":{{\"새\":\"\\ud83d\"}}}}\0")
        };
        let (called, ()) =
            tokio::join!(connection.call(None, &wire::Close {}, limit), answer(&mut far_in, &mut far_out, reply));
        called.unwrap();
        let reply = |id| format!("{{\"id\":{id},\"error\":{{\"code\":-1,\"message\":\"no such tab\"}}}}\0");
        let (called, ()) =
            tokio::join!(connection.call(None, &wire::Close {}, limit), answer(&mut far_in, &mut far_out, reply));
        assert!(called.unwrap_err().to_string().contains("no such tab"));
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline_and_the_end_of_the_pipe_at_once() {
        let life = Lifecycle::new();
        let ((to, _far_in), (far_out, from)) = (pair(), pair());
        let connection = Connection::open(to, from, &life);
        let hung = connection.call(None, &wire::Close {}, Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(hung, BrowserError::Hung { call: "Browser.close", .. }));
        assert!(connection.routes().calls.is_empty());
        drop(far_out);
        let gone = connection.call(None, &wire::Close {}, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(gone, BrowserError::Gone);
    }

    #[tokio::test]
    async fn events_go_to_their_session_and_a_deaf_session_is_cut_off() {
        let life = Lifecycle::new();
        let ((to, _far_in), (_far_out, from)) = (pair(), pair());
        let connection = Connection::open(to, from, &life);
        let mut events = connection.subscribe("S");
        connection.dispatch(br#"{"method":"Page.x","params":{},"sessionId":"other"}"#);
        for _ in 0..=EVENT_LIMIT {
            connection.dispatch(br#"{"method":"Page.y","params":{},"sessionId":"S"}"#);
        }
        let mut seen = 0;
        while let Some(event) = events.recv().await {
            assert_eq!(event.method, "Page.y");
            seen += 1;
        }
        assert_eq!(seen, EVENT_LIMIT);
    }
}

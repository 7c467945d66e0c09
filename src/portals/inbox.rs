//! The inbox: brings the code from a phone's SMS to the login that asked for it, early, late, twice or not at all.
//!
//! A login takes its turn on the phone ([`Inbox::turn`]), says when it asks for a code ([`Turn::expect`]) and waits for it
//! ([`Turn::code`]). A message is judged against the request it can be for: sender, carrier time, one unambiguous code.
//! What is kept, the fingerprint and for half a minute the sealed code, is durable before the forwarder gets its answer; a
//! code leaves the phone's record by compare-and-swap, so it is used once whoever comes at the same time.
//!
//! After a crash the login is gone, and so is the window that its code belonged to: the next login asks for a new one.
//!
//! Nothing here ever logs or stores a text or a code, nor knows HTTP. Logins wait in memory, in one process: who shares a
//! store among processes must see to it that one of them owns the phone.

mod line;
mod record;
pub mod sender;
mod signs;
mod status;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::code::{self, Found, MAX_CODE, Rules};
use super::forwarders::Message;
use crate::clock::{Clock, Time};
use crate::config::SilentAfter;
use crate::lifecycle::Lifecycle;
use crate::secret::{Secret, Vault, VaultError};
use crate::store::{Decision, Expires, Store, StoreError};
use line::{Awaited, Line};
pub use record::BUFFER_LIFE;
pub(super) use record::KINDS;
use record::{Held, Mark, Phone, Print, second};
pub(super) use signs::News;
pub use status::{PhoneState, PhoneStatus};
use turn::Post;
pub use turn::{Code, NoCode, Turn};

/// How long a login waits for its code unless the recipe says otherwise.
pub const CODE_TIMEOUT: Duration = Duration::from_secs(120);

/// How many logins may queue for one phone besides the one that has it: one a portal, and a phone for a hundred portals
/// is more than any team has.
pub const QUEUE_MAX: usize = 100;

/// How old a carrier time may be, request or not: later it is a replay.
const OLDEST: Duration = Duration::from_secs(10 * 60);

/// How far ahead of our clock a carrier's may be.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// How long a phone that says nothing is remembered.
const PHONE_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The inbox of all phones; clones share it.
#[derive(Clone, Debug)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    vault: Arc<Vault>,
    stop: CancellationToken,
    lines: Mutex<BTreeMap<String, Arc<Line>>>,
    /// When each configured phone is missed.
    watched: Mutex<BTreeMap<String, SilentAfter>>,
    started: Time,
    /// Something is to be said about a phone, perhaps.
    news: Notify,
}

/// What a login expects.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What the code looks like.
    pub rules: Rules,
    /// Who may send it; empty: anybody.
    pub senders: Vec<String>,
    /// How long to wait for it; see [`CODE_TIMEOUT`].
    pub timeout: Duration,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It had the code, and the login waits for it.
    Handed {
        /// The portal that the login is at.
        portal: String,
    },
    /// It had the code; the login is under way and will come for it.
    Buffered {
        /// The portal that the login is at.
        portal: String,
    },
    /// It is of no use.
    Refused(Reason),
}

/// Why a message is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No login has asked for a code.
    NoLoginWaiting,
    /// There is no code in it.
    NoCode,
    /// There are several that could be it.
    Ambiguous,
    /// It was here before, or carries a code that the portal has just rejected.
    Duplicate,
    /// It was sent before the code was asked for, or its time is impossible.
    Stale,
    /// The recipe expects its code from others.
    SenderNotAllowed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLoginWaiting => "no_login_waiting",
            Self::NoCode => "no_code",
            Self::Ambiguous => "ambiguous",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::SenderNotAllowed => "sender_not_allowed",
        })
    }
}

/// Why a login does not get the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// [`QUEUE_MAX`] logins wait already.
    #[error("too many logins wait for this phone")]
    Full,
    /// The logins before it took too long.
    #[error("the phone did not become free in time")]
    Deadline,
    /// The process is stopping.
    #[error("stopping")]
    Stopping,
}

/// Why a typed code is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTyped {
    /// No login of this portal is under way.
    #[error("no login of this portal waits for a code")]
    NotWaiting,
    /// It is not a code.
    #[error("a code has 1 to {MAX_CODE} letters and digits")]
    Malformed,
    /// It is none of this portal's, whose codes have so many digits.
    #[error("this portal's codes have {0} digits")]
    Length(u8),
}

/// Why the inbox could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A code could not be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl Inbox {
    /// An inbox over `store`; waits end when `life` does.
    pub fn new(store: Store, clock: Clock, vault: Arc<Vault>, life: &Lifecycle) -> Self {
        let (stop, started) = (life.stopping(), clock.now());
        let (lines, watched, news) = (Mutex::default(), Mutex::default(), Notify::new());
        Self(Arc::new(Shared { store, clock, vault, stop, lines, watched, started, news }))
    }

    /// Waits until all of `phones` are free for a login at `portal`, first come first served at each. The first named is
    /// looked at first. One that is silent and has another login waiting in vain is left out, if another one is there.
    ///
    /// # Errors
    /// [`Busy`]; the phones stay with who has them.
    pub async fn turn(&self, phones: &[impl AsRef<str>], portal: &str, deadline: Time) -> Result<Turn, Busy> {
        let place = |name: &str| phones.iter().position(|phone| phone.as_ref() == name);
        // In the same order whoever comes, so that no two wait for what the other has.
        let names: BTreeSet<&str> = phones.iter().map(AsRef::as_ref).collect();
        let mut posts = Vec::with_capacity(names.len());
        for name in &names {
            if names.len() > 1 && self.phone(name).is_ok_and(|status| status.state == PhoneState::Silent) {
                posts.extend(self.post_at_once(name));
            } else {
                posts.push(self.post(name, deadline).await?);
            }
        }
        if posts.is_empty() {
            for name in &names {
                posts.push(self.post(name, deadline).await?);
            }
        }
        posts.sort_by_key(|post| place(&post.phone));
        Ok(Turn::begin(self.clone(), portal, posts))
    }

    /// Waits at one phone's door.
    async fn post(&self, phone: &str, deadline: Time) -> Result<Post, Busy> {
        let line = self.line(phone);
        // The one who walks straight in counts as well, for an instant.
        let _place = line.queue(QUEUE_MAX).ok_or(Busy::Full)?;
        let door = Arc::clone(&line.door).acquire_owned();
        let entered = tokio::select! {
            biased;
            () = self.stopping() => return Err(Busy::Stopping),
            entered = self.0.clock.until(deadline, door) => entered,
        };
        // The semaphore is never closed; if it were, nobody would get in before the deadline either.
        let door = entered.ok().and_then(Result::ok).ok_or(Busy::Deadline)?;
        Ok(Post { phone: phone.to_owned(), line: Arc::clone(&line), _door: door })
    }

    /// Takes one phone that nobody has or waits for.
    fn post_at_once(&self, phone: &str) -> Option<Post> {
        let line = self.line(phone);
        let door = Arc::clone(&line.door).try_acquire_owned().ok()?;
        Some(Post { phone: phone.to_owned(), line, _door: door })
    }

    /// Takes in a message that the phone forwarded. What the receipt says is durable.
    ///
    /// `phone` must be one of the configured ones: each name is remembered as long as the process lives.
    ///
    /// # Errors
    /// When it could not be kept; the forwarder shall send it again.
    pub async fn receive(&self, phone: &str, message: &Message) -> Result<Receipt, InboxError> {
        let (line, now) = (self.line(phone), self.now());
        let awaited = line.awaited();
        let offer = match &awaited {
            Some(awaited) => self.judge(phone, message, awaited, now)?,
            None => Err(Reason::NoLoginWaiting),
        };
        let print = self.message_print(message);
        let ring = line.ring_after();
        // The code that another phone brought first, also after the login has gone on with it: this one is no less alive.
        let came_second = |offer: &_| matches!(offer, Err(Reason::Duplicate | Reason::NoLoginWaiting));
        let second = match (awaited, line.outrun()) {
            (Some(awaited), _) => awaited.resting && came_second(&offer),
            (None, Some(outrun)) => came_second(&self.judge(phone, message, &outrun, now)?),
            (None, None) => false,
        };
        let kept = self.change(phone, |record| {
            let kept = record.receive(print, now, &offer);
            if second || kept.is_ok() {
                record.vain_at = None;
            }
            kept
        });
        let kept = kept.await?;
        // Asked before the ring, which ends the wait.
        let receipt = match (&kept, &offer) {
            (Ok(()), Ok(held)) => line.receipt(held),
            (Err(reason), _) | (_, Err(reason)) => Some(Receipt::Refused(*reason)),
        };
        drop(ring);
        self.0.news.notify_one();
        // A login that ended meanwhile has no more use for it.
        let receipt = receipt.unwrap_or(Receipt::Refused(Reason::NoLoginWaiting));
        log(phone, message, &receipt);
        Ok(receipt)
    }

    /// Gives a code that an operator typed to the login of `portal` that is under way, whether it waits yet or not. It is
    /// used before any SMS.
    ///
    /// # Errors
    /// [`NotTyped`] when there is no such login or this is no code.
    pub fn type_code(&self, portal: &str, code: &Secret) -> Result<(), NotTyped> {
        let text = code.expose().trim();
        let wellformed = (1..=MAX_CODE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !wellformed {
            return Err(NotTyped::Malformed);
        }
        let code = Secret::new(text);
        let lines: Vec<Arc<Line>> = self.lines().values().cloned().collect();
        if lines.iter().any(|line| line.type_code(portal, &code)) { Ok(()) } else { Err(NotTyped::NotWaiting) }
    }

    /// The code that the message offers to the login, sealed; or why it offers none.
    fn judge(
        &self,
        phone: &str,
        message: &Message,
        awaited: &Awaited,
        now: Time,
    ) -> Result<Result<Held, Reason>, VaultError> {
        let Awaited { window, rejected, resting } = awaited;
        if !sender::allowed(&message.from, &window.expected.senders) {
            return Ok(Err(Reason::SenderNotAllowed));
        }
        if !timely(message.sent_at, window.since, now) {
            return Ok(Err(Reason::Stale));
        }
        let code = match code::find(message.text.expose(), &window.expected.rules) {
            Found::Code(code) => code,
            Found::Nothing => return Ok(Err(Reason::NoCode)),
            Found::Ambiguous => return Ok(Err(Reason::Ambiguous)),
        };
        let print = self.code_print(&code);
        if rejected.contains(&print) {
            return Ok(Err(Reason::Duplicate));
        }
        if *resting {
            return Ok(Err(Reason::NoLoginWaiting));
        }
        let sealed = self.0.vault.seal(&place(phone), code.expose().as_bytes())?;
        let mark = Mark { sent_at: message.sent_at, arrived_at: now };
        Ok(Ok(Held { sealed, print, window: window.number, mark }))
    }

    /// Changes the phone's record; `act` may run again and must be pure.
    async fn change<R>(&self, phone: &str, mut act: impl FnMut(&mut Phone) -> R) -> Result<R, InboxError> {
        let expires = Expires::At(self.now() + PHONE_LIFE);
        let updated = self.0.store.update::<Phone, R>(phone, |old| {
            let mut record = old.map(|stored| stored.value.clone()).unwrap_or_default();
            let answer = act(&mut record);
            match old {
                Some(old) if old.value == record => Decision::Keep(answer),
                _ => Decision::Put(record, expires, answer),
            }
        });
        Ok(updated.await?.answer)
    }

    fn open(&self, phone: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.0.vault.open(&place(phone), sealed)
    }

    /// Recognises a message by what it says and when it was sent: its id differs from one webhook to the next.
    fn message_print(&self, message: &Message) -> Print {
        let sent = message.sent_at.map_or_else(String::new, |at| second(at).to_string());
        let from = sender::plain(&message.from);
        self.print(&[b"sms", from.as_bytes(), message.text.expose().trim().as_bytes(), sent.as_bytes()])
    }

    fn code_print(&self, code: &Secret) -> Print {
        self.print(&[b"code", code.expose().as_bytes()])
    }

    fn print(&self, parts: &[&[u8]]) -> Print {
        let mut print = Print::default();
        print.iter_mut().zip(self.0.vault.fingerprint(parts)).for_each(|(to, from)| *to = from);
        print
    }

    fn line(&self, phone: &str) -> Arc<Line> {
        Arc::clone(self.lines().entry(phone.to_owned()).or_insert_with(|| Arc::new(Line::new())))
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Line>>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        self.0.clock.now()
    }

    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.0.clock.sleep(span)
    }

    async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }
}

/// Where a code is sealed for.
fn place(phone: &str) -> String {
    format!("phone/{phone}/code")
}

/// Whether a message with this carrier time can be for a code asked for at `since`. The request is taken back to its full
/// second, because that is all that most carriers tell.
fn timely(sent_at: Option<Time>, since: Time, now: Time) -> bool {
    sent_at.is_none_or(|sent| second(sent) >= second(since) && now.since(sent) <= OLDEST && sent.since(now) <= AHEAD)
}

fn log(phone: &str, message: &Message, receipt: &Receipt) {
    let event_id = message.event_id.as_deref();
    match receipt {
        Receipt::Handed { portal } => {
            tracing::info!(phone, portal, event_id, "SMS code on phone {phone} handed to portal {portal}");
        }
        Receipt::Buffered { portal } => {
            tracing::info!(
                phone,
                portal,
                event_id,
                "SMS code on phone {phone} kept for portal {portal}, which does not wait yet"
            );
        }
        Receipt::Refused(reason) => {
            tracing::info!(phone, %reason, event_id, "SMS on phone {phone} refused: {reason}");
        }
    }
}

//! The courier: one task for each kind of channel, which delivers what waits for it, oldest first.
//!
//! It keeps in memory only which letters wait and since when; everything else is in their records, so a restart goes on
//! where it stood. A channel that does not work rests as a whole; a letter that the channel does not take rests alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::channel::{Channels, Enclosure, Failure, Outgoing};
use super::letter::{self, FAILED_SHOWN, Letter, REMEMBERED, State};
use super::message::Kind;
use super::{Content, Outbox, OutboxError};
use crate::clock::{Time, within};
use crate::lifecycle::Lifecycle;
use crate::store::{Change, Decision, Expires, StoreError};

/// The pause after the store failed, or while another process has the right to deliver.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest rest that the other side can ask for.
const LONGEST_WISH: Duration = Duration::from_secs(3600);
/// How long a stop waits for the attempt that is under way: cut off, it would be made again after the start.
const GRACE: Duration = Duration::from_secs(3);

pub(super) fn start(outbox: Outbox, kind: Kind, life: &Lifecycle) {
    let (stop, channels) = (life.stopping(), outbox.0.channels.subscribe());
    let courier = Courier { outbox, kind, stop, channels, waiting: BTreeMap::new(), failures: 0, rests_until: None };
    life.supervise(format!("outbox {}", kind.name()), courier.run());
}

struct Courier {
    outbox: Outbox,
    kind: Kind,
    stop: CancellationToken,
    channels: watch::Receiver<Arc<Channels>>,
    /// By creation and id: not before when.
    waiting: BTreeMap<(Time, String), Turn>,
    /// Of the channel, in a row.
    failures: u32,
    rests_until: Option<Time>,
}

/// When a waiting letter wants to be looked at.
#[derive(Clone, Copy)]
struct Turn {
    next_at: Time,
    give_up_at: Time,
}

impl Courier {
    async fn run(mut self) {
        let name = format!("outbox/{}", self.kind.name());
        // Among processes that share the store one delivers: letters found in `sending` are its own.
        let _right = loop {
            if let Some(lease) = self.outbox.0.store.lease(&name) {
                break lease;
            }
            if self.pause().await {
                return;
            }
        };
        let mut changes = self.outbox.0.store.changes::<Letter>();
        let mut look_at_all = true;
        while !self.stop.is_cancelled() {
            let round = async {
                if look_at_all {
                    self.look_at_all().await?;
                }
                self.deliver_due().await
            };
            if let Err(error) = round.await {
                tracing::error!(channel = self.kind.name(), %error, "{name} waits for the store: {error}");
                look_at_all = true;
                if self.pause().await {
                    return;
                }
                continue;
            }
            look_at_all = self.wait(&mut changes).await;
        }
    }

    /// Waits until there may be something to do; tells whether everything must be looked at.
    async fn wait(&mut self, changes: &mut Receiver<Change>) -> bool {
        let (clock, wake_at) = (self.outbox.0.clock.clone(), self.wake_at());
        let due = async {
            match wake_at {
                Some(moment) => clock.sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = due => false,
            // The outbox that we hold keeps the sender: this never fails.
            _ = self.channels.changed() => {
                (self.failures, self.rests_until) = (0, None);
                false
            }
            change = changes.recv() => match change {
                Ok(change) => self.note(&change) || self.note_rest(changes),
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => {
                    self.stop.cancelled().await;
                    false
                }
            },
        }
    }

    /// Takes in the changes that are there already, so that many at once make one round.
    fn note_rest(&mut self, changes: &mut Receiver<Change>) -> bool {
        loop {
            match changes.try_recv() {
                Ok(change) if self.note(&change) => return true,
                Ok(_) => {}
                Err(TryRecvError::Lagged(_)) => return true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return false,
            }
        }
    }

    /// Takes in one change; true when its record cannot be read and a full look shall tell why.
    fn note(&mut self, change: &Change) -> bool {
        let id = change.key.id();
        match self.outbox.0.store.get::<Letter>(id) {
            Ok(Some(letter)) => self.remember(id, &letter.value),
            Ok(None) => {}
            Err(_) => return true,
        }
        false
    }

    fn remember(&mut self, id: &str, letter: &Letter) {
        let place = (letter.created_at, id.to_owned());
        if letter.waits_for(self.kind) {
            self.waiting.insert(place, Turn { next_at: letter.next_at, give_up_at: letter.give_up_at() });
        } else {
            self.waiting.remove(&place);
        }
    }

    async fn look_at_all(&mut self) -> Result<(), StoreError> {
        self.waiting.clear();
        for (id, letter) in self.outbox.letters().await? {
            self.remember(&id, &letter);
        }
        Ok(())
    }

    /// When the next letter wants something: its attempt, or to be given up.
    fn wake_at(&self) -> Option<Time> {
        let rest = self.rests_until.unwrap_or_default();
        self.waiting.values().map(|turn| turn.next_at.max(rest).min(turn.give_up_at)).min()
    }

    async fn deliver_due(&mut self) -> Result<(), StoreError> {
        loop {
            let now = self.outbox.0.clock.now();
            let rests = self.rests_until.is_some_and(|until| until > now);
            let is_due = |turn: &Turn| turn.give_up_at <= now || (!rests && turn.next_at <= now);
            let due = self.waiting.iter().find(|(_, turn)| is_due(turn)).map(|((_, id), _)| id.clone());
            let Some(id) = due.filter(|_| !self.stop.is_cancelled()) else { return Ok(()) };
            match self.claim(&id, now).await? {
                Claim::Taken(letter) => match self.attempt(&id, &letter).await? {
                    Some(outcome) => self.settle(&id, &letter, outcome).await?,
                    // Stopped in the middle: the letter stays in `sending` and is sent again after the start.
                    None => return Ok(()),
                },
                Claim::Late(letter) => {
                    let reason = letter.last_error.as_deref().unwrap_or("there was no attempt");
                    let limit = if letter.expires_at.is_some() { "while it was of use" } else { "within 48 h" };
                    let reason = format!("not delivered {limit}; last: {reason}");
                    self.settle(&id, &letter, Err(Failure::Final(reason))).await?;
                }
                Claim::Gone => self.waiting.retain(|(_, waiting), _| *waiting != id),
            }
        }
    }

    /// Marks the letter as being sent.
    async fn claim(&self, id: &str, now: Time) -> Result<Claim, StoreError> {
        let kind = self.kind;
        let claim = self.outbox.0.store.update::<Letter, _>(id, |old| {
            let Some(mut letter) = old.map(|old| old.value.clone()).filter(|letter| letter.waits_for(kind)) else {
                return Decision::Keep(Claim::Gone);
            };
            if letter.give_up_at() <= now {
                return Decision::Keep(Claim::Late(letter));
            }
            letter.state = State::Sending;
            letter.attempts += 1;
            Decision::Put(letter.clone(), Expires::Unchanged, Claim::Taken(letter))
        });
        Ok(claim.await?.answer)
    }

    /// Makes one attempt; None when the process stops and it would not end in time.
    async fn attempt(&self, id: &str, letter: &Letter) -> Result<Option<Result<(), Failure>>, StoreError> {
        let (content, files) = match self.open(id, letter) {
            Ok(opened) => opened,
            Err(OutboxError::Store(error)) => return Err(error),
            Err(error) => return Ok(Some(Err(Failure::Message(error.to_string())))),
        };
        let channels = Arc::clone(&self.channels.borrow());
        let outgoing = Outgoing { id, content: &content, files: &files, created_at: letter.created_at };
        let mut attempt = std::pin::pin!(channels.deliver(&letter.channel, &outgoing));
        tokio::select! {
            biased;
            outcome = &mut attempt => Ok(Some(outcome)),
            () = self.stop.cancelled() => Ok(within(GRACE, attempt).await.ok()),
        }
    }

    /// The letter's content and files; a file that is gone is mentioned instead.
    fn open(&self, id: &str, letter: &Letter) -> Result<(Content, Vec<Enclosure>), OutboxError> {
        let mut content = Content::open(&self.outbox.0.vault, &Letter::context(id), &letter.sealed)?;
        let mut files = Vec::new();
        for file in &letter.files {
            match self.outbox.read(file)? {
                Some(bytes) => files.push(Enclosure { name: file.name.clone(), mime: file.mime.clone(), bytes }),
                None => content.text.push_str(&format!("\n(the attachment {} is no longer there)", file.name)),
            }
        }
        Ok((content, files))
    }

    /// Writes down how an attempt ended, and what follows from it for the channel.
    async fn settle(&mut self, id: &str, letter: &Letter, outcome: Result<(), Failure>) -> Result<(), StoreError> {
        // Read before anything is published: whoever sees the letter queued again may move the clock on at once.
        let now = self.outbox.0.clock.now();
        self.judge_channel(letter, &outcome, now);
        let mut after = letter.clone();
        let mut expires = Expires::Unchanged;
        match outcome {
            Ok(()) => {
                after.state = State::Sent(now);
                self.empty(id, &mut after);
                expires = Expires::At(now + REMEMBERED);
                tracing::info!(id, attempts = letter.attempts, "sent {id} by {}", letter.channel.kind().name());
            }
            Err(Failure::Final(reason)) => {
                tracing::error!(id, reason, "{id} by {} failed for good: {reason}", letter.channel.kind().name());
                after.state = State::Failed(reason);
                self.empty(id, &mut after);
                expires = Expires::At(now + FAILED_SHOWN);
            }
            Err(Failure::Message(reason)) => {
                if letter.attempts == 1 {
                    tracing::warn!(
                        id,
                        reason,
                        "{id} by {} is tried again later: {reason}",
                        letter.channel.kind().name()
                    );
                }
                after.state = State::Queued;
                after.next_at = now + letter::pause_after(letter.attempts, &self.outbox.0.random);
                after.last_error = Some(reason);
            }
            Err(Failure::Channel { reason, .. }) => {
                after.state = State::Queued;
                after.last_error = Some(reason);
            }
        }
        self.remember(id, &after);
        // One that was dropped meanwhile does not come back.
        let settled = self.outbox.0.store.update::<Letter, _>(id, |old| match old {
            Some(_) => Decision::Put(after.clone(), expires, ()),
            None => Decision::Keep(()),
        });
        settled.await?;
        if after.files.is_empty() {
            self.outbox.discard(letter.files.iter().cloned()).await?;
        }
        Ok(())
    }

    /// Lets the channel rest after a failure of its own, and notes when it works again.
    fn judge_channel(&mut self, letter: &Letter, outcome: &Result<(), Failure>, now: Time) {
        let name = self.kind.name();
        if let Err(Failure::Channel { reason, retry_after }) = outcome {
            self.failures = self.failures.saturating_add(1);
            let asked = retry_after.map(|asked| asked.min(LONGEST_WISH));
            let rest = asked.unwrap_or_else(|| letter::pause_after(self.failures, &self.outbox.0.random));
            self.rests_until = Some(now + rest);
            if self.failures == 1 {
                tracing::warn!(channel = name, reason, "{name} does not work, its messages wait: {reason}");
            }
        } else if letter.give_up_at() > now {
            if self.failures > 0 {
                tracing::info!(channel = name, "{name} works again");
            }
            (self.failures, self.rests_until) = (0, None);
        }
    }

    /// Leaves of a letter that is done with only the subject, for the list.
    fn empty(&self, id: &str, letter: &mut Letter) {
        let (vault, context) = (&self.outbox.0.vault, Letter::context(id));
        let subject = Content::open(vault, &context, &letter.sealed).map(Content::into_subject);
        if let Ok(sealed) = subject.and_then(|subject| subject.seal(vault, &context)) {
            letter.sealed = sealed;
        }
        letter.files = Vec::new();
    }

    /// Waits a little; true when everything shall stop.
    async fn pause(&self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => true,
            () = self.outbox.0.clock.sleep(PAUSE) => false,
        }
    }
}

/// What claiming a letter found.
enum Claim {
    /// It is ours to send, as it now stands.
    Taken(Letter),
    /// Its time is over.
    Late(Letter),
    /// It does not wait any more.
    Gone,
}

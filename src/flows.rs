//! Flows: verification in several steps, declared in TOML, that no race can break.
//!
//! A flow is one record: its status, flags, data, newest messages, and the call that is under way. Every change is one
//! compare-and-swap around a pure decision, so no writer can undo what another has written. Nothing here knows HTTP's
//! routes, or what an application means by its data.
//!
//! # The race that this is here for
//!
//! Two handlers of a health check-up app kept a flow as a JSON text in Redis. Each read it, changed its copy, and wrote the
//! whole text back:
//!
//! ```text
//! the user confirms                 the collector
//! read  {auth_completed: false}
//!                                   read  {auth_completed: false}
//! write {auth_completed: true}
//!                                   write {auth_completed: false, message: "fetching"}
//! ```
//!
//! The confirmation is gone, and the user is asked to confirm again. `tests/flows/race.rs` runs both: the naive code loses
//! the flag in every one of its rounds, and here a thousand rounds of the same two writers at once lose nothing.
//!
//! # How a step is taken
//!
//! A transition without a call is one change. One with a call is two: the first *claims* it, so that equal requests at once
//! make one call, the second carries it out with what was kept of the answer, or gives the claim up and says why. A
//! transition with work in the background changes the state at once and notes the calls to be made; each call that is
//! done is one change more. What a process that dies leaves behind is found by its successor: a claimed call is made
//! again only if that is safe, work in the background goes on after the last call that is done.
//!
//! A flow goes by the definition that is in force now. Where a changed one has no such state any more, the flow stays as it
//! is, no transition is legal, and the operator's list shows it as stuck.

mod background;
mod change;
mod claimed;
mod definition;
mod error;
mod feed;
mod flow;
mod list;
mod metrics;
mod provider;
mod record;
mod recovery;
mod running;
mod transition;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore};

use crate::clock::{Clock, Time};
use crate::config;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::secret::{self, Secret};
use crate::store::{Census, Crowded, Decision, Place, Store, Stored};
use change::{Verdict, decided, key, page_key};
pub use definition::{Definition, DefinitionError, Transition, inspect};
pub use error::{FlowError, FlowsError};
use feed::Heard;
pub use feed::{Ended, Feed, Reader, Step};
pub use flow::Flow;
pub use list::{Filter, MAX_PAGE, Stuck};
pub use provider::Failure;
use provider::Provider;
pub use record::{FlowRecord, KINDS, Message};
use record::{Page, Token};
use running::Running;
use transition::Wish;

/// The longest text of a message in bytes.
pub const MAX_TEXT: usize = 4096;
/// Bytes of messages that clients may append to one flow.
const MAX_SAID: u64 = 16 * 1024 * 1024;
/// Calls for flows in the background at once.
const WORKERS: usize = 16;
/// Messages read in one hop.
const PAGES_AT_ONCE: usize = 16;

/// How a message is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Something happened.
    Info,
    /// Something was achieved.
    Success,
    /// Something did not go well, and goes on.
    Warning,
    /// Something failed.
    Error,
}

impl Kind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The flows of all kinds; clones share them.
#[derive(Clone, Debug)]
pub struct Flows(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    random: Random,
    life: Lifecycle,
    kinds: RwLock<Arc<BTreeMap<String, Arc<Declared>>>>,
    /// Rung when there are other kinds.
    applied: Notify,
    provider: Provider,
    /// How many of each kind are alive.
    census: Census<FlowRecord>,
    feed: Feed,
    running: Running,
    queue: background::Queue,
    workers: Arc<Semaphore>,
}

/// A kind of flow, with what its calls carry.
#[derive(Clone, Debug, PartialEq)]
struct Declared {
    definition: Definition,
    secrets: BTreeMap<String, Secret>,
    /// How many may be alive at once.
    most: u64,
}

/// The kinds of flows of one configuration.
#[derive(Clone, Debug)]
pub struct Kinds(Arc<BTreeMap<String, Arc<Declared>>>);

impl Flows {
    /// Flows of these kinds in `store`, followed by at most `readers` at once. What a process before this one has left
    /// behind is taken up from here on.
    ///
    /// # Errors
    /// [`FlowsError::Provider`].
    pub fn start(
        store: Store,
        clock: Clock,
        random: Random,
        (readers, kinds): (usize, Kinds),
        life: &Lifecycle,
    ) -> Result<Self, FlowsError> {
        let provider = Provider::new().map_err(FlowsError::Provider)?;
        let flows = Self(Arc::new(Inner {
            feed: Feed::new(readers, life),
            // Kinds are few: they are declared.
            census: Census::new(store.clone(), clock.clone(), usize::MAX),
            store,
            clock,
            random,
            life: life.clone(),
            kinds: RwLock::new(kinds.0),
            applied: Notify::new(),
            provider,
            running: Running::default(),
            queue: background::Queue::default(),
            workers: Arc::new(Semaphore::new(WORKERS)),
        }));
        flows.listen();
        flows.work();
        flows.recover();
        Ok(flows)
    }

    /// Reads the flows of a configuration.
    ///
    /// # Errors
    /// [`FlowsError::Definition`].
    pub fn read(kinds: &BTreeMap<String, config::Flow>) -> Result<Kinds, FlowsError> {
        let declared = |(name, flow): (&String, &config::Flow)| {
            let definition = Definition::load(&flow.file)?;
            let (secrets, most) = (flow.secrets.clone(), flow.max_records.into());
            Ok((name.clone(), Arc::new(Declared { definition, secrets, most })))
        };
        Ok(Kinds(Arc::new(kinds.iter().map(declared).collect::<Result<_, FlowsError>>()?)))
    }

    /// Takes over what was read. Flows under way go by the new definitions from their next step on.
    pub fn apply(&self, kinds: Kinds) {
        *self.0.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds.0;
        self.0.applied.notify_one();
    }

    /// The names of the kinds that are configured, with their definitions.
    pub fn kinds(&self) -> Vec<(String, Definition)> {
        self.declared_all().iter().map(|(name, declared)| (name.clone(), declared.definition.clone())).collect()
    }

    fn declared_all(&self) -> Arc<BTreeMap<String, Arc<Declared>>> {
        Arc::clone(&self.0.kinds.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn declared(&self, flow: &str) -> Result<Arc<Declared>, FlowError> {
        self.declared_all().get(flow).cloned().ok_or_else(|| FlowError::UnknownFlow(flow.to_owned()))
    }

    /// Begins a flow with that data. With a seed, the flow that an earlier attempt with it began is found and not begun
    /// twice.
    ///
    /// # Errors
    /// [`FlowError::UnknownFlow`], [`FlowError::Data`], [`FlowError::TooLarge`], [`FlowError::Crowded`], or a failing store.
    pub async fn begin(
        &self,
        flow: &str,
        data: Option<&RawValue>,
        seed: Option<[u8; 32]>,
    ) -> Result<Arc<Flow>, FlowError> {
        let declared = self.declared(flow)?;
        let data = transition::merged("{}", data.map_or("{}", RawValue::get))?;
        let id = seed.map_or_else(|| self.0.random.session_id(), |seed| data_encoding::HEXLOWER.encode(&seed[..16]));
        if seed.is_some()
            && let Some(begun) = self.find(flow, &id).await?
        {
            return Ok(begun);
        }
        self.0.store.takes_new()?;
        let (place, ttl) = (self.place(flow, declared.most).await?, declared.definition.ttl);
        let begin = move |old: Option<&FlowRecord>, now: Time| match old {
            Some(_) => Verdict::Keep(false),
            None => Verdict::put(FlowRecord::new(&declared.definition.initial, data.clone(), now), true),
        };
        let (flow, begun) = self.change(flow, &id, Some(ttl), begin).await?;
        if !begun {
            place.give_back();
        }
        flow.ok_or(FlowError::Absent)
    }

    async fn place(&self, flow: &str, most: u64) -> Result<Place, FlowError> {
        self.0.census.reserve(flow, most).await.map_err(|crowded| match crowded {
            Crowded::Space | Crowded::Spaces => FlowError::Crowded(most),
            Crowded::Store(error) => error.into(),
        })
    }

    /// The flow, unless it is absent or expired.
    ///
    /// # Errors
    /// [`FlowError::UnknownFlow`], [`FlowError::Absent`], or a failing store.
    pub async fn get(&self, flow: &str, id: &str) -> Result<Arc<Flow>, FlowError> {
        self.declared(flow)?;
        self.find(flow, id).await?.ok_or(FlowError::Absent)
    }

    /// What is found is on the disk: a call must not be made, nor a client be told, for what a crash can take back.
    async fn find(&self, flow: &str, id: &str) -> Result<Option<Arc<Flow>>, FlowError> {
        let Some(key) = key(flow, id) else { return Ok(None) };
        let stored = self.0.store.read::<FlowRecord>(&key).await?;
        Ok(stored.map(|stored| self.seen(flow, id, stored)))
    }

    fn seen(&self, flow: &str, id: &str, stored: Stored<FlowRecord>) -> Arc<Flow> {
        let Stored { version, expires, value: record } = stored;
        let expires_at = expires.unwrap_or(record.updated_at);
        let declared = self.declared_all().get(flow).cloned();
        let waiting = (record.claim.is_some() || record.job.is_some()) && self.is_full();
        Arc::new(Flow { flow: flow.to_owned(), id: id.to_owned(), version, expires_at, waiting, record, declared })
    }

    /// Whether the disk takes nothing new, so that no call is made.
    fn is_full(&self) -> bool {
        self.0.store.room().borrow().low
    }

    /// All messages of a flow, in order.
    ///
    /// # Errors
    /// A failing store.
    pub async fn messages(&self, flow: &Flow) -> Result<Vec<Message>, FlowError> {
        let (mut messages, mut after) = (Vec::new(), None);
        let prefix = format!("{}/{}/", flow.flow, flow.id);
        let mut left = flow.record.pages as usize;
        while left > 0 {
            let pages = self.0.store.list_under::<Page>(&prefix, after.as_deref(), left.min(PAGES_AT_ONCE)).await?;
            // They go with the flow.
            let Some((last, _)) = pages.last() else { break };
            after = Some(last.clone());
            left -= pages.len();
            messages.extend(pages.into_iter().flat_map(|(_, page)| page.value.0));
        }
        messages.extend(flow.record.tail.iter().cloned());
        Ok(messages)
    }

    /// Appends a message.
    ///
    /// # Errors
    /// [`FlowError::Text`], [`FlowError::Full`], and those of [`Flows::get`].
    pub async fn append(
        &self,
        flow: &str,
        id: &str,
        (kind, text): (Kind, String),
        seed: Option<[u8; 32]>,
    ) -> Result<Arc<Flow>, FlowError> {
        self.declared(flow)?;
        if !(1..=MAX_TEXT).contains(&text.len()) {
            return Err(FlowError::Text);
        }
        self.0.store.takes_new()?;
        let once = seed.map(once);
        let append = move |old: Option<&FlowRecord>, now: Time| match old {
            None => Verdict::Keep(Err(FlowError::Absent)),
            Some(old) if old.has_applied(once) => Verdict::Keep(Ok(())),
            Some(old) if old.said + text.len() as u64 > MAX_SAID => Verdict::Keep(Err(FlowError::Full)),
            Some(old) => {
                let mut record = FlowRecord { updated_at: now, ..old.clone() };
                record.say(now, kind, &text);
                record.remember(once);
                Verdict::put(record, Ok(()))
            }
        };
        self.changed(flow, id, append).await
    }

    /// Merges into the data (RFC 7396) at a version that is allowed.
    ///
    /// # Errors
    /// [`FlowError::Changed`], [`FlowError::Data`], [`FlowError::TooLarge`], and those of [`Flows::get`].
    pub async fn merge(
        &self,
        flow: &str,
        id: &str,
        allowed: impl Fn(Option<u64>) -> bool + Send + 'static,
        patch: &RawValue,
    ) -> Result<Arc<Flow>, FlowError> {
        self.declared(flow)?;
        self.0.store.takes_new()?;
        let patch = patch.get().to_owned();
        let merge = move |old: Option<&Stored<FlowRecord>>, now: Time| {
            let Some(old) = old else { return Verdict::Keep(Err(FlowError::Absent)) };
            if !allowed(Some(old.version)) {
                return Verdict::Keep(Err(FlowError::Changed));
            }
            let merged = transition::merged(&old.value.data, &patch).and_then(|data| {
                let record = FlowRecord { data, updated_at: now, ..old.value.clone() };
                transition::fits(record.weight()).map(|()| record)
            });
            match merged {
                Ok(record) => Verdict::put(record, Ok(())),
                Err(error) => Verdict::Keep(Err(error)),
            }
        };
        let (flow, answer) = self.change_at(flow, id, None, merge).await?;
        answer?;
        flow.ok_or(FlowError::Absent)
    }

    /// Removes a flow at a version that is allowed; its calls are cut.
    ///
    /// # Errors
    /// [`FlowError::Changed`], and those of [`Flows::get`].
    pub async fn delete(
        &self,
        flow: &str,
        id: &str,
        allowed: impl Fn(Option<u64>) -> bool + Send + 'static,
    ) -> Result<(), FlowError> {
        self.declared(flow)?;
        let delete = move |old: Option<&Stored<FlowRecord>>, _: Time| match old {
            None => Verdict::Keep(Err(FlowError::Absent)),
            Some(old) if !allowed(Some(old.version)) => Verdict::Keep(Err(FlowError::Changed)),
            Some(old) => Verdict::Delete(Ok(old.value.pages)),
        };
        let removal = self.0.census.removal(flow);
        let (_, pages) = self.change_at(flow, id, None, delete).await?;
        let pages = pages?;
        removal.done();
        for page in 0..pages {
            let remove = |_: Option<&Stored<Page>>| Decision::Delete(());
            self.0.store.update::<Page, _>(&page_key(&format!("{flow}/{id}"), page), remove).await?;
        }
        Ok(())
    }

    /// Takes a transition, with data that is merged when it is taken. What it does in the background has only begun then.
    ///
    /// # Errors
    /// [`FlowError`].
    pub async fn take(
        &self,
        flow: &str,
        id: &str,
        name: &str,
        sent: Option<&RawValue>,
        seed: Option<[u8; 32]>,
    ) -> Result<Arc<Flow>, FlowError> {
        let declared = self.declared(flow)?;
        let transition = declared.definition.transition(name);
        let transition = transition.ok_or_else(|| FlowError::UnknownTransition(name.to_owned()))?;
        let taken = self.taken(flow, id, &declared, transition, sent, seed).await;
        metrics::count_transition(flow, name, &taken);
        taken
    }

    async fn taken(
        &self,
        flow: &str,
        id: &str,
        declared: &Arc<Declared>,
        transition: &Transition,
        sent: Option<&RawValue>,
        seed: Option<[u8; 32]>,
    ) -> Result<Arc<Flow>, FlowError> {
        // What has begun is noted to its end whatever the disk; so on a full one, nothing begins.
        self.0.store.takes_new()?;
        let (declared, name) = (Arc::clone(declared), transition.name.as_str());
        let (token, sent) = (self.token(seed, name), sent.map_or("{}", RawValue::get).to_owned());
        let once = seed.map(once);
        if let definition::Work::Call(_) = transition.work {
            return self.take_with_call(flow, id, name, claimed::Asked { declared, sent, once, token }).await;
        }
        let name = name.to_owned();
        let pass = move |old: Option<&FlowRecord>, now: Time| {
            let (Some(old), Some(transition)) = (old, declared.definition.transition(&name)) else {
                return Verdict::Keep(Err(FlowError::Absent));
            };
            let definition = &declared.definition;
            decided(Wish { definition, transition, sent: &sent, once, token, now }.pass(old))
        };
        let flow = self.changed(flow, id, pass).await?;
        self.schedule(&flow);
        Ok(flow)
    }

    /// Whether the transition goes on in the background after it was taken.
    pub fn works_in_background(&self, flow: &str, transition: &str) -> bool {
        let declared = self.declared(flow).ok();
        declared.is_some_and(|declared| {
            declared.definition.transition(transition).is_some_and(|transition| transition.background().is_some())
        })
    }

    /// Tries again what has failed in the background, from the call that did.
    ///
    /// # Errors
    /// [`FlowError::NotFailed`], and those of [`Flows::get`].
    pub async fn retry(&self, flow: &str, id: &str) -> Result<Arc<Flow>, FlowError> {
        let declared = self.declared(flow)?;
        self.0.store.takes_new()?;
        let retry = move |old: Option<&FlowRecord>, now: Time| match old {
            None => Verdict::Keep(Err(FlowError::Absent)),
            Some(old) => match background::retried(old, &declared.definition, now) {
                Some(record) => Verdict::put(record, Ok(())),
                None => Verdict::Keep(Err(FlowError::NotFailed)),
            },
        };
        let flow = self.changed(flow, id, retry).await?;
        self.schedule(&flow);
        Ok(flow)
    }

    /// Follows a flow: after the version `seen`, or from the present one on. The first of the pair is what the reader is
    /// told before anything else. None when there are as many readers as may be.
    ///
    /// # Errors
    /// As [`Flows::get`].
    pub async fn follow(
        &self,
        flow: &str,
        id: &str,
        seen: Option<u64>,
    ) -> Result<Option<(Option<Step>, Reader)>, FlowError> {
        self.get(flow, id).await?;
        let Some(mut reader) = self.0.feed.read(&format!("{flow}/{id}")) else { return Ok(None) };
        // Read after the reader has its place, so that no version falls between the two.
        let latest = self.get(flow, id).await?;
        let first = match seen {
            None => Some(Step::Version(Arc::clone(&latest))),
            Some(seen) if seen > latest.version => Some(Step::Reset(Arc::clone(&latest))),
            Some(_) => None,
        };
        let position = if first.is_some() { latest.version } else { seen.unwrap_or(latest.version) };
        reader.start(position, &latest);
        Ok(Some((first, reader)))
    }

    /// The next step of a reader; None when the process is about to stop.
    ///
    /// # Errors
    /// A failing store.
    pub async fn next(&self, reader: &mut Reader, flow: &str, id: &str) -> Result<Option<Step>, FlowError> {
        loop {
            match reader.next().await {
                Some(Heard::Step(step)) => return Ok(Some(step)),
                Some(Heard::Lost) => {
                    if let Some(step) = reader.look(self.find(flow, id).await?) {
                        return Ok(Some(step));
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// What happens to flows.
    pub fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// The same for every attempt of one request with an idempotency key, so that the provider can tell a repetition too.
    fn token(&self, seed: Option<[u8; 32]>, name: &str) -> Token {
        let Some(seed) = seed else { return self.0.random.bytes() };
        let mut token = Token::default();
        token.copy_from_slice(&secret::hmac_sha256(&seed, &[b"flow call ", name.as_bytes()])[..16]);
        token
    }
}

/// What is remembered of an idempotency key that was used.
fn once(seed: [u8; 32]) -> u64 {
    seed.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

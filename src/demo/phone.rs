//! A phone on a desk whose app forwards every SMS to the appliance, in any of the formats that the appliance reads.
//!
//! It can be prompt, late, repetitive, silent, or without a network for a while; it retries like the app. It records
//! what it forwarded and what it was answered. Texts and codes stay on the phone: nothing here logs them.

mod format;
mod webhook;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clock::{self, Clock, DeadlineExceeded, Time};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::secret::Secret;

pub use format::Webhook;
use webhook::{Answer, Courier, Event};

/// SMS on their way through the network to one phone, and those kept while it is offline.
const QUEUE: usize = 64;
/// SMS and attempts remembered.
const KEPT: usize = 1024;
/// Webhooks under way at once.
const FORWARDING: usize = 32;
/// The longest pause between two attempts.
const BACKOFF_LIMIT: Duration = Duration::from_secs(300);

/// A text message.
#[derive(Clone, PartialEq, Eq)]
pub struct Sms {
    /// The sender's number.
    pub from: String,
    /// The receiver's number.
    pub to: String,
    /// What it says.
    pub text: String,
    /// When the carrier took it.
    pub sent_at: Time,
}

impl fmt::Debug for Sms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sms").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

/// The network's end of a phone: what a sender hands its SMS to. Clones ring the same phone.
#[derive(Clone, Debug)]
pub struct Line(mpsc::Sender<Sms>);

impl Line {
    /// Hands an SMS to the network. Like the real one it never says whether it arrives: with 64 on their way, or the
    /// phone gone, the SMS is lost.
    pub fn deliver(&self, sms: Sms) {
        if self.0.try_send(sms).is_err() {
            tracing::warn!("demo phone: an SMS was lost");
        }
    }
}

/// What the phone's app posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// capcom6/android-sms-gateway: its JSON, signed with HMAC-SHA256 over body and timestamp.
    Capcom6,
    /// httpSMS: its server's CloudEvent with a JSON Web Token.
    HttpSms,
    /// pppscn/SmsForwarder: a form with a signed timestamp.
    SmsForwarder,
    /// bogkonstantin's SMS to URL forwarder: its JSON with the secret as bearer token.
    Bogkonstantin,
    /// textbee: its server's JSON, signed with HMAC-SHA256 over the body.
    TextBee,
    /// Twilio: a form, signed with HMAC-SHA1 over address and fields.
    Twilio,
    /// `{"from","text","received_at"}` with the secret as bearer token.
    Json,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 7] = [
        Self::Capcom6,
        Self::HttpSms,
        Self::SmsForwarder,
        Self::Bogkonstantin,
        Self::TextBee,
        Self::Twilio,
        Self::Json,
    ];

    /// Its name in the appliance's configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capcom6 => "capcom6",
            Self::HttpSms => "httpsms",
            Self::SmsForwarder => "smsforwarder",
            Self::Bogkonstantin => "bogkonstantin",
            Self::TextBee => "textbee",
            Self::Twilio => "twilio",
            Self::Json => "json",
        }
    }

    /// Whether the app pings on a timer.
    const fn pings(self) -> bool {
        matches!(self, Self::Capcom6 | Self::HttpSms)
    }
}

/// How the phone behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Forwards at once.
    #[default]
    Prompt,
    /// Forwards so much later, on the phone's clock.
    Delayed(Duration),
    /// Forwards at once and then again, as another event with the same message id.
    Twice,
    /// Receives and forwards nothing, ever.
    Silent,
    /// Has no network: keeps up to 64 and forwards them in a burst when the mode changes.
    Offline,
}

/// How a phone is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name at the appliance: the `{name}` of `/api/phones/{name}/sms`.
    pub name: String,
    /// Its number.
    pub number: String,
    /// The key that it signs with, or its bearer token.
    pub secret: Secret,
    /// What its app posts.
    pub format: Format,
    /// The appliance's address as the app was told it, where that is not the one that it is connected to: two formats sign
    /// it.
    pub public_url: Option<String>,
    /// How often a refused webhook is tried again.
    pub retries: u32,
    /// The pause before the first retry, doubled for each further one up to five minutes.
    pub backoff: Duration,
}

impl Settings {
    /// An android-sms-gateway with the app's own retry policy: 15 retries from 10 seconds on.
    pub fn capcom6(name: impl Into<String>, secret: Secret) -> Self {
        Self {
            name: name.into(),
            number: "010-2345-6789".into(),
            secret,
            format: Format::Capcom6,
            public_url: None,
            retries: 15,
            backoff: Duration::from_secs(10),
        }
    }

    /// A phone with the app of that format. SmsForwarder and Twilio do not try again unless told to, a script does not
    /// either; the others are given android-sms-gateway's policy.
    pub fn new(format: Format, name: impl Into<String>, secret: Secret) -> Self {
        let retries = match format {
            Format::SmsForwarder | Format::Twilio | Format::Json => 0,
            Format::Capcom6 | Format::HttpSms | Format::Bogkonstantin | Format::TextBee => 15,
        };
        Self { format, retries, ..Self::capcom6(name, secret) }
    }
}

/// One webhook call and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `sms:received` or `system:ping`.
    pub event: &'static str,
    /// The event's id: the same for the retries of one event, another one for a repeated SMS.
    pub event_id: String,
    /// The message's id: the same for the same SMS. Empty for a ping.
    pub message_id: String,
    /// 1 for the first try.
    pub number: u32,
    /// When it was answered, or failed.
    pub at: Time,
    /// The status, or nothing when there was no answer.
    pub status: Option<u16>,
    /// The answer's JSON, `null` when there was none.
    pub answer: Value,
    /// Why there was no answer.
    pub error: Option<String>,
}

impl Attempt {
    /// Whether the app is content and will not try again.
    pub fn accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// A running phone; clones are the same one. It runs until its [`Lifecycle`] stops.
#[derive(Clone)]
pub struct Phone(Arc<Shared>);

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phone").field("settings", &self.0.settings).field("mode", &self.mode()).finish_non_exhaustive()
    }
}

struct Shared {
    settings: Settings,
    clock: Clock,
    life: Lifecycle,
    line: mpsc::Sender<Sms>,
    mode: watch::Sender<Mode>,
    appliance: watch::Sender<Option<String>>,
    courier: Courier,
    random: Random,
    places: Arc<Semaphore>,
    memory: Mutex<Memory>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Memory {
    inbox: VecDeque<Sms>,
    attempts: VecDeque<Attempt>,
}

impl Phone {
    /// Switches the phone on, in [`Mode::Prompt`] and not yet connected to an appliance.
    pub fn start(settings: Settings, clock: &Clock, random: &Random, life: &Lifecycle) -> Self {
        let (line, incoming) = mpsc::channel(QUEUE);
        let phone = Self(Arc::new(Shared {
            settings,
            clock: clock.clone(),
            life: life.clone(),
            line,
            mode: watch::Sender::new(Mode::default()),
            appliance: watch::Sender::new(None),
            courier: Courier::new(random),
            random: random.clone(),
            places: Arc::new(Semaphore::new(FORWARDING)),
            memory: Mutex::default(),
            changed: watch::Sender::new(()),
        }));
        life.supervise(format!("demo phone {}", phone.0.settings.name), phone.clone().receive(incoming));
        phone
    }

    /// The network's end of this phone.
    pub fn line(&self) -> Line {
        Line(self.0.line.clone())
    }

    /// The number that it has.
    pub fn number(&self) -> &str {
        &self.0.settings.number
    }

    /// Sets the appliance's base URL (`http://127.0.0.1:PORT`); an attempt under way keeps the old one, retries use the
    /// new one.
    pub fn connect(&self, appliance: &str) {
        self.0.appliance.send_replace(Some(appliance.trim_end_matches('/').to_owned()));
    }

    /// How it behaves now.
    pub fn mode(&self) -> Mode {
        *self.0.mode.borrow()
    }

    /// Changes how it treats the SMS that come from now on; leaving [`Mode::Offline`] sends what was kept.
    pub fn set_mode(&self, mode: Mode) {
        self.0.mode.send_replace(mode);
    }

    /// Sends one ping, as the app does on a timer, and tells what came of it. An app that knows no ping sends nothing, nor
    /// does a phone that is silent or offline.
    pub async fn ping(&self) -> Option<Attempt> {
        let mute = matches!(self.mode(), Mode::Silent | Mode::Offline);
        if mute || !self.0.settings.format.pings() {
            return None;
        }
        let event = Event::ping(self.0.random.session_id(), self.0.clock.now());
        Some(self.attempt(&event, 1).await)
    }

    /// What the app would post for an SMS that has just come in, without sending it: for tests that send it changed, late
    /// or twice. None for what the app does not forward.
    pub fn webhook(&self, sms: &Sms) -> Option<Webhook> {
        let (now, appliance) = (self.0.clock.now(), self.0.appliance.borrow().clone().unwrap_or_default());
        let event = Event::sms(self.0.random.session_id(), sms, now);
        self.0.courier.webhook(&appliance, &self.0.settings, &event, now)
    }

    /// The SMS received, oldest first (the last 1024): the phone's screen.
    pub fn inbox(&self) -> Vec<Sms> {
        self.memory().inbox.iter().cloned().collect()
    }

    /// The webhook calls that have ended, oldest first (the last 1024).
    pub fn attempts(&self) -> Vec<Attempt> {
        self.memory().attempts.iter().cloned().collect()
    }

    /// Waits, at most `limit` of real time, until `count` SMS were received, and returns the inbox.
    ///
    /// # Errors
    /// [`DeadlineExceeded`] when fewer came in time.
    pub async fn received(&self, count: usize, limit: Duration) -> Result<Vec<Sms>, DeadlineExceeded> {
        self.when(limit, |phone| phone.inbox(), |inbox| inbox.len() >= count).await
    }

    /// Waits, at most `limit` of real time, until `count` webhook calls have ended, and returns them.
    ///
    /// # Errors
    /// [`DeadlineExceeded`] when fewer ended in time.
    pub async fn attempted(&self, count: usize, limit: Duration) -> Result<Vec<Attempt>, DeadlineExceeded> {
        self.when(limit, |phone| phone.attempts(), |attempts| attempts.len() >= count).await
    }

    async fn when<T>(
        &self,
        limit: Duration,
        read: impl Fn(&Self) -> T,
        enough: impl Fn(&T) -> bool,
    ) -> Result<T, DeadlineExceeded> {
        let mut changes = self.0.changed.subscribe();
        clock::within(limit, async {
            loop {
                changes.mark_unchanged();
                let seen = read(self);
                if enough(&seen) || changes.changed().await.is_err() {
                    return seen;
                }
            }
        })
        .await
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Two lists of what happened: a panic elsewhere leaves them as true as they were.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The phone's loop: takes SMS from the network and decides by the mode.
    async fn receive(self, mut incoming: mpsc::Receiver<Sms>) {
        let stop = self.0.life.stopping();
        let mut mode = self.0.mode.subscribe();
        let mut kept = VecDeque::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = mode.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.mode() != Mode::Offline {
                        for (sms, received_at) in kept.drain(..) {
                            self.forward(sms, received_at, self.mode()).await;
                        }
                    }
                }
                sms = incoming.recv() => {
                    let Some(sms) = sms else { return };
                    let received_at = self.0.clock.now();
                    self.remember(|memory| push(&mut memory.inbox, sms.clone()));
                    match self.mode() {
                        Mode::Offline if kept.len() < QUEUE => kept.push_back((sms, received_at)),
                        Mode::Silent | Mode::Offline => {}
                        mode => self.forward(sms, received_at, mode).await,
                    }
                }
            }
        }
    }

    /// Starts forwarding one SMS in the background; waits for a place when too many are under way.
    async fn forward(&self, sms: Sms, received_at: Time, mode: Mode) {
        let stop = self.0.life.stopping();
        let place = tokio::select! {
            place = Arc::clone(&self.0.places).acquire_owned() => place,
            () = stop.cancelled() => return,
        };
        let phone = self.clone();
        self.0.life.spawn("demo phone forwarding", async move {
            let work = async {
                if let Mode::Delayed(span) = mode {
                    phone.0.clock.sleep_until(received_at + span).await;
                }
                for _ in 0..if mode == Mode::Twice { 2 } else { 1 } {
                    let event = Event::sms(phone.0.random.session_id(), &sms, received_at);
                    phone.send(&event).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }

    /// Sends one event until it is accepted or the app gives up.
    async fn send(&self, event: &Event) {
        let mut pause = self.0.settings.backoff;
        for number in 1..=self.0.settings.retries + 1 {
            let attempt = self.attempt(event, number).await;
            if attempt.accepted() {
                return;
            }
            if number <= self.0.settings.retries {
                // Counted from the attempt that is on record, so that a held clock may move as soon as it is seen there.
                self.0.clock.sleep_until(attempt.at + pause).await;
                pause = (pause * 2).min(BACKOFF_LIMIT);
            }
        }
    }

    async fn attempt(&self, event: &Event, number: u32) -> Attempt {
        let appliance = self.0.appliance.borrow().clone();
        let webhook = |base: &str| self.0.courier.webhook(base, &self.0.settings, event, self.0.clock.now());
        let answered = match appliance.and_then(|base| webhook(&base).map(|webhook| (base, webhook))) {
            Some((base, webhook)) => self.0.courier.post(&base, webhook).await,
            None => Err("the phone is not connected to an appliance".to_owned()),
        };
        let (status, answer, error) = match answered {
            Ok(Answer { status, json }) => (Some(status), json, None),
            Err(error) => (None, Value::Null, Some(error)),
        };
        let attempt = Attempt {
            event: event.name(),
            event_id: event.id().to_owned(),
            message_id: event.message_id().to_owned(),
            number,
            at: self.0.clock.now(),
            status,
            answer,
            error,
        };
        self.remember(|memory| push(&mut memory.attempts, attempt.clone()));
        attempt
    }

    fn remember(&self, note: impl FnOnce(&mut Memory)) {
        note(&mut self.memory());
        self.0.changed.send_replace(());
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T) {
    list.push_back(item);
    if list.len() > KEPT {
        list.pop_front();
    }
}

#[cfg(test)]
mod tests;

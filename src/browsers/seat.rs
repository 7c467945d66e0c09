//! A seat: the place of one browser process, and the keeper that has it occupied.
//!
//! The keeper starts a process when one is first wanted, another when it has died or hangs, and on request a fresh one that
//! takes the seat while the former lives on until nobody needs it. Of two processes of a seat only the later lets anybody
//! in. Knows nothing of what the contexts are for.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::chrome::Chrome;
use super::error::BrowserError;
use super::kin::Kin;
use super::launch::{Launcher, Running};
use super::tenancy::Tenant;
use crate::clock::{self, Stopwatch};
use crate::lifecycle::Lifecycle;

/// How long after a sign of life a process is asked for the next, and how often and how long it is waited for. Together the
/// longest that a hang goes unnoticed: 9 s, of which 7 must pass without an answer.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_LIMIT: Duration = Duration::from_millis(3500);
const MISSES: u32 = 2;
/// After so long a life a death is bad luck and the back-off starts anew.
const STEADY: Duration = Duration::from_secs(60);
/// A process that is asked to end in order gets this long.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long a caller waits for a process: a cold start, behind two others.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// How long contexts may stay in a process that has lost its seat. A login, the longest work, takes a few minutes.
const RETIREMENT: Duration = Duration::from_secs(600);

/// One of the two places for a browser process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seat {
    /// The first.
    A,
    /// The second.
    B,
}

impl Seat {
    /// The place whose process does not die together with this one's.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// How a seat is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Counts the processes that have come up on this seat; 0 before the first.
    pub generation: u64,
    /// Whether the present one lives.
    pub up: bool,
    /// The number of the present process in the operating system.
    pub pid: Option<u32>,
    /// How many have died or hung without being asked to end.
    pub deaths: u64,
    /// How many have been replaced while they lived.
    pub recycled: u64,
    /// Why there is none now, or why the last one was replaced.
    pub reason: Option<String>,
}

/// What callers see and touch of a seat; its keeper is the other side.
#[derive(Clone, Debug)]
pub(super) struct Place {
    seat: Seat,
    wanted: watch::Sender<bool>,
    occupant: watch::Sender<Occupant>,
    health: watch::Sender<Health>,
    orders: mpsc::Sender<Replace>,
}

/// Who sits there.
#[derive(Clone, Debug)]
enum Occupant {
    /// Nobody yet, or the next one is on the way.
    Nobody,
    /// A process that answers.
    Browser(Seated),
    /// Nobody for now: the last attempt failed, and the next one waits.
    Failed(BrowserError),
}

/// A process on its seat.
#[derive(Clone, Debug)]
struct Seated {
    chrome: Chrome,
    generation: u64,
    since: Stopwatch,
    kin: Option<Kin>,
}

/// A way into the process on a seat; it counts as a tenant there until the guard is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    /// Speaks with the process.
    pub(super) chrome: Chrome,
    /// Where it sits.
    pub(super) seat: Seat,
    /// As which process of that seat.
    pub(super) generation: u64,
    /// Keeps it from being ended.
    pub(super) tenant: Tenant,
}

/// How long and how much the process on a seat has been used.
#[derive(Debug)]
pub(super) struct Wear {
    /// Which process of the seat.
    pub(super) generation: u64,
    /// Since it took its seat.
    pub(super) age: Duration,
    /// Documents that its tabs have loaded.
    pub(super) navigations: u64,
    /// Contexts from which callers are served.
    pub(super) serving: usize,
    /// All its processes.
    pub(super) kin: Kin,
}

/// The wish for a fresh process in place of one of the seat's. `over` is dropped when that has ended, and told false when
/// no other came up.
#[derive(Debug)]
pub(super) struct Replace {
    generation: u64,
    reason: String,
    over: oneshot::Sender<bool>,
}

impl Place {
    /// An empty seat, and the wishes that its keeper is to fulfil.
    pub(super) fn new(seat: Seat) -> (Self, mpsc::Receiver<Replace>) {
        let (orders, received) = mpsc::channel(1);
        let (wanted, occupant) = (watch::Sender::new(false), watch::Sender::new(Occupant::Nobody));
        (Self { seat, wanted, occupant, health: watch::Sender::default(), orders }, received)
    }

    /// Which of the two it is.
    pub(super) const fn seat(&self) -> Seat {
        self.seat
    }

    /// How it is doing, and every change of it.
    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Waits for a process and goes in.
    pub(super) async fn enter(&self) -> Result<Entry, BrowserError> {
        self.wanted.send_replace(true);
        let mut occupant = self.occupant.subscribe();
        let settled = occupant.wait_for(|occupant| !matches!(occupant, Occupant::Nobody));
        match clock::within(OPEN_LIMIT, settled).await {
            Ok(Ok(occupant)) => match &*occupant {
                // Counted while the seat is held: a process that loses it has heard of everybody in it.
                Occupant::Browser(Seated { chrome, generation, .. }) => {
                    let (chrome, tenant) = (chrome.clone(), chrome.tenancy().enter());
                    Ok(Entry { chrome, seat: self.seat, generation: *generation, tenant })
                }
                Occupant::Failed(error) => Err(error.clone()),
                Occupant::Nobody => Err(BrowserError::Gone),
            },
            Ok(Err(_)) => Err(BrowserError::Gone),
            Err(_) => Err(BrowserError::Launch { reason: format!("not ready after {OPEN_LIMIT:?}") }),
        }
    }

    /// How much the present process has been used; none without one.
    pub(super) fn wear(&self) -> Option<Wear> {
        let Occupant::Browser(seated) = &*self.occupant.borrow() else { return None };
        let tenancy = seated.chrome.tenancy();
        Some(Wear {
            generation: seated.generation,
            age: seated.since.elapsed(),
            navigations: tenancy.navigations(),
            serving: tenancy.serving(),
            kin: seated.kin.clone()?,
        })
    }

    /// Has the process of that generation replaced and waits until it has ended; false when no other came up and it stays.
    pub(super) async fn replace(&self, generation: u64, reason: String) -> bool {
        let (over, ended) = oneshot::channel();
        self.orders.send(Replace { generation, reason, over }).await.is_ok() && ended.await.unwrap_or(true)
    }
}

/// The task that keeps one seat occupied.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    place: Place,
    launcher: Arc<Launcher>,
    stop: CancellationToken,
    life: Lifecycle,
}

/// Why a process is no longer on its seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Died,
    Hung,
    /// Asked to end, and nobody in it any more.
    Retired,
}

impl Keeper {
    /// A keeper for `place` that ends with `stop`.
    pub(super) const fn new(place: Place, launcher: Arc<Launcher>, stop: CancellationToken, life: Lifecycle) -> Self {
        Self { place, launcher, stop, life }
    }

    /// Keeps the seat until it is stopped.
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Replace>) {
        let mut wanted = self.place.wanted.subscribe();
        let stopped = tokio::select! {
            () = self.stop.cancelled() => true,
            wanted = wanted.wait_for(|wanted| *wanted) => wanted.is_err(),
        };
        if !stopped {
            self.keep(&mut orders).await;
        }
        self.place.occupant.send_replace(Occupant::Failed(BrowserError::Gone));
    }

    async fn keep(&self, orders: &mut mpsc::Receiver<Replace>) {
        let mut delays = back_off();
        let mut told = None;
        loop {
            match self.launcher.launch(&self.stop).await {
                Ok(running) => {
                    told = None;
                    let age = Stopwatch::start();
                    if self.attend(running, orders).await == End::Stopped {
                        return;
                    }
                    if age.elapsed() > STEADY {
                        delays = back_off();
                    }
                }
                Err(_) if self.stop.is_cancelled() => return,
                Err(error) => self.report_failure(error, &mut told),
            }
            let delay = delays.next().unwrap_or_default();
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = clock::pause(delay) => {}
            }
            self.place.occupant.send_replace(Occupant::Nobody);
        }
    }

    /// Seats the process and those that follow it by a wish, and stays until the end of the last.
    async fn attend(&self, first: Running, orders: &mut mpsc::Receiver<Replace>) -> End {
        let (mut running, mut reason) = (first, None);
        loop {
            let generation = self.take_seat(&running, reason.take());
            tokio::select! {
                biased;
                end = self.observe(&running.chrome) => {
                    // Told before the funeral: whoever waits for the next one need not wait for that.
                    self.report_end(end, generation);
                    Self::end(running, end).await;
                    return end;
                }
                (next, order) = self.successor(orders, generation) => {
                    let former = std::mem::replace(&mut running, next);
                    reason = Some(order.reason.clone());
                    self.life.spawn("retired browser", self.clone().retire(former, order, generation));
                }
            }
        }
    }

    fn take_seat(&self, running: &Running, recycled: Option<String>) -> u64 {
        let Running { chrome, process } = running;
        let (pid, seat) = (process.id(), self.place.seat);
        let generation = self.place.health.borrow().generation + 1;
        let seated = Seated { chrome: chrome.clone(), generation, since: Stopwatch::start(), kin: process.kin() };
        // Told only below: whoever hears of it finds the process on its seat, and whoever finds it there can read this.
        self.place.health.send_if_modified(|health| {
            health.recycled += u64::from(recycled.is_some());
            (health.generation, health.up, health.pid, health.reason) = (generation, true, Some(pid), recycled);
            false
        });
        let former = self.place.occupant.send_replace(Occupant::Browser(seated));
        if let Occupant::Browser(former) = former {
            former.chrome.tenancy().retire();
        }
        tracing::info!(?seat, pid, generation, "browser {seat:?} is up: process {pid}, generation {generation}");
        self.place.health.send_modify(|_| {});
        generation
    }

    /// A fresh process, once somebody wishes for one in place of `generation`. What is being started when this is dropped is
    /// buried in order.
    async fn successor(&self, orders: &mut mpsc::Receiver<Replace>, generation: u64) -> (Running, Replace) {
        loop {
            let Some(order) = orders.recv().await else { return std::future::pending().await };
            // That one has died since, and has a successor already.
            if order.generation != generation {
                continue;
            }
            let (hand_over, launched) = oneshot::channel();
            let (launcher, stop) = (Arc::clone(&self.launcher), self.stop.clone());
            self.life.spawn("next browser", async move {
                if let Err(Ok(unwanted)) = hand_over.send(launcher.launch(&stop).await) {
                    Self::end(unwanted, End::Retired).await;
                }
            });
            match launched.await.unwrap_or(Err(BrowserError::Gone)) {
                Ok(next) => return (next, order),
                Err(error) => {
                    let seat = self.place.seat;
                    tracing::warn!(?seat, "browser {seat:?} is not replaced {}: {error}", order.reason);
                    // Whoever asked may have gone.
                    let _ = order.over.send(false);
                }
            }
        }
    }

    /// Stays with a process that has lost its seat until nobody is left in it, and ends it.
    async fn retire(self, former: Running, order: Replace, generation: u64) {
        let (seat, reason) = (self.place.seat, &order.reason);
        tracing::info!(?seat, generation, "browser {seat:?} generation {generation} retires {reason}");
        let tenancy = former.chrome.tenancy().clone();
        let end = tokio::select! {
            end = self.observe(&former.chrome) => end,
            left = clock::within(RETIREMENT, tenancy.empty()) => {
                if left.is_err() {
                    tracing::warn!(?seat, generation, "browser {seat:?} generation {generation} ends with contexts in it");
                }
                End::Retired
            }
        };
        Self::end(former, end).await;
        drop(order.over);
    }

    async fn observe(&self, chrome: &Chrome) -> End {
        let (gone, seat, program) = (chrome.gone(), self.place.seat, self.launcher.program());
        let program = program.map_or_else(|_| String::new(), |program| program.display().to_string());
        // By the process's own word: what we count ourselves would not show what we have forgotten.
        let held = metrics::gauge!("nightporter_browser_contexts", "program" => program, "seat" => format!("{seat:?}"));
        let pinging = async {
            let mut misses = 0;
            while misses < MISSES {
                if misses == 0 {
                    clock::pause(PING_EVERY).await;
                }
                misses = match chrome.ping(PING_LIMIT).await {
                    Ok(contexts) => {
                        if !chrome.tenancy().is_retiring() {
                            held.set(contexts as f64);
                        }
                        0
                    }
                    Err(_) => misses + 1,
                };
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Stopped,
            () = gone.cancelled() => End::Died,
            () = pinging => End::Hung,
        }
    }

    /// Ends a process, in order if it can be, and buries it.
    async fn end(running: Running, end: End) {
        let Running { chrome, process } = running;
        if matches!(end, End::Stopped | End::Retired) {
            let farewell = async {
                let _ = chrome.close(FAREWELL).await;
                chrome.gone().cancelled().await;
            };
            // Whether it took the time or not, what is left of it is killed below.
            let _ = clock::within(FAREWELL, farewell).await;
        }
        chrome.abandon();
        process.bury().await;
    }

    fn report_end(&self, end: End, generation: u64) {
        let reason = match end {
            End::Stopped | End::Retired => "stopped with us",
            End::Died => "the process died",
            End::Hung => "the process did not answer and was killed",
        };
        self.place.occupant.send_replace(Occupant::Nobody);
        self.place.health.send_modify(|health| {
            (health.up, health.pid, health.reason) = (false, None, Some(reason.into()));
            health.deaths += u64::from(end != End::Stopped);
        });
        if end != End::Stopped {
            let seat = self.place.seat;
            tracing::warn!(?seat, generation, "browser {seat:?} generation {generation} is lost: {reason}");
        }
    }

    /// Tells of a failed start, in the log only when it is not the one `told` before.
    fn report_failure(&self, error: BrowserError, told: &mut Option<BrowserError>) {
        let seat = self.place.seat;
        if told.as_ref() != Some(&error) {
            tracing::error!(?seat, "browser {seat:?} could not be started: {error}");
            *told = Some(error.clone());
        }
        self.place.health.send_modify(|health| health.reason = Some(error.to_string()));
        self.place.occupant.send_replace(Occupant::Failed(error));
    }
}

/// At once, then 250 ms doubling to 30 s.
fn back_off() -> impl Iterator<Item = Duration> {
    let doubling = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times();
    std::iter::once(Duration::ZERO).chain(doubling.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_replacement_comes_at_once_and_the_delay_stays_bounded() {
        let delays: Vec<_> = back_off().take(20).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays[..4], [0, 250, 500, 1000]);
        assert_eq!(delays[19], 30_000);
    }

    #[test]
    fn a_hang_is_noticed_within_ten_seconds() {
        assert!(PING_EVERY + PING_LIMIT * MISSES <= Duration::from_secs(9));
    }
}

//! The pool: two seats, one browser process on each, replaced when it dies or hangs.
//!
//! A portal keeps its active session on one seat and its standby on the other; a promotion moves nothing, the seats only
//! change their meaning for that portal. Whoever keeps sessions watches [`Pool::watch`] to learn that a process died and
//! restores its contexts into the next generation.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::chrome::{Chrome, Context, ContextOptions};
use super::error::BrowserError;
use super::launch::{Launcher, Running};
use super::settings::Settings;
use crate::clock::{self, Stopwatch};
use crate::lifecycle::Lifecycle;

/// How often a process is asked for a sign of life, how long it may take, and how often in a row it may fail to.
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_LIMIT: Duration = Duration::from_secs(3);
const MISSES: u32 = 2;
/// After so long a life a death is bad luck and the back-off starts anew.
const STEADY: Duration = Duration::from_secs(60);
/// A process that is asked to end in order gets this long.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long a caller waits for a process: a cold start, behind two others.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

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

    const fn index(self) -> usize {
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
    /// Why there is none now, or why the last one ended.
    pub reason: Option<String>,
}

/// Two browser processes; clones share them. They end with the [`Lifecycle`] the pool was made in.
#[derive(Clone, Debug)]
pub struct Pool(Arc<[Place; 2]>);

/// What callers see and touch of a seat; its keeper is the other side.
#[derive(Clone, Debug)]
struct Place {
    seat: Seat,
    wanted: watch::Sender<bool>,
    occupant: watch::Sender<Occupant>,
    health: watch::Sender<Health>,
}

/// Who sits there.
#[derive(Clone, Debug)]
enum Occupant {
    /// Nobody yet, or the next one is on the way.
    Nobody,
    /// A process that answers, and its generation.
    Browser(Chrome, u64),
    /// Nobody for now: the last attempt failed, and the next one waits.
    Failed(BrowserError),
}

impl Pool {
    /// Prepares both seats; the processes start when first wanted.
    ///
    /// # Errors
    /// [`BrowserError::Launch`] when the runtime directory or the account for the browser is not usable.
    pub fn new(life: &Lifecycle, settings: Settings) -> Result<Self, BrowserError> {
        let launcher = Arc::new(Launcher::new(life, settings)?);
        let places = [Seat::A, Seat::B].map(|seat| {
            let place = Place {
                seat,
                wanted: watch::Sender::new(false),
                occupant: watch::Sender::new(Occupant::Nobody),
                health: watch::Sender::default(),
            };
            let keeper = Keeper { place: place.clone(), launcher: Arc::clone(&launcher), stop: life.stopping() };
            life.supervise(format!("browser {seat:?}"), keeper.run());
            place
        });
        Ok(Self(Arc::new(places)))
    }

    /// Starts both processes and waits until both answer.
    ///
    /// # Errors
    /// The first reason why one does not.
    pub async fn warm(&self) -> Result<(), BrowserError> {
        let (a, b) = tokio::join!(self.place(Seat::A).browser(), self.place(Seat::B).browser());
        a.and(b).map(drop)
    }

    /// Opens an incognito context in the process on `seat`, starting that if need be.
    ///
    /// # Errors
    /// Why there is no process, or [`BrowserError::Gone`] when it died meanwhile.
    pub async fn open(&self, seat: Seat, options: ContextOptions) -> Result<Context, BrowserError> {
        let (chrome, generation) = self.place(seat).browser().await?;
        Context::open(chrome, seat, generation, options).await
    }

    /// How the process on `seat` is doing, and every change of it.
    pub fn watch(&self, seat: Seat) -> watch::Receiver<Health> {
        self.place(seat).health.subscribe()
    }

    fn place(&self, seat: Seat) -> &Place {
        &self.0[seat.index()]
    }
}

impl Place {
    async fn browser(&self) -> Result<(Chrome, u64), BrowserError> {
        self.wanted.send_replace(true);
        let mut occupant = self.occupant.subscribe();
        let settled = occupant.wait_for(|occupant| !matches!(occupant, Occupant::Nobody));
        let settled = clock::within(OPEN_LIMIT, settled).await;
        match settled.map(|seen| seen.map(|occupant| occupant.clone())) {
            Ok(Ok(Occupant::Browser(chrome, generation))) => Ok((chrome, generation)),
            Ok(Ok(Occupant::Failed(error))) => Err(error),
            Ok(Ok(Occupant::Nobody) | Err(_)) => Err(BrowserError::Gone),
            Err(_) => Err(BrowserError::Launch { reason: format!("not ready after {OPEN_LIMIT:?}") }),
        }
    }
}

/// The task that keeps one seat occupied.
struct Keeper {
    place: Place,
    launcher: Arc<Launcher>,
    stop: CancellationToken,
}

/// Why a process is no longer on its seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Died,
    Hung,
}

impl Keeper {
    async fn run(self) {
        let mut wanted = self.place.wanted.subscribe();
        let stopped = tokio::select! {
            () = self.stop.cancelled() => true,
            wanted = wanted.wait_for(|wanted| *wanted) => wanted.is_err(),
        };
        if !stopped {
            self.keep().await;
        }
        self.place.occupant.send_replace(Occupant::Failed(BrowserError::Gone));
    }

    async fn keep(&self) {
        let mut delays = back_off();
        loop {
            match self.launcher.launch().await {
                Ok(running) => {
                    let age = Stopwatch::start();
                    if self.attend(running).await == End::Stopped {
                        return;
                    }
                    if age.elapsed() > STEADY {
                        delays = back_off();
                    }
                }
                Err(_) if self.stop.is_cancelled() => return,
                Err(error) => self.report_failure(error),
            }
            let delay = delays.next().unwrap_or_default();
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = clock::pause(delay) => {}
            }
            self.place.occupant.send_replace(Occupant::Nobody);
        }
    }

    /// Seats the process, stays until its end, and buries it.
    async fn attend(&self, running: Running) -> End {
        let Running { chrome, process } = running;
        let pid = process.id();
        self.place.health.send_modify(|health| {
            health.generation += 1;
            (health.up, health.pid, health.reason) = (true, Some(pid), None);
        });
        let generation = self.place.health.borrow().generation;
        self.place.occupant.send_replace(Occupant::Browser(chrome.clone(), generation));
        let seat = self.place.seat;
        tracing::info!(?seat, pid, generation, "browser {seat:?} is up: process {pid}, generation {generation}");
        let end = self.observe(&chrome).await;
        // Told before the funeral: whoever waits for the next one need not wait for that.
        self.report_end(end, generation);
        if end == End::Stopped {
            let farewell = async {
                let _ = chrome.close(FAREWELL).await;
                chrome.gone().cancelled().await;
            };
            // Whether it took the time or not, what is left of it is killed below.
            let _ = clock::within(FAREWELL, farewell).await;
        }
        chrome.abandon();
        process.bury().await;
        end
    }

    async fn observe(&self, chrome: &Chrome) -> End {
        let gone = chrome.gone();
        let pinging = async {
            let mut misses = 0;
            while misses < MISSES {
                clock::pause(PING_EVERY).await;
                misses = if chrome.ping(PING_LIMIT).await.is_ok() { 0 } else { misses + 1 };
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Stopped,
            () = gone.cancelled() => End::Died,
            () = pinging => End::Hung,
        }
    }

    fn report_end(&self, end: End, generation: u64) {
        let reason = match end {
            End::Stopped => "stopped with us",
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

    fn report_failure(&self, error: BrowserError) {
        let seat = self.place.seat;
        tracing::error!(?seat, "browser {seat:?} could not be started: {error}");
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
}

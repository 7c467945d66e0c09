//! Time: the one place that reads the wall clock or sleeps.
//!
//! Domain code takes a [`Clock`] and asks it for [`Time`]; tests hold the clock and move it by hand. What waits for the
//! outside world (a socket, a browser, a disk) is bounded by [`within`], which runs on real time even when the clock is
//! held, because reality does not stop for a test. Nothing here keeps state.
#![expect(clippy::disallowed_methods, reason = "the one place that reads clocks and sleeps")]

mod hours;
mod ticks;

use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::sync::watch;

pub use hours::{Hours, InvalidHours};

/// A moment in UTC, in whole milliseconds since the Unix epoch.
///
/// Text form is RFC 3339 with milliseconds (`2026-11-20T08:31:27.250Z`); binary formats store the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment in the host's local zone, for pages and terminals (`2026-11-20 17:31:27 KST`).
    pub fn local(self) -> String {
        self.jiff().to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// What is displayed. Made at once, because formatting piece by piece takes twice as long, and every answer has its times.
    fn text(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        PRINTER.timestamp_to_string(&self.jiff())
    }

    fn jiff(self) -> jiff::Timestamp {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FromStr for Time {
    type Err = InvalidTime;

    /// Reads RFC 3339 with any offset; parts below a millisecond are dropped.
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| InvalidTime)?;
        u64::try_from(parsed.as_millisecond()).map(Self).map_err(|_| InvalidTime)
    }
}

/// The text is not an RFC 3339 time at or after 1970.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected an RFC 3339 time such as 2026-11-20T08:31:27.250Z")]
pub struct InvalidTime;

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.text())
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

/// Where a part of the program gets its time from; clones share the source.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Held(Arc<watch::Sender<Hands>>),
}

/// What a held clock shows.
#[derive(Clone, Copy, Debug)]
struct Hands {
    /// The time of day, which may be set.
    wall: Time,
    /// What has passed, which only grows.
    passed: Duration,
}

impl Clock {
    /// The operating system's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn held(start: Time) -> Self {
        Self(Source::Held(Arc::new(watch::Sender::new(Hands { wall: start, passed: Duration::ZERO }))))
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        match &self.0 {
            Source::System => {
                let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Time(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Held(hands) => hands.borrow().wall,
        }
    }

    /// How much time has passed since some moment at the start of the process, whatever became of the time of day.
    pub fn passed(&self) -> Duration {
        static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        match &self.0 {
            Source::System => START.elapsed(),
            Source::Held(hands) => hands.borrow().passed,
        }
    }

    /// Waits until `span` has passed since this was called, whatever becomes of the time of day meanwhile.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + use<> {
        let end = self.passed() + span;
        let source = self.0.clone();
        async move {
            match source {
                Source::System => tokio::time::sleep(end.saturating_sub(Self(Source::System).passed())).await,
                Source::Held(hands) => {
                    // The sender is held here, so this ends only when the span has passed.
                    let _ = hands.subscribe().wait_for(|hands| hands.passed >= end).await;
                }
            }
        }
    }

    /// Waits until this clock shows `moment` or later: for what belongs to a time of day. A wait that must end is one for a
    /// span, because a clock that is set back by a day would lengthen this one by a day.
    pub async fn sleep_until(&self, moment: Time) {
        match &self.0 {
            Source::System => {
                // The wall clock may be set while we sleep: look again at least once a minute.
                while self.now() < moment {
                    tokio::time::sleep(moment.since(self.now()).min(Duration::from_secs(60))).await;
                }
            }
            Source::Held(hands) => {
                let mut changes = hands.subscribe();
                // The sender lives in `self`, so this ends only when the moment has come.
                let _ = changes.wait_for(|hands| hands.wall >= moment).await;
            }
        }
    }

    /// Runs `work` for at most as long as `deadline` is away when this is called: the clock may be set meanwhile, and a
    /// deadline must not move with it.
    ///
    /// # Errors
    /// [`DeadlineExceeded`] when the time ran out first; `work` is dropped then.
    pub async fn until<F: Future>(&self, deadline: Time, work: F) -> Result<F::Output, DeadlineExceeded> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.sleep(deadline.since(self.now())) => Err(DeadlineExceeded),
        }
    }

    /// Moves a held clock forward. Does nothing to the system's clock.
    pub fn advance(&self, span: Duration) {
        if let Source::Held(hands) = &self.0 {
            hands.send_modify(|hands| *hands = Hands { wall: hands.wall + span, passed: hands.passed + span });
        }
    }

    /// Sets the time of day of a held clock, as an administrator does: no time passes. Does nothing to the system's clock.
    pub fn set(&self, wall: Time) {
        if let Source::Held(hands) = &self.0 {
            hands.send_modify(|hands| hands.wall = wall);
        }
    }
}

/// The time allowed for something ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct DeadlineExceeded;

/// Runs `work` for at most `limit` of real time, whatever the domain's clock says: the bound for everything that talks
/// to a socket, a browser or a disk.
///
/// # Errors
/// [`DeadlineExceeded`] when the limit came first; `work` is dropped then.
pub async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, DeadlineExceeded> {
    tokio::time::timeout(limit, work).await.map_err(|_| DeadlineExceeded)
}

/// Waits `span` of real time: the pause between two looks at the outside world.
pub async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}

/// A stopwatch on the monotonic clock, for measurements that end in a log line or a metric.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts counting.
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// The time since [`Stopwatch::start`].
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rfc3339_with_milliseconds_and_a_number_in_binary() {
        let time = Time::from_millis(1_700_000_000_000);
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2023-11-14T22:13:20.000Z\"");
        assert_eq!(serde_json::from_str::<Time>("\"2023-11-15T07:13:20.000+09:00\"").unwrap(), time);
        assert_eq!(bincode::serialize(&time).unwrap(), 1_700_000_000_000_u64.to_le_bytes());
        assert!("yesterday".parse::<Time>().is_err());
    }

    #[tokio::test]
    async fn a_held_clock_moves_only_by_hand() {
        let clock = Clock::held(Time::from_millis(1000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(Time::from_millis(3000)).await }
        });
        clock.advance(Duration::from_secs(1));
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), Time::from_millis(3000));
    }
    #[tokio::test]
    async fn a_deadline_does_not_move_with_a_clock_that_is_set() {
        let start = Time::from_millis(1_700_000_000_000);
        let day = Duration::from_secs(86_400);
        for wall in [start - day, start + day] {
            let clock = Clock::held(start);
            let limited = clock.until(start + Duration::from_secs(30), std::future::pending::<()>());
            tokio::pin!(limited);
            assert!(futures_util::poll!(&mut limited).is_pending());
            clock.set(wall);
            assert!(futures_util::poll!(&mut limited).is_pending(), "no time has passed");
            clock.advance(Duration::from_secs(30));
            assert_eq!(limited.await, Err(DeadlineExceeded));
        }
    }
}

//! Recycling: which process has lived, worked or grown enough, and whose turn it is. One seat of a pool at a time, and the
//! one from which fewer sessions serve first: that a fresh process comes up is seen where nobody waits for it.
//!
//! Says only when; how a process is replaced is the seat's business.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::kin;
use super::seat::{Place, Seat, Wear};
use crate::clock;

/// How often processes are looked at, at the least and at the most.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The pause after a replacement that did not come up.
const AGAIN: Duration = Duration::from_secs(300);
/// Of the age at which a process is replaced anyway, the part that it may weigh what it likes: work that needs more memory
/// than the limit allows must not have its browser replaced every minute.
const GROWTH: u32 = 24;
/// The part of that age below which a process is fresh. Several looks long, so that of two neither goes again and again while
/// the other waits.
const FRESH: u32 = 2;

/// When a browser process is replaced by a fresh one. What comes first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recycle {
    /// After so long. Default 24 h.
    pub after: Duration,
    /// After its tabs have loaded so many documents. Default 500.
    pub navigations: u64,
    /// When it and its children hold so many bytes, shared pages counted once (PSS), at two looks in a row. Default 1 GiB:
    /// with eight logged-in sessions it takes a fifth of that, with eight open tabs two fifths.
    pub memory: u64,
}

impl Default for Recycle {
    fn default() -> Self {
        Self { after: Duration::from_secs(24 * 3600), navigations: 500, memory: 1 << 30 }
    }
}

impl Recycle {
    /// The time between two looks at a process.
    fn look(&self) -> Duration {
        (self.after / 10).clamp(LOOKS.0, LOOKS.1)
    }

    /// Why a process has had enough, apart from its weight.
    fn worn(&self, wear: &Wear) -> Option<String> {
        if wear.age >= self.after {
            return Some(format!("after {}", rounded(wear.age)));
        }
        let documents = wear.navigations;
        (documents >= self.navigations).then(|| format!("after {documents} documents"))
    }

    /// Which of several processes goes first, by age and whether it is due; those from which fewer sessions serve come
    /// first. One that is not due itself goes before another that is, unless it is fresh.
    fn first(&self, processes: &[(Duration, bool)]) -> Option<usize> {
        let last = processes.iter().rposition(|(_, due)| *due)?;
        processes[..=last].iter().position(|(age, due)| *due || *age >= self.after / FRESH)
    }
}

/// A span as a person says it.
fn rounded(span: Duration) -> String {
    match span.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// The task that sends the processes of one pool into retirement.
pub(super) struct Recycler {
    /// The pool's seats.
    pub(super) places: [Place; 2],
    /// Its limits.
    pub(super) limits: Recycle,
    /// The pool's end.
    pub(super) stop: CancellationToken,
}

/// A process that was too heavy at the last look, by seat and generation.
type Heavy = Vec<(Seat, u64)>;

impl Recycler {
    /// Looks at the seats until the pool ends.
    pub(super) async fn run(self) {
        let mut heavy = Heavy::new();
        let mut pause = self.limits.look();
        while clock::within(pause, self.stop.cancelled()).await.is_err() {
            pause = self.limits.look();
            let Some((place, generation, reason)) = self.due(&mut heavy).await else { continue };
            if !place.replace(generation, reason).await {
                pause = AGAIN.min(self.limits.after);
            }
        }
    }

    /// The seat to be recycled first, and why: when one is due, before it the one from which fewer sessions serve.
    async fn due(&self, heavy: &mut Heavy) -> Option<(&Place, u64, String)> {
        let mut looked = Vec::new();
        let before = std::mem::take(heavy);
        for place in self.places.iter().rev() {
            let Some(wear) = place.wear() else { continue };
            let reason = match self.limits.worn(&wear) {
                None => self.overweight(place.seat(), &wear, &before, heavy).await,
                worn => worn,
            };
            looked.push((place, wear, reason));
        }
        looked.sort_by_key(|(_, wear, _)| wear.serving);
        let ages: Vec<_> = looked.iter().map(|(_, wear, reason)| (wear.age, reason.is_some())).collect();
        let (place, wear, reason) = looked.swap_remove(self.limits.first(&ages)?);
        Some((place, wear.generation, reason.unwrap_or_else(|| format!("after {}", rounded(wear.age)))))
    }

    async fn overweight(&self, seat: Seat, wear: &Wear, before: &Heavy, heavy: &mut Heavy) -> Option<String> {
        if wear.age < self.limits.after / GROWTH {
            return None;
        }
        let kin = wear.kin.clone();
        let weight = kin::apart(move || kin.weight()).await?;
        if weight < self.limits.memory {
            return None;
        }
        let process = (seat, wear.generation);
        heavy.push(process);
        before.contains(&process).then(|| format!("at {} MB of memory", weight / 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_between_looks_is_bounded() {
        let look = |after| Recycle { after: Duration::from_secs(after), ..Recycle::default() }.look().as_secs();
        assert_eq!([look(1), look(100), look(86_400)], [1, 10, 60]);
        assert_eq!([rounded(Duration::from_secs(86_403)), rounded(Duration::from_secs(90))], ["24 h", "90 s"]);
    }
    #[test]
    fn what_serves_less_goes_first_unless_it_is_fresh() {
        let limits = Recycle { after: Duration::from_secs(100), ..Recycle::default() };
        let first =
            |processes: [(u64, bool); 2]| limits.first(&processes.map(|(age, due)| (Duration::from_secs(age), due)));
        assert_eq!(first([(99, false), (99, false)]), None);
        assert_eq!(first([(101, true), (102, true)]), Some(0));
        assert_eq!(first([(50, false), (101, true)]), Some(0), "before the other, which is due");
        assert_eq!(first([(49, false), (101, true)]), Some(1), "it went just now");
        assert_eq!(first([(101, true), (99, false)]), Some(0));
        assert_eq!(limits.first(&[]), None);
    }
}

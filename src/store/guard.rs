//! Runs what a damaged file can make panic or never return: on a thread of its own, with a limit on silence. Knows nothing
//! of what runs.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::lifecycle::panic_message;

/// With what guarded work of result `T` says `B` while it goes on.
pub(super) struct Pulse<T, B = ()> {
    tell: SyncSender<Word<T, B>>,
    stopped: Arc<AtomicBool>,
}

enum Word<T, B> {
    Beat(B),
    End(Result<T, Lost>),
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Lost {
    /// It panicked, and said this.
    Panicked(String),
    /// It said nothing for as long. Its thread stays behind with all that it holds.
    Silent(Duration),
    /// There was no thread to run it on.
    NoThread(io::Error),
}

impl<T, B> Pulse<T, B> {
    /// Still at it; tells whether to go on. Whoever is faster than the listener waits for it.
    pub(super) fn beat(&self, word: B) -> bool {
        self.tell.send(Word::Beat(word)).is_ok() && !self.stopped.load(Ordering::Relaxed)
    }
}

/// Runs `work` to its end, as long as it beats at least once every `limit`.
///
/// # Errors
/// Why there is no result.
pub(super) fn guarded<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Pulse<T>) -> T + Send + 'static,
) -> Result<T, Lost> {
    watched(limit, work, &mut |()| true)
}

/// As [`guarded`], with somebody who hears every beat and says whether to go on. The work ends by itself then.
///
/// # Errors
/// As [`guarded`].
pub(super) fn watched<T: Send + 'static, B: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Pulse<T, B>) -> T + Send + 'static,
    heard: &mut dyn FnMut(B) -> bool,
) -> Result<T, Lost> {
    let (tell, told) = sync_channel(1);
    let stopped = Arc::new(AtomicBool::new(false));
    let pulse = Pulse { tell, stopped: Arc::clone(&stopped) };
    let runner = std::thread::Builder::new().name("store open".to_owned()).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(|| work(&pulse)));
        let ended = ended.map_err(|panic| Lost::Panicked(panic_message(&*panic).to_owned()));
        let _ = pulse.tell.send(Word::End(ended));
    });
    runner.map_err(Lost::NoThread)?;
    loop {
        match told.recv_timeout(limit) {
            Ok(Word::Beat(word)) => {
                if !heard(word) {
                    stopped.store(true, Ordering::Relaxed);
                }
            }
            Ok(Word::End(ended)) => return ended,
            Err(RecvTimeoutError::Timeout) => return Err(Lost::Silent(limit)),
            Err(RecvTimeoutError::Disconnected) => return Err(Lost::Panicked("without a word".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_a_silence_are_told_and_work_that_beats_may_take_long() {
        let panicked = guarded::<()>(Duration::from_secs(60), |_| panic!("segment 7"));
        assert!(matches!(panicked, Err(Lost::Panicked(words)) if words == "segment 7"));
        let silent = guarded(Duration::from_millis(1), |_| std::thread::park());
        assert!(matches!(silent, Err(Lost::Silent(limit)) if limit == Duration::from_millis(1)));
        let long = guarded(Duration::from_secs(60), |pulse| (0..1000).map(|n| (pulse.beat(()), n).1).sum::<u32>());
        assert_eq!(long.unwrap(), 499_500);
    }

    #[test]
    fn work_hears_that_it_is_to_end() {
        let work = |pulse: &Pulse<u32, u32>| (0..).find(|n| !pulse.beat(*n)).unwrap();
        let ended = watched(Duration::from_secs(60), work, &mut |n| n < 7).unwrap();
        assert!((7..10).contains(&ended), "{ended}");
    }
}

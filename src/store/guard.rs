//! Runs what a damaged file can make panic or never return: on a thread of its own, with a limit on silence. Knows nothing
//! of what runs.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::lifecycle::panic_message;

/// What guarded work says while it goes on.
pub(super) struct Pulse<T>(SyncSender<Word<T>>);

enum Word<T> {
    Beat,
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

impl<T> Pulse<T> {
    /// Still at it. Whoever is faster than the listener waits for it.
    pub(super) fn beat(&self) {
        // Nobody listens any more when the work was given up; there is nobody to tell then.
        let _ = self.0.send(Word::Beat);
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
    let (tell, told) = sync_channel(1);
    let runner = std::thread::Builder::new().name("store open".to_owned()).spawn(move || {
        let pulse = Pulse(tell);
        let ended = catch_unwind(AssertUnwindSafe(|| work(&pulse)));
        let ended = ended.map_err(|panic| Lost::Panicked(panic_message(&*panic).to_owned()));
        let _ = pulse.0.send(Word::End(ended));
    });
    runner.map_err(Lost::NoThread)?;
    loop {
        match told.recv_timeout(limit) {
            Ok(Word::Beat) => {}
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
        let long = guarded(Duration::from_secs(60), |pulse| (0..1000).map(|n| (pulse.beat(), n).1).sum::<u32>());
        assert_eq!(long.unwrap(), 499_500);
    }
}

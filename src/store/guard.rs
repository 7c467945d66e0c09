//! Runs what a damaged file can make panic or never return: on a thread of its own, with a limit on silence. Knows nothing
//! of what runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::lifecycle::panic_message;

/// What guarded work says while it goes on.
pub(super) struct Pulse<T>(SyncSender<Word<T>>);

enum Word<T> {
    Beat,
    End(Result<T, String>),
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
/// Why there is no result, in words: it panicked, or said nothing for too long. In the latter case its thread stays behind
/// with all that it holds.
pub(super) fn guarded<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Pulse<T>) -> T + Send + 'static,
) -> Result<T, String> {
    let (tell, told) = sync_channel(1);
    let runner = std::thread::Builder::new().name("store open".to_owned()).spawn(move || {
        let pulse = Pulse(tell);
        let ended = catch_unwind(AssertUnwindSafe(|| work(&pulse)));
        let ended = ended.map_err(|panic| format!("the database gave up on it: {}", panic_message(&*panic)));
        let _ = pulse.0.send(Word::End(ended));
    });
    runner.map_err(|error| format!("no thread to open it on: {error}"))?;
    loop {
        match told.recv_timeout(limit) {
            Ok(Word::Beat) => {}
            Ok(Word::End(ended)) => return ended,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("the database does not answer for {} s", limit.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => return Err("its thread ended without a word".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_a_silence_are_told_and_work_that_beats_may_take_long() {
        let panicked = guarded::<()>(Duration::from_secs(60), |_| panic!("segment 7"));
        assert_eq!(panicked, Err("the database gave up on it: segment 7".to_owned()));
        let silent = guarded(Duration::from_millis(1), |_| std::thread::park());
        assert_eq!(silent, Err("the database does not answer for 0 s".to_owned()));
        let long = guarded(Duration::from_secs(60), |pulse| (0..1000).map(|n| (pulse.beat(), n).1).sum::<u32>());
        assert_eq!(long, Ok(499_500));
    }
}

//! One line on the terminal that says how far something has come. Nothing is written when standard error is no terminal, so
//! logs and pipes stay clean.

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::output;
use crate::clock::Stopwatch;

/// The pause between two lines: as often as an eye can follow.
const PAUSE: Duration = Duration::from_millis(100);

/// The line; wiped away when dropped.
#[derive(Debug)]
pub(super) struct Line {
    terminal: bool,
    told: Option<Stopwatch>,
}

impl Line {
    /// A line with nothing on it yet.
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), told: None }
    }

    /// Says `text()`, unless it has just said something.
    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.terminal && self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            self.told = Some(Stopwatch::start());
            output::complain(&format!("\r\x1b[K{}", text()));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.told.is_some() {
            output::complain("\r\x1b[K");
        }
    }
}

/// A number of bytes as people read it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

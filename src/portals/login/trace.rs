//! The record of a login's steps: the last ones for a letter, each as it happens for somebody who watches. Holds words of
//! the recipe and how steps ended, never what was typed.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::{Stopwatch, Time};
use crate::portals::recipe::Step;

/// Steps that are kept: enough to see how a login came to where it failed, and few enough to be read in a mail.
const LAST: usize = 12;
/// News that may lie unread. A login makes at most 500 steps with up to three each, so none is ever left out.
const NEWS: usize = 2048;

/// A step that was made, or was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTaken {
    /// Its place in the recipe, from 1.
    pub number: usize,
    /// Its line in the recipe.
    pub line: usize,
    /// What it does, as the recipe words it.
    pub what: String,
    /// When it began.
    pub started: Time,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was done, and this was seen.
    Saw(String),
    /// The login failed in it; in words.
    Failed(String),
}

impl fmt::Display for StepTaken {
    /// `9  code "#code"  120.0 s  no code came within 120 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}  {}  {:.1} s", self.number, self.what, self.took.as_secs_f64())?;
        match &self.outcome {
            Outcome::Done => Ok(()),
            Outcome::Saw(what) => write!(f, "  {what}"),
            Outcome::Failed(why) => write!(f, "  FAILED: {why}"),
        }
    }
}

/// What somebody who watches a login hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step began.
    Began {
        /// Its place in the recipe, from 1.
        number: usize,
        /// What it does.
        what: String,
    },
    /// The step waits for a code now.
    AwaitsCode,
    /// The step has ended.
    Ended(StepTaken),
}

/// The ear of somebody who watches.
pub type News = mpsc::Receiver<Progress>;

/// The record of one login.
#[derive(Debug, Default)]
pub(in crate::portals) struct Trace {
    last: VecDeque<StepTaken>,
    running: Option<(StepTaken, Stopwatch)>,
    watcher: Option<mpsc::Sender<Progress>>,
}

impl Trace {
    /// A record that somebody follows.
    pub(in crate::portals) fn watched() -> (Self, News) {
        let (watcher, news) = mpsc::channel(NEWS);
        (Self { watcher: Some(watcher), ..Self::default() }, news)
    }

    /// A step begins.
    pub(super) fn begin(&mut self, index: usize, step: &Step, now: Time) {
        let (number, what) = (index + 1, step.words());
        self.tell(|| Progress::Began { number, what: what.clone() });
        let taken =
            StepTaken { number, line: step.line, what, started: now, took: Duration::ZERO, outcome: Outcome::Done };
        self.running = Some((taken, Stopwatch::start()));
    }

    /// The step that runs waits for a code.
    pub(super) fn awaits_code(&self) {
        self.tell(|| Progress::AwaitsCode);
    }

    /// What the step that runs has found out.
    pub(super) fn saw(&mut self, what: String) {
        if let Some((taken, _)) = &mut self.running {
            taken.outcome = Outcome::Saw(what);
        }
    }

    /// The step that runs is done.
    pub(super) fn done(&mut self) {
        self.end(None);
    }

    /// The login failed, in the step that runs if there is one.
    pub(super) fn failed(&mut self, why: &str) {
        self.end(Some(why));
    }

    fn end(&mut self, failed: Option<&str>) {
        let Some((mut taken, since)) = self.running.take() else { return };
        taken.took = since.elapsed();
        if let Some(why) = failed {
            taken.outcome = Outcome::Failed(why.to_owned());
        }
        self.tell(|| Progress::Ended(taken.clone()));
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(taken);
    }

    /// The last steps, oldest first.
    pub(super) fn last(&mut self) -> Vec<StepTaken> {
        std::mem::take(&mut self.last).into()
    }

    fn tell(&self, news: impl FnOnce() -> Progress) {
        if let Some(watcher) = &self.watcher {
            // Who has gone away, or does not read, holds up no login.
            let _ = watcher.try_send(news());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portals::recipe::Action;

    fn step(line: usize) -> Step {
        Step { action: Action::WaitFor { selector: "#a".to_owned() }, timeout: None, label: None, line }
    }

    #[test]
    fn the_last_steps_are_kept_and_every_one_is_told() {
        let (mut trace, mut news) = Trace::watched();
        for index in 0..LAST + 3 {
            trace.begin(index, &step(index + 10), Time::from_millis(5));
            if index == 1 {
                trace.awaits_code();
            }
            trace.done();
        }
        trace.begin(40, &step(50), Time::from_millis(6));
        trace.saw("#b".to_owned());
        trace.failed("nothing there");
        trace.failed("no step runs any more");
        let last = trace.last();
        assert_eq!((last.len(), last[0].number, last[0].line), (LAST, 5, 14));
        assert!(last[LAST - 1].to_string().starts_with(" 41  wait_for \"#a\"  0."), "{}", last[LAST - 1]);
        assert!(last[LAST - 1].to_string().ends_with(" s  FAILED: nothing there"));
        let mut told = Vec::new();
        while let Ok(progress) = news.try_recv() {
            told.push(progress);
        }
        assert_eq!(told.len(), 2 * (LAST + 4) + 1);
        assert_eq!(told[0], Progress::Began { number: 1, what: "wait_for \"#a\"".to_owned() });
        assert_eq!(told[3], Progress::AwaitsCode);
        assert!(matches!(told.last(), Some(Progress::Ended(taken)) if taken == &last[LAST - 1]));
    }

    #[test]
    fn nobody_who_watches_holds_up_a_login() {
        let (mut trace, news) = Trace::watched();
        for index in 0..NEWS {
            trace.begin(index, &step(1), Time::from_millis(5));
            trace.done();
        }
        drop(news);
        trace.begin(0, &step(1), Time::from_millis(5));
        trace.done();
        assert_eq!(trace.last().len(), LAST);
    }
}

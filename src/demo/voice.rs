//! The terminal: one line for what happens, who did it and when, and a table at the end. Colour only where a person looks.

use std::io::{IsTerminal, Write};

use crate::clock::Stopwatch;

/// Columns of the terminal that are used, of the 80 that every terminal has.
const WIDTH: usize = 78;
/// Where the text of a line begins.
const INDENT: usize = 19;
/// Where a frame begins.
const FRAME: usize = 10;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Porter,
    Portal,
    Phone,
    Job,
    Mail,
    You,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Porter => "porter",
            Self::Portal => "portal",
            Self::Phone => "phone",
            Self::Job => "job",
            Self::Mail => "mail",
            Self::You => "demo",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Porter => "36",
            Self::Portal => "35",
            Self::Phone => "33",
            Self::Job => "34",
            Self::Mail => "32",
            Self::You => "90",
        }
    }
}

/// A promise and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) promised: &'static str,
    pub(super) seen: String,
    pub(super) kept: bool,
}

/// Prints.
#[derive(Debug)]
pub(super) struct Voice {
    since: Stopwatch,
    colour: bool,
}

impl Voice {
    pub(super) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { since: Stopwatch::start(), colour }
    }

    /// Whoever reads may have gone away; the play goes on.
    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn title(&self, text: &str) {
        self.print(&format!("\n{}", self.paint("1", text)));
    }

    pub(super) fn plain(&self, text: &str) {
        self.print(text);
    }

    pub(super) fn say(&self, who: Who, text: &str) {
        let at = self.since.elapsed();
        let tenths = at.as_millis() / 100;
        let time = format!("{:>2}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10);
        let name = self.paint(who.colour(), &format!("{:<6}", who.name()));
        let mut rows = wrapped(text, WIDTH - INDENT).into_iter();
        self.print(&format!("  {time}  {name}  {}", rows.next().unwrap_or_default()));
        for row in rows {
            self.print(&format!("{:INDENT$}{row}", ""));
        }
    }

    /// Text in a frame, for a mail.
    pub(super) fn framed(&self, text: &str) {
        let edge = "─".repeat(WIDTH - FRAME);
        self.print(&format!("{:FRAME$}┌{edge}", ""));
        for row in text.lines().flat_map(|line| wrapped(line, WIDTH - FRAME - 2)) {
            self.print(format!("{:FRAME$}│ {row}", "").trim_end());
        }
        self.print(&format!("{:FRAME$}└{edge}", ""));
    }

    pub(super) fn table(&self, promises: &[Promise]) {
        let widest = promises.iter().map(|promise| promise.promised.chars().count()).max().unwrap_or(0);
        for Promise { promised, seen, kept } in promises {
            let mark = if *kept { self.paint("32", "kept  ") } else { self.paint("1;31", "BROKEN") };
            self.print(&format!("  {mark}  {promised:<widest$}  {seen}"));
        }
    }
}

/// Breaks a line between words; what follows the first row is indented.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let (mut rows, mut row) = (Vec::new(), String::new());
    for word in line.split_inclusive(' ') {
        if !row.trim().is_empty() && row.chars().count() + word.trim_end().chars().count() > width {
            rows.push(row.trim_end().to_owned());
            row = "  ".to_owned();
        }
        row.push_str(word);
    }
    rows.push(row.trim_end().to_owned());
    rows
}

//! The steps of a login on the terminal: one line each, with a mark, its time and what was seen. A step that still runs is
//! shown only where the line can be written over.

use std::io::IsTerminal;

use crate::cli::output;
use crate::portals::recipe::Recipe;
use crate::portals::trial::{Outcome, Progress, StepTaken};

/// The widest that the column of steps becomes, in cells: with number, mark and time it leaves room on 80.
const WIDEST: usize = 46;

/// The cells of a line; what was seen goes on one of its own where both do not fit.
const LINE: usize = 80;

/// Where the steps are shown.
pub(super) struct Screen {
    width: usize,
    live: bool,
    colour: bool,
    /// Whether the last line is one that is written over.
    open: bool,
}

impl Screen {
    /// A screen on standard output for this recipe's steps.
    pub(super) fn new(recipe: &Recipe) -> Self {
        let widest = recipe.login.steps.iter().map(|step| output::cells(&step.words())).max().unwrap_or_default();
        let live = std::io::stdout().is_terminal();
        let colour = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { width: widest.min(WIDEST), live, colour, open: false }
    }

    /// Shows how the login goes on.
    pub(super) fn show(&mut self, progress: &Progress) -> anyhow::Result<()> {
        match progress {
            Progress::Began { number, what } if self.live => {
                self.open = true;
                output::print(&self.row(*number, what, "…", ""))
            }
            Progress::Began { .. } => Ok(()),
            Progress::AwaitsCode => self.say("waits for the code; type it here, and press Enter"),
            Progress::Ended(step) => self.ended(step),
        }
    }

    /// Shows a line of its own under the step that runs.
    pub(super) fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let end = if std::mem::take(&mut self.open) { "\n" } else { "" };
        output::print(&format!("{end}{:>6}{text}\n", ""))
    }

    fn ended(&mut self, step: &StepTaken) -> anyhow::Result<()> {
        let (mark, code, seen) = match &step.outcome {
            Outcome::Done => ("✓", "32", ""),
            Outcome::Saw(what) => ("✓", "32", what.as_str()),
            Outcome::Failed(why) => ("✗", "1;31", why.as_str()),
        };
        let took = format!("{:>6.1} s", step.took.as_secs_f64());
        let told = beside(&self.row(step.number, &step.what, mark, &took), seen);
        let coloured = format!("\x1b[{code}m{mark}\x1b[0m");
        let mark = if self.colour { &*coloured } else { mark };
        let wipe = if std::mem::take(&mut self.open) { "\r\x1b[K" } else { "" };
        output::print(&format!("{wipe}{}{told}\n", self.row(step.number, &step.what, mark, &took)))
    }

    fn row(&self, number: usize, what: &str, mark: &str, told: &str) -> String {
        let what = output::padded(&cut(what, self.width), self.width);
        format!("{number:>4}  {what}  {mark} {told}").trim_end().to_owned()
    }
}

/// What was seen, as it goes on after `row`.
fn beside(row: &str, seen: &str) -> String {
    match output::cells(row) + 2 + output::cells(seen) {
        _ if seen.is_empty() => String::new(),
        ..=LINE => format!("  {seen}"),
        _ => format!("\n{:>6}{seen}", ""),
    }
}

/// At most `width` cells of `text`.
fn cut(text: &str, width: usize) -> String {
    if output::cells(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        if output::cells(&kept) + output::cells(character.encode_utf8(&mut [0; 4])) + 1 > width {
            break;
        }
        kept.push(character);
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_steps_are_cut_by_cells() {
        assert_eq!(cut("fill \"#a\"", 9), "fill \"#a\"");
        assert_eq!(cut("click \"#확인버튼\"", 12), "click \"#확…");
    }

    #[test]
    fn what_was_seen_has_a_line_of_its_own_where_it_does_not_fit() {
        let row = "r".repeat(40);
        assert_eq!(beside(&row, ""), "");
        assert_eq!(beside(&row, &"확".repeat(19)), format!("  {}", "확".repeat(19)));
        assert_eq!(beside(&row, &"확".repeat(20)), format!("\n      {}", "확".repeat(20)));
    }
}

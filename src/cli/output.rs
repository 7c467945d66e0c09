//! Standard output, where results go, and standard error, where complaints go while there is no log. A reader that has seen enough (`| head`) is no failure.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::clock::Time;

/// Writes `text` as it is.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// Writes `text` to standard error. Nobody is left to be told when that fails.
pub(super) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes `value` as indented JSON and a newline.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("the result cannot be written as JSON")?;
    print(&format!("{text}\n"))
}

/// A text of an answer; "-" where there is none.
pub(super) fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// A time of an answer, in the host's zone; as it came where it is none.
pub(super) fn time(value: &Value) -> String {
    let text = value.as_str().unwrap_or("-");
    text.parse::<Time>().map_or_else(|_| text.to_owned(), Time::local)
}

/// Rows in columns two spaces apart. Wide characters count as two, so that Korean names line up.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cells(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cells(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `text` with spaces after it up to `width` terminal cells.
pub(super) fn padded(text: &str, width: usize) -> String {
    let room = width.saturating_sub(cells(text));
    format!("{text}{}", " ".repeat(room))
}

/// How many terminal cells `text` takes: Hangul, Han and full-width forms take two.
pub(super) fn cells(text: &str) -> usize {
    let wide = |c: char| matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}');
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_korean_in_them() {
        let rows = [["이름", "a"], ["batch", "b"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "이름   a\nbatch  b\n");
    }
}

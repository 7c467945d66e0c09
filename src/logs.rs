//! The log: lines on standard error, for a terminal, a journal, or a program. Only the binary installs it; everything else
//! says what happened through `tracing` and does not care where it goes.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

use crate::clock::Clock;
use crate::config;

/// Changes what is written while the process runs; clones share it.
#[derive(Clone, Debug)]
pub struct Handle(reload::Handle<Targets, Registry>);

/// The process has a log already.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a log is installed already")]
pub struct Installed;

/// Makes standard error the process's log.
///
/// # Errors
/// [`Installed`] the second time.
pub fn install(log: config::Log) -> Result<Handle, Installed> {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match (log.format, journal()) {
        (config::LogFormat::Json, _) => lines.with_timer(Milliseconds).json().flatten_event(true).boxed(),
        (config::LogFormat::Text, true) => lines.with_ansi(false).event_format(Journal::default()).boxed(),
        (config::LogFormat::Text, false) => lines.with_ansi(colour()).with_timer(Milliseconds).boxed(),
    };
    tracing::subscriber::set_global_default(Registry::default().with(filter.and_then(lines))).map_err(|_| Installed)?;
    Ok(Handle(handle))
}

impl Handle {
    /// Writes what is at least as important as `level` from now on.
    pub fn set_level(&self, level: Level) {
        if let Err(error) = self.0.reload(targets(level)) {
            tracing::error!(%error, "the log level could not be changed: {error}");
        }
    }
}

/// Ours at `level`; libraries only when they have something to complain about, since their chatter may quote what they
/// carry.
fn targets(level: Level) -> Targets {
    Targets::new().with_default(level.min(Level::WARN)).with_target(env!("CARGO_PKG_NAME"), level)
}

/// Whether lines end in systemd's journal: it says so, and standard error is a socket or a pipe (of a script in the unit)
/// rather than a terminal or a file to which somebody redirected it.
fn journal() -> bool {
    let elsewhere = || {
        rustix::fs::fstat(io::stderr())
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile)
    };
    std::env::var_os("JOURNAL_STREAM").is_some_and(|stream| !stream.is_empty())
        && !io::stderr().is_terminal()
        && !elsewhere()
}

/// A terminal shows colour, unless its owner asked all programs not to (<https://no-color.org>).
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// UTC with milliseconds, as everywhere.
struct Milliseconds;

impl FormatTime for Milliseconds {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        write!(line, "{}", Clock::system().now())
    }
}

/// A line as the journal wants it: the priority in front, and no time, which the journal adds.
struct Journal(Format<Full, ()>);

impl Default for Journal {
    fn default() -> Self {
        Self(Format::default().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str(priority(*event.metadata().level()))?;
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        // A second line would be an entry of its own, without priority.
        writeln!(line, "{}", text.trim_end().replace('\n', "\\n"))
    }
}

/// See `sd-daemon(3)`.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

//! The process as a service: signals in, notifications out, from readiness to the end.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{App, ReloadError, notify};

/// How long requests in flight may take once a part has failed: the parts they need may be the one that did.
const FAILED_DRAIN: Duration = Duration::from_secs(3);
/// Beyond the drain limit, in which the server itself cuts what is left.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);

/// How a service ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and everything ended in order.
    Stopped,
    /// It was asked twice: what was under way is cut.
    Forced,
    /// A part failed, or did not end in time.
    Failed(String),
}

/// The signals that a service listens to; from their making on they no longer kill.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until somebody asks for the end.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Keeps `app` going until a signal or a failure ends it.
pub async fn run(app: App, mut signals: Signals) -> Ended {
    notify::feed_watchdog(&app);
    notify::ready();
    let failure = loop {
        tokio::select! {
            biased;
            reason = app.failed() => break Some(reason),
            _ = signals.terminate.recv() => break None,
            _ = signals.interrupt.recv() => break None,
            _ = signals.hangup.recv() => reload(&app).await,
        }
    };
    notify::stopping();
    let drain = match failure {
        Some(_) => FAILED_DRAIN,
        None => app.started.server.drain + DRAIN_MARGIN,
    };
    tracing::info!("stopping: requests under way have {} s", drain.as_secs());
    let in_order = tokio::select! {
        biased;
        in_order = app.stop(drain) => in_order,
        () = signals.stop() => {
            tracing::warn!("asked to stop again: cutting what is left");
            return Ended::Forced;
        }
    };
    match failure {
        Some(reason) => Ended::Failed(reason),
        None if in_order => {
            tracing::info!("stopped");
            Ended::Stopped
        }
        None => Ended::Failed("something did not end in time".to_owned()),
    }
}

async fn reload(app: &App) {
    notify::reloading();
    match app.reload().await {
        Ok(()) => tracing::info!("the configuration was read again"),
        Err(ReloadError::Config(error)) => {
            for problem in &error.problems {
                let (key, place) = (problem.named_key(), &problem.place);
                tracing::error!(key, %place, "the configuration stays as it was: {problem}");
            }
        }
        Err(ReloadError::Part(error)) => tracing::error!(%error, "the configuration stays as it was: {error}"),
    }
    notify::ready();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{self, Setup};
    use crate::clock::Clock;
    use crate::config::{Flag, Sources};
    use crate::http::metrics::Metrics;
    use crate::ids::Random;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_part_that_ends_by_itself_takes_the_service_down_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let flag = |key: &str, value: String| Flag { name: key.to_owned(), key: key.to_owned(), value };
        let store = flag("store.url", format!("sled:{}", dir.path().display()));
        let flags = vec![store, flag("server.listen", "127.0.0.1:0".to_owned())];
        let sources = Sources { flags, ..Sources::default() };
        let config = app::load(&sources).unwrap();
        let (clock, random, metrics) = (Clock::system(), Random::seeded(1), Metrics::install().unwrap());
        let app = App::start(Setup { sources, config, clock, random, metrics, log: None }).await.unwrap();
        app.ground.life.supervise("keeper vroong", async {});
        let ended = run(app, Signals::listen().unwrap()).await;
        assert_eq!(ended, Ended::Failed("keeper vroong ended by itself".to_owned()));
    }
}

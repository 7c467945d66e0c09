//! What the service manager is told: ready, reloading, stopping, still alive. Says nothing when there is none.

use std::time::Duration;

use sd_notify::NotifyState;

use super::probe::StoreProbe;
use super::{App, Ground};
use crate::clock;

/// All parts run.
pub(super) fn ready() {
    send(&[NotifyState::Ready]);
}

/// A reload begins; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager is not told of the reload: {error}"),
    }
}

/// It takes longer than usual, for this reason: the service manager gives it half a minute more from now on.
pub(super) fn still_starting(reason: &str) {
    const MORE: Duration = Duration::from_secs(30);
    send(&[NotifyState::Status(reason), NotifyState::ExtendTimeoutUsec(MORE.as_micros() as u32)]);
}

/// What took so long is over.
pub(super) fn going_on() {
    send(&[NotifyState::Status("")]);
}

/// The process goes down.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, if there is one, while the store answers and every loop has beaten: what hangs is replaced.
pub(super) fn feed_watchdog(app: &App) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let App { ground, probe, .. } = app;
    ground.life.supervise("watchdog", feed(ground.clone(), probe.clone(), limit / 2));
}

async fn feed(ground: Ground, probe: StoreProbe, every: Duration) {
    let stop = ground.life.stopping();
    let mut hungry = false;
    loop {
        let complaint = complaint(&ground, &probe);
        match &complaint {
            None => send(&[NotifyState::Watchdog]),
            Some(reason) if !hungry => tracing::error!(reason, "the watchdog is not fed: {reason}"),
            Some(_) => {}
        }
        hungry = complaint.is_some();
        if clock::within(every, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

fn complaint(ground: &Ground, probe: &StoreProbe) -> Option<String> {
    if let Err(reason) = probe.verdict() {
        return Some(format!("store: {reason}"));
    }
    let stale = ground.life.stale();
    (!stale.is_empty()).then(|| format!("{} stopped turning", stale.join(", ")))
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Time};
    use crate::http::health::Readiness;
    use crate::ids::Random;
    use crate::lifecycle::Lifecycle;
    use crate::store::{Durability, Store};

    #[tokio::test]
    async fn the_watchdog_starves_while_a_loop_stands_still() {
        let dir = tempfile::tempdir().unwrap();
        let ground = Ground {
            clock: Clock::held(Time::from_millis(1)),
            random: Random::seeded(1),
            life: Lifecycle::new(),
            readiness: Readiness::default(),
        };
        let store = Store::open(dir.path(), Durability::Acknowledged, ground.clock.clone(), &ground.life).unwrap();
        let probe = StoreProbe::start(store, &ground).await;
        assert_eq!(complaint(&ground, &probe), None);
        let pulse = ground.life.heartbeat("keeper", Duration::ZERO);
        std::thread::yield_now();
        assert_eq!(complaint(&ground, &probe), Some("keeper stopped turning".to_owned()));
        drop(pulse);
        assert_eq!(complaint(&ground, &probe), None);
    }
}

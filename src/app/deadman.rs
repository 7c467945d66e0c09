//! The last resort: a thread of its own that ends the process once a part of it stands still for good. What is stuck below
//! us (a database that waits for a disk which has failed it, a runtime whose every thread is in there) heals by nothing
//! that runs inside, nor does it let the process end in order; whoever starts it again finds everything that was
//! acknowledged. A service manager's watchdog does the same, where there is one.

use std::io;
use std::time::Duration;

use super::App;
use crate::clock::{self, Stopwatch};
use crate::lifecycle::Lifecycle;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How long the runtime may take for a task that does nothing.
const PULSE: Duration = Duration::from_secs(20);
/// How long a part may stand still beyond what it has promised.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end may take beyond the drain: the store's last flush on a slow disk.
const FAREWELL: Duration = Duration::from_secs(10);

/// Watches over `app` until the process ends; with `code`, if it is this that ends it.
///
/// # Errors
/// When the operating system gives no thread.
pub fn arm(app: &App, code: i32) -> io::Result<()> {
    let (life, drain) = (app.ground.life.clone(), app.started.server.drain);
    let (pulse, stop) = (life.heartbeat("runtime", PULSE), life.stopping());
    life.spawn("runtime's pulse", async move {
        while clock::within(EVERY, stop.cancelled()).await.is_err() {
            pulse.beat();
        }
    });
    let watched = life.clone();
    life.thread("last resort", move || watch(&watched, drain + FAREWELL, code)).map(drop)
}

fn watch(life: &Lifecycle, end: Duration, code: i32) {
    let (mut still, mut stopping) = (None, None);
    loop {
        std::thread::sleep(EVERY);
        let stale = life.stale().join(", ");
        let (since, limit, what) = if life.stopping().is_cancelled() {
            (&mut stopping, end, "the end takes too long".to_owned())
        } else if stale.is_empty() {
            still = None;
            continue;
        } else {
            (&mut still, PATIENCE, format!("{stale} stopped turning"))
        };
        if since.get_or_insert_with(Stopwatch::start).elapsed() > limit {
            tracing::error!("{what}: the process ends here, for a new one to go on from what is on the disk");
            std::process::exit(code);
        }
    }
}

//! The disk's room: a start that waits for it, and the one message to a person when it runs out. What is refused then is
//! the store's business.

use std::time::Duration;

use super::{Ground, notify};
use crate::alerts::{Alert, Alerts};
use crate::clock;
use crate::config;
use crate::store::space::{self, Room};
use crate::store::{Store, StoreError};

const SUBJECT: &str = "store/disk";
const CAUSE: &str = "disk_full";
/// How often a start looks whether there is room, and tries again to tell what could not be told.
const AGAIN: Duration = Duration::from_secs(5);

/// Waits until the disk has the room that opening the store takes. Ending the process instead would have the service
/// manager give up on it after a few starts, and nobody would be there when there is room.
pub(super) async fn wait(config: &config::Store) {
    let mut told = false;
    while !space::opens(&config.path, config.reserve) {
        if !told {
            let (path, need) = (config.path.display(), (config.reserve / 4) >> 20);
            tracing::error!(%path, "the disk is full: the store in {path} opens once {need} MiB are free");
            told = true;
        }
        notify::still_starting("waiting for room on the disk");
        clock::pause(AGAIN).await;
    }
    if told {
        notify::going_on();
    }
}

/// Waits before the store is restored again, which has just found too little room; for the same reason, and told once.
pub(super) async fn missed(full: &StoreError, told: bool) {
    if !told {
        tracing::error!(%full, "the store is restored once there is room: {full}");
    }
    notify::still_starting("waiting for room on the disk");
    clock::pause(AGAIN).await;
}

/// Tells a person when the store begins to refuse new records, and when it takes them again.
pub(super) fn watch(store: &Store, alerts: Alerts, ground: &Ground) {
    let (mut room, stop) = (store.room(), ground.life.stopping());
    ground.life.supervise("disk room", async move {
        let (mut told, mut logged) = (None, None);
        loop {
            let now = *room.borrow_and_update();
            if told != Some(now.low) {
                let first = logged.replace(now.low) != Some(now.low);
                if first && now.low {
                    let free = now.free >> 20;
                    tracing::error!(free, "the disk is nearly full ({free} MiB free): new records are refused");
                }
                match tell(&alerts, now).await {
                    Ok(()) => told = Some(now.low),
                    Err(error) if first => {
                        tracing::error!(%error, "nobody could be told of the disk's room: {error}; trying on");
                    }
                    Err(_) => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = room.changed() => if changed.is_err() { return },
                () = clock::pause(AGAIN), if told != Some(now.low) => {}
            }
        }
    });
}

async fn tell(alerts: &Alerts, Room { free, reserve, low }: Room) -> Result<(), crate::alerts::AlertError> {
    let (free, reserve) = (free >> 20, reserve >> 20);
    if !low {
        let body = format!("{free} MiB are free. New records are stored again.");
        return alerts.resolve(SUBJECT, "The disk has room again", &body).await.map(|_| ());
    }
    let alert = Alert {
        cause: CAUSE.to_owned(),
        title: "The disk is nearly full: new records are refused".to_owned(),
        body: format!(
            "{free} MiB are free on the store's disk, and from {reserve} MiB on (store.reserve) nothing new is stored. \
             Everything that was stored is there and is read as ever; portals go on.\n\nMake room on the disk. Nightporter \
             stores again by itself as soon as there is some; nothing need be restarted."
        ),
        attachments: Vec::new(),
    };
    alerts.raise(SUBJECT, &alert).await.map(|_| ())
}

//! The watch over the phones: tells a person when one has fallen silent before a login needs it, and when it is heard of
//! again. What was told is in the phone's record, so a restart tells nothing twice. It never keeps a login from trying.

use std::time::Duration;

use super::Phones;
use crate::alerts::{Alert, AlertError, Alerts};
use crate::clock::Clock;
use crate::portals::inbox::{Inbox, InboxError, News, PhoneStatus};
use crate::portals::recipe::Cause;

/// The pause between two looks when nothing happens.
const ROUND: Duration = Duration::from_secs(60);
/// When each phone was last heard of, in seconds since 1970.
const LAST_SEEN: &str = "nightporter_phone_last_seen_timestamp_seconds";

/// Why nobody was told; it is tried again at the next look.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error(transparent)]
    Alert(#[from] AlertError),
}

/// Watches until it is dropped; every await in it may be cut off. `phones` tells which are configured.
pub(in crate::portals) async fn watch(phones: impl Fn() -> Phones, inbox: Inbox, alerts: Alerts, clock: Clock) {
    metrics::describe_gauge!(LAST_SEEN, "When a phone was last heard of, in seconds since 1970");
    let mut round = clock.sleep(ROUND);
    loop {
        tokio::select! {
            () = inbox.news() => {}
            () = round => {}
        }
        // From before the look: what passes during it counts.
        round = clock.sleep(ROUND);
        if let Err(error) = look(&phones(), &inbox, &alerts).await {
            tracing::error!(%error, "the watch over the phones: {error}");
        }
    }
}

async fn look(phones: &Phones, inbox: &Inbox, alerts: &Alerts) -> Result<(), WatchError> {
    for name in phones.names() {
        if let Some(seen) = inbox.phone(name)?.last_seen_at {
            // Exact for the next 285,000 years.
            metrics::gauge!(LAST_SEEN, "phone" => name.to_owned()).set(seen.as_millis() as f64 / 1000.0);
        }
    }
    for (name, news, status) in inbox.look_round().await? {
        let subject = format!("phone/{name}");
        match news {
            News::Silent => {
                tracing::warn!(phone = name, "phone {name} has fallen silent");
                alerts.raise(&subject, &letter(&name, phones.portals_of(&name), &status)).await?;
            }
            News::Heard => {
                tracing::info!(phone = name, "phone {name} is heard of again");
                let (title, body) = (format!("Phone {name} is heard of again"), format!("Phone {name} speaks again."));
                alerts.resolve(&subject, &title, &body).await?;
            }
            News::Ignored => {
                let title = format!("Phone {name} is not watched any more");
                let body = format!("Phone {name} is still silent, but the configuration no longer asks for it.");
                alerts.resolve(&subject, &title, &body).await?;
            }
        }
        inbox.told(&name, news, &status).await?;
    }
    Ok(())
}

/// The mail about a phone that should have been heard of.
fn letter(name: &str, portals: &[String], status: &PhoneStatus) -> Alert {
    let since = match status.last_seen_at {
        Some(at) => format!("has not been heard of since {}", at.local()),
        None => "has never been heard of".to_owned(),
    };
    let users = match portals {
        [] => "No portal needs it at present.".to_owned(),
        portals => format!(
            "It gets the codes of {}. Their sessions go on; the next login of one waits for this phone.",
            portals.join(", ")
        ),
    };
    let title = format!("Phone {name} has fallen silent");
    let body = format!(
        "Phone {name} {since}.\n\n{users}\n\nWhat to do: look at the phone (battery, network, forwarding app) and at the \
         address that its app was told. GET /api/phones/{name} shows when it is heard of again."
    );
    Alert { cause: Cause::PhoneSilent.as_str().to_owned(), title, body, attachments: Vec::new() }
}

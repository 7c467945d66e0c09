//! Raising and resolving: each one atomic change of the incident's record, with the messages inside.
//!
//! Also the task that sends what was held back when its cooldown ends.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::incident::{Held, Incident, State, Verdict};
use super::{Alert, AlertError, Alerts, Raised, Resolved, Settings};
use crate::clock::Time;
use crate::lifecycle::Lifecycle;
use crate::outbox::{Addressee, Channel, Content, File, OutboxError};
use crate::store::{Change, Decision, Expires, Record, StoreError, Stored};

/// How long a resolved incident stays in the list.
const SHOWN: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest body in bytes: an incident's record holds the latest and those of the messages on their way.
const BODY: usize = 8 * 1024;
/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(5);

impl Alerts {
    /// Reports that `subject` needs a person. Told at most once a cooldown for the same cause; call it whenever the work
    /// has finally failed, not while it is being tried.
    ///
    /// # Errors
    /// When nothing could be recorded; the caller may raise again without fear of a second message.
    pub async fn raise(&self, subject: &str, alert: &Alert) -> Result<Raised, AlertError> {
        let (settings, now) = (self.settings(), self.0.clock.now());
        self.warn_if_unheard(&settings, subject);
        let fresh_id = self.0.random.uuid(now).to_string();
        let judge = |old: Option<&Incident>| Incident::raised(old, &alert.cause, &fresh_id, now, settings.cooldown);
        // Files are staged before the change and only if it is likely to need them: a megabyte for each refused report
        // would be a megabyte for nothing.
        let peeked = self.0.store.get::<Incident>(subject)?;
        let needed = judge(peeked.as_ref().map(|old| &old.value)).1 != Verdict::Already;
        let (to, note) = self.address(&settings, alert, needed).await?;
        let staged: Vec<File> = to.iter().flat_map(|to| to.files.clone()).collect();
        let detail = Content::within(BODY, &alert.title, alert.body.as_str());
        let updated = self.0.store.update(subject, |old: Option<&Stored<Incident>>| {
            let (mut incident, verdict) = judge(old.map(|old| &old.value));
            let decided = (|| {
                incident.detail = self.seal(subject, &detail)?;
                if to.is_empty() {
                    return Ok(Raised::Unheard);
                }
                if verdict == Verdict::Already {
                    return Ok(Raised::Already);
                }
                let text =
                    format!("{}{note}\n\n{}", detail.text(), self.about(&settings, subject, &incident, &alert.cause));
                let content = Content::new(&format!("[Nightporter] {}", alert.title), text);
                let message = self.0.outbox.pend(incident.next_message_id(), &content, to.clone(), now)?;
                Ok(match verdict {
                    Verdict::Hold(until) => {
                        incident.held = Some(Held { until, cause: alert.cause.clone(), message });
                        Raised::CoolingDown(until)
                    }
                    Verdict::Send | Verdict::Already => {
                        incident.tell(&alert.cause, message, now);
                        Raised::Sent
                    }
                })
            })();
            match decided {
                Ok(raised) => Decision::Put(incident, Expires::Never, Ok(raised)),
                Err(error) => Decision::Keep(Err(error)),
            }
        });
        let raised = updated.await?.answer;
        if !matches!(raised, Ok(Raised::Sent | Raised::CoolingDown(_))) {
            self.0.outbox.discard(staged).await?;
        }
        raised
    }

    /// Reports that `subject` works again. One message follows if someone had been told that it did not; `title` and
    /// `body` say it in plain words, the duration is added.
    ///
    /// # Errors
    /// When nothing could be recorded; resolving again is safe.
    pub async fn resolve(&self, subject: &str, title: &str, body: &str) -> Result<Resolved, AlertError> {
        let (settings, now) = (self.settings(), self.0.clock.now());
        let updated = self.0.store.update(subject, |old: Option<&Stored<Incident>>| {
            let Some(mut incident) = old.map(|old| old.value.clone()).filter(|old| old.state == State::Open) else {
                return Decision::Keep(Ok((Resolved::NothingOpen, None)));
            };
            incident.state = State::Resolved(now);
            let dropped = incident.held.take();
            let mut resolved = Resolved::Quietly;
            if incident.told {
                let lasted = span(now.since(incident.opened_at));
                let times = [("Since", incident.opened_at), ("Recovered", now)];
                let body = Content::within(BODY, title, body);
                let text = format!("{}\n\nIt lasted {lasted}.\n\n{}", body.text(), self.footer(&settings, &times));
                let content = Content::new(&format!("[Nightporter] {title} (recovered after {lasted})"), text);
                let to = bare(&settings);
                match self.0.outbox.pend(incident.next_message_id(), &content, to, now) {
                    Ok(message) if message.is_empty() => {}
                    Ok(message) => {
                        incident.pending.push(message);
                        resolved = Resolved::Sent;
                    }
                    Err(error) => return Decision::Keep(Err(AlertError::from(error))),
                }
            }
            Decision::Put(incident, Expires::At(now + SHOWN), Ok((resolved, dropped)))
        });
        let (resolved, dropped) = updated.await?.answer?;
        if let Some(held) = dropped {
            self.0.outbox.discard(held.message.files().cloned()).await?;
        }
        Ok(resolved)
    }

    /// The title and body that an incident was last reported with.
    pub(super) fn open(&self, subject: &str, incident: &Incident) -> Result<Content, AlertError> {
        let json = self.0.vault.open(&context(subject), &incident.detail)?;
        serde_json::from_slice(&json).map_err(|_| AlertError::Unreadable)
    }

    fn seal(&self, subject: &str, detail: &Content) -> Result<Vec<u8>, AlertError> {
        let json = serde_json::to_vec(detail).map_err(|_| AlertError::Unreadable)?;
        Ok(self.0.vault.seal(&context(subject), &json)?)
    }

    /// Everyone to be told, with a copy of the attachments for each mail box and chat that shows them, and a note about those
    /// that are too large.
    async fn address(
        &self,
        settings: &Settings,
        alert: &Alert,
        needed: bool,
    ) -> Result<(Vec<Addressee>, String), AlertError> {
        let mut to = bare(settings);
        let mut note = String::new();
        for attachment in alert.attachments.iter().filter(|_| needed) {
            for addressee in &mut to {
                match self.0.outbox.stage(attachment).await {
                    Ok(file) => addressee.files.push(file),
                    Err(error @ OutboxError::FileTooLarge { .. }) => {
                        note.push_str(&format!("\n({error}: it was left out)"));
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok((to, note))
    }

    fn about(&self, settings: &Settings, subject: &str, incident: &Incident, cause: &str) -> String {
        let footer = self.footer(settings, &[("Since", incident.opened_at), ("Reported", self.0.clock.now())]);
        format!("About: {subject}\nCause: {cause}\n{footer}")
    }

    /// The lines that every message ends with: times in the host's zone, and which host.
    pub(super) fn footer(&self, settings: &Settings, times: &[(&str, Time)]) -> String {
        let times = times.iter().map(|(name, time)| format!("{name}: {}\n", time.local())).collect::<String>();
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        match &settings.public_url {
            Some(url) => format!("{times}Host: {host} ({url})"),
            None => format!("{times}Host: {host}"),
        }
    }

    fn warn_if_unheard(&self, settings: &Settings, subject: &str) {
        if settings.channels.is_empty() && !self.0.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                subject,
                "an alert about {subject} was recorded, but no channel is configured to tell anyone"
            );
        }
    }

    /// Sends the held message of `subject` if it is due.
    async fn release(&self, subject: &str) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        let release = |old: Option<&Stored<Incident>>| match old.and_then(|old| old.value.released(now)) {
            Some(incident) => Decision::Put(incident, Expires::Unchanged, ()),
            None => Decision::Keep(()),
        };
        self.0.store.update(subject, release).await.map(|_| ())
    }
}

/// Starts the task that sends held messages at the end of their cooldown.
pub(super) fn start(alerts: Alerts, life: &Lifecycle) {
    let stop = life.stopping();
    life.supervise("alerts held back", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = watch_held(&alerts) => {}
        }
    });
}

/// Runs until it is dropped; every await in it may be cut off, because a release is one update.
async fn watch_held(alerts: &Alerts) {
    let mut changes = alerts.0.store.changes::<Incident>();
    let mut due: Option<BTreeMap<String, Time>> = None;
    loop {
        let round = async {
            let mut due = match due.take() {
                Some(due) => due,
                None => look_at_all(alerts).await?,
            };
            let now = alerts.0.clock.now();
            for subject in
                due.iter().filter(|(_, at)| **at <= now).map(|(subject, _)| subject.clone()).collect::<Vec<_>>()
            {
                alerts.release(&subject).await?;
                due.remove(&subject);
            }
            Ok::<_, StoreError>(due)
        };
        let mut map = match round.await {
            Ok(map) => map,
            Err(error) => {
                tracing::error!(%error, "alerts that were held back wait for the store: {error}");
                alerts.0.clock.sleep(PAUSE).await;
                continue;
            }
        };
        let next = map.values().min().copied();
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => due = note(alerts, &change, map),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            },
            () = sleep_until(alerts, next) => due = Some(std::mem::take(&mut map)),
        }
    }
}

async fn sleep_until(alerts: &Alerts, moment: Option<Time>) {
    match moment {
        Some(moment) => alerts.0.clock.sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What is due by subject, with one change taken in; None when its record cannot be read and a full look shall tell why.
fn note(alerts: &Alerts, change: &Change, mut due: BTreeMap<String, Time>) -> Option<BTreeMap<String, Time>> {
    let subject = change.key.id();
    match alerts.0.store.get::<Incident>(subject).ok()?.and_then(|incident| incident.value.due()) {
        Some(at) => due.insert(subject.to_owned(), at),
        None => due.remove(subject),
    };
    Some(due)
}

async fn look_at_all(alerts: &Alerts) -> Result<BTreeMap<String, Time>, StoreError> {
    let incidents = alerts.incidents().await?;
    Ok(incidents.into_iter().filter_map(|(subject, incident)| Some((subject, incident.due()?))).collect())
}

fn context(subject: &str) -> String {
    format!("{}/{subject}", Incident::SPACE)
}

/// Everyone to be told, with nothing attached.
fn bare(settings: &Settings) -> Vec<Addressee> {
    let addressee = |channel: &Channel| Addressee { channel: channel.clone(), files: Vec::new() };
    settings.channels.iter().map(addressee).collect()
}

/// A duration as people say it, in its two largest units.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, _) => format!("{m} min"),
        (0, h, 0, _) => format!("{h} h"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, 0, ..) => format!("{d} d"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let cases =
            [(40, "40 s"), (185, "3 min"), (7200, "2 h"), (7500, "2 h 5 min"), (86_400, "1 d"), (93_600, "1 d 2 h")];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}

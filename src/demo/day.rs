//! The play: a day at the night desk, with everything that can go wrong in one. Each scene shows one promise, and the end
//! tells which were kept.

mod batch;
mod browsers;
mod crash;
mod evening;
mod outage;
mod recycling;
mod refusal;
mod silence;

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::caller::Caller;
use super::mailbox::Mail;
use super::stage::Stage;
use super::voice::{Promise, Voice, Who};
use crate::clock::{self, Clock};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;

/// How long a scene waits for what it is about: a cold start of Chromium on a small machine included.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
const PORTAL: &str = "/api/portals/hanbit";
const ORDERS: &str = "/api/portals/hanbit/relay/api/orders?limit=3";

/// Plays the day on the terminal. Returns whether every promise was kept. With `keep` the stage stays until Ctrl-C.
///
/// # Errors
/// When a scene could not be played at all.
pub async fn play(keep: bool) -> io::Result<bool> {
    let (clock, life) = (Clock::system(), Lifecycle::new());
    let random = Random::system().map_err(io::Error::other)?;
    let stage = Stage::set(&clock, &random, &life).await?;
    let voice = Voice::new();
    let mut day =
        Day { caller: Caller::new("", crate::secret::Secret::new("")), stage, voice, seen: 0, promises: Vec::new() };
    let played = tokio::select! {
        // First, because Ctrl-C is also how a kept stage ends well.
        biased;
        played = day.all(keep) => played,
        () = asked_to_end() => Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
    };
    let log = played.is_err().then(|| std::fs::read_to_string(day.stage.log()).unwrap_or_default());
    day.stage.strike().await?;
    life.shutdown(Duration::from_secs(5)).await;
    if let Some(log) = log {
        day.voice.plain("\nThe end of the appliance's log:");
        let lines: Vec<_> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(15)).for_each(|line| day.voice.plain(line));
    }
    played
}

struct Day {
    stage: Stage,
    caller: Caller,
    voice: Voice,
    /// Events told so far.
    seen: u64,
    promises: Vec<Promise>,
}

impl Day {
    async fn all(&mut self, keep: bool) -> io::Result<bool> {
        self.open().await?;
        self.evening().await?;
        self.night_batch().await?;
        self.browsers().await?;
        self.outage().await?;
        self.recycling().await?;
        self.refusal().await?;
        self.crash().await?;
        self.silent_phone().await?;
        self.secrets()?;
        self.voice.title("What was promised, and what was seen");
        self.voice.table(&self.promises);
        let kept = self.promises.iter().all(|promise| promise.kept);
        if keep {
            self.stay().await?;
        }
        Ok(kept)
    }

    fn promise(&mut self, promised: &'static str, kept: bool, seen: impl Into<String>) {
        self.promises.push(Promise { promised, seen: seen.into(), kept });
    }

    async fn open(&mut self) -> io::Result<()> {
        self.voice.title("Nightporter: a day at the night desk");
        self.voice.plain("Real Chromium, a real mail server, real sockets; nothing leaves this machine.\n");
        let took = self.stage.start().await?;
        let token = self.stage.token().await?;
        self.caller = Caller::new(&self.stage.url, token);
        let ready = format!("ready {} ms after its start, at {}", took.as_millis(), self.stage.url);
        self.voice.say(Who::Porter, &ready);
        self.voice.say(Who::Portal, &format!("한빛택배, a delivery portal, at {}", self.stage.portal_url));
        self.voice.say(Who::Phone, &format!("office, {}, forwards its SMS", self.stage.phone.number()));
        Ok(())
    }

    /// Nothing that opens the portal can be read from the disk.
    fn secrets(&mut self) -> io::Result<()> {
        let mut needles = vec![self.stage.password.expose().to_owned()];
        needles.extend(self.stage.portal.logins(&self.stage.user));
        let found =
            find_in_files(&self.stage.dir.join("store"), &needles)? + find_in_files(&self.stage.log(), &needles)?;
        let seen = format!("{found} of {} found in store and log", needles.len());
        self.promise("secrets are sealed on disk", found == 0, seen);
        Ok(())
    }

    async fn stay(&self) -> io::Result<()> {
        self.voice.title("Still running, until Ctrl-C");
        for (name, value) in [
            ("appliance", self.stage.url.clone()),
            (
                "portal",
                format!("{}/login  ({} / {})", self.stage.portal_url, self.stage.user, self.stage.password.expose()),
            ),
            ("token", self.caller.token().expose().to_owned()),
            ("config", self.stage.dir.join("nightporter.toml").display().to_string()),
            ("log", self.stage.log().display().to_string()),
            ("try", format!("curl -H 'Authorization: Bearer TOKEN' {}{ORDERS}", self.stage.url)),
        ] {
            self.voice.plain(&format!("  {name:<10} {value}"));
        }
        asked_to_end().await;
        Ok(())
    }

    /// The SMS that the portal has sent so far.
    fn sms(&self) -> u64 {
        self.stage.portal.counters(&self.stage.user).codes_sent
    }

    async fn state(&self) -> io::Result<Value> {
        Ok(self.caller.get(PORTAL).await.map_err(io::Error::other)?.json())
    }

    /// Tells what happens until the portal's state is as wanted.
    async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> io::Result<()> {
        let watching = async {
            loop {
                self.tell_events().await?;
                if wanted(&self.state().await?) {
                    return self.tell_events().await;
                }
                clock::pause(LOOK).await;
            }
        };
        let late = |_| Err(io::Error::other(format!("waited {} s in vain for {what}", PATIENCE.as_secs())));
        clock::within(PATIENCE, watching).await.unwrap_or_else(late)
    }

    /// Tells what happens until the `number`th mail is there.
    async fn mail(&mut self, number: usize) -> io::Result<Mail> {
        let watching = async {
            while self.stage.mailbox.count() < number {
                self.tell_events().await?;
                clock::pause(LOOK).await;
            }
            self.tell_events().await
        };
        clock::within(PATIENCE, watching).await.map_err(io::Error::other)??;
        self.stage.mailbox.nth(number, LOOK).await.map_err(io::Error::other)
    }

    /// Tells the portal's new events in plain words.
    async fn tell_events(&mut self) -> io::Result<()> {
        let answer = self.caller.get(&format!("{PORTAL}/events")).await.map_err(io::Error::other)?.json();
        let mut events: Vec<_> = answer["events"].as_array().cloned().unwrap_or_default();
        events.reverse();
        let seen = self.seen;
        for event in events.into_iter().filter(|event| event["seq"].as_u64() > Some(seen)) {
            self.seen = event["seq"].as_u64().unwrap_or(seen);
            self.voice.say(Who::Porter, &in_words(&event));
        }
        Ok(())
    }
}

/// Waits for SIGINT or SIGTERM, so that the appliance never outlives its stage.
async fn asked_to_end() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

fn in_words(event: &Value) -> String {
    let id = event["session_id"].as_str().map(|id| id.get(..8).unwrap_or(id).to_owned()).unwrap_or_default();
    let detail = event["detail"].as_str().unwrap_or_default();
    match event["kind"].as_str().unwrap_or_default() {
        "login_started" => format!("session {id}: logging in: user, password, SMS code"),
        "code_used" => detail.to_owned(),
        "authenticated" => format!("session {id}: logged in"),
        "restored" => format!("session {id}: {detail}"),
        "expired" => format!("session {id}: expired, the portal {detail}"),
        "failover" => format!("session {id}: {detail}"),
        "login_failed" => format!("a login failed: {detail}"),
        "reauth_requested" => "a fresh login was asked for".to_owned(),
        "reauth_failed" => format!("{detail}; a person is needed"),
        "recovered" => "recovered".to_owned(),
        "browser_replaced" | "browser_recycled" => format!("session {id}: {detail}"),
        other => format!("{other} {detail}"),
    }
}

/// How many files below `path` contain one of `needles`.
fn find_in_files(path: &Path, needles: &[String]) -> io::Result<usize> {
    if path.is_dir() {
        return std::fs::read_dir(path)?.map(|entry| find_in_files(&entry?.path(), needles)).sum();
    }
    if !path.is_file() {
        return Ok(0);
    }
    let bytes = std::fs::read(path)?;
    let holds = |needle: &String| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
    Ok(usize::from(needles.iter().any(holds)))
}

//! The play: a day at the night desk, with everything that can go wrong in one. Each scene shows one promise, and the end
//! tells which were kept.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::caller::{Answer, Caller};
use super::mailbox::Mail;
use super::phone::Mode;
use super::portal::{Pace, Pick};
use super::stage::Stage;
use super::voice::{Promise, Voice, Who};
use crate::clock::{self, Clock, Stopwatch};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;

/// How long a scene waits for what it is about: a cold start of Chromium on a small machine included.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
const CALLS: usize = 200;
/// The batch job's workers.
const WORKERS: usize = 4;
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

    /// Both sessions log in; one code comes before anybody waits for it.
    async fn evening(&mut self) -> io::Result<()> {
        self.voice.title("1  Two logins, and a code that comes too early");
        self.stage.portal.faults(|faults| faults.code_page = Pace::Held);
        let first = self.stage.phone.attempted(1, PATIENCE).await.map_err(io::Error::other)?;
        self.tell_events().await?;
        let answer = first.first().map(|attempt| attempt.answer.clone()).unwrap_or_default();
        let early = answer["buffered"] == true;
        let kept = if early { "kept" } else { "not kept" };
        self.voice.say(Who::Phone, &format!("the SMS is here before anybody waits for it; it is {kept}"));
        clock::pause(Duration::from_millis(1200)).await;
        self.stage.portal.faults(|faults| faults.code_page = Pace::Prompt);
        self.wait_for("the first session", |state| state["active"]["status"] == "authenticated").await?;
        self.stage.phone.set_mode(Mode::Delayed(Duration::from_millis(1500)));
        self.voice.say(Who::Phone, "from now on a little late");
        self.wait_for("both sessions", |state| state["state"] == "live").await?;
        self.stage.phone.set_mode(Mode::Prompt);
        let counters = self.stage.portal.counters(&self.stage.user);
        let seen = format!("1 early, 1 late; {} SMS for {} logins", counters.codes_sent, counters.codes_accepted);
        let kept = early && counters.codes_sent == 2 && counters.codes_accepted == 2;
        self.promise("a code is never too early", kept, seen);
        Ok(())
    }

    /// A batch job runs while its session dies.
    async fn night_batch(&mut self) -> io::Result<()> {
        self.voice.title(&format!("2  A batch job of {CALLS} calls, and the active session dies in the middle"));
        let before = self.state().await?;
        let mails = self.stage.mailbox.count();
        self.stage.phone.set_mode(Mode::Twice);
        let (answers, failed) = self.batch().await?;
        self.tell_events().await?;
        let mut times: Vec<_> = answers.iter().map(|answer| answer.took).collect();
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        let served: BTreeSet<_> = answers.iter().map(|answer| answer.header("x-session-id").to_owned()).collect();
        let epochs: BTreeSet<_> = answers.iter().map(|answer| answer.header("x-session-epoch").to_owned()).collect();
        let text = format!(
            "{} of {CALLS} calls, {} sessions, epoch {}",
            answers.len() - failed,
            served.len(),
            epochs.into_iter().collect::<Vec<_>>().join(" → ")
        );
        self.voice.say(Who::Job, &text);
        let promoted = format!(
            "no error; the call that met the promotion took {} ms, a usual one {:.1} ms",
            longest.as_millis(),
            median.as_secs_f64() * 1000.0
        );
        self.voice.say(Who::Job, &promoted);
        let seen = format!("{} of {CALLS} calls answered 200", answers.len() - failed);
        self.promise("a caller never sees an expiry", failed == 0 && served.len() == 2, seen);
        let over = longest.saturating_sub(median);
        let promotion = format!("+{} ms in the call that met it", over.as_millis());
        self.promise("the standby takes over at once", over < Duration::from_secs(1), promotion);
        let epoch = before["epoch"].as_u64().unwrap_or_default();
        self.wait_for("a fresh standby", |state| state["state"] == "live" && state["epoch"].as_u64() > Some(epoch))
            .await?;
        self.twice();
        let healed = self.stage.mailbox.count() - mails;
        self.promise("no mail for what heals", healed == 0, format!("{healed} mails for expiry and re-login"));
        Ok(())
    }

    /// The phone forwarded the last SMS twice, as such phones do.
    fn twice(&mut self) {
        self.stage.phone.set_mode(Mode::Prompt);
        let attempts = self.stage.phone.attempts();
        let duplicates = attempts.iter().filter(|attempt| attempt.answer["reason"] == "duplicate").count();
        self.voice.say(Who::Phone, &format!("forwarded that SMS twice; {duplicates} was refused as a duplicate"));
        self.promise("a code is used once", duplicates == 1, format!("1 SMS came twice, {duplicates} refused"));
    }

    /// Runs the calls with a few workers and kills the serving session halfway.
    async fn batch(&self) -> io::Result<(Vec<Answer>, usize)> {
        let next = Arc::new(AtomicUsize::new(0));
        let worker = || async {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= CALLS {
                    return Ok::<_, io::Error>(answers);
                }
                if number == CALLS / 2 {
                    self.end_serving_session().await?;
                }
                answers.push(self.caller.get(ORDERS).await.map_err(io::Error::other)?);
            }
        };
        let done = futures_util::future::try_join_all((0..WORKERS).map(|_| worker())).await?;
        let answers: Vec<_> = done.into_iter().flatten().collect();
        let failed = answers.iter().filter(|answer| answer.json()["ok"] != true).count();
        Ok((answers, failed))
    }

    async fn end_serving_session(&self) -> io::Result<()> {
        let answer = self.caller.get(ORDERS).await.map_err(io::Error::other)?;
        let serving = answer.json()["session"].as_str().unwrap_or_default().to_owned();
        self.stage.portal.expire(&serving);
        self.voice.say(Who::Portal, &format!("the session that serves the job is over, at call {}", CALLS / 2));
        Ok(())
    }

    /// SIGKILL, and not a single SMS for coming back.
    async fn crash(&mut self) -> io::Result<()> {
        self.voice.title("3  The appliance is killed");
        let sms = self.stage.portal.counters(&self.stage.user).codes_sent;
        let pid = self.stage.pid().unwrap_or_default();
        self.stage.kill().await?;
        self.voice.say(Who::You, &format!("kill -9 {pid}"));
        let watch = Stopwatch::start();
        let ready = self.stage.start().await?;
        let answer = self.caller.get(ORDERS).await.map_err(io::Error::other)?;
        let back = watch.elapsed();
        let text = format!(
            "started again, ready after {} ms; first call answered after {} ms",
            ready.as_millis(),
            back.as_millis()
        );
        self.voice.say(Who::Porter, &text);
        let checked = |state: &Value| {
            state["state"] == "live"
                && state["active"]["last_check_ok"] == true
                && state["standby"]["last_check_ok"] == true
        };
        self.wait_for("both sessions checked", checked).await?;
        let spent = self.stage.portal.counters(&self.stage.user).codes_sent - sms;
        self.voice.say(Who::Porter, &format!("both sessions found alive at the portal, {spent} SMS spent"));
        let seen = format!("first call after {} ms, {spent} SMS", back.as_millis());
        self.promise("a crash costs no login", answer.json()["ok"] == true && spent == 0, seen);
        Ok(())
    }

    /// Nothing helps now but a person, who is told once.
    async fn silent_phone(&mut self) -> io::Result<()> {
        self.voice.title("4  The phone goes silent, and both sessions die");
        let mails = self.stage.mailbox.count();
        self.stage.phone.set_mode(Mode::Silent);
        self.stage.portal.expire_of(&self.stage.user, Pick::Newest);
        self.stage.portal.expire_of(&self.stage.user, Pick::Oldest);
        self.voice.say(Who::Portal, "both sessions are over; a login needs a code, and none will come");
        let mail = self.mail(mails + 1).await?;
        self.voice.say(Who::Mail, "one mail:");
        self.voice.framed(&format!(
            "To: {}\nSubject: {}\n\n{}",
            mail.to.join(", "),
            mail.subject(),
            mail.body().trim()
        ));
        for _ in 0..3 {
            let parked = self.caller.call(Method::GET, ORDERS, &[("x-park-timeout", "1s")]).await;
            let parked = parked.map_err(io::Error::other)?;
            self.voice.say(
                Who::Job,
                &format!("a call meanwhile waits 1 s, then {} {}", parked.status.as_u16(), parked.json()["code"]),
            );
        }
        let told = self.stage.mailbox.count() - mails;
        self.promise("a mail means a person is needed", told == 1, format!("{told} mail about the silent phone"));
        self.voice.say(Who::You, "somebody charges the phone and asks for a new login");
        self.stage.phone.set_mode(Mode::Prompt);
        self.caller.call(Method::POST, &format!("{PORTAL}/reauth"), &[]).await.map_err(io::Error::other)?;
        self.wait_for("recovery", |state| state["state"] == "live").await?;
        let mail = self.mail(mails + 2).await?;
        self.voice.say(Who::Mail, &mail.subject());
        let all = self.stage.mailbox.count() - mails;
        self.promise("one mail when it is over", all == 2, format!("{} mail that it works again", all - told));
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
            ("log", self.stage.log().display().to_string()),
            ("try", format!("curl -H 'Authorization: Bearer TOKEN' {}{ORDERS}", self.stage.url)),
        ] {
            self.voice.plain(&format!("  {name:<10} {value}"));
        }
        asked_to_end().await;
        Ok(())
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

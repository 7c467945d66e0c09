//! Browsers that have been in use for long enough are replaced by fresh ones, while calls go on.

use std::io;
use std::time::Duration;

use super::{Day, LOOK, ORDERS, PORTAL};
use crate::clock::{self, Stopwatch};
use crate::demo::voice::Who;

/// How long they may take: the demo's browsers are replaced after 45 s.
const PATIENCE: Duration = Duration::from_secs(100);

impl Day {
    pub(super) async fn recycling(&mut self) -> io::Result<()> {
        self.voice.title("5  Browsers grow old");
        self.voice.say(Who::You, "usually after a day; here after 45 s, a fresh one first");
        let (sms, before) = (self.sms(), self.moves().await?);
        let (watch, mut calls, mut failed) = (Stopwatch::start(), 0, 0);
        let moves = loop {
            let answer = self.caller.get(ORDERS).await.map_err(io::Error::other)?;
            calls += 1;
            failed += usize::from(answer.json()["ok"] != true);
            self.tell_events().await?;
            let moves = self.moves().await? - before;
            if moves > 0 || watch.elapsed() > PATIENCE {
                break moves;
            }
            clock::pause(LOOK).await;
        };
        let spent = self.sms() - sms;
        let text = format!("{} of {calls} calls answered meanwhile, {spent} SMS spent", calls - failed);
        self.voice.say(Who::Job, &text);
        let kept = moves > 0 && failed == 0 && spent == 0;
        self.promise(
            "a browser is replaced unnoticed",
            kept,
            format!("{} of {calls} calls, {spent} SMS", calls - failed),
        );
        Ok(())
    }

    /// How often a session has moved into a fresh browser.
    async fn moves(&self) -> io::Result<usize> {
        let told = self.caller.get(&format!("{PORTAL}/events")).await.map_err(io::Error::other)?.json();
        let events = told["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(events.iter().filter(|event| event["kind"] == "browser_recycled").count())
    }
}

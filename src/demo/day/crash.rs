//! The appliance itself is killed and comes back with its sessions.

use std::io;

use serde_json::Value;

use super::{Day, ORDERS};
use crate::clock::Stopwatch;
use crate::demo::voice::Who;

impl Day {
    /// SIGKILL, and not a single SMS for coming back.
    pub(super) async fn crash(&mut self) -> io::Result<()> {
        self.voice.title("7  The appliance is killed");
        let sms = self.sms();
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
        let spent = self.sms() - sms;
        self.voice.say(Who::Porter, &format!("both sessions found alive at the portal, {spent} SMS spent"));
        let seen = format!("first call after {} ms, {spent} SMS", back.as_millis());
        self.promise("a crash costs no login", answer.json()["ok"] == true && spent == 0, seen);
        Ok(())
    }
}

//! The browsers die: one is killed, the other one frozen. Calls go on, since cookies carry them and not pages.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Day, LOOK, ORDERS};
use crate::clock::{self, Stopwatch};
use crate::demo::voice::Who;

/// How long a browser may stay dead or frozen before the scene counts as broken.
const REPLACED: Duration = Duration::from_secs(60);

impl Day {
    pub(super) async fn browsers(&mut self) -> io::Result<()> {
        self.voice.title("3  One browser is killed, the other one freezes");
        let sms = self.sms();
        let (mut failed, mut calls) = (0, 0);
        let &[first, second] = self.seated()?.as_slice() else {
            return Err(io::Error::other("two browsers were expected"));
        };
        for (victim, signal, told) in [(first, Signal::KILL, "killed"), (second, Signal::STOP, "frozen")] {
            let watch = Stopwatch::start();
            kill_process(victim, signal)?;
            self.voice.say(Who::You, &format!("browser {} is {told}", victim.as_raw_pid()));
            while self.seated()?.contains(&victim) || self.seated()?.len() < 2 {
                if watch.elapsed() > REPLACED {
                    return Err(io::Error::other(format!("the {told} browser was not replaced")));
                }
                let answer = self.caller.get(ORDERS).await.map_err(io::Error::other)?;
                calls += 1;
                failed += usize::from(answer.json()["ok"] != true);
                clock::pause(LOOK).await;
            }
            let text = format!("noticed; another one runs {:.1} s later", watch.elapsed().as_secs_f64());
            self.voice.say(Who::Porter, &text);
        }
        let placed = |state: &Value| state["state"] == "live";
        self.wait_for("both sessions in browsers", placed).await?;
        let spent = self.sms() - sms;
        self.voice.say(Who::Job, &format!("{} of {calls} calls answered meanwhile, {spent} SMS spent", calls - failed));
        let seen = format!("{} of {calls} calls, {spent} SMS", calls - failed);
        self.promise("a dead browser costs nothing", failed == 0 && spent == 0, seen);
        Ok(())
    }

    /// The appliance's browsers: the processes that it has started itself.
    fn seated(&self) -> io::Result<Vec<Pid>> {
        let parent = format!("PPid:\t{}", self.stage.pid().unwrap_or_default());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(number) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
            // It may end while it is looked at.
            let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            let child = status.lines().any(|line| line == parent) && !status.contains("State:\tZ");
            found.extend(Pid::from_raw(number).filter(|_| child));
        }
        found.sort_by_key(|pid| pid.as_raw_pid());
        Ok(found)
    }
}

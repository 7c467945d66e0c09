//! The portal is down for a minute: nothing is known about its sessions then, and what is unknown costs no login.

use std::io;
use std::time::Duration;

use super::{Day, LOOK, ORDERS};
use crate::clock::{self, Stopwatch};
use crate::demo::portal::Outage;
use crate::demo::voice::Who;

/// How long the portal is down.
const MINUTE: Duration = Duration::from_secs(60);
/// The pause between two calls of the patient job.
const PATIENT: Duration = Duration::from_secs(10);
/// When recovery counts as noticed too late.
const NOTICED: Duration = Duration::from_secs(30);

impl Day {
    pub(super) async fn outage(&mut self) -> io::Result<()> {
        self.voice.title("4  The portal is down for a minute");
        let (sms, mails, before) = (self.sms(), self.stage.mailbox.count(), self.state().await?);
        self.stage.portal.faults(|faults| faults.outage = Some(Outage::Maintenance));
        self.voice.say(Who::Portal, "점검 중입니다: down for maintenance");
        let watch = Stopwatch::start();
        while watch.elapsed() < MINUTE {
            let answer = self.caller.get(ORDERS).await.map_err(io::Error::other)?;
            let left = MINUTE.saturating_sub(watch.elapsed()).as_secs();
            let status = answer.status.as_u16();
            self.voice.say(Who::Job, &format!("a call gets the portal's own {status}; {left} s to go"));
            self.tell_events().await?;
            clock::pause(PATIENT.min(MINUTE.saturating_sub(watch.elapsed()))).await;
        }
        self.stage.portal.heal();
        self.voice.say(Who::Portal, "works again");
        let back = Stopwatch::start();
        let answered = self.caller.get(ORDERS).await.map_err(io::Error::other)?.json()["ok"] == true;
        while self.state().await?["active"]["last_check_ok"] != true && back.elapsed() < NOTICED {
            clock::pause(LOOK).await;
        }
        let noticed = back.elapsed();
        self.tell_events().await?;
        let after = self.state().await?;
        let same = after["active"]["session_id"] == before["active"]["session_id"];
        let (spent, told) = (self.sms() - sms, self.stage.mailbox.count() - mails);
        let text = format!("checks succeed again after {:.1} s; {spent} SMS, {told} mails", noticed.as_secs_f64());
        self.voice.say(Who::Porter, &text);
        let kept = answered && same && spent == 0 && told == 0 && noticed < NOTICED;
        self.promise("a portal that is down costs no login", kept, format!("{spent} SMS, same sessions"));
        Ok(())
    }
}

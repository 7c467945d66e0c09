//! A batch job runs while its session dies; it must not notice.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Day, ORDERS};
use crate::demo::caller::Answer;
use crate::demo::phone::Mode;
use crate::demo::voice::Who;

const CALLS: usize = 200;
/// The batch job's workers.
const WORKERS: usize = 4;

impl Day {
    /// A batch job runs while its session dies.
    pub(super) async fn night_batch(&mut self) -> io::Result<()> {
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
}

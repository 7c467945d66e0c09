//! The first scene: both sessions log in, the codes being early and late.

use std::io;
use std::time::Duration;

use super::{Day, PATIENCE};
use crate::clock;
use crate::demo::phone::Mode;
use crate::demo::portal::Pace;
use crate::demo::voice::Who;

impl Day {
    /// Both sessions log in; one code comes before anybody waits for it.
    pub(super) async fn evening(&mut self) -> io::Result<()> {
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
        let seen = format!("1 early, 1 late; {} SMS", counters.codes_sent);
        let kept = early && counters.codes_sent == 2 && counters.codes_accepted == 2;
        self.promise("a code is never too early", kept, seen);
        Ok(())
    }
}

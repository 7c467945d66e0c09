//! The portal refuses a code that was right: only a newer SMS counts, and nothing is typed twice.

use std::io;

use hyper::Method;

use super::{Day, PORTAL};
use crate::demo::voice::Who;

impl Day {
    pub(super) async fn refusal(&mut self) -> io::Result<()> {
        self.voice.title("6  The portal refuses the first code");
        let before = self.stage.portal.counters(&self.stage.user);
        self.stage.portal.faults(|faults| faults.reject_codes = 1);
        self.voice.say(Who::You, "somebody asks for a fresh login");
        let epoch = self.state().await?["epoch"].as_u64();
        self.caller.call(Method::POST, &format!("{PORTAL}/reauth"), &[]).await.map_err(io::Error::other)?;
        self.wait_for("the fresh login", |state| state["state"] == "live" && state["epoch"].as_u64() > epoch).await?;
        let after = self.stage.portal.counters(&self.stage.user);
        let refused = after.codes_rejected - before.codes_rejected;
        let again = after.codes_repeated - before.codes_repeated;
        let sms = after.codes_sent - before.codes_sent;
        let seen = format!("{refused} refused, {again} again; {sms} SMS");
        self.promise("a refused code is not tried again", refused == 1 && again == 0 && sms == 2, seen);
        Ok(())
    }
}

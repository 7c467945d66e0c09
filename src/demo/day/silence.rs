//! The phone goes silent while sessions die: nothing helps but a person, who is told once.

use std::io;

use hyper::Method;

use super::{Day, ORDERS, PORTAL};
use crate::demo::phone::Mode;
use crate::demo::portal::Pick;
use crate::demo::voice::Who;

impl Day {
    /// Nothing helps now but a person, who is told once.
    pub(super) async fn silent_phone(&mut self) -> io::Result<()> {
        self.voice.title("8  The phone goes silent, and both sessions die");
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
}

//! What can be wrong with the portal, switched by a test or by the demo. Data only: who misbehaves reads it here.

use std::time::Duration;

/// Everything that can be switched while the portal runs; the default is a portal on a good day.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Whether, and how, the portal is down.
    pub outage: Option<Outage>,
    /// How long every answer takes.
    pub pace: Pace,
    /// How long the page with the code field takes, while the SMS goes out at once: that is how a code comes early.
    pub code_page: Pace,
    /// So many right codes are still to be refused as if they were wrong.
    pub reject_codes: u32,
    /// The portal was redesigned: every selector that the recipe knows is gone.
    pub page_changed: bool,
    /// The login page asks for the letters in a picture.
    pub captcha: bool,
    /// A new login ends the older sessions of the same account.
    pub single_session: bool,
    /// Every answer to a member renews the cookie `TICKET`; the superseded value is good for [`TICKET_GRACE`].
    pub rotating_cookie: bool,
    /// Every answer to a member renews the session cookie itself; of the superseded values only the last one still counts.
    pub rotating_session: bool,
    /// The portal is of an older make: pages are EUC-KR, and pages and JSON are compressed whatever was asked for.
    pub dated: bool,
    /// How long the home page takes after it has let a member in, its answer being decided by then.
    pub home_page: Pace,
    /// The home page makes four calls by itself once it is shown, `/api/slow` first, each when the one before is answered.
    pub busy_home: bool,
    /// How long the page after a right password takes.
    pub verify_page: Pace,
    /// How long `/api/slow` takes beside what it was asked for.
    pub slow: Pace,
    /// Orders are refused with 403 whatever token they carry: this account may place none.
    pub orders_forbidden: bool,
    /// How the portal says that a session is over.
    pub logged_out: LoggedOut,
}

/// How long a superseded `TICKET` still opens the door, so that calls already on their way are not refused.
pub const TICKET_GRACE: Duration = Duration::from_secs(10);

/// A way of being down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Every request is answered 503 with a maintenance page.
    Maintenance,
    /// Connections are accepted and closed at once; open ones are cut.
    Closing,
    /// Requests are carried out, but the connection is cut instead of answering: the outcome is in doubt.
    CutAnswers,
    /// Requests are carried out, but every answer breaks off in its middle.
    HalfAnswers,
}

/// How fast something goes. Real time: the portal is the outside world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    #[default]
    Prompt,
    /// After this long.
    After(Duration),
    /// Not before this is switched back, at most two minutes: lets a test decide the order without a clock.
    Held,
}

/// How the portal tells a caller of `/api` that the session is over. Pages redirect to the login page, except in
/// [`LoggedOut::LoginPage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoggedOut {
    /// 401 with `{"ok":false,"error":"login_required"}`.
    #[default]
    Unauthorized,
    /// 302 to `/login`.
    Redirect,
    /// 200 with the login page as body.
    LoginPage,
    /// 200 with `{"ok":false,"error":"login_required"}`.
    PoliteJson,
}

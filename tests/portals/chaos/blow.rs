//! The blows: each one thing that goes wrong at a portal, a phone or a browser, and what it must cost at most.

use std::time::Duration;

use nightporter::clock;
use nightporter::demo::phone::Mode;
use nightporter::demo::portal::{LoggedOut, Outage, Pace};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::batch::Weather;
use crate::stage::{Stage, kill_9};

pub(crate) const USER: &str = "partner01";
/// How long what passes by itself lasts.
const LASTS: Duration = Duration::from_secs(3);

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The session that serves is over.
    ActiveEnds,
    StandbyEnds,
    BothEnd,
    /// The same, told by a redirect, a login page, a polite JSON.
    RedirectsToLogin,
    ShowsLoginPage,
    SaysLoginRequired,
    BrowserKilled,
    BothBrowsersKilled,
    BrowserFrozen,
    /// A process beside the browser's main one, the network's or the pages' for instance.
    BrowserPartKilled,
    PortalDown,
    PortalCutsConnections,
    PortalCutsAnswers,
    PortalSlow,
    TokensRenewed,
    CookieRotates,
    CodeRejected,
    SmsTwice,
    SmsLate,
    SmsEarly,
    /// Its messages come in a burst afterwards.
    PhoneOffline,
    Failover,
    Reauth,
    Reload,
    ApplianceKilled,
}

impl Blow {
    pub(crate) const ALL: &[Self] = &[
        Self::ActiveEnds,
        Self::StandbyEnds,
        Self::BothEnd,
        Self::RedirectsToLogin,
        Self::ShowsLoginPage,
        Self::SaysLoginRequired,
        Self::BrowserKilled,
        Self::BothBrowsersKilled,
        Self::BrowserFrozen,
        Self::BrowserPartKilled,
        Self::PortalDown,
        Self::PortalCutsConnections,
        Self::PortalCutsAnswers,
        Self::PortalSlow,
        Self::TokensRenewed,
        Self::CookieRotates,
        Self::CodeRejected,
        Self::SmsTwice,
        Self::SmsLate,
        Self::SmsEarly,
        Self::PhoneOffline,
        Self::Failover,
        Self::Reauth,
        Self::Reload,
        Self::ApplianceKilled,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ActiveEnds => "active session ended",
            Self::StandbyEnds => "standby ended",
            Self::BothEnd => "both sessions ended",
            Self::RedirectsToLogin => "ended with a redirect",
            Self::ShowsLoginPage => "ended with a login page",
            Self::SaysLoginRequired => "ended with polite JSON",
            Self::BrowserKilled => "browser killed",
            Self::BothBrowsersKilled => "both browsers killed",
            Self::BrowserFrozen => "browser frozen",
            Self::BrowserPartKilled => "part of a browser killed",
            Self::PortalDown => "portal down",
            Self::PortalCutsConnections => "portal cuts connections",
            Self::PortalCutsAnswers => "portal cuts answers",
            Self::PortalSlow => "portal slow",
            Self::TokensRenewed => "CSRF tokens renewed",
            Self::CookieRotates => "cookie rotates",
            Self::CodeRejected => "code rejected",
            Self::SmsTwice => "SMS twice",
            Self::SmsLate => "SMS late",
            Self::SmsEarly => "SMS early",
            Self::PhoneOffline => "phone offline",
            Self::Failover => "failover asked for",
            Self::Reauth => "login asked for",
            Self::Reload => "configuration reloaded",
            Self::ApplianceKilled => "appliance killed",
        }
    }

    /// The SMS that it makes necessary when everything was well before.
    pub(crate) const fn cost(self) -> u64 {
        match self {
            Self::BothEnd | Self::CodeRejected => 2,
            Self::ActiveEnds
            | Self::StandbyEnds
            | Self::RedirectsToLogin
            | Self::ShowsLoginPage
            | Self::SaysLoginRequired
            | Self::SmsTwice
            | Self::SmsLate
            | Self::SmsEarly
            | Self::PhoneOffline
            | Self::Reauth => 1,
            _ => 0,
        }
    }

    /// Whether a login that is under way may fail of it.
    pub(crate) const fn disturbs(self) -> bool {
        !matches!(self, Self::ActiveEnds | Self::StandbyEnds | Self::SmsTwice | Self::TokensRenewed | Self::Failover)
    }

    pub(crate) async fn strike(self, stage: &mut Stage, weather: &Weather) {
        match self {
            Self::ActiveEnds => end_active(stage).await,
            Self::StandbyEnds => end_standby(stage).await,
            Self::BothEnd => drop(stage.portal.expire_all()),
            Self::RedirectsToLogin => ends_with(stage, LoggedOut::Redirect).await,
            Self::ShowsLoginPage => ends_with(stage, LoggedOut::LoginPage).await,
            Self::SaysLoginRequired => ends_with(stage, LoggedOut::PoliteJson).await,
            Self::BrowserKilled => stage.browsers().into_iter().take(1).for_each(kill_9),
            Self::BothBrowsersKilled => stage.browsers().into_iter().for_each(kill_9),
            Self::BrowserFrozen => freeze(stage),
            Self::BrowserPartKilled => stage.browser_parts().into_iter().next_back().into_iter().for_each(kill_9),
            Self::PortalDown => out(stage, weather, Outage::Maintenance).await,
            Self::PortalCutsConnections => out(stage, weather, Outage::Closing).await,
            Self::PortalCutsAnswers => out(stage, weather, Outage::CutAnswers).await,
            Self::PortalSlow => {
                stage.portal.faults(|faults| faults.pace = Pace::After(Duration::from_millis(400)));
                clock::pause(LASTS).await;
                stage.portal.faults(|faults| faults.pace = Pace::Prompt);
            }
            Self::TokensRenewed => stage.portal.renew_tokens(USER),
            Self::CookieRotates => {
                stage.portal.faults(|faults| faults.rotating_cookie = true);
                clock::pause(LASTS).await;
                stage.portal.faults(|faults| faults.rotating_cookie = false);
            }
            Self::CodeRejected => {
                stage.portal.faults(|faults| faults.reject_codes = 1);
                end_active(stage).await;
            }
            Self::SmsTwice => by_phone(stage, Mode::Twice).await,
            Self::SmsLate => by_phone(stage, Mode::Delayed(Duration::from_secs(2))).await,
            Self::SmsEarly => {
                stage.portal.faults(|faults| faults.code_page = Pace::After(Duration::from_millis(1500)));
                replace_active(stage).await;
                stage.portal.faults(|faults| faults.code_page = Pace::Prompt);
            }
            Self::PhoneOffline => {
                stage.phone.set_mode(Mode::Offline);
                end_standby(stage).await;
                clock::pause(LASTS).await;
                stage.phone.set_mode(Mode::Prompt);
            }
            // Without a standby it is refused, which is an answer as well.
            Self::Failover => drop(stage.wish("failover").await),
            Self::Reauth => drop(stage.wish("reauth").await),
            Self::Reload => stage.hang_up(),
            Self::ApplianceKilled => {
                weather.appliance_dies();
                stage.kill().await;
                stage.launch().await;
                weather.appliance_is_back(stage.url(""));
            }
        }
    }
}

/// Ends the session that answers at this moment.
async fn end_active(stage: &Stage) {
    if let Some(serving) = stage.serving().await {
        stage.portal.expire(&serving);
    }
}

/// Ends a session that does not answer at this moment, which the next check notices.
async fn end_standby(stage: &Stage) {
    let serving = stage.serving().await;
    let other = stage.portal.sessions(USER).into_iter().find(|member| Some(&member.id) != serving.as_ref());
    if let Some(other) = other {
        stage.portal.expire(&other.id);
    }
}

/// Ends the session that answers at this moment, and waits until there is another login, or, where one was under way already
/// that took its place, until both sessions are found alive.
async fn replace_active(stage: &Stage) {
    let before = stage.counters().codes_accepted;
    end_active(stage).await;
    let now = serde_json::to_value(stage.clock.now()).unwrap();
    let replaced = |state: &Value| stage.counters().codes_accepted > before || checked_since(state, &now);
    stage.when("another session", replaced).await;
}

/// Whether both sessions were found alive at the portal since `then`.
pub(crate) fn checked_since(state: &Value, then: &Value) -> bool {
    let seen = |slot: &Value| slot["last_check_at"].as_str() > then.as_str() && slot["last_check_ok"] == true;
    ["active", "standby"].iter().all(|slot| state[*slot]["status"] == "authenticated" && seen(&state[*slot]))
}

async fn ends_with(stage: &Stage, how: LoggedOut) {
    stage.portal.faults(|faults| faults.logged_out = how);
    replace_active(stage).await;
    stage.portal.faults(|faults| faults.logged_out = LoggedOut::Unauthorized);
}

async fn out(stage: &Stage, weather: &Weather, outage: Outage) {
    weather.portal_changes();
    stage.portal.faults(|faults| faults.outage = Some(outage));
    clock::pause(LASTS).await;
    stage.portal.faults(|faults| faults.outage = None);
    weather.portal_changes();
}

async fn by_phone(stage: &Stage, mode: Mode) {
    stage.phone.set_mode(mode);
    replace_active(stage).await;
    stage.phone.set_mode(Mode::Prompt);
}

/// Stops a browser's process; who notices kills it.
fn freeze(stage: &Stage) {
    if let Some(pid) = stage.browsers().into_iter().next().and_then(Pid::from_raw) {
        // It may have ended by itself in this moment.
        let _ = kill_process(pid, Signal::STOP);
    }
}

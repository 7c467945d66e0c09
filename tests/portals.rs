//! The main job: a portal stays logged in, whatever happens. The whole appliance on real Chromium with a real mail server,
//! through its own socket; the portal and the phone are the demo's. One file a story.

#[path = "portals/browser.rs"]
mod browser;
#[path = "portals/chaos.rs"]
mod chaos;
#[path = "portals/code_link.rs"]
mod code_link;
#[path = "portals/codes.rs"]
mod codes;
#[path = "portals/command_line.rs"]
mod command_line;
#[path = "portals/cookies.rs"]
mod cookies;
#[path = "portals/evidence.rs"]
mod evidence;
#[path = "portals/expiries.rs"]
mod expiries;
#[path = "portals/failover.rs"]
mod failover;
#[path = "portals/failure.rs"]
mod failure;
#[path = "portals/fallback.rs"]
mod fallback;
#[path = "portals/keep_tab.rs"]
mod keep_tab;
#[path = "portals/limits.rs"]
mod limits;
#[path = "portals/operator.rs"]
mod operator;
#[path = "portals/outage.rs"]
mod outage;
#[path = "portals/password.rs"]
mod password;
#[path = "portals/recycling.rs"]
mod recycling;
#[path = "portals/restart.rs"]
mod restart;
#[path = "portals/rivals.rs"]
mod rivals;
#[path = "portals/stage.rs"]
mod stage;
#[path = "portals/tokens.rs"]
mod tokens;
#[path = "portals/trial.rs"]
mod trial;
#[path = "portals/upkeep.rs"]
mod upkeep;

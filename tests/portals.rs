//! The main job: a portal stays logged in, whatever happens. The whole appliance on real Chromium with a real mail server,
//! through its own socket; the portal and the phone are the demo's. One file a story.

#[path = "portals/browser.rs"]
mod browser;
#[path = "portals/chaos.rs"]
mod chaos;
#[path = "portals/codes.rs"]
mod codes;
#[path = "portals/failover.rs"]
mod failover;
#[path = "portals/failure.rs"]
mod failure;
#[path = "portals/fallback.rs"]
mod fallback;
#[path = "portals/keep_tab.rs"]
mod keep_tab;
#[path = "portals/operator.rs"]
mod operator;
#[path = "portals/restart.rs"]
mod restart;
#[path = "portals/stage.rs"]
mod stage;
#[path = "portals/upkeep.rs"]
mod upkeep;

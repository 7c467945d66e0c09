//! Portals: other people's sites that must stay logged in.
//!
//! A portal has an active and a standby session. The keeper makes sure of that, logging in by the recipe with a code from
//! the inbox; the relay serves batch jobs from the session that lives. Nothing here evades a CAPTCHA or hides what it is:
//! portals are accounts that the operator owns.

pub mod check;
pub mod code;
pub mod forwarders;
pub mod inbox;
pub mod jar;
mod keeper;
mod login;
pub mod portal;
pub mod recipe;
pub mod relay;
mod repair;
pub mod session;
pub mod state;
pub mod upstream;

//! Nightporter: stays up so that your sessions do.

pub mod clock;
pub mod config;
pub mod ids;
pub mod lifecycle;
pub mod portals;
pub mod secret;

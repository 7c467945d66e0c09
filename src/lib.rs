//! Nightporter: stays up so that your sessions do.

pub mod browsers;
pub mod clock;
pub mod ids;
pub mod lifecycle;
pub mod secret;

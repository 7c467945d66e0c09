//! Nightporter: stays up so that your sessions do.

pub mod clock;
pub mod ids;
pub mod lifecycle;
pub mod secret;
pub mod store;

//! Nightporter: stays up so that your sessions do.

pub mod alerts;
pub mod clock;
pub mod ids;
pub mod lifecycle;
pub mod outbox;
pub mod secret;
pub mod store;

//! Nightporter: stays up so that your sessions do.

#![warn(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn freely"))]

pub mod alerts;
pub mod app;
pub mod browsers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod http;
pub mod ids;
pub mod lifecycle;
pub mod logs;
pub mod operators;
pub mod outbox;
pub mod portals;
pub mod secret;
pub mod store;

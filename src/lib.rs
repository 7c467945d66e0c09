//! Nightporter: stays up so that your sessions do.
//!
//! One binary for a small team on one server. Everything that must outlive the process is a *session record*: a key, a
//! version, an expiry, a payload, changed only by compare-and-swap, durable when acknowledged, gone when expired.
//!
//! # The rooms
//!
//! Arrows point down only; `tests/house.rs` keeps them.
//!
//! ```text
//! main → cli                 one file a subcommand; the only place for anyhow and standard output
//!         │
//!        app                 composition: starts the parts in order, opens the doors last; signals, reload, drain
//!         │
//!        console             the operator's pages: HTML on the edge
//!         │
//!        http                the edge: extract → one domain call → map; no rule lives here
//!         │
//!   ┌─────┴───────┐
//! portals     operators      portals: keeper, login, inbox, relay; operators: tokens and scopes
//!   │         sessions       sessions: records of any application; flows: verification in several steps
//!   │           flows
//!   │         accounts       accounts: the team's own users, their sign-up, logins and tokens
//!   │             │
//! browsers      alerts       browsers: Chromium over a pipe; alerts: incidents, told once
//!   │             │
//!   │           outbox       durable delivery by mail, Telegram, webhook
//!   │             │
//!   └───────┬── store        records on sled: update, expiry, group commit
//!           │
//!    calls  document         words of calls that operators declare; JSON kept as text
//!           │
//! config  clock  ids  secret  lifecycle  logs        the ground
//!
//! demo                       the neighbours for tests and the demo: a portal, a phone, a mailbox
//! ```
//!
//! # What always holds
//!
//! 1. A record changes only through [`store::Store::update`]; its closure may run again, so it is pure.
//! 2. An answer to a client means that what it says is durable, unless the operator chose `interval`.
//! 3. Time comes from [`clock`], randomness and ids from [`ids`]; tests hold both.
//! 4. Every wait has a deadline, every queue a bound, every loop a stop token, every task an owner that notices its end.
//!    A part that panics takes the process down; systemd restarts it, and the store knows where to go on.
//! 5. Secrets live in [`secret::Secret`], which does not print; what must be kept of them is sealed by
//!    [`secret::Vault`]. Codes and message texts never reach a log.
//! 6. One error enum a domain that names what the caller can do, one mapping to problems in [`http`].
//!
//! # Two walks through the house
//!
//! **A relayed call.** `http::relay` takes the portal's name, the session headers and the raw path, and hands a
//! [`portals::relay::Call`] on. The relay picks the serving session from memory, adds its cookies, and sends the request.
//! If the answer means "logged out", [`portals::portal::Portal`] changes its record once: expired, standby promoted,
//! epoch + 1. The request is sent again with the new session; the caller sees one answer.
//!
//! **A login.** The keeper of the portal finds a place without a living session and nothing that forbids a login. It takes
//! a turn at the phone, opens a browser context, and walks the recipe's steps. Just before the click that sends the code
//! it opens the inbox's window; the code waits for the step that types it, or the step for the code. Cookies and storage
//! are sealed into the store, then the record names the new session. A crash at any point is found undone by the next
//! start.

#![warn(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn freely"))]

/// For the program, its tests and benches alike. What sled builds on one thread it frees on another, and in glibc's allocator
/// the two wait for one another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod accounts;
pub mod alerts;
pub mod app;
pub mod browsers;
pub mod calls;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod demo;
pub mod document;
pub mod flows;
pub mod http;
pub mod ids;
pub mod lifecycle;
pub mod logs;
pub mod operators;
pub mod outbox;
pub mod portals;
pub mod secret;
pub mod sessions;
pub mod snapshots;
pub mod store;

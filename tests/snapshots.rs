//! Snapshots: one moment of a store that is written to, files that are whole or not there, restores that a kill cannot halve.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

#[path = "cli/house.rs"]
#[allow(dead_code, reason = "shared with tests/cli.rs")]
mod house;
#[path = "strace/kill.rs"]
mod kill;

mod snapshots {
    mod command_line;
    mod killed;
    mod moment;
    mod restored;
    mod schedule;
    pub(crate) mod shelf;
}

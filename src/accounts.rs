//! Accounts.

pub mod audit;
pub mod keys;
pub mod refresh;
pub mod sessions;
pub mod tokens;

//! Portals: other people's sites that must stay logged in.

pub mod recipe;

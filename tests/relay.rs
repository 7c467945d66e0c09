//! The relay over real sockets: a batch job on one side, a portal on the other, and sessions that live, end and come
//! back. A browser takes part only where the recipe calls through one.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

mod relay {
    mod browser;
    mod cache;
    mod confinement;
    pub(crate) mod demo;
    mod doubt;
    mod epoch;
    mod expiry;
    mod hostile;
    pub(crate) mod house;
    mod limits;
    pub(crate) mod mirror;
    mod passage;
    mod pool;
    mod reading;
    mod streams;
}

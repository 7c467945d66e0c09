//! Browsers: our own pool of Chromium processes, and the tabs in which logins and repairs happen.
//!
//! Two processes, one on each [`Seat`], so that a portal's active and standby session never die together. A session is an
//! incognito [`Context`]; its [`Page`]s are open only while somebody logs in or repairs, but for portals that live in one
//! or are called through one. What must outlive a process is exported as [`SavedState`] and restored into a new context.
//! Processes do not stay for ever: a fresh one comes up on the seat, the contexts move over, and the former one ends
//! ([`Recycle`]).
//!
//! The room knows nothing of portals and recipes and keeps nothing on disk. Only `chrome` speaks the DevTools protocol
//! (CDP), always over an inherited pipe: a debugging port would let every local user read every cookie. Chromium's
//! sandbox stays on unless the operator says otherwise in so many words.

mod chrome;
mod error;
mod frames;
mod kin;
mod launch;
mod pdeathsig;
mod pool;
mod process;
mod profile;
mod recycle;
mod seat;
mod settings;
mod state;
mod tenancy;
mod user;

pub use chrome::{
    Area, CallError, Context, ContextOptions, Identity, Key, Landing, Page, PageAnswer, PageBody, PageCall,
    PageOptions, Piece,
};
pub use error::{BrowserError, Kind, NetCause};
pub use pool::Pool;
pub use recycle::Recycle;
pub use seat::{Health, Seat};
pub use settings::Settings;
pub use state::{Cookie, KeptTab, Partition, SameSite, SavedState, StorageText};

//! The appliance's neighbours, for the demo command and the tests: a delivery company's portal, a phone that forwards
//! its SMS, a mail server.
//!
//! They speak the real protocols on loopback sockets (HTTP, the forwarder's webhook, SMTP), misbehave on demand, and
//! remember what was done to them. They know nothing of the appliance: it must not be able to tell them from the real
//! ones, and nothing outside `cli` and tests may depend on them.

pub mod caller;
pub mod day;
pub mod mailbox;
pub mod phone;
pub mod portal;
mod stage;
mod voice;

//! The words in which an operator describes a call to somebody else's server, in TOML: text with gaps, and what an answer
//! must look like. Portals' recipes and flows speak them alike. Pure: nothing here sends anything, and which names a gap
//! may carry is the room's that uses it.

mod predicate;
mod template;

pub use predicate::{Answer, Predicate, Target};
pub(crate) use predicate::{pointer, read as read_predicate, status};
pub use template::{Gap, InvalidTemplate, MissingValue, Part, Rendered, Template};

//! Passwords: which ones may be, and what is kept of them.

/// Why a password must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is too short or too long.
    #[error("a password has {MIN} to {MAX} bytes")]
    Length,
}

/// The shortest password, in bytes.
pub const MIN: usize = 8;
/// The longest, in bytes: beyond this it is a file.
pub const MAX: usize = 1024;

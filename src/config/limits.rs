//! `[limits]`: how much one operator's token may use.

use std::num::NonZeroU32;

use super::read::{Field, Section};
use super::words;

/// `[limits]`: the relay's limits, each for every token on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Relayed calls within a minute. Default 600 000: ten thousand a second, more than any portal takes.
    pub relay_per_minute: NonZeroU32,
    /// Relayed calls under way at once. Default 256, a quarter of the connections that are served at all.
    pub relay_concurrency: NonZeroU32,
}

pub(super) fn limits(root: &Section<'_>) -> Option<Limits> {
    let section = root.section_or_empty("limits")?;
    let relay_per_minute = section.or("relay_per_minute", "600000", count(60_000_000));
    let relay_concurrency = section.or("relay_concurrency", "256", count(10_000));
    section.finish();
    Some(Limits { relay_per_minute: relay_per_minute?, relay_concurrency: relay_concurrency? })
}

/// A reader for a number from 1 to `most`.
pub(super) fn count(most: u32) -> impl Fn(&Field<'_>) -> Result<NonZeroU32, String> {
    move |field| {
        let number = words::integer(1..=most)(field)?;
        NonZeroU32::new(number).ok_or_else(|| format!("expected between 1 and {most}, got 0"))
    }
}

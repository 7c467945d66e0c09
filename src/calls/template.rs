//! Text with gaps: `{{name}}`. What fills a gap, and which names there are, is the business of the room that uses it.
//!
//! What is rendered with a secret in it is a secret: it never prints.

use std::borrow::Cow;
use std::fmt;

use crate::secret::Secret;

/// The names that gaps can carry, and what they stand for.
pub trait Gap: Sized + fmt::Display {
    /// What `name` stands for; None when it is no name.
    fn named(name: &str) -> Option<Self>;

    /// Whether what fills it must not be seen.
    fn is_secret(&self) -> bool;
}

/// Text with gaps, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<G>(Vec<Part<G>>);

/// A part of such a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<G> {
    /// As it is written.
    Text(String),
    /// To be filled.
    Gap(G),
}

/// A filled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendered {
    /// Nothing in it is secret.
    Plain(String),
    /// It holds a password or a saved value.
    Secret(Secret),
}

impl Rendered {
    /// The text itself, for the place that it is meant for.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// A gap has no value, because what should have saved it has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no value was saved for {{{{{0}}}}}")]
pub struct MissingValue<G: fmt::Display>(pub G);

/// The text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A gap is not closed.
    #[error("\"{{{{\" without \"}}}}\"")]
    Open,
    /// What stands in a gap is no name.
    #[error("\"{{{{{0}}}}}\" is not a name")]
    Name(String),
}

impl<G: Gap + Clone> Template<G> {
    /// Parses `text`; spaces within the braces do not matter.
    ///
    /// # Errors
    /// [`InvalidTemplate`].
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) = after.split_once("}}").ok_or(InvalidTemplate::Open)?;
            let name = name.trim();
            let gap = G::named(name).ok_or_else(|| InvalidTemplate::Name(name.to_owned()))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Gap(gap));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The gaps, in order.
    pub fn variables(&self) -> impl Iterator<Item = &G> {
        self.0.iter().filter_map(|part| match part {
            Part::Gap(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }

    /// The text between the gaps.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Gap(_) => None,
        })
    }

    /// Fills the gaps with what `lookup` knows.
    ///
    /// # Errors
    /// [`MissingValue`] for the first gap that it does not know.
    pub fn render<'v>(&self, lookup: impl Fn(&G) -> Option<Cow<'v, str>>) -> Result<Rendered, MissingValue<G>> {
        let mut text = zeroize::Zeroizing::new(String::new());
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Gap(variable) => {
                    text.push_str(&lookup(variable).ok_or_else(|| MissingValue(variable.clone()))?);
                }
            }
        }
        let secret = self.variables().any(G::is_secret);
        let text = text.as_str();
        Ok(if secret { Rendered::Secret(Secret::new(text)) } else { Rendered::Plain(text.to_owned()) })
    }

    /// All parts, in order.
    pub fn parts(&self) -> &[Part<G>] {
        &self.0
    }
}

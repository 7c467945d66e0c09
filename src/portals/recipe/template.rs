//! Text with gaps: `{{username}}`, `{{password}}`, and whatever the login saved from a page.
//!
//! What is rendered with a password or a saved value in it is a secret: it never prints.

use std::borrow::Cow;
use std::fmt;

use crate::secret::Secret;

/// What a gap is filled with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// The account's name.
    Username,
    /// The account's password.
    Password,
    /// A value that a `save` step read from a page, by its name.
    Saved(String),
}

impl Variable {
    fn named(name: &str) -> Self {
        match name {
            "username" => Self::Username,
            "password" => Self::Password,
            saved => Self::Saved(saved.to_owned()),
        }
    }

    /// Whether the value must not be seen. What a page gave us (a CSRF token) is as good as a cookie.
    const fn is_secret(&self) -> bool {
        !matches!(self, Self::Username)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Username => "username",
            Self::Password => "password",
            Self::Saved(name) => name,
        })
    }
}

/// Text with gaps, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Gap(Variable),
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

/// A gap has no value, because the login that should have saved it has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no value was saved for {{{{{0}}}}}")]
pub struct MissingValue(pub Variable);

/// The text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidTemplate {
    #[error("\"{{{{\" without \"}}}}\"")]
    Open,
    #[error("\"{{{{{0}}}}}\" is not a name")]
    Name(String),
}

impl Template {
    /// Parses `text`; spaces within the braces do not matter.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) = after.split_once("}}").ok_or(InvalidTemplate::Open)?;
            let name = name.trim();
            if !is_variable_name(name) {
                return Err(InvalidTemplate::Name(name.to_owned()));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Gap(Variable::named(name)));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The gaps, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Gap(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }

    /// The text between the gaps.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Gap(_) => None,
        })
    }

    /// Fills the gaps with what `lookup` knows.
    ///
    /// # Errors
    /// [`MissingValue`] for the first gap that it does not know.
    pub fn render<'v>(&self, lookup: impl Fn(&Variable) -> Option<Cow<'v, str>>) -> Result<Rendered, MissingValue> {
        let mut text = zeroize::Zeroizing::new(String::new());
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Gap(variable) => {
                    text.push_str(&lookup(variable).ok_or_else(|| MissingValue(variable.clone()))?);
                }
            }
        }
        let secret = self.variables().any(Variable::is_secret);
        let text = text.as_str();
        Ok(if secret { Rendered::Secret(Secret::new(text)) } else { Rendered::Plain(text.to_owned()) })
    }
}

/// Whether a value can be saved under this name: lower-case words, as in the examples, and not one of our own.
pub(super) fn is_variable_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 64 && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<Rendered, MissingValue> {
        Template::parse(text).unwrap().render(|variable| match variable {
            Variable::Username => Some(Cow::Borrowed("홍길동")),
            Variable::Password => Some(Cow::Borrowed("비밀 {{username}}")),
            Variable::Saved(name) if name == "csrf" => Some(Cow::Borrowed("t0k")),
            Variable::Saved(_) => None,
        })
    }

    #[test]
    fn gaps_are_filled_once_and_secrets_stay_secret() {
        assert_eq!(render("id: {{ username }}!").unwrap(), Rendered::Plain("id: 홍길동!".into()));
        assert_eq!(render("").unwrap(), Rendered::Plain(String::new()));
        let password = render("{{username}}:{{password}}").unwrap();
        assert_eq!(password.expose(), "홍길동:비밀 {{username}}");
        assert_eq!(format!("{password:?}"), "Secret([secret])");
        assert!(matches!(render("{{csrf}}").unwrap(), Rendered::Secret(_)));
        assert_eq!(render("{{nonce}}").unwrap_err().to_string(), "no value was saved for {{nonce}}");
    }

    #[test]
    fn what_is_not_a_template_is_refused() {
        assert_eq!(Template::parse("a {{b").unwrap_err().to_string(), "\"{{\" without \"}}\"");
        assert_eq!(Template::parse("{{User}}").unwrap_err().to_string(), "\"{{User}}\" is not a name");
        assert_eq!(Template::parse("{{}}").unwrap_err().to_string(), "\"{{}}\" is not a name");
        assert!(Template::parse("a } } b {").is_ok());
    }
}

//! Text with gaps: `{{username}}`, `{{password}}`, whatever the login saved from a page, and what the session's page has
//! stored: `{{sessionStorage.token}}`, or `{{localStorage.auth#/access_token}}` where it is a part of stored JSON.

use std::borrow::Cow;
use std::fmt;

use crate::browsers::{Area, Piece};
use crate::calls::{self, Gap, Part};

/// What a gap is filled with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// The account's name.
    Username,
    /// The account's password.
    Password,
    /// A value that a `save` step read from a page, by its name.
    Saved(String),
    /// What the session's page has stored when a call is made; known to that page alone.
    Stored {
        /// Which storage.
        area: Area,
        /// Under which key.
        key: String,
        /// Where in the JSON that is stored there, as a JSON pointer.
        pointer: Option<String>,
    },
}

/// The storages by the names that they have in JavaScript.
const AREAS: [(&str, Area); 2] = [("sessionStorage.", Area::Session), ("localStorage.", Area::Local)];

impl Gap for Variable {
    fn named(name: &str) -> Option<Self> {
        let stored = AREAS.iter().find_map(|(prefix, area)| Some((name.strip_prefix(prefix)?, *area)));
        if let Some((place, area)) = stored {
            let (key, pointer) = place.split_once("#/").map_or((place, None), |(key, rest)| (key, Some(rest)));
            let pointer = pointer.map(|rest| format!("/{rest}"));
            return (!key.is_empty()).then(|| Self::Stored { area, key: key.to_owned(), pointer });
        }
        match name {
            "username" => Some(Self::Username),
            "password" => Some(Self::Password),
            saved => is_variable_name(saved).then(|| Self::Saved(saved.to_owned())),
        }
    }

    /// Whether the value must not be seen. What a page gave us (a CSRF token) is as good as a cookie.
    fn is_secret(&self) -> bool {
        !matches!(self, Self::Username)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Username => f.write_str("username"),
            Self::Password => f.write_str("password"),
            Self::Saved(name) => f.write_str(name),
            Self::Stored { area, key, pointer } => {
                let area = AREAS.iter().find(|(_, known)| known == area).map_or("", |(prefix, _)| prefix);
                let pointer = pointer.as_ref().map(|pointer| format!("#{pointer}")).unwrap_or_default();
                write!(f, "{area}{key}{pointer}")
            }
        }
    }
}

/// Text with such gaps.
pub type Template = calls::Template<Variable>;

/// A gap has no value, because the login that should have saved it has not.
pub type MissingValue = calls::MissingValue<Variable>;

impl Template {
    /// The parts for a page that fills in what it has stored; the other gaps are filled with what `lookup` knows, and
    /// without one of those there is nothing.
    pub fn pieces<'v>(&self, lookup: impl Fn(&Variable) -> Option<Cow<'v, str>>) -> Option<Vec<Piece>> {
        let piece = |part: &Part<Variable>| match part {
            Part::Text(text) => Some(Piece::Text { text: text.clone() }),
            Part::Gap(Variable::Stored { area, key, pointer }) => {
                Some(Piece::Stored { area: *area, key: key.clone(), pointer: pointer.clone() })
            }
            Part::Gap(variable) => Some(Piece::Text { text: lookup(variable)?.into_owned() }),
        };
        self.parts().iter().map(piece).collect()
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
    use crate::calls::Rendered;

    fn render(text: &str) -> Result<Rendered, MissingValue> {
        Template::parse(text).unwrap().render(|variable| match variable {
            Variable::Username => Some(Cow::Borrowed("홍길동")),
            Variable::Password => Some(Cow::Borrowed("비밀 {{username}}")),
            Variable::Saved(name) if name == "csrf" => Some(Cow::Borrowed("t0k")),
            Variable::Saved(_) | Variable::Stored { .. } => None,
        })
    }

    #[test]
    fn what_a_page_has_stored_is_the_page_s_to_fill_in() {
        let template = Template::parse("Bearer {{sessionStorage.auth#/tokens/0}} {{csrf}}").unwrap();
        let saved = |variable: &Variable| matches!(variable, Variable::Saved(_)).then(|| Cow::Borrowed("t0k"));
        let pieces = template.pieces(saved).unwrap();
        let (area, key, pointer) = (Area::Session, "auth".to_owned(), Some("/tokens/0".to_owned()));
        assert_eq!(pieces[1], Piece::Stored { area, key, pointer });
        assert_eq!(pieces[3], Piece::Text { text: "t0k".into() });
        assert!(template.pieces(|_| None).is_none(), "nothing was saved");
        let shown: Vec<_> = template.variables().map(ToString::to_string).collect();
        assert_eq!(shown, ["sessionStorage.auth#/tokens/0", "csrf"]);
        let key = Template::parse("{{localStorage.oidc.user:https://a.example:app}}").unwrap();
        assert_eq!(key.variables().next().unwrap().to_string(), "localStorage.oidc.user:https://a.example:app");
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
        assert!(Template::parse("{{sessionStorage.}}").is_err() && Template::parse("{{cookie.a}}").is_err());
        assert!(Template::parse("a } } b {").is_ok());
    }
}

//! A call to a provider as it is declared: where it goes, what it carries, what must come back, and what is kept of that.
//! Filled with a flow's data here; sent elsewhere.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use url::Url;

use crate::calls::{Gap, Part, Predicate, Rendered, Template};
use crate::config;
use crate::document;
use crate::secret::Secret;

/// Where something is in a flow's data: names of members, from the outside in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::flows) struct Place(pub(in crate::flows) Vec<String>);

impl Place {
    /// Reads `a.b.c`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let fits =
            |name: &String| !name.is_empty() && !name.contains(['{', '}']) && !name.chars().any(char::is_control);
        (names.iter().all(fits) && (1..=16).contains(&names.len())).then_some(Self(names))
    }

    /// Whether one is within the other.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| one == other)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// What can stand in a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::flows) enum Name {
    /// A secret from the configuration.
    Secret(String),
    /// A part of the flow's data.
    Data(Place),
    /// The flow's id.
    Id,
    /// The same for every attempt of one call, and for no other.
    Key,
}

impl Gap for Name {
    fn named(name: &str) -> Option<Self> {
        match name.split_once('.')? {
            ("secret", name) => config::is_name(name).then(|| Self::Secret(name.to_owned())),
            ("data", path) => Place::parse(path).map(Self::Data),
            ("flow", "id") => Some(Self::Id),
            ("call", "key") => Some(Self::Key),
            _ => None,
        }
    }

    fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "secret.{name}"),
            Self::Data(path) => write!(f, "data.{path}"),
            Self::Id => f.write_str("flow.id"),
            Self::Key => f.write_str("call.key"),
        }
    }
}

/// A call as it is declared.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::flows) struct Call {
    pub(in crate::flows) method: Method,
    /// Absolute; its gaps stand behind the host.
    pub(super) url: Template<Name>,
    pub(super) headers: Vec<(HeaderName, Template<Name>)>,
    pub(super) json: Option<Json>,
    pub(in crate::flows) expect: Predicate,
    /// What is kept: where in the data, and where in the answer, as a JSON pointer.
    pub(in crate::flows) save: Vec<(Place, String)>,
    /// For one attempt, from connecting to the end of the answer.
    pub(in crate::flows) timeout: Duration,
    /// Further attempts of a call before a transition, where it is safe.
    pub(in crate::flows) retries: u32,
}

/// A JSON body with gaps.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    /// As it is written.
    Literal(serde_json::Value),
    /// A gap alone: the value as it is in the data, of whatever type.
    Gap(Name),
    /// Text with gaps.
    Text(Template<Name>),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

/// What gaps are filled with.
pub(in crate::flows) struct Values<'a> {
    /// The flow's data, as JSON text.
    pub(in crate::flows) data: &'a str,
    pub(in crate::flows) secrets: &'a BTreeMap<String, Secret>,
    pub(in crate::flows) id: &'a str,
    pub(in crate::flows) key: &'a str,
}

/// A call that cannot be made, because something that it needs is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::flows) enum Unfilled {
    /// This is neither in the flow's data nor was it sent.
    #[error("{0} is needed and not there")]
    Missing(String),
    /// This does not fit where it is needed.
    #[error("{0} does not fit into the provider's address or a header")]
    Misfit(String),
}

/// A call ready to be sent. Never printed: it carries secrets.
pub(in crate::flows) struct Request {
    pub(in crate::flows) method: Method,
    pub(in crate::flows) url: Url,
    pub(in crate::flows) headers: Vec<(HeaderName, HeaderValue)>,
    pub(in crate::flows) body: Option<String>,
}

impl Call {
    /// Whether sending it twice does what sending it once does: its method says so, or it carries a key by which the
    /// provider tells a repetition.
    pub(in crate::flows) fn is_safe(&self) -> bool {
        self.method.is_idempotent() || self.headers.iter().any(|(name, _)| name.as_str() == "idempotency-key")
    }

    /// Where it goes, without what it carries.
    pub(in crate::flows) fn host(&self) -> String {
        let whole = |gap: &Name| Some(Cow::Owned(gap.to_string()));
        let url = self.url.render(whole).ok().and_then(|url| Url::parse(url.expose()).ok());
        url.and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default()
    }

    /// The call with its gaps filled.
    pub(in crate::flows) fn fill(&self, values: &Values<'_>) -> Result<Request, Unfilled> {
        let encoded =
            |gap: &Name| values.text(gap).map(|text| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string());
        let url = self.url.render(|gap| encoded(gap).map(Cow::Owned)).map_err(|missing| missing_value(&missing.0))?;
        let url = Url::parse(url.expose()).map_err(|_| Unfilled::Misfit("the address".to_owned()))?;
        let header = |(name, template): &(HeaderName, Template<Name>)| {
            let rendered = template.render(|gap| values.text(gap).map(Cow::Owned));
            let rendered = rendered.map_err(|missing| missing_value(&missing.0))?;
            let misfit = || Unfilled::Misfit(template.variables().next().map(ToString::to_string).unwrap_or_default());
            let mut value = HeaderValue::from_bytes(rendered.expose().as_bytes()).map_err(|_| misfit())?;
            value.set_sensitive(matches!(rendered, Rendered::Secret(_)));
            Ok((name.clone(), value))
        };
        let headers = self.headers.iter().map(header).collect::<Result<_, Unfilled>>()?;
        let body = self.json.as_ref().map(|json| json.fill(values)).transpose()?;
        Ok(Request { method: self.method.clone(), url, headers, body })
    }
}

fn missing_value(gap: &Name) -> Unfilled {
    Unfilled::Missing(gap.to_string())
}

impl Values<'_> {
    /// What fills a gap, as JSON.
    fn json(&self, gap: &Name) -> Option<Box<RawValue>> {
        match gap {
            Name::Data(path) => {
                document::within(self.data, &path.0).filter(|value| value.get() != "null").map(ToOwned::to_owned)
            }
            other => serde_json::value::to_raw_value(&self.text(other)?).ok(),
        }
    }

    /// What fills a gap, as text.
    fn text(&self, gap: &Name) -> Option<String> {
        match gap {
            Name::Secret(name) => self.secrets.get(name).map(|secret| secret.expose().to_owned()),
            Name::Id => Some(self.id.to_owned()),
            Name::Key => Some(self.key.to_owned()),
            Name::Data(_) => {
                let value = self.json(gap)?;
                Some(serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned()))
            }
        }
    }
}

impl Json {
    /// What is written in a definition, with gaps in its texts.
    pub(super) fn parse(value: serde_json::Value) -> Result<Self, String> {
        use serde_json::Value;
        Ok(match value {
            Value::String(text) if text.contains("{{") => {
                let template = Template::<Name>::parse(&text).map_err(|error| error.to_string())?;
                match template.parts() {
                    [Part::Gap(gap)] => Self::Gap(gap.clone()),
                    _ => Self::Text(template),
                }
            }
            Value::Array(items) => Self::List(items.into_iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let member = |(name, value): (String, Value)| Ok((name, Self::parse(value)?));
                Self::Object(members.into_iter().map(member).collect::<Result<_, String>>()?)
            }
            literal => Self::Literal(literal),
        })
    }

    fn fill(&self, values: &Values<'_>) -> Result<String, Unfilled> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        Ok(match self {
            Self::Literal(value) => value.to_string(),
            Self::Gap(gap) => values.json(gap).ok_or_else(|| missing_value(gap))?.get().to_owned(),
            Self::Text(template) => {
                let rendered = template.render(|gap| values.text(gap).map(Cow::Owned));
                quoted(rendered.map_err(|missing| missing_value(&missing.0))?.expose())
            }
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| item.fill(values)).collect::<Result<_, _>>()?;
                format!("[{}]", items.join(","))
            }
            Self::Object(members) => {
                let member = |(name, value): &(String, Self)| Ok(format!("{}:{}", quoted(name), value.fill(values)?));
                let members: Vec<_> = members.iter().map(member).collect::<Result<_, Unfilled>>()?;
                format!("{{{}}}", members.join(","))
            }
        })
    }

    /// Every gap of it.
    pub(super) fn gaps(&self) -> Vec<&Name> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Gap(gap) => vec![gap],
            Self::Text(template) => template.variables().collect(),
            Self::List(items) => items.iter().flat_map(Self::gaps).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, value)| value.gaps()).collect(),
        }
    }
}

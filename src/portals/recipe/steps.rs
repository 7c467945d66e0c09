//! Reading `[login] steps`: each step is a table with exactly one kind, and what belongs to that kind.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::cause::Cause;
use super::selector;
use super::step::{Action, Arm, Step, Then};
use super::template::{Template, Variable, is_variable_name};
use crate::browsers::Key;
use crate::calls::Target;
use crate::config::{Field, Place, Section, boolean, choice, duration, unknown};

/// The key that says what a step does.
const KINDS: [&str; 12] = [
    "goto",
    "fill",
    "click",
    "branch",
    "code",
    "totp",
    "wait_for",
    "wait_for_url",
    "select",
    "press",
    "expect_text",
    "save",
];

/// What can stand beside a kind.
const OPTIONS: [&str; 6] = ["value", "selector", "sends_code", "resend", "text", "attribute"];

/// The most arms of a branch.
const MOST_ARMS: usize = 20;

/// The most steps of a login: a recipe is not a program.
const MOST_STEPS: usize = 200;

/// The limits of a step's own timeout.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(1800);

/// Where a login may go: the portal itself and the origins that its recipe allows.
pub(super) struct Site<'a> {
    pub(super) base: &'a Url,
    pub(super) allowed: &'a [Url],
}

impl Site<'_> {
    /// A path on the portal, or a whole URL on an allowed origin.
    pub(super) fn page(&self, field: &Field<'_>) -> Result<Url, String> {
        let text = field.text()?;
        if text.starts_with('/') {
            return self.path(text);
        }
        let url: Url = text.parse().map_err(|_| "expected a path such as /login, or a whole URL".to_owned())?;
        let origins = std::iter::once(self.base).chain(self.allowed);
        if origins.map(Url::origin).any(|origin| origin == url.origin()) {
            return Ok(url);
        }
        Err(format!("{} is not an allowed origin; see browser.allowed_origins", url.origin().ascii_serialization()))
    }

    /// A path on the portal and nowhere else.
    pub(super) fn path(&self, text: &str) -> Result<Url, String> {
        if !text.starts_with('/') {
            return Err("expected a path that starts with \"/\"".to_owned());
        }
        if text.contains(char::is_whitespace) || text.contains(char::is_control) {
            return Err("a path must not hold spaces; write %20".to_owned());
        }
        let url = self.base.join(text).map_err(|error| format!("expected a path: {error}"))?;
        // "//other.example/x" and "/\other.example" start with a slash, too.
        if url.origin() != self.base.origin() {
            return Err("leaves the portal's own site".to_owned());
        }
        Ok(url)
    }
}

/// Reads the steps. `None` when any of them is bad.
pub(super) fn read(login: &Section<'_>, site: &Site<'_>) -> Option<Vec<Step>> {
    let Some(field) = login.field("steps") else {
        login.problem("steps are missing");
        return None;
    };
    let items = field.read(Field::items)?;
    if items.is_empty() || items.len() > MOST_STEPS {
        field.problem(format!("a login has between 1 and {MOST_STEPS} steps, got {}", items.len()));
        return None;
    }
    let count = items.len();
    let sections: Vec<_> = items.iter().map(|item| item.read(Field::section)).collect();
    let labels = labels(&sections);
    let steps: Vec<Step> = sections.iter().flatten().filter_map(|section| step(section, site, &labels)).collect();
    (steps.len() == count).then_some(steps)
}

/// The names that the steps save, read apart from them: a step that is otherwise bad still means to save its name.
pub(super) fn saved(root: &Section<'_>) -> Vec<String> {
    let login = root.field("login").and_then(|field| field.section().ok());
    let steps = login.and_then(|login| login.field("steps")).and_then(|field| field.items().ok());
    let name = |step: Field<'_>| step.section().ok()?.field("save")?.text().ok().map(str::to_owned);
    steps.unwrap_or_default().into_iter().filter_map(name).collect()
}

/// The labels and the steps that carry them; a label that comes twice is a problem.
fn labels(sections: &[Option<Section<'_>>]) -> BTreeMap<String, usize> {
    let mut labels = BTreeMap::new();
    for (index, section) in sections.iter().enumerate() {
        let Some(field) = section.as_ref().and_then(|section| section.field("label")) else { continue };
        let Some(label) = field.read(label) else { continue };
        if labels.insert(label.clone(), index).is_some() {
            field.problem(format!("the label \"{label}\" is given twice"));
        }
    }
    labels
}

fn label(field: &Field<'_>) -> Result<String, String> {
    let text = field.text()?;
    let good = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err("a label is 1 to 64 characters".to_owned()) }
}

fn step(section: &Section<'_>, site: &Site<'_>, labels: &BTreeMap<String, usize>) -> Option<Step> {
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| section.has(kind)).collect();
    section.expect(&["label", "timeout"]);
    let action = match kinds[..] {
        [] if section.has("label") => Some(Action::Label),
        [] => {
            // A mistyped kind is told as the unknown key it is, and only that.
            section.expect(&KINDS);
            section.expect(&OPTIONS);
            if section.finish() {
                section.problem(format!("says nothing to do: a step has one of {} or label", KINDS.join(", ")));
            }
            return None;
        }
        [kind] => action(kind, section, site, labels),
        _ => {
            section.problem(format!("two things in one step: {}; make it two steps", kinds.join(" and ")));
            return None;
        }
    };
    let timeout = section.optional("timeout", duration::within(TIMEOUT));
    section.finish();
    let line = if let Place::File { line, .. } = section.place() { *line } else { 0 };
    let label = section.field("label").and_then(|field| field.text().ok().map(str::to_owned));
    Some(Step { action: action?, timeout, label, line })
}

fn action(kind: &str, section: &Section<'_>, site: &Site<'_>, labels: &BTreeMap<String, usize>) -> Option<Action> {
    let selector = || section.required(kind, css);
    Some(match kind {
        "goto" => Action::Goto(section.required(kind, |field| site.page(field))?),
        "fill" => {
            let (selector, value) = (selector(), section.required("value", login_template));
            Action::Fill { selector: selector?, value: value? }
        }
        "select" => {
            let (selector, value) = (selector(), section.required("value", login_template));
            Action::Select { selector: selector?, value: value? }
        }
        "click" => {
            let (selector, sends_code) = (selector(), section.or("sends_code", "false", boolean));
            Action::Click { selector: selector?, sends_code: sends_code? }
        }
        "code" => {
            let (selector, resend) = (selector(), section.optional("resend", css));
            Action::Code { selector: selector?, resend }
        }
        "totp" => Action::Totp { selector: selector()? },
        "wait_for" => Action::WaitFor { selector: selector()? },
        "wait_for_url" => Action::WaitForUrl(section.required(kind, Target::read)?),
        "press" => {
            let (key, selector) = (section.required(kind, choice(Key::NAMES)), section.optional("selector", css));
            Action::Press { key: key?, selector }
        }
        "expect_text" => {
            let (selector, text) = (selector(), section.required("text", crate::config::text));
            Action::ExpectText { selector: selector?, text: text? }
        }
        "save" => {
            let name = section.required(kind, saved_name);
            let selector = section.required("selector", css);
            let attribute = section.optional("attribute", attribute);
            Action::Save { name: name?, selector: selector?, attribute }
        }
        _ => Action::Branch(branch(section, labels)?),
    })
}

fn branch(section: &Section<'_>, labels: &BTreeMap<String, usize>) -> Option<Vec<Arm>> {
    let field = section.field("branch")?;
    let items = field.read(Field::items)?;
    if items.is_empty() || items.len() > MOST_ARMS {
        field.problem(format!("a branch has between 1 and {MOST_ARMS} arms, got {}", items.len()));
        return None;
    }
    let count = items.len();
    let arms: Vec<Arm> = items.iter().filter_map(|item| arm(&item.read(Field::section)?, labels)).collect();
    (arms.len() == count).then_some(arms)
}

fn arm(section: &Section<'_>, labels: &BTreeMap<String, usize>) -> Option<Arm> {
    let selector = section.required("if", css);
    let next = section.optional("next", |field| {
        let label = field.text()?;
        let known: Vec<&String> = labels.keys().collect();
        let missing = || unknown(&format!("label \"{label}\""), label, &known);
        labels.get(label).copied().map(Then::Next).ok_or_else(missing)
    });
    let fail = section.optional("fail", |field| {
        let word = field.text()?;
        let known = Cause::ALL.map(Cause::as_str);
        word.parse().map(Then::Fail).map_err(|_| unknown(&format!("cause \"{word}\""), word, &known))
    });
    section.finish();
    if section.has("next") == section.has("fail") {
        section.problem("an arm has either next or fail");
        return None;
    }
    Some(Arm { selector: selector?, then: next.or(fail)? })
}

/// Reads a CSS selector.
pub(super) fn css(field: &Field<'_>) -> Result<String, String> {
    let text = field.text()?;
    selector::check(text)?;
    Ok(text.trim().to_owned())
}

/// Reads a template that may use what is known during a login.
fn login_template(field: &Field<'_>) -> Result<Template, String> {
    let template = Template::parse(field.text()?).map_err(|error| error.to_string())?;
    let own = |variable: &&Variable| matches!(variable, Variable::Username | Variable::Password);
    let other = template.variables().find(|variable| !own(variable));
    let known = ["username", "password"];
    other.map_or(Ok(()), |name| Err(unknown(&format!("name {{{{{name}}}}}"), &name.to_string(), &known)))?;
    Ok(template)
}

fn saved_name(field: &Field<'_>) -> Result<String, String> {
    let name = field.text()?;
    if !is_variable_name(name) {
        return Err("a saved name is a-z, 0-9 and \"_\", and starts with a letter".to_owned());
    }
    if matches!(name, "username" | "password") {
        return Err(format!("{{{{{name}}}}} is the account's own"));
    }
    Ok(name.to_owned())
}

fn attribute(field: &Field<'_>) -> Result<String, String> {
    let name = field.text()?;
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_:.".contains(&byte));
    if good { Ok(name.to_owned()) } else { Err("expected the name of an HTML attribute, such as content".to_owned()) }
}

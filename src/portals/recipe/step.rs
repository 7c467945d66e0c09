//! The steps of a login, typed: what the login does one after another.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::cause::Cause;
use super::template::{Template, Variable};
use crate::browsers::Key;
use crate::calls::Target;

/// One step of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// How long it may take; the login's own limit holds in any case.
    pub timeout: Option<Duration>,
    /// The name that a branch can jump to.
    pub label: Option<String>,
    /// The line of the recipe, for messages.
    pub line: usize,
}

/// What a step does. Every selector is CSS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens a page.
    Goto(Url),
    /// Types into a field, in place of what was there.
    Fill {
        /// The field.
        selector: String,
        /// What is typed.
        value: Template,
    },
    /// Clicks.
    Click {
        /// What is clicked.
        selector: String,
        /// Whether the portal sends an SMS code for it: codes count from just before this click.
        sends_code: bool,
    },
    /// Waits for the first of several elements, and goes on as it says.
    Branch(Vec<Arm>),
    /// Does nothing: a place to jump to.
    Label,
    /// Waits for the code from the phone and types it.
    Code {
        /// The field.
        selector: String,
        /// What asks the portal for another code.
        resend: Option<String>,
    },
    /// Types the code of an authenticator app (RFC 6238).
    Totp {
        /// The field.
        selector: String,
    },
    /// Waits for an element.
    WaitFor {
        /// The element.
        selector: String,
    },
    /// Waits until the page's URL starts so.
    WaitForUrl(Target),
    /// Chooses from a list.
    Select {
        /// The list.
        selector: String,
        /// The value of the option.
        value: Template,
    },
    /// Presses a key.
    Press {
        /// The key.
        key: Key,
        /// What gets the focus before; without it the key goes to what has it.
        selector: Option<String>,
    },
    /// Fails with `page_changed` unless the element holds the text in time.
    ExpectText {
        /// The element.
        selector: String,
        /// The text that must be in it.
        text: String,
    },
    /// Remembers a value of the page for checks and relayed calls.
    Save {
        /// The name, as in `{{name}}`.
        name: String,
        /// The element.
        selector: String,
        /// The attribute; the element's text without one.
        attribute: Option<String>,
    },
}

/// One way to go on from a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// The element whose appearance chooses this arm.
    pub selector: String,
    /// What follows.
    pub then: Then,
}

/// What follows a chosen arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The login goes on with the step of this index.
    Next(usize),
    /// The login has failed.
    Fail(Cause),
}

impl Step {
    /// The templates that this step fills.
    pub(super) fn template(&self) -> Option<&Template> {
        match &self.action {
            Action::Fill { value, .. } | Action::Select { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Whether it types the password.
    pub(super) fn types_password(&self) -> bool {
        self.template().is_some_and(|template| template.variables().any(|variable| *variable == Variable::Password))
    }

    /// Whether it makes the portal send a code.
    pub(super) fn sends_code(&self) -> bool {
        matches!(self.action, Action::Click { sends_code: true, .. })
    }

    /// What it does, as the recipe says it and without what it types: `click "#go"`.
    pub fn words(&self) -> String {
        match &self.action {
            Action::Goto(url) => format!("goto {}", url.path()),
            Action::Fill { selector, .. } => format!("fill \"{selector}\""),
            Action::Click { selector, .. } => format!("click \"{selector}\""),
            Action::Branch(_) => "branch".to_owned(),
            Action::Label => format!("label \"{}\"", self.label.as_deref().unwrap_or_default()),
            Action::Code { selector, .. } => format!("code \"{selector}\""),
            Action::Totp { selector } => format!("totp \"{selector}\""),
            Action::WaitFor { selector } => format!("wait_for \"{selector}\""),
            Action::WaitForUrl(Target::Path(path)) => format!("wait_for_url {path}"),
            Action::WaitForUrl(Target::Absolute(url)) => format!("wait_for_url {url}"),
            Action::Select { selector, .. } => format!("select \"{selector}\""),
            Action::Press { key, .. } => format!("press {key:?}"),
            Action::ExpectText { selector, .. } => format!("expect_text \"{selector}\""),
            Action::Save { name, .. } => format!("save {name}"),
        }
    }
}

impl fmt::Display for Step {
    /// The step for messages: `click "#go" (line 12)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {})", self.words(), self.line)
    }
}

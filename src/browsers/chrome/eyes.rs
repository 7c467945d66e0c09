//! Looking into a page: runs the functions of `eyes.js` in an isolated world of its main frame.
//!
//! A world dies with its document, so a navigation in the middle of a look is normal: the look is taken again in the new
//! document. Arguments travel as JSON, which is JavaScript; nothing from a recipe is ever pasted in as code.

use std::time::Duration;

use headless_chrome::protocol::cdp::{Page, Runtime};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use super::CALL_LIMIT;
use super::session::Session;
use super::wire;
use crate::browsers::error::BrowserError;
use crate::clock;

/// Evaluates to the object of functions; kept in the isolated world under a name.
const EYES: &str = include_str!("eyes.js");

/// Between two looks at a page that is not yet as wanted.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(40);

/// What the browser says when the document changed under a look.
const MOVED: [&str; 6] = [
    "Cannot find context with specified id",
    "Execution context was destroyed",
    "Inspected target navigated or closed",
    "No frame for given id found",
    "Frame with the given id was not found",
    "Cannot find default execution context",
];

/// The eyes on one tab.
#[derive(Debug)]
pub(super) struct Eyes {
    session: Session,
    frame: String,
    /// The execution context of the present document's isolated world, once made.
    world: Mutex<Option<u32>>,
}

/// How one attempt to look ended, if not with a value.
enum Missed {
    /// The document changed meanwhile.
    Moved,
    /// The function threw.
    Threw(String),
    /// The call itself failed.
    Failed(BrowserError),
}

impl Eyes {
    /// Eyes on the main frame `frame` of the tab behind `session`.
    pub(super) fn on(session: Session, frame: String) -> Self {
        Self { session, frame, world: Mutex::new(None) }
    }

    /// The value of `function(...arguments)` in the present document; `arguments` is a JSON array.
    pub(super) async fn see<T: DeserializeOwned>(
        &self,
        function: &'static str,
        arguments: Value,
    ) -> Result<T, BrowserError> {
        let expression = format!("porter.{function}(...{arguments})");
        let looking = async {
            loop {
                match self.look(&expression).await {
                    Ok(value) => return serde_json::from_value(value).map_err(|error| unexpected(error.to_string())),
                    Err(Missed::Moved) => clock::pause(LOOK_AGAIN).await,
                    Err(Missed::Threw(words)) => return Err(thrown(&words)),
                    Err(Missed::Failed(error)) => return Err(error),
                }
            }
        };
        let hung = BrowserError::Hung { call: "Runtime.evaluate", limit: CALL_LIMIT };
        clock::within(CALL_LIMIT, looking).await.unwrap_or(Err(hung))
    }

    async fn look(&self, expression: &str) -> Result<Value, Missed> {
        // Held across the look on purpose: two looks at once would make two worlds.
        let mut world = self.world.lock().await;
        let context = match *world {
            Some(context) => context,
            None => *world.insert(self.open_world().await?),
        };
        let looked = self.evaluate(expression.to_owned(), context).await;
        if matches!(looked, Err(Missed::Moved)) {
            *world = None;
        }
        looked
    }

    async fn open_world(&self) -> Result<u32, Missed> {
        let method = Page::CreateIsolatedWorld {
            frame_id: self.frame.clone(),
            world_name: Some("nightporter".into()),
            grant_univeral_access: None,
        };
        let made = self.session.call(method).await.map_err(sort)?;
        self.evaluate(format!("void (globalThis.porter ??= {EYES})"), made.execution_context_id).await?;
        Ok(made.execution_context_id)
    }

    async fn evaluate(&self, expression: String, context: u32) -> Result<Value, Missed> {
        let answer = self.session.call(wire::evaluate(expression, context)).await.map_err(sort)?;
        match answer.exception_details {
            None => Ok(answer.result.value.unwrap_or_default()),
            Some(thrown) => Err(Missed::Threw(words_of(thrown))),
        }
    }
}

fn words_of(thrown: Runtime::ExceptionDetails) -> String {
    thrown.exception.and_then(|exception| exception.description).unwrap_or(thrown.text)
}

fn sort(error: BrowserError) -> Missed {
    match &error {
        BrowserError::Protocol { detail, .. } if MOVED.iter().any(|known| detail.contains(known)) => Missed::Moved,
        _ => Missed::Failed(error),
    }
}

/// Selectors are the only thing from outside that can make `eyes.js` throw a syntax error; the caller fills in which.
fn thrown(words: &str) -> BrowserError {
    if words.starts_with("SyntaxError") {
        return BrowserError::InvalidSelector { selector: String::new() };
    }
    unexpected(words.lines().next().unwrap_or_default().chars().take(200).collect())
}

const fn unexpected(detail: String) -> BrowserError {
    BrowserError::Protocol { call: "Runtime.evaluate", detail }
}

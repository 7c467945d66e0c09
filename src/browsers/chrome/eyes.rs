//! Looking into a page: runs the functions of `eyes.js`, and those of `calls.js` for `fetch`, in an isolated world of its
//! main frame.
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
/// More of them: what a page is asked to send.
const CALLS: &str = include_str!("calls.js");

/// Between two looks at a page that is not yet as wanted: more than a frame, so that what moves is seen to move.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

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

/// Why a function that must not run twice has no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// It has not run.
    #[error("{0}")]
    Before(String),
    /// It may have run.
    #[error("{0}")]
    Within(String),
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

    /// The isolated world of the present document, or of one that has just gone: [`run`] tells.
    pub(super) async fn world(&self) -> Result<u32, BrowserError> {
        let mut world = self.world.lock().await;
        if let Some(context) = *world {
            return Ok(context);
        }
        match self.open_world().await {
            Ok(context) => Ok(*world.insert(context)),
            Err(Missed::Moved) => Err(unexpected("the page is moving".to_owned())),
            Err(Missed::Threw(words)) => Err(thrown(&words)),
            Err(Missed::Failed(error)) => Err(error),
        }
    }

    /// Gives up a world that has gone.
    pub(super) async fn forget(&self, gone: u32) {
        let mut world = self.world.lock().await;
        *world = world.filter(|context| *context != gone);
    }

    async fn open_world(&self) -> Result<u32, Missed> {
        let method = Page::CreateIsolatedWorld {
            frame_id: self.frame.clone(),
            world_name: Some("nightporter".into()),
            grant_univeral_access: None,
        };
        let made = self.session.call(method).await.map_err(sort)?;
        let open = format!("void (globalThis.porter ??= Object.freeze({{ ...{EYES}, ...{CALLS} }}))");
        self.evaluate(open, made.execution_context_id).await?;
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

/// The value of an expression in the world `world` of `session`; never tried twice.
pub(super) async fn run<T: DeserializeOwned>(
    session: &Session,
    world: u32,
    expression: &str,
    limit: Duration,
) -> Result<T, Lost> {
    let answer = match session.call_within(limit, wire::evaluate(expression.to_owned(), world)).await {
        Ok(answer) => answer,
        Err(error) if is_before(&error) => return Err(Lost::Before("the page has just gone".to_owned())),
        Err(error) => return Err(Lost::Within(error.to_string())),
    };
    if let Some(thrown) = answer.exception_details {
        return Err(Lost::Within(words_of(thrown)));
    }
    serde_json::from_value(answer.result.value.unwrap_or_default()).map_err(|error| Lost::Within(error.to_string()))
}

/// Whether the browser refused because the world had gone already.
fn is_before(error: &BrowserError) -> bool {
    matches!(error, BrowserError::Protocol { detail, .. } if detail.contains(MOVED[0]))
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

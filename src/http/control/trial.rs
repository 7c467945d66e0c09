//! A recipe that is tried on the command line: its login comes out of the account's budget, and the portal's phone is lent to
//! it. The answer is a line of JSON for each thing that happens, because a login takes its time.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::Control;
use crate::http::json::Json;
use crate::http::params::Path;
use crate::http::problem::Problem;
use crate::portals::inbox::Turn;
use crate::portals::portal::Portal;
use crate::portals::recipe::Recipe;

/// What is tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// The text of the recipe.
    pub recipe: String,
}

/// What happens, a line each. `Code` is the last, or `NoPhone`, or `NoCode`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// The login was taken out of the budget.
    Counted {
        /// Logins that are left in this hour.
        left: u32,
    },
    /// The phone's next code is for this login.
    Listening {
        /// The phone.
        phone: String,
    },
    /// Nothing is lent: the portal has no phone, the recipe needs none, or others use it.
    NoPhone {
        /// Why, in words.
        why: String,
    },
    /// The code. Whoever gets it lets nobody else see it.
    Code {
        /// It.
        code: String,
    },
    /// None came.
    NoCode {
        /// Why, in words.
        why: String,
    },
}

/// How far it has come.
enum Stage {
    Counted(u32),
    Queueing,
    Listening(Box<Turn>),
    Over,
}

pub(super) async fn begin(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(tried): Json<Tried>,
) -> Result<Response, Problem> {
    let portal = control.0.reach.api.portal(&name)?;
    let recipe = Recipe::parse(&tried.recipe, std::path::Path::new("recipe"))
        .map_err(|error| Problem::unprocessable("invalid_field", error.to_string()).field("recipe"))?;
    let left = portal.count_trial().await?;
    tracing::info!(portal = name, "portal {name}: an operator tries a recipe on the command line");
    let lines = stream::unfold((portal, recipe, Stage::Counted(left)), |(portal, recipe, stage)| async move {
        let (told, next) = step(&portal, &recipe, stage).await?;
        let mut line = serde_json::to_vec(&told).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), (portal, recipe, next)))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn step(portal: &Portal, recipe: &Recipe, stage: Stage) -> Option<(Told, Stage)> {
    let none = |why: String| (Told::NoPhone { why }, Stage::Over);
    Some(match stage {
        Stage::Over => return None,
        Stage::Counted(left) => (Told::Counted { left }, Stage::Queueing),
        Stage::Queueing => match portal.lend_phone(recipe).await {
            Ok(Some(turn)) => {
                let phone = portal.phone_names().join(", ");
                (Told::Listening { phone }, Stage::Listening(Box::new(turn)))
            }
            Ok(None) => none("no phone is needed".to_owned()),
            Err(error) => none(error.to_string()),
        },
        Stage::Listening(mut turn) => match portal.lent_code(&mut turn, recipe).await {
            Ok(code) => (Told::Code { code: code.secret.expose().to_owned() }, Stage::Over),
            Err(error) => (Told::NoCode { why: error.to_string() }, Stage::Over),
        },
    })
}

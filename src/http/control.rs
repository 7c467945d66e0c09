//! The control socket: what the command line asks of the running server, over a Unix socket in the store's directory.
//!
//! The kernel vouches for who is at the other end; only our own user and root are heard. It is HTTP like everything
//! else, served by the same server, but on a router of its own that no network reaches.

pub mod audit;
mod snapshot;
pub mod socket;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;

use super::client::Peer;
use super::health::Readiness;
use super::json::Json;
use super::params::Path;
use super::portals::Api;
use super::problem::Problem;
use crate::accounts::Accounts;
use crate::accounts::audit::What;
use crate::alerts::{Alerts, Tried};
use crate::clock::{Clock, Stopwatch, Time};
use crate::operators::{OperatorError, Operators, Scope, Token};
use crate::portals::portal::Portal;
use crate::store::Store;

/// What the control routes tell and change.
#[derive(Clone, Debug)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    reach: Reach,
    place: Place,
    started_at: Time,
    since: Stopwatch,
}

/// Where the server is to be found.
#[derive(Clone, Debug)]
pub struct Place {
    /// The API's own address, `http://127.0.0.1:8080`.
    pub url: String,
    /// The separate listener for `/metrics`, if there is one.
    pub metrics_url: Option<String>,
    /// The store's directory.
    pub store: PathBuf,
}

/// How the server is doing, for `nightporter status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The server's process id.
    pub pid: u32,
    /// The API's own address.
    pub url: String,
    /// The separate listener for `/metrics`, if there is one.
    pub metrics_url: Option<String>,
    /// The store's directory.
    pub store: PathBuf,
    /// When the process started.
    pub started_at: Time,
    /// Whole seconds since the start.
    pub uptime_seconds: u64,
    /// Whether all parts are ready.
    pub ready: bool,
    /// Each part: `ready`, or why it is not.
    pub parts: BTreeMap<String, String>,
    /// Each portal's state, as in the API.
    pub portals: BTreeMap<String, String>,
}

/// What a new token shall be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    /// How long it lives, in seconds; for good without it.
    pub lifetime_seconds: Option<u64>,
}

/// A token that was just made.
#[derive(Clone, Serialize, Deserialize)]
pub struct MadeToken {
    /// What the bearer sends. It is shown this once.
    pub token: String,
    /// Everything else about it.
    #[serde(flatten)]
    pub about: Token,
}

/// The live tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    /// By name.
    pub tokens: Vec<Token>,
}

/// How every channel took the test message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tries {
    /// In the order of the configuration.
    pub tries: Vec<Tried>,
}

/// What the control routes work with.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Tokens are made and revoked here.
    pub operators: Operators,
    /// Which parts are not ready.
    pub readiness: Readiness,
    /// How the portals are doing, and what may be wished for.
    pub api: Api,
    /// How flows are doing, and what may be tried again.
    pub flows: super::flows::Api,
    /// Whose audit log is looked at, and whose keys are changed.
    pub accounts: Accounts,
    /// What operators see of the users, and do about them.
    pub users: super::users::Api,
    /// Test alerts go out here.
    pub alerts: Alerts,
    /// What snapshots are taken of.
    pub store: Store,
}

impl Control {
    /// Control over a server that starts now.
    pub fn new(reach: Reach, place: Place, clock: &Clock) -> Self {
        let (started_at, since) = (clock.now(), Stopwatch::start());
        Self(Arc::new(Shared { reach, place, started_at, since }))
    }

    /// The routes, closed to every user but our own and root.
    pub fn routes(self) -> OpenApiRouter {
        let portals = self.0.reach.api.clone().unguarded();
        let flows = self.0.reach.flows.clone().unguarded();
        let users = self.0.reach.users.clone().unguarded();
        let routes = OpenApiRouter::new()
            .route("/status", axum::routing::get(status))
            .route("/tokens", axum::routing::get(tokens).post(add_token))
            .route("/tokens/{token}", axum::routing::delete(revoke_token))
            .route("/alerts/test", axum::routing::post(test_alert))
            .route("/snapshot", axum::routing::post(snapshot::take))
            .route("/portals/{portal}/trial", axum::routing::post(trial::begin))
            .merge(audit::routes().into())
            .with_state(self);
        guard(routes.merge(portals).merge(flows).merge(users))
    }
}

/// Closes `routes` to every peer but our own user and root; also to peers that did not come through a Unix socket.
pub fn guard(routes: OpenApiRouter) -> OpenApiRouter {
    routes.layer(middleware::from_fn(only_our_own))
}

async fn only_our_own(request: Request, next: Next) -> Response {
    let ours = rustix::process::geteuid().as_raw();
    match request.extensions().get::<Peer>() {
        Some(Peer::Unix { uid, .. }) if *uid == ours || *uid == 0 => next.run(request).await,
        peer => {
            tracing::warn!(?peer, "the control socket refused {peer:?}: neither our own user nor root");
            Problem::forbidden("not_the_owner", "Only the server's own user and root may use its control socket.")
                .into_response()
        }
    }
}

async fn status(State(control): State<Control>) -> Result<Json<Status>, Problem> {
    let shared = &control.0;
    let portal = |portal: &Portal| Ok::<_, Problem>((portal.name().to_owned(), portal.view()?.state.to_owned()));
    let portals = shared.reach.api.portals.all().iter().map(portal).collect::<Result<_, _>>()?;
    let asked = shared.reach.readiness.ask();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        url: shared.place.url.clone(),
        metrics_url: shared.place.metrics_url.clone(),
        store: shared.place.store.clone(),
        started_at: shared.started_at,
        uptime_seconds: shared.since.elapsed().as_secs(),
        ready: asked.values().all(Option::is_none),
        parts: asked.into_iter().map(|(name, reason)| (name, reason.unwrap_or_else(|| "ready".to_owned()))).collect(),
        portals,
    }))
}

async fn test_alert(State(control): State<Control>) -> Json<Tries> {
    Json(Tries { tries: control.0.reach.alerts.test().await })
}

async fn tokens(State(control): State<Control>) -> Result<Json<Tokens>, Problem> {
    Ok(Json(Tokens { tokens: control.0.reach.operators.list().await.map_err(problem)? }))
}

async fn add_token(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let lifetime = new.lifetime_seconds.map(Duration::from_secs);
    let added = control.0.reach.operators.add(&new.name, new.scopes, lifetime).await.map_err(problem)?;
    note(&control, peer, What::TokenAdded, &added.token).await?;
    tracing::info!(token = added.token.id, "token {} ({}) was made", added.token.name, added.token.id);
    Ok((StatusCode::CREATED, Json(MadeToken { token: added.text.expose().to_owned(), about: added.token })))
}

async fn revoke_token(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    Path(token): Path<String>,
) -> Result<Json<Token>, Problem> {
    let revoked = control.0.reach.operators.revoke(&token).await.map_err(problem)?;
    note(&control, peer, What::TokenRevoked, &revoked).await?;
    tracing::info!(token = revoked.id, "token {} ({}) was revoked", revoked.name, revoked.id);
    Ok(Json(revoked))
}

/// Notes what an operator has done about `token`.
async fn note(control: &Control, peer: Peer, what: What, token: &Token) -> Result<(), Problem> {
    let detail = format!("{} ({})", token.name, token.id);
    let noted = control.0.reach.accounts.note_operator(audit::operator(peer), what, detail).await;
    noted.map_err(|error| Problem::store(&error, "the audit log could not be written"))
}

fn problem(error: OperatorError) -> Problem {
    let detail = error.to_string();
    match error {
        OperatorError::InvalidName => Problem::unprocessable("invalid_field", detail).field("name"),
        OperatorError::NoScope => Problem::unprocessable("invalid_field", detail).field("scopes"),
        OperatorError::TooShort => Problem::unprocessable("invalid_field", detail).field("lifetime_seconds"),
        OperatorError::NameTaken(_) => Problem::conflict("name_taken", detail),
        OperatorError::TooMany => Problem::conflict("too_many_tokens", detail),
        OperatorError::Busy => Problem::conflict("busy", detail),
        OperatorError::Unknown(_) => Problem::not_found("unknown_token", detail),
        OperatorError::Store(error) => Problem::store(&error, "the tokens could not be read or changed"),
    }
}

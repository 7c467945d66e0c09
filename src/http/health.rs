//! Whether the process answers, and whether it is ready for work: `/livez`, `/readyz`, `/api/health`. Asks each part,
//! judges none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::json::Json;
use super::problem::Problem;
use crate::clock::{Clock, Stopwatch, Time};

type Probe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The parts that must be ready, by name; clones share them.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<String, Probe>>>);

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readiness")
    }
}

impl Readiness {
    /// Adds a part, or replaces the one of that name. `probe` answers at once, from what it already knows, and says why
    /// the part is not ready in words that a stranger may read.
    pub fn part(&self, name: &str, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Box::new(probe));
    }

    /// Every part by name, with the reason why it is not ready, if it is not.
    pub fn ask(&self) -> BTreeMap<String, Option<String>> {
        let parts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(name, probe)| (name.clone(), probe().err())).collect()
    }
}

/// What the health routes tell.
#[derive(Clone, Debug)]
pub struct Health {
    readiness: Readiness,
    started_at: Time,
    since: Stopwatch,
}

impl Health {
    /// A process that starts now.
    pub fn new(readiness: Readiness, clock: &Clock) -> Self {
        Self { readiness, started_at: clock.now(), since: Stopwatch::start() }
    }

    /// `/livez`, `/readyz` and `/api/health`, open to anyone.
    pub fn routes(self) -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).routes(routes!(health)).with_state(self)
    }
}

/// A status word.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// `ok`.
    status: &'static str,
}

/// How the process is doing.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthReport {
    /// `ok`, or `not_ready` while a part is not.
    #[schema(example = "ok")]
    status: &'static str,
    /// Whether the process answers; it just did.
    live: bool,
    /// Whether all parts are ready.
    ready: bool,
    /// Each part: `ready`, or why it is not.
    parts: BTreeMap<String, String>,
    /// The program's version.
    version: &'static str,
    /// Whole seconds since the start.
    uptime_seconds: u64,
    /// When the process started, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    started_at: Time,
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "It does", body = Status)))]
async fn livez() -> Json<Status> {
    Json(Status { status: "ok" })
}

/// All parts are ready for work.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "They are", body = Status),
        (status = 503, description = "`not_ready`: `parts` names those that are not, and why",
            body = super::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn readyz(State(health): State<Health>) -> Result<Json<Status>, Problem> {
    let waiting: Map<String, Value> = health
        .readiness
        .ask()
        .into_iter()
        .filter_map(|(name, reason)| reason.map(|reason| (name, Value::String(reason))))
        .collect();
    if waiting.is_empty() {
        return Ok(Json(Status { status: "ok" }));
    }
    let names = waiting.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(Problem::unavailable("not_ready", format!("Not ready: {names}."), Duration::from_secs(1))
        .with("parts", waiting))
}

/// Both as JSON, with version and uptime. Always 200 when the process answers: ask `/readyz` for a status code.
#[utoipa::path(
    get,
    path = "/api/health",
    tag = "health",
    responses((status = 200, description = "The report", body = HealthReport))
)]
async fn health(State(health): State<Health>) -> Json<HealthReport> {
    let asked = health.readiness.ask();
    let ready = asked.values().all(Option::is_none);
    Json(HealthReport {
        status: if ready { "ok" } else { "not_ready" },
        live: true,
        ready,
        parts: asked.into_iter().map(|(name, reason)| (name, reason.unwrap_or_else(|| "ready".to_owned()))).collect(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: health.since.elapsed().as_secs(),
        started_at: health.started_at,
    })
}

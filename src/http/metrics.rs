//! Prometheus metrics: the process's recorder, the page that shows it, and the request numbers. Domains count what happens
//! in them with the `metrics` macros; what each name means stands here. Labels are drawn from
//! closed sets only (route templates, known methods, statuses): a client must not be able to make new series.

mod portals;

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ::metrics::{Counter, Histogram};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock;
use crate::lifecycle::Lifecycle;
use crate::portals::Portals;

const SECONDS: &str = "nightporter_http_request_seconds";
const REQUESTS: &str = "nightporter_http_requests_total";

/// What domains count, and what it means.
const COUNTERS: [(&str, &str); 9] = [
    (
        "nightporter_relay_calls_total",
        "Relayed calls by portal and outcome: ok, resent (the session had expired), parked (no session, then one), cached, \
         no_live_session, in_doubt, unreachable, session_expired, refused, failed, caller_gone",
    ),
    ("nightporter_relay_limited_total", "Calls refused with 429, by reason: per_minute or concurrency"),
    ("nightporter_logins_total", "Logins by portal and outcome: ok, or the cause of the failure"),
    ("nightporter_store_refused_total", "Changes refused because the disk is nearly full"),
    ("nightporter_sms_total", "Messages by phone and outcome: handed, buffered, or why one was of no use"),
    ("nightporter_snapshots_total", "Snapshots by the clock, by outcome: ok or failed"),
    ("nightporter_restore_drills_total", "Restores of the newest snapshot for trial, by outcome: ok or failed"),
    (
        "nightporter_flow_transitions_total",
        "Transitions asked for, by flow, transition and outcome: ok, illegal, running (another's call is under way), \
         provider_failed, refused, failed",
    ),
    (
        "nightporter_flow_calls_total",
        "Attempts of providers' calls, by flow and outcome: ok, or the cause of the failure",
    ),
];
/// What domains show, and what it means.
const GAUGES: [(&str, &str); 6] = [
    ("nightporter_store_free_bytes", "Bytes that the store's disk has free"),
    ("nightporter_flows", "Flows by flow and state, counted every minute"),
    ("nightporter_flow_queue", "Flows with work in the background that wait for a worker or for their time"),
    ("nightporter_browser_contexts", "Contexts that a browser holds, by its own word"),
    (
        "nightporter_snapshot_last_success_timestamp_seconds",
        "When the newest snapshot by the clock was taken, in Unix time",
    ),
    (
        "nightporter_restore_drill_last_success_timestamp_seconds",
        "When a snapshot was last restored for trial and found equal, in Unix time",
    ),
];
const RELAY_SECONDS: &str = "nightporter_relay_seconds";

/// Histogram bounds in seconds: from a jar relay on loopback to a request parked for its full thirty seconds.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// How often samples are folded into their buckets, so that they do not pile up while nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
static INSTALLING: Mutex<()> = Mutex::new(());

/// The process's metrics; everything recorded with the `metrics` macros.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Makes the process's recorder, the first time; later calls give the same one.
    ///
    /// # Errors
    /// When something else has installed a recorder.
    pub fn install() -> Result<Self, BuildError> {
        // In line: between installing and remembering, a second caller would take the first one for a stranger.
        let _in_line = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = RECORDER.get() {
            return Ok(Self(handle.clone()));
        }
        let builder =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?;
        let handle = builder.install_recorder()?;
        let handle = RECORDER.get_or_init(|| handle).clone();
        ::metrics::describe_counter!(REQUESTS, "Requests answered, by route, method and status");
        ::metrics::describe_histogram!(SECONDS, "Seconds from a request's head to its answer's head");
        for (name, meaning) in COUNTERS {
            ::metrics::describe_counter!(name, meaning);
        }
        for (name, meaning) in GAUGES {
            ::metrics::describe_gauge!(name, meaning);
        }
        ::metrics::describe_histogram!(
            RELAY_SECONDS,
            "Seconds from a relayed call's head to its answer's head, by portal"
        );
        Ok(Self(handle))
    }

    /// Keeps the recorder's memory bounded for as long as the process lives.
    pub fn keep_up(&self, life: &Lifecycle) {
        let handle = self.0.clone();
        let stop = life.stopping();
        life.supervise("metrics upkeep", async move {
            while clock::within(UPKEEP, stop.cancelled()).await.is_err() {
                handle.run_upkeep();
            }
        });
    }

    /// `/metrics`, the state of `portals` included where there are any. Who may read it is the caller's business: layer the
    /// check around these routes.
    pub fn routes(self, portals: Option<Portals>) -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(page)).with_state((self, portals))
    }
}

/// All metrics in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    security(("operator" = ["metrics"])),
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
async fn page(State((metrics, portals)): State<(Metrics, Option<Portals>)>) -> Response {
    let page = metrics.0.render() + &portals.as_ref().map(portals::page).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

/// Counts one answered request.
pub(super) fn count(method: &str, route: &str, status: u16, elapsed: Duration) {
    let method = match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    };
    let numbers = SERIES.read().unwrap_or_else(PoisonError::into_inner).of(method, route, status);
    let Numbers { requests, seconds } = numbers.unwrap_or_else(|| {
        let numbers = Numbers::new(method, route, status);
        // Before there is a recorder, numbers go nowhere and must not be kept.
        if RECORDER.get().is_some() {
            SERIES.write().unwrap_or_else(PoisonError::into_inner).keep(method, route, status, &numbers);
        }
        numbers
    });
    requests.increment(1);
    seconds.record(elapsed.as_secs_f64());
}

/// What the recorder has for each route, method and status that was answered: to ask it for them takes longer than to count.
static SERIES: RwLock<Series> = RwLock::new(Series(BTreeMap::new()));

struct Series(BTreeMap<(&'static str, u16), BTreeMap<String, Numbers>>);

#[derive(Clone)]
struct Numbers {
    requests: Counter,
    seconds: Histogram,
}

impl Numbers {
    fn new(method: &'static str, route: &str, status: u16) -> Self {
        let (route, status) = (route.to_owned(), status.to_string());
        let requests = ::metrics::counter!(REQUESTS, "method" => method, "route" => route.clone(), "status" => status);
        Self { requests, seconds: ::metrics::histogram!(SECONDS, "method" => method, "route" => route) }
    }
}

impl Series {
    fn of(&self, method: &'static str, route: &str, status: u16) -> Option<Numbers> {
        self.0.get(&(method, status))?.get(route).cloned()
    }

    fn keep(&mut self, method: &'static str, route: &str, status: u16, numbers: &Numbers) {
        self.0.entry((method, status)).or_default().insert(route.to_owned(), numbers.clone());
    }
}

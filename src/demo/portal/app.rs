//! The portal's single-page app at `/app`: no cookie, a bearer token in `sessionStorage` that is gone with its tab.
//! Behind it are the same book and the same orders; the token opens `/api` where the pages' cookie would.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Site;
use super::book::{CodeVerdict, PasswordVerdict, Stage};
use crate::secret::Secret;

pub(super) fn routes(site: &Site) -> Router {
    Router::new()
        .route("/app", get(async |State(site): State<Site>| site.pages().app()))
        .route("/app/login", post(login))
        .route("/app/code/send", post(send_code))
        .route("/app/code", post(enter_code))
        .with_state(site.clone())
}

/// What the app sends; each call sends some.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    user: String,
    #[serde(default)]
    pass: String,
    #[serde(default)]
    step: String,
    #[serde(default)]
    code: String,
}

fn refused(error: &str) -> Response {
    let says: Value = json!({"ok": false, "error": error});
    (StatusCode::FORBIDDEN, Json(says)).into_response()
}

async fn login(State(site): State<Site>, Json(entry): Json<Entry>) -> Response {
    let (password, now) = (Secret::new(entry.pass), site.0.clock.now());
    if site.book(|book| book.password(&entry.user, &password, now)) != PasswordVerdict::Accepted {
        return refused("bad_credentials");
    }
    let (step, _) = site.welcome(None, Stage::PasswordAccepted { user: entry.user });
    Json(json!({"ok": true, "step": step})).into_response()
}

async fn send_code(State(site): State<Site>, Json(entry): Json<Entry>) -> Response {
    if site.send_code(&entry.step) { Json(json!({"ok": true})).into_response() } else { refused("login_required") }
}

async fn enter_code(State(site): State<Site>, Json(entry): Json<Entry>) -> Response {
    let now = site.0.clock.now();
    let refuse = site.book(|book| book.expects(&entry.step, &entry.code)) && site.refuse_next_code();
    if site.book(|book| book.code(&entry.step, &entry.code, refuse, now)) != CodeVerdict::Accepted {
        return refused("code_rejected");
    }
    let stage = site.book(|book| book.visit(&entry.step).map(|visit| visit.stage.clone()));
    match stage.and_then(|stage| site.make_member(&entry.step, &stage)) {
        Some((token, csrf)) => Json(json!({"ok": true, "access_token": token, "csrf": csrf})).into_response(),
        None => refused("login_required"),
    }
}

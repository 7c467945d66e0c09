//! A portal with an authenticator app in place of SMS: the recipe's `totp` step on real Chromium, without a phone.

use std::time::Duration;

use axum::extract::Form;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::get;
use axum::{Json, Router};
use nightporter::app::{self, App, Setup};
use nightporter::clock::{self, Clock};
use nightporter::config::Sources;
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::secret;
use serde_json::json;

const KEY: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const PATIENCE: Duration = Duration::from_secs(90);

/// The portal's own reckoning of RFC 6238, `ago` steps back.
fn expected(ago: u64) -> String {
    let counter = Clock::system().now().as_millis() / 30_000 - ago;
    let tag = secret::hmac_sha1(&secret::base32(KEY).unwrap(), &counter.to_be_bytes());
    let at = usize::from(tag[19] % 16);
    let number = u32::from_be_bytes([tag[at], tag[at + 1], tag[at + 2], tag[at + 3]]) % (1 << 31);
    format!("{:06}", number % 1_000_000)
}

#[derive(serde::Deserialize)]
struct Typed {
    otp: String,
}

async fn enter(Form(typed): Form<Typed>) -> impl IntoResponse {
    // Typed in one step and received in the next is right too.
    if [expected(0), expected(1)].contains(&typed.otp) {
        ([(header::SET_COOKIE, "SID=1; Path=/; HttpOnly")], Redirect::to("/home")).into_response()
    } else {
        Html("<p class=error>wrong code</p>").into_response()
    }
}

async fn me(headers: HeaderMap) -> impl IntoResponse {
    let known = headers.get(header::COOKIE).is_some_and(|cookie| cookie == "SID=1");
    if known { Ok(Json(json!({"ok": true}))) } else { Err(StatusCode::UNAUTHORIZED) }
}

fn portal() -> Router {
    let form = "<form method=post action=/login><input id=otp name=otp><button id=go>go</button></form>";
    Router::new()
        .route("/login", get(move || async move { Html(form) }).post(enter))
        .route("/home", get(|| async { Html("<p id=account>shop</p>") }))
        .route("/me", get(me))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authenticator_code_logs_in_without_a_phone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async move { axum::serve(listener, portal()).await };
    let recipe = format!(
        r##"base_url = "http://{address}"
        [login]
        steps = [
          {{ goto = "/login" }},
          {{ totp = "#otp" }},
          {{ click = "#go" }},
          {{ branch = [ {{ if = "#account", next = "done" }}, {{ if = ".error", fail = "code_rejected" }} ] }},
          {{ label = "done" }},
          {{ wait_for = "#account" }},
        ]
        [check]
        request = {{ path = "/me" }}
        alive = {{ status = [200], json = {{ "/ok" = true }} }}
        expired = [ {{ status = [401] }} ]
        "##
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("recipe.toml"), recipe).unwrap();
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[portals.acme]\nrecipe = \"recipe.toml\"\nusername = \"shop\"\n\
         password = \"x\"\nsessions = \"single\"\ntotp_secret = \"{KEY}\"\n[store]\nurl = \"sled:store\"\n"
    );
    std::fs::write(dir.path().join("nightporter.toml"), config).unwrap();
    let sources = Sources { file: Some(dir.path().join("nightporter.toml")), ..Sources::default() };
    let setup = Setup {
        config: app::load(&sources).unwrap_or_else(|error| panic!("{error}")),
        sources,
        clock: Clock::system(),
        random: Random::seeded(1),
        metrics: Metrics::install().unwrap(),
        log: None,
    };
    let app = App::start(setup).await.unwrap();
    let kept = app.parts().portals.get("acme").unwrap();
    let live = async {
        while kept.view().unwrap().state != "live" {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = serving => panic!("the portal ended"),
        waited = clock::within(PATIENCE, live) => waited.unwrap_or_else(|_| panic!("{:?}", kept.events())),
    }
    assert!(app.stop(PATIENCE).await);
}

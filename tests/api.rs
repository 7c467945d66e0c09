//! `/openapi.json` kept true: what it describes exists, behind the scope it names, and answers as it says; and what
//! exists is described.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

mod api {
    pub(crate) mod document;
    pub(crate) mod flows;
    mod phones;
    pub(crate) mod sessions;
}
#[path = "relay/house.rs"]
mod house;
#[path = "relay/mirror.rs"]
mod mirror;

use std::collections::BTreeSet;

use api::document::{Document, Operation};
use house::{Running, held, token};
use mirror::Mirror;
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::{Value, json};

/// Every route of the doors that clients know; a route that comes or goes comes or goes here too.
const ROUTES: [&str; 76] = [
    "DELETE /api/auth/sessions/{id}",
    "GET /.well-known/jwks.json",
    "GET /api/auth/me",
    "GET /api/auth/sessions",
    "POST /api/auth/logout",
    "POST /api/auth/logout-all",
    "POST /api/auth/refresh",
    "POST /api/auth/password/change",
    "POST /api/auth/register",
    "POST /api/auth/resend",
    "POST /api/auth/verify-registration",
    "POST /api/auth/login",
    "POST /api/auth/login/verify",
    "POST /api/auth/password/forgot",
    "POST /api/auth/password/reset",
    "GET /api/flows",
    "GET /api/flows/{flow}",
    "GET /api/flows/{flow}/{id}",
    "GET /api/flows/{flow}/{id}/events",
    "DELETE /api/flows/{flow}/{id}",
    "PATCH /api/flows/{flow}/{id}",
    "POST /api/flows/{flow}",
    "POST /api/flows/{flow}/{id}/messages",
    "POST /api/flows/{flow}/{id}/retry",
    "POST /api/flows/{flow}/{id}/{transition}",
    "GET /api/health",
    "GET /api/phones",
    "GET /api/phones/{phone}",
    "GET /api/portals",
    "GET /api/portals/{portal}",
    "GET /api/portals/{portal}/events",
    "GET /api/portals/{portal}/evidence",
    "GET /api/portals/{portal}/evidence/{id}/page",
    "GET /api/portals/{portal}/evidence/{id}/picture",
    "GET /api/portals/{portal}/relay/",
    "GET /api/portals/{portal}/relay/{path}",
    "GET /api/portals/{portal}/screenshot",
    "GET /api/portals/{portal}/sessions/{id}",
    "GET /api/users",
    "GET /api/users/{id}",
    "GET /api/users/{id}/export",
    "DELETE /api/users/{id}",
    "POST /api/users/find",
    "POST /api/users/unban",
    "POST /api/users/{id}/disable",
    "POST /api/users/{id}/enable",
    "POST /api/users/{id}/reset",
    "GET /api/sessions/{space}",
    "GET /api/sessions/{space}/changes",
    "GET /api/sessions/{space}/{id}",
    "GET /livez",
    "GET /metrics",
    "GET /readyz",
    "POST /api/phones/{phone}/sms",
    "POST /api/portals/{portal}/code",
    "POST /api/portals/{portal}/failover",
    "POST /api/portals/{portal}/pause",
    "POST /api/portals/{portal}/reauth",
    "POST /api/portals/{portal}/resume",
    "POST /api/sessions/{space}",
    "POST /api/sessions/{space}/{id}/touch",
    "DELETE /api/sessions/{space}/{id}",
    "PATCH /api/sessions/{space}/{id}",
    "PUT /api/sessions/{space}/{id}",
    "DELETE /api/portals/{portal}/relay/",
    "DELETE /api/portals/{portal}/relay/{path}",
    "HEAD /api/portals/{portal}/relay/",
    "HEAD /api/portals/{portal}/relay/{path}",
    "OPTIONS /api/portals/{portal}/relay/",
    "OPTIONS /api/portals/{portal}/relay/{path}",
    "PATCH /api/portals/{portal}/relay/",
    "PATCH /api/portals/{portal}/relay/{path}",
    "POST /api/portals/{portal}/relay/",
    "POST /api/portals/{portal}/relay/{path}",
    "PUT /api/portals/{portal}/relay/",
    "PUT /api/portals/{portal}/relay/{path}",
];

/// Answers that the document promises and that cannot be had from a sound server without a browser or a long wait; what
/// stands behind them is tested where it lives.
fn out_of_reach(operation: &Operation, status: &str) -> bool {
    let path = operation.path.as_str();
    let relayed = path.contains("/relay/");
    if path.starts_with("/api/flows") {
        // A request that is still running, 16 MiB of messages, 384 readers of one token, and routes with nothing to get wrong.
        let running = status == "409" && (path == "/api/flows/{flow}" || path.ends_with("/messages"));
        let bare = status == "400" && !operation.sends_body() && !path.ends_with("/events");
        return running || bare || matches!(status, "408" | "429" | "500" | "503" | "507");
    }
    if path.starts_with("/api/users") {
        // They need users, who need a mail server: tests/accounts.rs has both.
        return !matches!(status, "401" | "403");
    }
    if path.starts_with("/api/auth/") {
        // They need a mail server: tests/accounts.rs has one.
        return true;
    }
    if path.starts_with("/api/sessions/") {
        // A creation that is still running, a space with a million records, and 576 readers of one token.
        return matches!(status, "408" | "409" | "429" | "500" | "503" | "507");
    }
    match status {
        // The last: a full disk.
        "408" | "500" | "507" => true,
        // A path, a query and a body are needed to get them wrong.
        "400" => !operation.sends_body() && !relayed && !path.contains("/sessions/") && !path.ends_with("/screenshot"),
        "413" | "415" | "422" => !path.ends_with("/code"),
        "200" => path.ends_with("/screenshot") || path.contains("/evidence/"),
        "202" => path.ends_with("/code"),
        "503" => path == "/readyz" || relayed,
        "404" | "409" | "429" | "501" | "502" if relayed => true,
        _ => false,
    }
}

async fn document(running: &Running) -> Document {
    let answer = running.client.get(running.url("/openapi.json")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    Document::new(answer.json().await.unwrap())
}

/// Sends a request; checks the answer against the document and notes that it occurred.
async fn ask(
    running: &Running,
    document: &Document,
    operation: &Operation,
    target: &str,
    dress: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
) -> (u16, Value) {
    let method: Method = operation.method.parse().unwrap();
    let answer = dress(running.client.request(method, running.url(target))).send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    // A stream of events has no end that could be waited for.
    let body = if kind == "text/event-stream" { bytes::Bytes::new() } else { answer.bytes().await.unwrap() };
    let told = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let what = format!("{} {target} answered {status} {kind} {told}", operation.method);
    let problem = kind == "application/problem+json";
    if status >= 400 && operation.method != "HEAD" {
        assert!(problem, "{what}");
        assert_eq!(told["request_id"], headers["x-request-id"].to_str().unwrap(), "{what}");
        for member in ["type", "title", "status", "detail", "code", "request_id"] {
            assert!(!told[member].is_null(), "{what}: no {member}");
        }
        assert_eq!(told["status"], status, "{what}");
        let code = told["code"].as_str().unwrap();
        assert!(code.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{what}");
        assert!(!["not_found", "method_not_allowed"].contains(&code), "{what}: there is no such route");
    }
    assert!(headers.contains_key("x-request-id"), "{what}");
    assert_eq!(status == 401, headers.contains_key("www-authenticate") && status != 403, "{what}");
    document.check(operation, status, &kind, &told, &what);
    (status, told)
}

fn target(operation: &Operation) -> String {
    operation
        .path
        .replace("{portal}", "vroong")
        .replace("{phone}", "office")
        .replace("{id}", "a")
        .replace("{path}", "x")
        .replace("{space}", "shop")
        .replace("{flow}", "verify")
        .replace("{transition}", "skip")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_nothing_else() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let document = document(&running).await;
    let described: BTreeSet<_> =
        document.operations().iter().map(|operation| format!("{} {}", operation.method, operation.path)).collect();
    assert_eq!(described, ROUTES.iter().map(|route| (*route).to_owned()).collect());
    // A route that is registered by hand would be missed by the document; only the document itself is.
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    for file in [
        "accounts.rs",
        "accounts/login.rs",
        "accounts/passwords.rs",
        "accounts/registration.rs",
        "phones.rs",
        "portals.rs",
        "relay.rs",
        "health.rs",
        "metrics.rs",
        "sessions.rs",
        "feed.rs",
        "flows.rs",
        "users.rs",
    ] {
        let text = std::fs::read_to_string(sources.join(file)).unwrap();
        assert!(!text.contains(".route("), "{file} registers a route that nobody describes");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scope_that_is_named_is_needed() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let document = document(&running).await;
    let other = token(&running.app, "other", &[Scope::Sms]).await;
    for operation in document.operations() {
        let (nobody, _) = ask(&running, &document, &operation, &target(&operation), |request| request).await;
        let (stranger, told) =
            ask(&running, &document, &operation, &target(&operation), |request| request.bearer_auth(&other)).await;
        match operation.scope() {
            Some(scope) => {
                assert_eq!((nobody, stranger), (401, 403), "{operation:?}");
                assert!(operation.method == "HEAD" || told["scope"] == scope.as_str(), "{operation:?}: {told}");
            }
            // A phone proves itself in its own way.
            None if operation.path.ends_with("/sms") => assert_eq!((nobody, stranger), (401, 401)),
            // An operator is no user, and what makes one a user needs a body.
            None if operation.path.starts_with("/api/auth/") => {
                let needs_token = operation.is_for_users() || operation.path.ends_with("/refresh");
                let refused = if needs_token { 401 } else { 415 };
                assert_eq!((nobody, stranger), (refused, refused), "{operation:?}");
            }
            None => assert_eq!((nobody, stranger), (200, 200), "{operation:?}"),
        }
    }
    assert_eq!(mirror.count(), 0);
    running.stop().await;
}

/// What to send to get the answers that can be had: targets, and JSON bodies.
fn provocations(operation: &Operation) -> Vec<(String, Option<String>)> {
    let plain = target(operation);
    let unknown = plain.replace("vroong", "unknown").replace("office", "unknown");
    let (code, phone) = (operation.path.ends_with("/code"), operation.path.ends_with("/sms"));
    let body = match (code, phone) {
        (true, _) => Some(r#"{"code":"123456"}"#.to_owned()),
        (_, true) => Some(r#"{"from":"1","text":"x"}"#.to_owned()),
        _ => None,
    };
    let mut all = vec![(plain.clone(), body.clone()), (unknown, body)];
    if code {
        let wrong = [r#"{"code":1}"#, r#"{"code":"1","code":"2"}"#, "no JSON"].map(str::to_owned);
        let huge = format!("{{\"code\":\"{}\"}}", "x".repeat(2 << 20));
        all.extend(wrong.into_iter().chain([huge]).map(|body| (plain.clone(), Some(body))));
        all.push((plain.clone(), None));
    }
    if phone {
        all.push((plain.clone(), Some("{}".to_owned())));
    }
    if operation.path.contains("/sessions/{id}") {
        all.extend([(format!("{plain}?fallback=perhaps"), None), (format!("{plain}one?fallback=false"), None)]);
    }
    if operation.path.ends_with("/screenshot") {
        all.extend([(format!("{plain}?slot=third"), None), (format!("{plain}?slot=standby"), None)]);
    }
    if operation.path.contains("/evidence/") {
        all.push((plain.replace("/a/", "/7/"), None));
    }
    if operation.path.contains("/relay/") {
        all.push((format!("{plain}%00"), None));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_portal_s_root_is_relayed_like_any_other_path_of_it() {
    let mirror = Mirror::start().await;
    let running = mirror.house(&held()).await.start().await;
    let document = document(&running).await;
    for operation in document.operations().iter().filter(|operation| operation.path.ends_with("/relay/{path}")) {
        let root = document.operation(&operation.method, &operation.path.replace("{path}", ""));
        assert_eq!(root.responses(), operation.responses(), "{operation:?}");
        for status in ["409", "413", "429", "501", "503", "default"] {
            assert!(root.responses().contains_key(status), "{status}: {operation:?}");
        }
    }
    running.stop().await;
}

/// Lets a flow's work in the background fail for good.
async fn fail(running: &Running, id: &str) {
    let flows = &running.app.parts().flows;
    let taken = flows.take("verify", id, "go", None, None).await.unwrap();
    let (_, mut reader) = flows.follow("verify", id, Some(taken.version)).await.unwrap().unwrap();
    flows.next(&mut reader, "verify", id).await.unwrap();
    assert_eq!(flows.get("verify", id).await.unwrap().status(), "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_promised_occurs_and_has_the_form_that_is_promised() {
    let mirror = Mirror::start().await;
    let clock = held();
    let house = mirror.house(&clock).await;
    let flows = api::flows::declare(house.path("flow.toml").parent().unwrap());
    let running = house.configured(&flows).start().await;
    let document = document(&running).await;
    let all = token(&running.app, "all", &[Scope::Admin, Scope::Metrics]).await;
    let other = token(&running.app, "other", &[Scope::Sms]).await;
    for operation in document.operations() {
        ask(&running, &document, &operation, &target(&operation), |request| request).await;
        ask(&running, &document, &operation, &target(&operation), |request| request.bearer_auth(&other)).await;
        for (target, body) in provocations(&operation) {
            let token = if operation.scope().is_none() { house::PHONE_SECRET } else { &running.token };
            let token = if operation.path == "/metrics" { &all } else { token };
            ask(&running, &document, &operation, &target, |request| {
                let request = request.bearer_auth(token);
                body.iter().fold(request, |request, body| {
                    request.header("content-type", "application/json").body(body.clone())
                })
            })
            .await;
        }
    }
    let app = token(&running.app, "app", &[Scope::Sessions]).await;
    for request in api::sessions::conversation() {
        let operation = document.operation(request.method, request.route);
        ask(&running, &document, &operation, &request.target, |call| request.dress(call.bearer_auth(&app))).await;
    }
    let app = token(&running.app, "flows", &[Scope::Flows]).await;
    let begin = document.operation("POST", "/api/flows/{flow}");
    let mut begun = Vec::new();
    for _ in 0..3 {
        let made = ask(&running, &document, &begin, "/api/flows/verify", |call| call.bearer_auth(&app)).await;
        begun.push(made.1["id"].as_str().unwrap().to_owned());
    }
    fail(&running, &begun[2]).await;
    for request in api::flows::conversation([&begun[0], &begun[1], &begun[2]]) {
        let operation = document.operation(request.method, request.route);
        ask(&running, &document, &operation, &request.target, |call| request.dress(call.bearer_auth(&app))).await;
    }
    // The standby was promoted above; once it has expired, there is none.
    let failover = document.operation("POST", "/api/portals/{portal}/failover");
    mirror.log_out(&["sid-a"]);
    running.relay(Method::GET, "/x").header("x-session-id", "a").send().await.unwrap();
    let again = ask(&running, &document, &failover, &target(&failover), |call| call.bearer_auth(&running.token)).await;
    assert_eq!((again.0, &again.1["code"]), (409, &json!("no_standby")));
    let missing: Vec<_> = document
        .never_occurred()
        .into_iter()
        .filter(|(operation, status)| !out_of_reach(operation, status))
        .map(|(operation, status)| format!("{} {} {status}", operation.method, operation.path))
        .collect();
    assert!(missing.is_empty(), "promised, and never seen:\n{}", missing.join("\n"));
    running.stop().await;
}

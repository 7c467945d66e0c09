//! The flow routes made to answer everything that the document promises of them and that a sound server can answer.

use std::path::Path;

use super::sessions::Request;

const KIND: &str = "/api/flows/{flow}";
const ONE: &str = "/api/flows/{flow}/{id}";
const EVENTS: &str = "/api/flows/{flow}/{id}/events";
const MESSAGES: &str = "/api/flows/{flow}/{id}/messages";
const RETRY: &str = "/api/flows/{flow}/{id}/retry";
const TAKE: &str = "/api/flows/{flow}/{id}/{transition}";

/// A flow whose provider nobody reaches.
const FLOW: &str = r#"initial = "new"
[[transition]]
name = "ask"
from = ["new"]
to = "asked"
call = { url = "http://127.0.0.1:1/" }
[[transition]]
name = "go"
from = ["new"]
to = "going"
background = { calls = [{ url = "http://127.0.0.1:1/" }], done = "done", failed = "failed", attempts = 1 }
[[transition]]
name = "skip"
from = ["new"]
to = "done"
"#;

/// The configuration of that flow, written beside it.
pub(crate) fn declare(directory: &Path) -> String {
    std::fs::write(directory.join("flow.toml"), FLOW).unwrap();
    "[flows.verify]\nfile = \"flow.toml\"".to_owned()
}

fn at(method: &'static str, route: &'static str, target: &str) -> Request {
    Request::at(method, route, format!("/api/flows/{target}"))
}

/// What is asked about three flows that were begun, in an order that makes each answer occur. Flow 2 has failed.
pub(crate) fn conversation([first, second, failed]: [&str; 3]) -> Vec<Request> {
    let huge = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(2 << 20));
    let one = |id: &str, rest: &str| format!("verify/{id}{rest}");
    let message = r#"{"type":"info","message":"안녕"}"#;
    let mut all = vec![
        at("GET", "/api/flows", "").trimmed(),
        at("GET", KIND, "verify"),
        at("GET", KIND, "verify?limit=0"),
        at("GET", KIND, "none"),
        at("POST", KIND, "none"),
        at("GET", ONE, &one(first, "")),
        at("GET", ONE, &one(first, "")).with("if-none-match", "\"1\""),
        at("GET", EVENTS, &one(first, "/events")),
        at("GET", EVENTS, &one(first, "/events")).with("last-event-id", "x"),
        at("POST", MESSAGES, &one(first, "/messages")).body(message),
        at("POST", TAKE, &one(first, "/ask")),
        at("POST", TAKE, &one(first, "/skip")).body(r#"{"data":{"이름":"민서"}}"#),
        at("POST", TAKE, &one(first, "/skip")),
        at("POST", TAKE, &one(second, "/go")),
        at("GET", EVENTS, &one(first, "/events")).with("last-event-id", "5"),
        at("PATCH", ONE, &one(first, "")).with("if-match", "*").body(r#"{"data":{}}"#),
        at("PATCH", ONE, &one(first, "")).body(r#"{"data":{}}"#),
        at("PATCH", ONE, &one(first, "")).with("if-match", "\"1\"").body(r#"{"data":{}}"#),
        at("DELETE", ONE, &one(first, "")).with("if-match", "\"1\""),
        at("DELETE", ONE, &one(first, "")).with("if-match", "no tag"),
        at("POST", RETRY, &one(first, "/retry")),
        at("POST", RETRY, &one(failed, "/retry")),
    ];
    for (method, route, rest) in
        [("POST", KIND, ""), ("PATCH", ONE, ""), ("POST", MESSAGES, "/messages"), ("POST", TAKE, "/skip")]
    {
        let target = if route == KIND { "verify".to_owned() } else { one(first, rest) };
        for body in ["no JSON", r#"{"data":7,"type":7}"#, &huge] {
            all.push(at(method, route, &target).with("if-match", "*").body(body));
        }
        all.push(at(method, route, &target).with("if-match", "*").typed("text/plain", message));
    }
    for (method, route, rest) in [
        ("GET", ONE, ""),
        ("DELETE", ONE, ""),
        ("GET", EVENTS, "/events"),
        ("POST", RETRY, "/retry"),
        ("POST", TAKE, "/ask"),
    ] {
        all.push(at(method, route, &one("none", rest)));
    }
    all.push(at("PATCH", ONE, "verify/none").with("if-match", "*").body(r#"{"data":{}}"#));
    all.push(at("POST", MESSAGES, "verify/none/messages").body(message));
    all.push(at("DELETE", ONE, &one(first, "")));
    all
}

//! What routes and clients see of the edge: problems, extractors, ids, health, metrics, description.

use axum::body::Body;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use nightporter::clock::{Clock, Time};
use nightporter::http::client::TrustedProxies;
use nightporter::http::edge::{Edge, Settings};
use nightporter::http::limits::Limits;
use nightporter::http::listener::Listener;
use nightporter::ids::Random;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};

use crate::dialogue::*;

#[tokio::test]
async fn every_refusal_of_the_router_is_a_problem() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask(get_request("/nowhere")).await.refusal(), (404, "not_found".to_owned()));
    let answer = client.ask(get_request("/order")).await;
    assert_eq!(answer.refusal(), (405, "method_not_allowed".to_owned()));
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = client.ask("BREW /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")));
    let untyped = "POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(client.ask(untyped).await.refusal(), (415, "unsupported_media_type".to_owned()));
    let answer = client.ask(get_request("/panic")).await;
    assert_eq!(answer.refusal(), (500, "internal_error".to_owned()));
    assert!(!answer.text().contains("secret reason"));
    for (path, code) in [
        ("/page", "missing_field"),
        ("/page?limit=1&limit=2", "duplicate_field"),
        ("/page?limit=x", "invalid_query"),
        ("/page?limit=1&more=2", "unknown_field"),
        ("/number/x", "invalid_path"),
        ("/text/%ff", "invalid_path"),
        ("/text/%00", "invalid_path"),
        ("/text/%zz", "invalid_path"),
        ("/text/%4", "invalid_path"),
    ] {
        let answer = client.ask(get_request(path)).await;
        assert_eq!(answer.refusal(), (400, code.to_owned()), "{path} {}", answer.text());
    }
    assert_eq!(client.ask(get_request("/text/%ED%95%9C%EA%B8%80")).await.text(), "한글");
    assert_eq!(client.ask(get_request("/page?limit=7")).await.text(), "7");
    assert!(house.life.failed().now_or_never().is_none(), "a handler's panic must not fail the process");
}

#[tokio::test]
async fn json_is_read_strictly_at_any_depth() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let good = client.ask(post_request("/order", r#"{"name":"김밥","free":{"a":[1]}}"#)).await;
    assert_eq!(good.text(), r#"김밥 {"a":[1]}"#);
    for (body, status, code, field) in [
        (r#"{"name":"a","free":{"x":[{"y":1,"y":2}]}}"#, 400, "duplicate_field", json!("free.x[0].y")),
        (r#"{"name":"a","nam":1}"#, 422, "unknown_field", json!("nam")),
        (r#"{"name":7}"#, 422, "invalid_field", json!("name")),
        ("{}", 422, "missing_field", json!("name")),
        ("{", 400, "invalid_json", Value::Null),
        ("", 400, "empty_body", Value::Null),
    ] {
        let answer = client.ask(post_request("/order", body)).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{body}");
        assert_eq!(serde_json::from_str::<Value>(answer.text()).unwrap()["field"], field, "{body}");
    }
    let nothing = client.ask("POST /optional HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(nothing.text(), "none");
    assert_eq!(client.ask(post_request("/optional", r#"{"name":"b"}"#)).await.text(), "b");
    let untyped = "POST /optional HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(client.ask(untyped).await.refusal().0, 415);
}

#[tokio::test]
async fn request_ids_are_kept_or_made() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let mut ask = async |lines: &str| {
        let answer = client.ask(format!("GET /nothing HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).await;
        // The problem names the same one, which `code` looks at.
        assert_eq!(answer.code(), "not_found");
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(ask("X-Request-Id: batch.7_a-B\r\n").await, "batch.7_a-B");
    let made = [
        "",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: 가\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
        "X-Request-Id:\r\n",
    ];
    for lines in made {
        let id = ask(lines).await;
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{lines:?} gave {id}");
    }
}

#[tokio::test]
async fn the_peer_and_the_client_behind_a_proxy_are_known() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask(get_request("/who")).await.text(), "127.0.0.1");
    let forwarded = "GET /who HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n\r\n";
    assert_eq!(client.ask(forwarded).await.text(), "203.0.113.9");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    house.server.serve("unix", Listener::Unix(UnixListener::bind(&path).unwrap()));
    let stream = UnixStream::connect(&path).await.unwrap();
    let own = stream.peer_cred().unwrap().uid();
    assert_eq!(Dialogue::new(stream).ask(get_request("/who")).await.text(), format!("unix {own}"));
}

#[tokio::test]
async fn health_tells_which_part_is_not_ready() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    assert_eq!(client.ask(get_request("/livez")).await.status, 200);
    assert_eq!(client.ask(get_request("/readyz")).await.status, 200);
    house.readiness.part("store", || Err("still opening".to_owned()));
    house.readiness.part("browser", || Ok(()));
    let answer = client.ask(get_request("/readyz")).await;
    assert_eq!(answer.refusal(), (503, "not_ready".to_owned()));
    let document: Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(document["parts"], json!({"store": "still opening"}));
    assert!(answer.header("retry-after").is_some());
    let report: Value = serde_json::from_str(client.ask(get_request("/api/health")).await.text()).unwrap();
    assert_eq!(report["status"], "not_ready");
    assert_eq!(report["parts"], json!({"store": "still opening", "browser": "ready"}));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["started_at"], "2027-01-15T08:00:00.000Z");
    assert!(report["uptime_seconds"].is_u64());
    house.readiness.part("store", || Ok(()));
    assert_eq!(client.ask(get_request("/readyz")).await.status, 200);
}

#[tokio::test]
async fn metrics_count_by_route_and_never_by_what_a_client_makes_up() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    client.ask(get_request("/number/123456789")).await;
    client.ask(get_request("/invented-by-a-client")).await;
    client.ask("INVENTED /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let page = client.ask(get_request("/metrics")).await;
    let page = page.text();
    assert!(
        page.contains(r#"nightporter_http_requests_total{method="GET",route="/number/{n}",status="200"}"#),
        "{page}"
    );
    assert!(page.contains("nightporter_http_request_seconds_bucket"), "{page}");
    for invented in ["123456789", "invented-by-a-client", "INVENTED"] {
        assert!(!page.contains(invented), "{page}");
    }
}

#[tokio::test]
async fn the_description_names_the_problems_of_every_operation() {
    let house = House::new(Limits::default());
    let mut client = house.connect().await;
    let document: Value = serde_json::from_str(client.ask(get_request("/openapi.json")).await.text()).unwrap();
    assert_eq!(document["components"]["securitySchemes"]["operator"]["scheme"], "bearer");
    let problem = &document["components"]["schemas"]["Problem"]["properties"];
    for member in ["type", "title", "status", "detail", "code", "request_id"] {
        assert!(problem[member].is_object(), "{member} in {problem}");
    }
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/readyz") && paths.contains_key("/api/health") && paths.contains_key("/metrics"));
    let statuses: Vec<&String> = paths["/described/{n}"]["post"]["responses"].as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["200", "400", "401", "403", "408", "413", "415", "422", "500", "507"]);
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["responses"]["500"]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
            let changes = method != "get";
            assert_eq!(operation["responses"]["507"].is_object(), changes, "{method} {path} may find the disk full");
        }
    }
}

#[tokio::test]
async fn the_router_also_answers_without_a_socket() {
    let settings = Settings {
        clock: Clock::held(Time::from_millis(0)),
        random: Random::seeded(1),
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
    };
    let router = Edge::new(routes(Gate::default()), settings).into_router();
    let request = axum::http::Request::get("/hello").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

//! Sessions for any application over HTTP: what a Redis key was, on the real router with a real store and the clock held.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

#[path = "sessions/desk.rs"]
mod desk;
#[path = "sessions/feed.rs"]
mod feed;
#[path = "sessions/hostile.rs"]
mod hostile;
#[path = "sessions/once.rs"]
mod once;
#[path = "sessions/quotas.rs"]
mod quotas;
#[path = "sessions/stream.rs"]
mod stream;
#[allow(dead_code, reason = "the tests of flows use the rest of it")]
#[path = "sessions/told.rs"]
mod told;

use std::time::Duration;

use desk::Desk;
use futures_util::future::join_all;
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use told::Told;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_made_read_replaced_merged_touched_and_removed() {
    let desk = Desk::new("").await;
    let made = desk.send(Method::POST, "shop", r#"{"data":{"cart":["사과"],"n":1.50},"ttl":"30m"}"#).await;
    assert_eq!((made.status, made.header("etag"), made.header("cache-control")), (201, "\"1\"", "no-store"));
    let path = format!("shop/{}", made.id());
    assert_eq!(made.header("location"), format!("/api/sessions/{path}"));
    assert_eq!(made.body["expires_at"], "2027-01-15T08:30:00.000Z");
    assert!(made.text.contains(r#""data":{"cart":["사과"],"n":1.50}"#), "every digit stays: {}", made.text);
    assert_eq!(desk.get(&path).await.body, made.body);
    let unchanged = desk.ask(Method::GET, &path).header("if-none-match", "\"1\"").send().await.unwrap();
    assert_eq!((unchanged.status().as_u16(), unchanged.headers()["etag"].to_str().unwrap()), (304, "\"1\""));

    desk.clock.advance(Duration::from_secs(600));
    let merged = desk.send(Method::PATCH, &path, r#"{"data":{"cart":null,"user":{"이름":"민서"}}}"#).await;
    assert_eq!((merged.status, &merged.body["data"]), (200, &json!({"n": 1.5, "user": {"이름": "민서"}})));
    assert_eq!(merged.body["expires_at"], made.body["expires_at"], "a merge does not prolong its life");
    let touched = desk.send(Method::POST, &format!("{path}/touch"), "").await;
    assert_eq!((touched.status, &touched.body["expires_at"]), (200, &json!("2027-01-15T08:40:00.000Z")));
    let bare = desk.ask(Method::POST, &format!("{path}/touch")).header("content-type", "application/json");
    assert_eq!(
        bare.send().await.unwrap().status().as_u16(),
        200,
        "a body that is absent has no type to be wrong about"
    );
    let longer = desk.send(Method::POST, &format!("{path}/touch"), r#"{"ttl":"1h"}"#).await;
    assert_eq!((&longer.body["ttl"], &longer.body["expires_at"]), (&json!("1h"), &json!("2027-01-15T09:10:00.000Z")));

    let matching = [("if-match", longer.header("etag"))];
    let replaced = desk.send_if(Method::PUT, &path, r#"{"data":{}}"#, &matching).await;
    assert_eq!((replaced.status, &replaced.body["data"], &replaced.body["ttl"]), (200, &json!({}), &json!("1h")));
    assert_eq!(replaced.body["created_at"], made.body["created_at"]);
    assert_eq!(desk.send_if(Method::DELETE, &path, "", &matching).await.problem().1, "precondition_failed");
    assert_eq!(desk.send(Method::DELETE, &path, "").await.status, 204);
    assert_eq!(desk.get(&path).await.problem(), (404, "unknown_session", "id"));
    let again = desk.send_if(Method::PUT, &path, r#"{"data":{}}"#, &[("if-none-match", "*")]).await;
    assert_eq!((again.status, again.header("etag")), (201, "\"7\""), "a version never comes again");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_gone_to_the_millisecond_for_every_reader() {
    let desk = Desk::new("ttl = \"250ms\"").await;
    let made = desk.send(Method::POST, "a", r#"{"data":{}}"#).await;
    let path = format!("a/{}", made.id());
    desk.clock.advance(Duration::from_millis(249));
    assert_eq!(desk.get(&path).await.status, 200);
    desk.clock.advance(Duration::from_millis(1));
    assert_eq!(desk.get(&path).await.status, 404);
    assert_eq!(desk.get("a").await.body, json!({"sessions": [], "next": null}));
    for (method, what) in [(Method::PATCH, ""), (Method::POST, "/touch"), (Method::DELETE, "")] {
        let body = if method == Method::PATCH { r#"{"data":{}}"# } else { "" };
        assert_eq!(desk.send(method, &format!("{path}{what}"), body).await.problem().0, 404);
    }
    let stale = desk.send_if(Method::PUT, &path, r#"{"data":{}}"#, &[("if-match", "\"1\"")]).await;
    assert_eq!(stale.problem().0, 412, "nothing is there to be replaced");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_by_many_at_once_all_survive_and_of_replacements_one_wins() {
    let desk = Desk::new("").await;
    let path = format!("a/{}", desk.send(Method::POST, "a", r#"{"data":{}}"#).await.id());
    let merges = (0..100).map(|n| {
        let (desk, path) = (&desk, &path);
        async move { desk.send(Method::PATCH, path, &format!(r#"{{"data":{{"k{n}":{n}}}}}"#)).await }
    });
    let merges: Vec<Told> = join_all(merges).await;
    assert!(merges.iter().all(|merge| merge.status == 200));
    let after = desk.get(&path).await;
    assert_eq!((after.body["data"].as_object().unwrap().len(), after.header("etag")), (100, "\"101\""));
    let replace = || desk.send_if(Method::PUT, &path, r#"{"data":{"mine":1}}"#, &[("if-match", "\"101\"")]);
    let outcomes = join_all((0..8).map(|_| replace())).await;
    assert_eq!(outcomes.iter().filter(|told| told.status == 200).count(), 1);
    assert_eq!(outcomes.iter().filter(|told| told.status == 412).count(), 7);
    let make = || desk.send_if(Method::PUT, "a/mine", r#"{"data":{}}"#, &[("if-none-match", "*")]);
    let outcomes = join_all((0..8).map(|_| make())).await;
    assert_eq!(outcomes.iter().filter(|told| told.status == 201).count(), 1);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
    let desk = Desk::new("").await;
    let made = desk.send(Method::POST, "a", r#"{"data":{"kept":true}}"#).await;
    let path = format!("a/{}", made.id());
    for (method, path, body, problem) in [
        (Method::POST, "a", "", (415, "unsupported_media_type", "")),
        (Method::POST, "a", "{", (400, "invalid_json", "")),
        (Method::POST, "a", "{}", (422, "missing_field", "data")),
        (Method::POST, "a", r#"{"data":[1]}"#, (422, "invalid_field", "data")),
        (Method::POST, "a", r#"{"data":null}"#, (422, "invalid_field", "data")),
        (Method::POST, "a", r#"{"data":{},"data":{}}"#, (400, "duplicate_field", "data")),
        (Method::POST, "a", r#"{"data":{"x":{"y":1,"y":2}}}"#, (400, "duplicate_field", "data.x.y")),
        (Method::POST, "a", r#"{"data":{},"tll":"1h"}"#, (422, "unknown_field", "tll")),
        (Method::POST, "a", r#"{"data":{},"ttl":30}"#, (422, "invalid_field", "ttl")),
        (Method::POST, "a", r#"{"data":{},"ttl":"0s"}"#, (422, "invalid_field", "ttl")),
        (Method::POST, "a", r#"{"data":{},"ttl":"400d"}"#, (422, "invalid_field", "ttl")),
        (Method::POST, "A", r#"{"data":{}}"#, (400, "invalid_path", "space")),
        (Method::PUT, "a/x%0A", r#"{"data":{}}"#, (428, "precondition_required", "If-Match")),
        (Method::PUT, path.as_str(), r#"{"data":{}}"#, (428, "precondition_required", "If-Match")),
        (Method::PATCH, path.as_str(), r#"{"data":7}"#, (422, "invalid_field", "data")),
        (Method::PATCH, "a/none", r#"{"data":{}}"#, (404, "unknown_session", "id")),
        (Method::GET, "a?limit=0", "", (400, "invalid_query", "limit")),
        (Method::GET, "a?cursor=", "", (400, "invalid_query", "cursor")),
        (Method::GET, "a?page=2", "", (400, "unknown_field", "page")),
    ] {
        let told = desk.send(method.clone(), path, body).await;
        assert_eq!(told.problem(), problem, "{method} {path} {body}: {}", told.text);
    }
    let odd = desk.send_if(Method::PUT, "a/x%0A", r#"{"data":{}}"#, &[("if-none-match", "*")]).await;
    assert_eq!(odd.problem(), (400, "invalid_path", "id"));
    let weak = desk.send_if(Method::PATCH, &path, r#"{"data":{}}"#, &[("if-match", "W/\"1\"")]).await;
    assert_eq!(weak.problem().0, 412);
    let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "가".repeat(22_000));
    assert_eq!(desk.send(Method::PATCH, &path, &large).await.problem(), (413, "record_too_large", "data"));
    assert_eq!(desk.get(&path).await.body, made.body);
    let reader = desk.token("reader", &[Scope::PortalsRead]).await;
    let refused = desk.make_as(&reader, "a", "no JSON", &[("if-match", "nonsense")]).await;
    assert_eq!(refused.problem().1, "insufficient_scope");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_in_pages_and_ids_may_be_korean() {
    let mut desk = Desk::new("").await;
    for id in ["b", "a", "%EC%84%B8%EC%85%98", "c:1"] {
        let put = desk.send_if(Method::PUT, &format!("s/{id}"), r#"{"data":{}}"#, &[("if-none-match", "*")]).await;
        assert_eq!(put.status, 201);
    }
    desk.send_if(Method::PUT, "s-2/other", r#"{"data":{}}"#, &[("if-none-match", "*")]).await;
    desk.restart().await;
    let ids = |told: &Told| -> Vec<String> {
        told.body["sessions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = desk.get("s?limit=3").await;
    assert_eq!((ids(&first), &first.body["next"]), (vec!["a".into(), "b".into(), "c:1".into()], &json!("c:1")));
    let second = desk.get("s?limit=3&cursor=c:1").await;
    assert_eq!((ids(&second), &second.body["next"]), (vec!["세션".into()], &Value::Null));
    // What comes and goes between two pages does not disturb the rest.
    assert_eq!(desk.send(Method::DELETE, "s/c:1", "").await.status, 204);
    desk.send_if(Method::PUT, "s/d", r#"{"data":{}}"#, &[("if-none-match", "*")]).await;
    assert_eq!(ids(&desk.get("s?limit=3&cursor=c:1").await), ["d", "세션"]);
    assert_eq!(desk.get("s/%EC%84%B8%EC%85%98").await.status, 200);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_refused_at_the_versions_that_if_none_match_names() {
    let desk = Desk::new("").await;
    let path = format!("a/{}", desk.send(Method::POST, "a", r#"{"data":{}}"#).await.id());
    let touch = format!("{path}/touch");
    let changes =
        [(Method::PATCH, &path, r#"{"data":{"n":1}}"#), (Method::POST, &touch, ""), (Method::DELETE, &path, "")];
    for (method, path, body) in &changes {
        for tags in ["\"1\"", "W/\"1\"", "\"7\", \"1\"", "*"] {
            let refused = desk.send_if(method.clone(), path, body, &[("if-none-match", tags)]).await;
            assert_eq!(refused.problem(), (412, "precondition_failed", ""), "{method} {tags}");
        }
    }
    assert_eq!(desk.get(&path).await.version(), 1);
    for (method, path, body) in &changes {
        let done = desk.send_if(method.clone(), path, body, &[("if-none-match", "\"9\"")]).await;
        assert!(done.status < 300, "{method}: {}", done.text);
    }
    assert_eq!(desk.send_if(Method::DELETE, &path, "", &[("if-none-match", "*")]).await.status, 404);
    desk.stop().await;
}

//! Flows over HTTP: verification in several steps, on the real router with a real store, the clock held, and a provider on
//! loopback that can be slow, wrong, huge and down.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

#[path = "flows/appliance.rs"]
mod appliance;
#[path = "flows/background.rs"]
mod background;
#[path = "flows/calls.rs"]
mod calls;
#[path = "flows/crash.rs"]
mod crash;
#[path = "flows/desk.rs"]
mod desk;
#[path = "flows/events.rs"]
mod events;
#[path = "flows/https.rs"]
mod https;
#[path = "flows/operators.rs"]
mod operators;
#[path = "flows/provider.rs"]
mod provider;
#[path = "flows/quota.rs"]
mod quota;
#[path = "flows/race.rs"]
mod race;
#[path = "disk/small.rs"]
mod small;
#[path = "flows/space.rs"]
mod space;
#[path = "sessions/stream.rs"]
mod stream;
#[path = "sessions/told.rs"]
mod told;

use std::time::Duration;

use desk::Desk;
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_story_from_its_beginning_to_its_end() {
    let desk = Desk::new().await;
    let begun = desk.send(Method::POST, "identity", r#"{"data":{"user_info":{"name":"홍길동","n":1.50}}}"#).await;
    assert_eq!((begun.status, begun.header("cache-control")), (201, "no-store"), "{}", begun.text);
    let path = format!("identity/{}", begun.id());
    assert_eq!(begun.header("location"), format!("/api/flows/{path}"));
    assert_eq!(begun.header("etag"), format!("\"{}\"", begun.version()));
    assert_eq!((&begun.body["status"], &begun.body["flow"]), (&json!("started"), &json!("identity")));
    assert_eq!(
        begun.body["progress"],
        json!({"auth_requested": false, "auth_completed": false, "data_collected": false})
    );
    assert_eq!(begun.body["expires_at"], "2027-01-15T09:00:00.000Z");
    assert!(begun.text.contains("1.50"), "every digit stays");

    let asked = desk.send(Method::POST, &format!("{path}/simple-auth"), "").await;
    assert_eq!((asked.status, &asked.body["status"]), (200, &json!("auth_request_sent")), "{}", asked.text);
    assert_eq!(asked.body["data"]["temp_auth_data"]["txId"], "tx-1");
    assert_eq!(asked.body["messages"][0]["message"], "인증 요청을 보냈습니다.");
    assert_eq!(asked.body["messages"][0]["timestamp"], "2027-01-15T08:00:00.000Z");
    let request = desk.provider.requests().remove(0);
    assert_eq!((request.path.as_str(), request.body), ("/simpleauth", json!({"UserName": "홍길동"})));
    assert_eq!(request.headers["api-key"], "비밀 열쇠");

    let confirmed =
        desk.send(Method::POST, &format!("{path}/manual-auth-complete"), r#"{"data":{"by":"phone"}}"#).await;
    assert_eq!((confirmed.status, &confirmed.body["status"]), (200, &json!("auth_completed")));
    assert_eq!(confirmed.body["data"]["auth_data"]["TxId"], "tx-1");
    assert_eq!(confirmed.body["data"]["by"], "phone");
    let collecting = desk.send(Method::POST, &format!("{path}/collect-health-data"), "").await;
    assert_eq!((collecting.status, &collecting.body["status"]), (202, &json!("fetching_health_data")));
    let done = desk.until(&path, |flow| flow["status"] == "completed").await;
    assert_eq!(done["data"]["health_data"]["결과"], "정상");
    assert_eq!(done["progress"], json!({"auth_requested": true, "auth_completed": true, "data_collected": true}));
    assert_eq!(done["messages"].as_array().unwrap().len(), 4);
    assert_eq!((&done["transitions"], &done["running"]), (&json!([]), &json!(null)));

    let unchanged = format!("\"{}\"", done["version"]);
    let again = desk.ask(Method::GET, &path).header("if-none-match", &unchanged).send().await.unwrap();
    assert_eq!(again.status().as_u16(), 304);
    assert_eq!(desk.send(Method::DELETE, &path, "").await.status, 204);
    assert_eq!(desk.get(&path).await.problem(), (404, "unknown_flow_id", "id"));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
    let desk = Desk::new().await;
    let begun = desk.begin().await;
    let path = format!("identity/{}", begun.id());
    let before = desk.get(&path).await;
    for (method, rest, body, problem) in [
        (Method::POST, "/manual-auth-complete", "", (409, "illegal_transition", "")),
        (Method::POST, "/nowhere", "", (404, "unknown_transition", "transition")),
        (Method::POST, "/simple-auth", "[]", (422, "invalid_field", "")),
        (Method::POST, "/simple-auth", r#"{"data":[]}"#, (422, "invalid_field", "data")),
        (Method::POST, "/simple-auth", r#"{"datum":{}}"#, (422, "unknown_field", "datum")),
        (Method::POST, "/simple-auth", r#"{"data":{"user_info":null}}"#, (422, "missing_field", "data.user_info.name")),
        (Method::POST, "/messages", "", (415, "unsupported_media_type", "")),
        (Method::POST, "/messages", r#"{"type":"shout","message":"x"}"#, (422, "invalid_field", "type")),
        (Method::POST, "/messages", r#"{"type":"info","message":""}"#, (422, "invalid_field", "message")),
        (Method::POST, "/messages", r#"{"type":"info"}"#, (422, "missing_field", "message")),
        (Method::PATCH, "", r#"{"data":{}}"#, (428, "precondition_required", "If-Match")),
        (Method::POST, "/retry", "", (409, "not_failed", "")),
    ] {
        let told = desk.send(method.clone(), &format!("{path}{rest}"), body).await;
        assert_eq!(told.problem(), problem, "{method} {rest} {body}: {}", told.text);
    }
    let illegal = desk.send(Method::POST, &format!("{path}/collect-health-data"), "").await;
    assert_eq!((&illegal.body["legal"], &illegal.body["state"]), (&json!(["simple-auth"]), &json!("started")));
    let stale = [("if-match", "\"77\"")];
    assert_eq!(desk.send_if(Method::PATCH, &path, r#"{"data":{}}"#, &stale).await.problem().0, 412);
    assert_eq!(desk.send_if(Method::DELETE, &path, "", &stale).await.problem().0, 412);
    let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "가".repeat(16_000));
    let current = [("if-match", before.header("etag"))];
    assert_eq!(desk.send_if(Method::PATCH, &path, &large, &current).await.problem(), (413, "record_too_large", "data"));
    let long = format!(r#"{{"type":"info","message":"{}"}}"#, "x".repeat(4097));
    assert_eq!(desk.send(Method::POST, &format!("{path}/messages"), &long).await.problem().2, "message");
    assert_eq!(desk.get(&path).await.body, before.body);
    assert_eq!(desk.provider.requests().len(), 0);
    for (bad, problem) in [
        ("none", (404, "unknown_flow", "flow")),
        ("identity/abc", (404, "unknown_flow_id", "id")),
        ("identity?limit=0", (400, "invalid_query", "limit")),
        ("identity?older_than=5", (400, "invalid_query", "older_than")),
        ("identity?cursor=../x", (400, "invalid_query", "cursor")),
        ("identity?stat=x", (400, "unknown_field", "stat")),
    ] {
        assert_eq!(desk.get(bad).await.problem(), problem, "{bad}");
    }
    let reader = desk.token("reader", &[Scope::Sessions]).await;
    let refused = desk.ask_as(&reader, Method::PATCH, &path).header("if-match", "nonsense").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 403);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_merges_at_its_version_and_a_flow_ends_to_the_millisecond() {
    let desk = Desk::new().await;
    let begun = desk.begin().await;
    let path = format!("identity/{}", begun.id());
    let current = [("if-match", begun.header("etag"))];
    let patched =
        desk.send_if(Method::PATCH, &path, r#"{"data":{"user_info":{"name":null,"생일":"0101"}}}"#, &current).await;
    assert_eq!((patched.status, &patched.body["data"]["user_info"]), (200, &json!({"생일": "0101"})));
    assert_eq!(patched.version(), begun.version() + 1);
    assert_eq!(desk.send_if(Method::PATCH, &path, r#"{"data":{}}"#, &current).await.problem().1, "precondition_failed");
    desk.clock.advance(Duration::from_secs(3600) - Duration::from_millis(1));
    assert_eq!(desk.get(&path).await.status, 200);
    desk.clock.advance(Duration::from_millis(1));
    assert_eq!(desk.get(&path).await.status, 404);
    assert_eq!(desk.send(Method::POST, &format!("{path}/simple-auth"), "").await.problem().0, 404);
    assert_eq!(desk.provider.requests().len(), 0, "nobody is asked for a flow that is gone");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_requests_get_the_first_answer_also_after_a_restart() {
    let mut desk = Desk::new().await;
    let keyed = [("idempotency-key", "요청".len().to_string())];
    let keyed = [(keyed[0].0, keyed[0].1.as_str())];
    let first = desk.send_if(Method::POST, "identity", desk::USER, &keyed).await;
    let path = format!("identity/{}", first.id());
    let taken = desk.send_if(Method::POST, &format!("{path}/simple-auth"), "", &keyed).await;
    let message = r#"{"type":"info","message":"한 번"}"#;
    let said = desk.send_if(Method::POST, &format!("{path}/messages"), message, &keyed).await;
    assert_eq!((first.status, taken.status, said.status), (201, 200, 201));
    for restarted in [false, true] {
        if restarted {
            desk.restart().await;
        }
        for (rest, body, before) in
            [("", desk::USER, &first), ("/simple-auth", "", &taken), ("/messages", message, &said)]
        {
            let path = if rest.is_empty() { "identity".to_owned() } else { format!("{path}{rest}") };
            let again = desk.send_if(Method::POST, &path, body, &keyed).await;
            assert_eq!((again.status, &again.text), (before.status, &before.text));
            assert_eq!(again.header("idempotency-replayed"), "true");
        }
    }
    assert_eq!(desk.provider.requests().len(), 1);
    assert_eq!(desk.get(&path).await.version(), said.version());
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_many_writers_all_survive_in_one_order() {
    let desk = Desk::new().await;
    let begun = desk.begin().await;
    let path = format!("identity/{}", begun.id());
    let writers = (0..16).map(|writer| {
        let (desk, path) = (&desk, &path);
        async move {
            for number in 0..40 {
                let body = json!({"type": "info", "message": format!("{writer}/{number} 님이 썼습니다")}).to_string();
                let told = desk.send(Method::POST, &format!("{path}/messages"), &body).await;
                assert_eq!(told.status, 201, "{}", told.text);
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let flow = desk.get(&path).await;
    let messages = flow.body["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &flow.body["messages_total"]), (640, &json!(640)));
    assert_eq!(flow.version(), begun.version() + 640, "no version is spent on anything else");
    for writer in 0..16 {
        let mine = messages.iter().filter_map(|message| message["message"].as_str());
        let mine = mine.filter_map(|text| text.strip_prefix(&format!("{writer}/")));
        let numbers: Vec<usize> = mine.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "writer {writer}");
    }
    desk.stop().await;
}

//! `POST /api/phones/{phone}/sms` as the forwarding apps meet it, with no login under way.

use nightporter::secret::hmac_sha256;
use serde_json::{Value, json};

use crate::house::{PHONE_SECRET, Running, held};
use crate::mirror::Mirror;

/// The held clock's moment, as `X-Timestamp`.
const NOW: &str = "1800000000";

async fn post(running: &Running, phone: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let url = running.url(&format!("/api/phones/{phone}/sms"));
    let request = running.client.post(url).header("content-type", "application/json").body(body.to_owned());
    let answer = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = answer.send().await.unwrap();
    let (status, challenge) = (answer.status().as_u16(), answer.headers().contains_key("www-authenticate"));
    assert_eq!(challenge, status == 401);
    (status, answer.json().await.unwrap())
}

fn signature(key: &str, body: &str, timestamp: &str) -> String {
    let tag = hmac_sha256(key.as_bytes(), &[body.as_bytes(), timestamp.as_bytes()]);
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn signed(running: &Running, body: &str) -> (u16, Value) {
    post(running, "desk", &[("x-timestamp", NOW), ("x-signature", &signature(PHONE_SECRET, body, NOW))], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_format_is_read_behind_its_token() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let bearer = format!("Bearer {PHONE_SECRET}");
    let good =
        json!({"from": "15881234", "text": "인증번호 [572913]", "received_at": "2027-01-15T08:00:00Z"}).to_string();
    let authorized = [("authorization", bearer.as_str())];
    let (status, told) = post(&running, "office", &authorized, &good).await;
    assert_eq!((status, told), (200, json!({"success": false, "reason": "no_login_waiting"})));
    for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "Basic x")]] {
        let (status, told) = post(&running, "office", headers, &good).await;
        assert_eq!((status, &told["code"]), (401, &json!("bad_signature")));
    }
    let (status, told) = post(&running, "attic", &authorized, &good).await;
    assert_eq!((status, &told["code"], &told["field"]), (404, &json!("unknown_phone"), &json!("phone")));
    for (body, field) in [
        ("", "body"),
        ("[]", "body"),
        ("{\"from\":\"1\"", "body"),
        ("{\"from\":\"1\"}", "text"),
        ("{\"text\":\"x\"}", "from"),
        ("{\"from\":\"1\",\"text\":7}", "text"),
        ("{\"from\":\"1\",\"text\":\"x\",\"received_at\":\"noon\"}", "received_at"),
        ("{\"from\":\"1\",\"text\":\"x\",\"extra\":1}", "extra"),
        ("{\"from\":\"1\",\"from\":\"2\",\"text\":\"x\"}", "from"),
    ] {
        let (status, told) = post(&running, "office", &authorized, body).await;
        assert_eq!((status, &told["code"], &told["field"]), (400, &json!("malformed_sms"), &json!(field)), "{body}");
    }
    let huge = json!({"from": "1", "text": "x".repeat(2 << 20)}).to_string();
    assert_eq!(post(&running, "office", &authorized, &huge).await.0, 413);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signed_format_is_read_behind_its_signature() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let sms = |message: &str| {
        json!({"deviceId": "d", "event": "sms:received", "id": "e1", "webhookId": "w", "payload": {"messageId": "m1",
            "message": message, "sender": "15881234", "simNumber": 1, "receivedAt": "2027-01-15T17:00:00+09:00"}})
        .to_string()
    };
    let good = sms("[Web발신] 인증번호 [572913] 를 입력해 주세요.");
    let (status, told) = signed(&running, &good).await;
    assert_eq!((status, told), (200, json!({"success": false, "reason": "no_login_waiting"})));
    let ping = json!({"event": "system:ping", "id": "p"}).to_string();
    assert_eq!(signed(&running, &ping).await, (200, json!({"success": true})));
    let other = json!({"event": "sms:delivered", "id": "p"}).to_string();
    assert_eq!(signed(&running, &other).await, (200, json!({"success": true})));
    let right = signature(PHONE_SECRET, &good, NOW);
    let (stale, fresh) = ("1799999000", signature(PHONE_SECRET, &good, "1799999000"));
    let wrong = signature("another key", &good, NOW);
    for headers in [
        &[][..],
        &[("x-timestamp", NOW)],
        &[("x-signature", &right)],
        &[("x-timestamp", NOW), ("x-signature", &wrong)],
        &[("x-timestamp", "1800000001"), ("x-signature", &right)],
        &[("x-timestamp", stale), ("x-signature", &fresh)],
    ] {
        let (status, told) = post(&running, "desk", headers, &good).await;
        assert_eq!((status, &told["code"]), (401, &json!("bad_signature")), "{headers:?}");
    }
    for (body, field) in [
        ("{}", "event"),
        ("{\"event\":\"sms:received\"}", "payload"),
        ("{\"event\":\"sms:received\",\"payload\":{\"message\":\"x\"}}", "payload.sender"),
        ("{\"event\":\"sms:received\",\"payload\":{\"sender\":\"1\"}}", "payload.message"),
        ("no json", "body"),
    ] {
        let (status, told) = signed(&running, body).await;
        assert_eq!((status, &told["code"], &told["field"]), (400, &json!("malformed_sms"), &json!(field)), "{body}");
    }
    running.stop().await;
}

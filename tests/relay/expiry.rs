//! A caller never sees an expiry: it is promoted away, waited out, or told as what it is.

use std::time::Duration;

use futures_util::future::join_all;
use nightporter::demo::portal::LoggedOut;
use reqwest::Method;
use serde_json::{Value, json};

use super::demo::{Demo, USER};
use super::house::{Running, held, problem};
use super::mirror::Mirror;

fn header(answer: &reqwest::Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Which session served, whether in place of another, and in which epoch.
fn served(answer: &reqwest::Response) -> [String; 3] {
    ["x-session-id", "x-session-fallback", "x-session-epoch"].map(|name| header(answer, name))
}

fn order(running: &Running, key: &str) -> reqwest::RequestBuilder {
    let wish = json!({"recipient": "홍길동", "item": "떡볶이"});
    running.relay(Method::POST, "/api/orders").header("idempotency-key", key).json(&wish)
}

#[tokio::test(flavor = "multi_thread")]
async fn however_the_portal_says_it_the_standby_takes_over_and_the_call_is_made_once() {
    for logged_out in [LoggedOut::Unauthorized, LoggedOut::Redirect, LoggedOut::LoginPage, LoggedOut::PoliteJson] {
        let clock = held();
        let demo = Demo::start(&clock).await;
        let running = demo.house(&clock).await.start().await;
        demo.controls.faults(|faults| faults.logged_out = logged_out);
        demo.expire(0);
        let made = order(&running, "k").send().await.unwrap();
        assert_eq!(served(&made), ["second", "false", "2"], "{logged_out:?}");
        assert_eq!((made.status().as_u16(), demo.controls.submissions("k")), (201, 1), "{logged_out:?}");
        assert_eq!(demo.controls.counters(USER).expired_answers, 1);
        let told = running.told("").await;
        assert_eq!((&told["active"]["session_id"], &told["standby"]["status"]), (&json!("second"), &json!("expired")));
        assert_eq!((running.events("expired").await, running.events("failover").await), (1, 1));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_calls_at_the_expiry_make_one_promotion() {
    let clock = held();
    let demo = Demo::start(&clock).await;
    let running = demo.house(&clock).await.start().await;
    demo.expire(0);
    let keys: Vec<String> = (0..64).map(|number| format!("k{number}")).collect();
    let answers = join_all(keys.iter().map(|key| order(&running, key).send())).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), served(&answer)), (201, ["second", "false", "2"].map(str::to_owned)));
    }
    assert!(keys.iter().all(|key| demo.controls.submissions(key) == 1));
    assert_eq!(demo.controls.counters(USER).orders_created, 64);
    assert_eq!((running.events("expired").await, running.events("failover").await), (1, 1));
    assert_eq!(running.told("").await["epoch"], 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_session_serves_while_it_lives_and_may_be_replaced() {
    let clock = held();
    let demo = Demo::start(&clock).await;
    let running = demo.house(&clock).await.start().await;
    let call = async |session: &str, fallback: Option<&str>| {
        let call = running.relay(Method::GET, "/api/orders?limit=1").header("x-session-id", session);
        let call = fallback.into_iter().fold(call, |call, word| call.header("x-session-fallback", word));
        call.send().await.unwrap()
    };
    assert_eq!(served(&call("second", None).await), ["second", "false", "1"]);
    assert_eq!(served(&call("second", Some("never")).await), ["second", "false", "1"]);
    assert_eq!(served(&call("long-gone", None).await), ["first", "true", "1"]);
    assert_eq!(served(&call("long-gone", Some("auto")).await), ["first", "true", "1"]);
    assert_eq!(problem(call("long-gone", Some("never")).await).await, (404, "no_live_session".to_owned()));
    demo.expire(1);
    // The standby's end is found out by whoever asks for it; the active one is not touched.
    assert_eq!(problem(call("second", Some("never")).await).await, (404, "no_live_session".to_owned()));
    assert_eq!(served(&call("second", None).await), ["first", "true", "1"]);
    let told = running.told("/sessions/second").await;
    let expected = json!({"session_id": "first", "requested_id": "second", "fallback_used": true, "epoch": 1});
    assert_eq!(told, expected);
    assert_eq!(running.told("/sessions/second?fallback=false").await["code"], "no_live_session");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_session_a_call_waits_as_long_as_it_allows_and_is_told_when_to_come_again() {
    for (park, span) in [("2s", 2), ("1", 1)] {
        let clock = held();
        let demo = Demo::start(&clock).await;
        let running = demo.house(&clock).await.start().await;
        demo.controls.expire_all();
        let waits = async {
            let call = running.relay(Method::GET, "/api/orders").header("x-park-timeout", park);
            let answer = call.send().await.unwrap();
            assert_eq!(header(&answer, "retry-after"), "5");
            assert_eq!(problem(answer).await, (503, "no_live_session".to_owned()));
        };
        let time = async {
            // Both sessions were tried and the second one checked, so the call had begun to count its time before.
            demo.controls.counted(USER, super::house::PATIENCE, |counted| counted.expired_answers == 3).await.unwrap();
            clock.advance(Duration::from_secs(span));
        };
        tokio::join!(waits, time);
        assert_eq!((running.events("expired").await, running.events("failover").await), (2, 1));
        // Nothing is asked of the portal while no session lives.
        let refused = running.relay(Method::GET, "/api/orders").header("x-park-timeout", "0").send().await.unwrap();
        assert_eq!(problem(refused).await.0, 503);
        assert_eq!(demo.controls.counters(USER).expired_answers, 3);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_call_goes_on_when_a_session_turns_out_to_be_alive() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    mirror.log_out(&["sid-a", "sid-b"]);
    let parked = async {
        let body = "order".repeat(1000);
        let answer = running.relay(Method::POST, "/order").body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let seen = mirror.seen("/order");
        assert_eq!((seen.len(), seen[2].body == body.as_bytes()), (3, true), "two refusals and one success");
    };
    let heal = async {
        // Each session once, and the check that confirms the second.
        mirror.has_refused(3).await;
        mirror.log_out(&[]);
        assert_eq!(running.order("resume").await, 200);
    };
    tokio::join!(parked, heal);
    assert!(running.events("restored").await >= 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_refused_to_living_sessions_is_the_caller_s_to_see() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    mirror.answer("/admin", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    let answer = running.get("/admin").await;
    assert_eq!((answer.status().as_u16(), served(&answer)), (401, ["b", "false", "2"].map(str::to_owned)));
    assert_eq!((answer.text().await.unwrap().as_str(), mirror.seen("/admin").len()), ("no", 3));
    assert_eq!(running.get("/x").await.status().as_u16(), 200);
    assert_eq!(running.told("").await["active"]["status"], "authenticated");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_heals_before_it_is_confirmed_dead_serves() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    for _ in 0..2 {
        mirror.answer_once("/order", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    }
    let answer = running.relay(Method::POST, "/order").body("떡볶이").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), served(&answer)), (200, ["b", "false", "2"].map(str::to_owned)));
    let bodies: Vec<_> = mirror.seen("/order").into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["떡볶이".as_bytes(); 3]);
    assert_eq!((running.events("expired").await, mirror.seen("/check").len()), (1, 1));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_again_up_to_a_size_and_beyond_it_the_caller_is_told() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    mirror.log_out(&["sid-a"]);
    let largest = vec![b'x'; 256 * 1024];
    let answer = running.relay(Method::POST, "/kept").body(largest.clone()).send().await.unwrap();
    assert_eq!(served(&answer), ["b", "false", "2"]);
    let seen = mirror.seen("/kept");
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.body == largest));
    assert_eq!(seen[1].all("content-length"), ["262144"]);

    // The session of epoch 2 ends, and there is no other: the call is told at once, not parked.
    mirror.log_out(&["sid-a", "sid-b"]);
    let refused = running.relay(Method::POST, "/once").body([&largest[..], b"x"].concat()).send().await.unwrap();
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(problem(refused).await, (503, "session_expired".to_owned()));
    assert_eq!(mirror.seen("/once").len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_with_a_rotating_cookie_keep_the_session() {
    let clock = held();
    let demo = Demo::start(&clock).await;
    let running = demo.house(&clock).await.start().await;
    demo.controls.faults(|faults| faults.rotating_cookie = true);
    // The first answer hands the cookie out; from then on every call must carry one that still counts.
    assert_eq!(running.get("/api/orders?limit=1").await.status().as_u16(), 200);
    let answers = join_all((0..32).map(|_| running.get("/api/orders?limit=1"))).await;
    for answer in answers {
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["ok"], true);
    }
    assert_eq!((running.events("expired").await, demo.controls.counters(USER).expired_answers), (0, 0));
    running.stop().await;
}

//! Fencing: what is known about a session that was passed over changes nothing newer, and a caller may insist on an epoch.

use reqwest::Method;
use serde_json::{Value, json};

use super::house::{Running, held, problem};
use super::mirror::Mirror;

fn fenced(running: &Running, method: Method, path: &str, epoch: u64) -> reqwest::RequestBuilder {
    running.relay(method, path).header("x-session-epoch", epoch)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_insists_on_an_epoch_is_sent_in_that_one_only() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    assert_eq!(fenced(&running, Method::POST, "/x", 1).send().await.unwrap().status().as_u16(), 200);
    for other in [0, 2, u64::MAX] {
        let stale = fenced(&running, Method::GET, "/y", other).send().await.unwrap();
        assert_eq!((stale.status().as_u16(), stale.headers().contains_key("x-session-id")), (409, false));
        let told: Value = stale.json().await.unwrap();
        assert_eq!((&told["code"], &told["epoch"]), (&json!("stale_epoch"), &json!(1)), "{told}");
    }
    for wrong in ["", "one", "-1", "1.0", "18446744073709551616"] {
        let refused = running.relay(Method::GET, "/y").header("x-session-epoch", wrong).send().await.unwrap();
        assert_eq!(problem(refused).await, (400, "invalid_header".to_owned()), "{wrong}");
    }
    assert!(mirror.seen("/y").is_empty());
    // The session expires under the call: the standby takes over, and the call is not made there.
    mirror.log_out(&["sid-a"]);
    let stale = fenced(&running, Method::POST, "/order", 1).body("x").send().await.unwrap();
    assert_eq!(problem(stale).await, (409, "stale_epoch".to_owned()));
    let seen = mirror.seen("/order");
    assert_eq!((seen.len(), seen[0].all("cookie")), (1, vec!["SID=sid-a"]));
    assert_eq!(fenced(&running, Method::POST, "/order", 2).send().await.unwrap().status().as_u16(), 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_call_learns_at_once_that_its_epoch_is_over() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    mirror.log_out(&["sid-a", "sid-b"]);
    // Both sessions end; epoch 2 is the one without a living session.
    let parked = running.relay(Method::GET, "/x").header("x-park-timeout", "0").send().await.unwrap();
    assert_eq!(problem(parked).await.0, 503);
    // What is of an earlier epoch is not parked at all: the clock stands, so it would wait for ever.
    let stale = fenced(&running, Method::GET, "/x", 1).header("x-park-timeout", "10m").send().await.unwrap();
    assert_eq!(problem(stale).await, (409, "stale_epoch".to_owned()));
    // What is of this one goes on when its session turns out to be alive after all, or is told when another serves.
    let waits = fenced(&running, Method::GET, "/y", 2).header("x-park-timeout", "10m").send();
    let heals = async {
        mirror.log_out(&["sid-b"]);
        assert_eq!(running.order("resume").await, 200);
    };
    let (told, ()) = tokio::join!(waits, heals);
    assert_eq!(problem(told.unwrap()).await, (409, "stale_epoch".to_owned()));
    assert_eq!(running.told("").await["epoch"], 3);
    assert!(mirror.seen("/y").is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_late_does_not_end_a_session_that_was_found_alive_since() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    mirror.answer("/hold", "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let late = running.get("/hold");
    let meanwhile = async {
        mirror.entered().await;
        // The session ends and comes back, which the keeper finds out by itself.
        mirror.log_out(&["sid-a"]);
        assert_eq!(running.get("/x").await.headers()["x-session-epoch"], "2");
        mirror.log_out(&[]);
        assert_eq!(running.order("resume").await, 200);
        running.restored().await;
        assert_eq!(running.order("pause").await, 200);
        mirror.release();
        // Sent again, now to the one that serves.
        mirror.entered().await;
        mirror.answer("/hold", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nheld");
        mirror.release();
    };
    let (late, ()) = tokio::join!(late, meanwhile);
    assert_eq!((late.status().as_u16(), &late.headers()["x-session-id"]), (200, &"b".parse().unwrap()));
    let told = running.told("").await;
    assert_eq!((&told["active"]["session_id"], &told["standby"]["status"]), (&json!("b"), &json!("authenticated")));
    assert_eq!((running.events("expired").await, &told["epoch"]), (1, &json!(2)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_at_a_failover_ends_where_it_began_and_moves_on_only_if_it_must() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    for (answer, served, epoch) in [("200 OK", "a", "1"), ("401 Unauthorized", "a", "3")] {
        mirror.answer("/hold", format!("HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        let call = running.get("/hold");
        let meanwhile = async {
            mirror.entered().await;
            assert_eq!(running.order("failover").await, 200);
            mirror.release();
            if answer.starts_with("401") {
                mirror.entered().await;
                mirror.answer("/hold", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                mirror.release();
            }
        };
        let (call, ()) = tokio::join!(call, meanwhile);
        let headers = call.headers();
        assert_eq!((call.status().as_u16(), &headers["x-session-id"]), (200, &served.parse().unwrap()), "{answer}");
        assert_eq!(headers["x-session-epoch"], epoch);
    }
    // What `b` was told late ended `b`, and nothing that serves.
    let told = running.told("").await;
    assert_eq!((&told["active"]["status"], &told["standby"]["status"]), (&json!("authenticated"), &json!("expired")));
    running.stop().await;
}

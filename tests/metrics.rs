//! What `/metrics` tells of portals and the relay. A binary of its own: the numbers are the process's.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

#[path = "relay/house.rs"]
mod house;
#[path = "relay/mirror.rs"]
mod mirror;

use house::{House, PHONE_SECRET, PORTAL, Running, Seed, held, token};
use mirror::Mirror;
use nightporter::operators::Scope;
use reqwest::Method;

async fn page(running: &Running, token: &str) -> String {
    running.client.get(running.url("/metrics")).bearer_auth(token).send().await.unwrap().text().await.unwrap()
}

/// The samples of `name`, the portal's label left out.
fn samples<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let portal = format!("portal=\"{PORTAL}\"");
    let of = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(&portal);
    let mut found: Vec<_> = page.lines().filter(of).map(|line| &line[name.len()..]).collect();
    found.sort_unstable();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_and_relayed_calls_are_counted_by_what_became_of_them() {
    let (mirror, clock) = (Mirror::start().await, held());
    let recipe = format!("{}[[relay.cache]]\npath = \"/kept\"\nttl = \"10s\"\n", mirror.recipe(""));
    let seeds = [Seed::new("a", "sid-a"), Seed::new("b", "sid-b")];
    let running = House::new(&recipe, &seeds, &clock).await.configured("[limits]\nrelay_per_minute = 9").start().await;
    let reader = token(&running.app, "prometheus", &[Scope::Metrics]).await;
    for path in ["/x", "/kept", "/kept"] {
        assert_eq!(running.get(path).await.status().as_u16(), 200);
    }
    mirror.log_out(&["sid-a"]);
    assert_eq!(running.get("/x").await.status().as_u16(), 200);
    mirror.answer("/cut", "HTTP/1.1 2");
    let calls = [(Method::POST, "/cut", "1"), (Method::GET, "/%ED", "99"), (Method::GET, "/x", "2")];
    for (method, path, epoch) in calls {
        running.relay(method, path).header("x-session-epoch", epoch).send().await.unwrap();
    }
    mirror.log_out(&["sid-a", "sid-b"]);
    running.relay(Method::GET, "/x").header("x-park-timeout", "0").send().await.unwrap();
    running.relay(Method::POST, "/cut").header("x-park-timeout", "0").send().await.unwrap();
    assert_eq!(running.get("/x").await.status().as_u16(), 429);
    let sms = running.client.post(running.url("/api/phones/office/sms")).bearer_auth(PHONE_SECRET);
    sms.body(r#"{"from":"1","text":"안녕"}"#).send().await.unwrap();

    let page = page(&running, &reader).await;
    let count = |outcome: &str, count: u32| format!("{{portal=\"{PORTAL}\",outcome=\"{outcome}\"}} {count}");
    let expected = [("cached", 1), ("no_live_session", 2), ("ok", 3), ("refused", 2), ("resent", 1)];
    assert_eq!(
        samples(&page, "nightporter_relay_calls_total"),
        expected.map(|(outcome, n)| count(outcome, n)),
        "{page}"
    );
    assert!(page.contains("nightporter_relay_limited_total{reason=\"per_minute\"} 1"), "{page}");
    assert!(page.contains(&format!("nightporter_relay_seconds_count{{portal=\"{PORTAL}\"}} 9")), "{page}");
    assert!(page.contains("nightporter_sms_total{phone=\"office\",outcome=\"no_login_waiting\"} 1"), "{page}");
    assert_eq!(samples(&page, "nightporter_portal_epoch"), [format!("{{portal=\"{PORTAL}\"}} 2")]);
    let states = samples(&page, "nightporter_portal_state");
    assert_eq!((states.len(), states.iter().filter(|state| state.ends_with(" 1")).count()), (6, 1), "{states:?}");
    assert!(states.contains(&format!("{{portal=\"{PORTAL}\",state=\"paused\"}} 1").as_str()), "{states:?}");
    let slot = |slot: &str| format!("{{portal=\"{PORTAL}\",slot=\"{slot}\",status=\"expired\"}} 1");
    assert_eq!(samples(&page, "nightporter_portal_sessions"), [slot("active"), slot("standby")]);
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
    }
    running.stop().await;
}

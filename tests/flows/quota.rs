//! How many flows of a kind may be alive, and what is counted of them.

use std::time::Duration;

use futures_util::future::join_all;
use nightporter::operators::Scope;
use reqwest::Method;

use crate::desk::Desk;
use crate::provider::Mood;

/// Declares a kind more, so that no other test counts under its name.
async fn declare(desk: &Desk, name: &str, rest: &str) {
    let kind = format!("[flows.{name}]\nfile = \"steps.toml\"\n{rest}\n");
    desk.redeclare("nightporter.toml", |text| text + &kind).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_flows_are_alive_than_may_be() {
    let desk = Desk::new().await;
    declare(&desk, "few", "max_records = 3").await;
    let begun = join_all((0..12).map(|_| desk.send(Method::POST, "few", ""))).await;
    let (good, refused): (Vec<_>, Vec<_>) = begun.iter().partition(|told| told.status == 201);
    assert_eq!((good.len(), refused.len()), (3, 9));
    assert!(refused.iter().all(|told| told.problem() == (507, "too_many_flows", "")), "{}", refused[0].text);
    assert!(refused[0].text.contains("3 flows of this kind are alive"), "{}", refused[0].text);
    assert_eq!(desk.send(Method::POST, "steps", "").await.status, 201, "each kind has its own");
    assert_eq!(desk.send(Method::DELETE, &format!("few/{}", good[0].id()), "").await.status, 204);
    let keyed = [("idempotency-key", "one")];
    let again = desk.send_if(Method::POST, "few", "", &keyed).await;
    assert_eq!((again.status, desk.send(Method::POST, "few", "").await.status), (201, 507));
    assert_eq!(desk.send_if(Method::POST, "few", "", &keyed).await.text, again.text);
    desk.clock.advance(Duration::from_secs(3601));
    assert_eq!(desk.send(Method::POST, "few", "").await.status, 201, "what has expired does not count");
    desk.redeclare("nightporter.toml", |text| text.replace("max_records = 3", "max_records = 1")).await.unwrap();
    assert_eq!(desk.send(Method::POST, "few", "").await.status, 507, "a reload takes the number over");
    let none = desk.redeclare("nightporter.toml", |text| text.replace("max_records = 1", "max_records = 0")).await;
    assert!(none.unwrap_err().contains("flows.few.max_records"));
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_transitions_and_calls_are_counted() {
    let mut desk = Desk::new().await;
    declare(&desk, "counted", "").await;
    let reader = desk.token("prometheus", &[Scope::Metrics]).await;
    let path = format!("counted/{}", desk.send(Method::POST, "counted", r#"{"data":{"who":"a"}}"#).await.id());
    desk.provider.moods(&[Mood::Refusing, Mood::Good]);
    for status in [502, 200, 409] {
        assert_eq!(desk.send(Method::POST, &format!("{path}/look"), "").await.status, status);
    }
    desk.send(Method::POST, &format!("{path}/nowhere"), "").await;
    desk.send(Method::POST, &format!("{path}/go"), "").await;
    desk.until(&path, |flow| flow["status"] == "done").await;
    // The next process counts them as it begins.
    desk.restart().await;
    let counted = async {
        loop {
            let page = desk.metrics(&reader).await;
            if page.contains("nightporter_flows{flow=\"counted\",state=\"done\"} 1") {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    let page = nightporter::clock::within(crate::desk::PATIENCE, counted).await.expect("they are counted");
    for sample in [
        "nightporter_flow_transitions_total{flow=\"counted\",transition=\"look\",outcome=\"ok\"} 1",
        "nightporter_flow_transitions_total{flow=\"counted\",transition=\"look\",outcome=\"provider_failed\"} 1",
        "nightporter_flow_transitions_total{flow=\"counted\",transition=\"look\",outcome=\"illegal\"} 1",
        "nightporter_flow_transitions_total{flow=\"counted\",transition=\"go\",outcome=\"ok\"} 1",
        "nightporter_flow_calls_total{flow=\"counted\",outcome=\"unexpected_answer\"} 1",
        "nightporter_flow_calls_total{flow=\"counted\",outcome=\"ok\"} 4",
        "nightporter_flow_queue ",
    ] {
        assert!(page.contains(sample), "{sample}: {page}");
    }
    assert!(!page.contains("nowhere"), "a client makes no series");
    desk.stop().await;
}

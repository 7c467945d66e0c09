//! The phone against a real HTTP receiver that keeps every byte it was sent.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;
use tokio::net::TcpListener;

use super::format::signature;
use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const START: Time = Time::from_millis(1_700_000_000_000);

/// One webhook as the receiving end saw it.
struct Hook {
    name: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Hook {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

#[derive(Clone)]
struct Receiver {
    hooks: mpsc::UnboundedSender<Hook>,
    refusals: Arc<Mutex<u32>>,
}

async fn take(State(receiver): State<Receiver>, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    receiver.hooks.send(Hook { name, headers, body }).unwrap();
    let mut refusals = receiver.refusals.lock().unwrap();
    if *refusals > 0 {
        *refusals -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    axum::Json(json!({"success": true, "buffered": false})).into_response()
}

struct Desk {
    phone: Phone,
    clock: Clock,
    hooks: mpsc::UnboundedReceiver<Hook>,
    life: Lifecycle,
}

impl Desk {
    async fn new(format: Format, refusals: u32) -> Self {
        let (life, clock) = (Lifecycle::new(), Clock::held(START));
        let (sender, hooks) = mpsc::unbounded_channel();
        let receiver = Receiver { hooks: sender, refusals: Arc::new(Mutex::new(refusals)) };
        let router = Router::new().route("/api/phones/{name}/sms", post(take)).with_state(receiver);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        life.spawn("receiver", async { axum::serve(listener, router).await.unwrap() });
        let settings = Settings { retries: 15, ..Settings::new(format, "office", Secret::new("testkey1")) };
        let phone = Phone::start(settings, &clock, &Random::seeded(3), &life);
        phone.connect(&base);
        Self { phone, clock, hooks, life }
    }

    fn ring(&self, code: &str) {
        self.phone.line().deliver(Sms {
            from: "15881234".into(),
            to: "010-2345-6789".into(),
            text: format!("[Web발신]\n[한빛택배] 인증번호 [{code}] 를 입력해 주세요."),
            sent_at: self.clock.now(),
        });
    }

    async fn hook(&mut self) -> Hook {
        clock::within(LIMIT, self.hooks.recv()).await.unwrap().unwrap()
    }
}

#[test]
fn the_signature_is_the_published_one() {
    let published = "5b28e05f025d90ee09f676000cc2a76de9fc7eed8c2c46dec37bffbe22233854";
    assert_eq!(signature(b"testkey1", br#"{"event":"sms:received"}"#, "1700000000"), published);
}

#[tokio::test]
async fn the_signed_form_has_the_published_signature_encoded_twice() {
    let (life, clock) = (Lifecycle::new(), Clock::held(START));
    let settings = Settings::new(Format::SmsForwarder, "office", Secret::new("secret"));
    let phone = Phone::start(settings, &clock, &Random::seeded(3), &life);
    let sms = Sms { from: "1".into(), to: "2".into(), text: "인증 1+1".into(), sent_at: START };
    let body = String::from_utf8(phone.webhook(&sms).unwrap().body).unwrap();
    let sign = "OuzzJR5%252BxZ4%252FEYwqtNt6sMYZQMTa%252FHEGvc9miJe7XzY%253D";
    assert_eq!(body, format!("from=1&content=%EC%9D%B8%EC%A6%9D%201%2B1&timestamp=1700000000000&sign={sign}"));
}

#[tokio::test]
async fn an_sms_is_posted_as_the_app_posts_it() {
    let mut desk = Desk::new(Format::Capcom6, 0).await;
    desk.ring("572913");
    let hook = desk.hook().await;
    assert_eq!(hook.name, "office");
    assert_eq!(hook.header("x-timestamp"), "1700000000");
    assert_eq!(hook.header("x-signature"), signature(b"testkey1", &hook.body, "1700000000"));
    let json = hook.json();
    assert_eq!(json["event"], "sms:received");
    assert_eq!(json["payload"]["message"], "[Web발신]\n[한빛택배] 인증번호 [572913] 를 입력해 주세요.");
    assert_eq!(json["payload"]["sender"], "15881234");
    assert_eq!(json["payload"]["receivedAt"], "2023-11-15T07:13:20.000+09:00");
    let attempts = desk.phone.attempted(1, LIMIT).await.unwrap();
    assert_eq!((attempts[0].status, &attempts[0].answer["success"]), (Some(200), &json!(true)));
    assert!(!format!("{:?}", desk.phone.inbox()).contains("572913"));
}

#[tokio::test]
async fn the_json_app_carries_its_secret_as_bearer() {
    let mut desk = Desk::new(Format::Json, 0).await;
    desk.ring("123456");
    let hook = desk.hook().await;
    assert_eq!(hook.header("authorization"), "Bearer testkey1");
    assert_eq!(hook.json()["received_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(hook.json()["from"], "15881234");
    assert!(desk.phone.ping().await.is_none());
}

#[tokio::test]
async fn twice_is_another_event_of_the_same_message() {
    let mut desk = Desk::new(Format::Capcom6, 0).await;
    desk.phone.set_mode(Mode::Twice);
    desk.ring("111111");
    let (first, second) = (desk.hook().await.json(), desk.hook().await.json());
    assert_ne!(first["id"], second["id"]);
    assert_eq!(first["payload"], second["payload"]);
}

#[tokio::test]
async fn a_silent_phone_sends_nothing_and_an_offline_one_sends_it_later() {
    let mut desk = Desk::new(Format::Capcom6, 0).await;
    desk.phone.set_mode(Mode::Silent);
    desk.ring("111111");
    desk.phone.received(1, LIMIT).await.unwrap();
    desk.phone.set_mode(Mode::Offline);
    desk.ring("222222");
    desk.ring("333333");
    desk.phone.received(3, LIMIT).await.unwrap();
    assert!(desk.phone.ping().await.is_none());
    desk.phone.set_mode(Mode::Prompt);
    let mut seen = [desk.hook().await.json(), desk.hook().await.json()]
        .map(|json| json["payload"]["message"].as_str().unwrap().to_owned());
    seen.sort();
    assert!(seen[0].contains("222222") && seen[1].contains("333333"), "{seen:?}");
    desk.phone.attempted(2, LIMIT).await.unwrap();
    assert!(desk.hooks.try_recv().is_err());
}

#[tokio::test]
async fn a_delayed_sms_waits_for_the_clock() {
    let mut desk = Desk::new(Format::Capcom6, 0).await;
    desk.phone.set_mode(Mode::Delayed(Duration::from_secs(30)));
    desk.ring("444444");
    desk.phone.received(1, LIMIT).await.unwrap();
    desk.clock.advance(Duration::from_secs(29));
    assert!(desk.phone.ping().await.is_some(), "the ping is a round trip during which nothing else was sent");
    assert_eq!(desk.hook().await.json()["event"], "system:ping");
    assert!(desk.hooks.try_recv().is_err());
    desk.clock.advance(Duration::from_secs(1));
    let late = desk.hook().await.json();
    assert_eq!(late["event"], "sms:received");
    assert_eq!(late["payload"]["receivedAt"], "2023-11-15T07:13:20.000+09:00", "the carrier's time, not the phone's");
}

#[tokio::test]
async fn a_refused_webhook_is_retried_with_the_same_event_and_a_new_timestamp() {
    let mut desk = Desk::new(Format::Capcom6, 2).await;
    desk.ring("555555");
    let first = desk.hook().await;
    desk.phone.attempted(1, LIMIT).await.unwrap();
    desk.clock.advance(Duration::from_secs(10));
    let second = desk.hook().await;
    desk.phone.attempted(2, LIMIT).await.unwrap();
    desk.clock.advance(Duration::from_secs(20));
    let third = desk.hook().await;
    assert_eq!(first.json(), third.json());
    assert_eq!(
        [&first, &second, &third].map(|hook| hook.header("x-timestamp").to_owned()),
        ["1700000000", "1700000010", "1700000030"]
    );
    let attempts = desk.phone.attempted(3, LIMIT).await.unwrap();
    let told: Vec<_> = attempts.iter().map(|attempt| (attempt.number, attempt.status)).collect();
    assert_eq!(told, [(1, Some(503)), (2, Some(503)), (3, Some(200))]);
    assert!(!desk.life.stopping().is_cancelled());
}

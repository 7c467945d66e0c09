//! The one-time link of an alert: a code that no phone forwards, typed by whoever holds the mail.

use std::time::Duration;

use nightporter::clock::{self, Clock, Time};
use nightporter::demo::phone::Mode;
use nightporter::secret::fingerprint;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};

use crate::stage::{PATIENCE, Scene, Stage};

const LOOK: Duration = Duration::from_millis(20);

/// What opens the link of the mail of that number.
struct Hand {
    url: String,
    client: Client,
}

impl Hand {
    /// The link of the mail is meant for the public address; the appliance answers here.
    async fn of(stage: &Stage, mail: usize) -> Self {
        let body = stage.mail(mail).await.body();
        let (_, rest) = body.split_once("https://porter.example/code/").unwrap_or_else(|| panic!("no link in {body}"));
        let token = rest.split_whitespace().next().unwrap();
        assert!(token.len() == 32, "192 bits: {token}");
        let client = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { url: stage.url(&format!("/code/{token}")), client }
    }

    async fn look(&self) -> (StatusCode, String) {
        read(self.client.get(&self.url).send().await.unwrap()).await
    }

    async fn press(&self) -> StatusCode {
        self.post("login", "now").await.status()
    }

    async fn type_code(&self, code: &str) -> (StatusCode, String) {
        read(self.post("code", code).await).await
    }

    async fn post(&self, name: &str, value: &str) -> Response {
        let form = url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
        self.client.post(&self.url).body(form).send().await.unwrap()
    }

    /// Begins a login and waits until the page asks for its code.
    async fn log_in(&self) {
        assert_eq!(self.press().await, 303);
        let asked = async {
            while !self.look().await.1.contains("name=\"code\"") {
                clock::pause(LOOK).await;
            }
        };
        clock::within(PATIENCE, asked).await.expect("the page never asked for the code");
    }
}

async fn read(answer: Response) -> (StatusCode, String) {
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("script"), "{policy}");
    assert!(!answer.headers().contains_key("set-cookie"));
    let (policy, status, page) = (policy.to_owned(), answer.status(), answer.text().await.unwrap());
    let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).unwrap().0;
    let hash = data_encoding::HEXLOWER.decode(fingerprint(style.as_bytes()).as_bytes()).unwrap();
    let allowed = format!("'sha256-{}'", data_encoding::BASE64.encode(&hash));
    assert!(policy.contains(&allowed), "the page's own style is refused by {policy}");
    (status, page)
}

/// A portal that has given up because no code came, in a time that stands still otherwise.
async fn without_a_code() -> Stage {
    let clock = Clock::held(Time::from_millis(1_800_000_000_000));
    let mut stage = Stage::set(Scene {
        clock,
        sessions: "single",
        recipe: &[("attempts = 2", "attempts = 1")],
        ..Scene::default()
    })
    .await;
    let plain = std::fs::read_to_string(stage.path("nightporter.toml")).unwrap();
    let public = plain.replace("[server]\n", "[server]\npublic_url = \"https://porter.example\"\n");
    stage.write("nightporter.toml", &public);
    stage.phone.set_mode(Mode::Silent);
    stage.start().await;
    let waiting = async {
        loop {
            let state = stage.state().await;
            match state["active"]["status"].as_str() {
                Some("failed") => return,
                Some("awaiting_code") => stage.clock.advance(Duration::from_secs(10)),
                _ => clock::pause(LOOK).await,
            }
        }
    };
    clock::within(PATIENCE, waiting).await.unwrap();
    stage
}

/// The newest code on the silent phone's screen.
async fn newest(stage: &Stage) -> String {
    let sent = usize::try_from(stage.counters().codes_sent).unwrap();
    let screen = stage.phone.received(sent, PATIENCE).await.unwrap();
    screen[sent - 1].text.chars().filter(char::is_ascii_digit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_takes_a_code_by_hand_and_is_used_up_by_one_that_works() {
    let stage = without_a_code().await;
    let hand = Hand::of(&stage, 1).await;
    let before = stage.counters();
    // A scanner of mails looks at every link.
    for _ in 0..3 {
        let (status, page) = hand.look().await;
        assert!(status == 200 && page.contains("Log in to hanbit") && page.contains("Log in now"), "{page}");
    }
    assert_eq!(hand.type_code("123456").await.1.matches("the code was not used").count(), 1);
    assert_eq!((stage.counters().logins_attempted, stage.mailbox.count()), (before.logins_attempted, 1));

    hand.log_in().await;
    assert_eq!(hand.press().await, 303, "pressed twice, it is one login");
    assert!(hand.type_code("no, sorry!").await.1.contains("codes have 6 digits"));
    let (status, page) = hand.type_code("000-000").await;
    assert!(status == 200 && page.contains("with that code failed") && page.contains("Log in now"), "{page}");
    assert_eq!(stage.counters().logins_attempted, before.logins_attempted + 1);

    hand.log_in().await;
    let (status, page) = hand.type_code(&newest(&stage).await).await;
    assert!(status == 200 && page.contains("hanbit is logged in") && page.contains("used up"), "{page}");
    stage.live().await;
    assert_eq!(stage.told_of("code_typed").await, ["by somebody with the one-time link"; 2]);
    let (status, gone) = hand.look().await;
    let unknown = Hand { url: stage.url(&format!("/code/{}", "A".repeat(32))), client: hand.client.clone() };
    assert_eq!((status, &gone), (StatusCode::NOT_FOUND, &unknown.look().await.1), "used and unknown look alike");
    assert_eq!((hand.press().await, unknown.press().await), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_by_its_time_and_by_its_number_of_tries() {
    let stage = without_a_code().await;
    let hand = Hand::of(&stage, 1).await;
    for _ in 0..3 {
        hand.log_in().await;
        assert!(hand.type_code("000000").await.1.contains("with that code failed"));
    }
    assert_eq!(hand.press().await, StatusCode::TOO_MANY_REQUESTS);
    assert!(hand.look().await.1.contains("Log in now"), "looking goes on");
    // The refused codes were told in a letter of their own, with a link of its own.
    let second = Hand::of(&stage, 2).await;
    assert!(second.url != hand.url);
    stage.clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(second.look().await.0, StatusCode::OK);
    stage.clock.advance(Duration::from_secs(61));
    for link in [&hand, &second] {
        assert_eq!((link.look().await.0, link.press().await), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
    }
    assert_eq!(stage.counters().logins_attempted, 4);
    stage.strike().await;
}

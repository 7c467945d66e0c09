//! The seven apps that forward SMS, each as the demo phone speaks it, end to end through the HTTP route: what is real is
//! used once; what was touched, replayed or sent twice is not. And a phone that falls silent is told of before it is needed.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nightporter::app::{self, App, Setup};
use nightporter::clock::{Clock, Time};
use nightporter::config::Sources;
use nightporter::demo::mailbox::Mailbox;
use nightporter::demo::phone::{Attempt, Format, Mode, Phone, Settings, Sms, Webhook};
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::operators::Scope;
use nightporter::portals::code::Rules;
use nightporter::portals::inbox::{CODE_TIMEOUT, Expected, Turn};
use nightporter::secret::Secret;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const SECRET: &str = "the phone's secret";
/// What the apps were told; behind a proxy it is not where the test listens.
const PUBLIC: &str = "https://porter.example.com";
const TEXT: &str = "[Web발신]\n[한빛택배] 인증번호 [572913] 를 입력해 주세요. \"타인노출금지\" & 100%+";

/// A desk with a phone, a mail server, and the appliance.
struct Desk {
    clock: Clock,
    life: Lifecycle,
    dir: tempfile::TempDir,
    mailbox: Mailbox,
    phone: Phone,
    client: reqwest::Client,
    starts: u64,
    app: Option<App>,
    token: String,
}

impl Desk {
    async fn new(format: Format, more: &str) -> Self {
        let (clock, life) = (Clock::held(Time::from_millis(1_800_000_000_000)), Lifecycle::new());
        let dir = tempfile::tempdir().unwrap();
        let mailbox = Mailbox::start(None, &clock, &life).await.unwrap();
        let settings =
            Settings { public_url: Some(PUBLIC.to_owned()), ..Settings::new(format, "office", Secret::new(SECRET)) };
        let phone = Phone::start(settings, &clock, &Random::seeded(3), &life);
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let (path, mail, format) = (dir.path().display(), mailbox.url(), format.name());
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{PUBLIC}\"\n[store]\nurl = \"sled:{path}/store\"\n\
             [browser]\nruntime_dir = \"{path}/run\"\n[mail]\nurl = \"{mail}\"\nfrom = \"porter@example.com\"\n\
             [alerts]\nemail = [\"ops@example.com\"]\n\
             [phones.office]\nforwarder = \"{format}\"\nsecret = \"{SECRET}\"\n{more}"
        );
        fs::write(dir.path().join("nightporter.toml"), config).unwrap();
        fs::set_permissions(dir.path().join("nightporter.toml"), PermissionsExt::from_mode(0o600)).unwrap();
        let token = String::new();
        let mut desk = Self { clock, life, dir, mailbox, phone, client, starts: 0, app: None, token };
        desk.start().await;
        desk
    }

    async fn start(&mut self) {
        self.starts += 1;
        let file: Option<PathBuf> = Some(self.dir.path().join("nightporter.toml"));
        let sources = Sources { file, ..Sources::default() };
        let setup = Setup {
            config: app::load(&sources).unwrap_or_else(|error| panic!("{error:?}")),
            sources,
            clock: self.clock.clone(),
            random: Random::seeded(100 + self.starts),
            metrics: Metrics::install().unwrap(),
            log: None,
        };
        let app = App::start(setup).await.unwrap();
        self.phone.connect(&format!("http://{}", app.address()));
        if self.starts == 1 {
            let scopes = BTreeSet::from([Scope::PortalsRead, Scope::Metrics]);
            self.token = app.parts().operators.add("test", scopes, None).await.unwrap().text.expose().to_owned();
        }
        self.app = Some(app);
    }

    async fn stop(&mut self) {
        assert!(self.app.take().unwrap().stop(PATIENCE).await, "something did not stop in time");
    }

    async fn clear(mut self) {
        self.stop().await;
        assert!(self.life.shutdown(PATIENCE).await);
    }

    fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.app().address())
    }

    /// A login that has clicked "send code".
    async fn asked(&self) -> Turn {
        let deadline = self.clock.now() + CODE_TIMEOUT;
        let mut turn = self.app().parts().inbox.turn(&["office"], "hanbit", deadline).await.unwrap();
        let rules = Rules { length: 6, anchors: vec!["인증번호".to_owned()], pattern: None, host: None };
        let senders = vec!["1588-1234".to_owned()];
        turn.expect(Expected { rules, senders, timeout: CODE_TIMEOUT }).await.unwrap();
        turn
    }

    fn sms(&self, text: &str) -> Sms {
        let (from, to) = ("15881234".to_owned(), self.phone.number().to_owned());
        Sms { from, to, text: text.to_owned(), sent_at: self.clock.now() }
    }

    /// Sends a webhook as it is; returns status, answer, and whether the answer says how to authenticate.
    async fn post(&self, webhook: &Webhook) -> (u16, Value) {
        let request = self.client.post(self.url(&webhook.path)).body(webhook.body.clone());
        let request = webhook.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let answer = request.send().await.unwrap();
        let (status, challenge) = (answer.status().as_u16(), answer.headers().contains_key("www-authenticate"));
        assert_eq!(challenge, status == 401);
        let text = answer.text().await.unwrap();
        assert!(!text.contains(SECRET) && !text.contains("572913"), "{text}");
        (status, serde_json::from_str(&text).unwrap())
    }

    async fn refused(&self, webhook: &Webhook, what: &str) {
        let (status, told) = self.post(webhook).await;
        assert_eq!((status, &told["code"]), (401, &json!("bad_signature")), "{what}: {told}");
    }

    async fn told(&self, path: &str) -> Value {
        let answer = self.client.get(self.url(path)).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    async fn state(&self) -> Value {
        self.told("/api/phones/office").await["state"].clone()
    }

    async fn attempt(&self, number: usize) -> Attempt {
        self.phone.attempted(number, PATIENCE).await.unwrap()[number - 1].clone()
    }
}

fn useless(reason: &str) -> (u16, Value) {
    (200, json!({"success": false, "reason": reason}))
}

/// A touched copy of each part of a webhook that its signature covers.
fn touched(webhook: &Webhook, format: Format) -> Vec<Webhook> {
    let mut all = Vec::new();
    for (index, (name, value)) in webhook.headers.iter().enumerate().filter(|(_, (name, _))| *name != "content-type") {
        if matches!(*name, "user-agent") {
            continue;
        }
        let mut changed = webhook.clone();
        changed.headers[index].1 = value.replacen(&value[value.len() - 2..value.len() - 1], "_", 1);
        all.push(changed);
        let mut doubled = webhook.clone();
        doubled.headers.push((name, value.clone()));
        all.push(doubled);
        let mut without = webhook.clone();
        without.headers.remove(index);
        all.push(without);
    }
    let replaced = |from: &str, to: &str| {
        let body = String::from_utf8(webhook.body.clone()).unwrap();
        assert!(body.contains(from), "{from}");
        Webhook { body: body.replace(from, to).into_bytes(), ..webhook.clone() }
    };
    match format {
        Format::Capcom6 | Format::TextBee | Format::Twilio => all.push(replaced("572913", "572914")),
        Format::SmsForwarder => all.extend([replaced("timestamp=1", "timestamp=2"), replaced("sign=", "sing=")]),
        Format::HttpSms | Format::Bogkonstantin | Format::Json => {}
    }
    all
}

/// What every format must bear.
async fn forwards(format: Format) {
    let mut desk = Desk::new(format, "").await;
    let known = desk.told("/api/phones/office").await;
    assert_eq!((&known["forwarder"], &known["last_seen_at"]), (&json!(format.name()), &Value::Null));
    let pings = matches!(format, Format::Capcom6 | Format::HttpSms);
    let ping = desk.phone.ping().await;
    assert_eq!(ping.map(|ping| ping.answer), pings.then(|| json!({"success": true})));
    assert_eq!(desk.told("/api/phones/office").await["last_seen_at"].is_string(), pings);

    // A real one, forwarded twice.
    let mut login = desk.asked().await;
    desk.phone.set_mode(Mode::Twice);
    desk.phone.line().deliver(desk.sms(TEXT));
    let pinged = usize::from(pings);
    assert_eq!(desk.attempt(pinged + 1).await.answer, json!({"success": true, "buffered": true}));
    assert_eq!(desk.attempt(pinged + 2).await.answer, json!({"success": false, "reason": "duplicate"}));
    let code = login.code(desk.clock.now() + MINUTE).await.unwrap();
    assert_eq!(code.secret.expose(), "572913");
    login.accepted().await.unwrap();
    drop(login);
    let now = desk.clock.now().to_string();
    let expected = json!({"name": "office", "forwarder": format.name(), "state": "proven", "last_seen_at": now,
        "last_sms_at": now, "proven_at": now, "portals": []});
    assert_eq!(desk.told("/api/phones/office").await, expected);
    assert_eq!(desk.told("/api/phones").await, json!({"phones": [expected]}));

    // Recorded on its way, touched, and sent again in the window of the next login, before and after a restart.
    desk.clock.advance(MINUTE);
    let long = format!("{}{TEXT}", "여러 통으로 나뉘어 온 긴 문자입니다. ".repeat(50));
    let recorded = desk.phone.webhook(&desk.sms(&long)).unwrap();
    for (number, webhook) in touched(&recorded, format).iter().enumerate() {
        desk.refused(webhook, &format!("touched in the way {number}")).await;
    }
    assert_eq!(desk.post(&recorded).await, useless("no_login_waiting"));
    let login = desk.asked().await;
    assert_eq!(desk.post(&recorded).await, useless("duplicate"));
    drop(login);
    desk.stop().await;
    desk.start().await;
    let _login = desk.asked().await;
    assert_eq!(desk.post(&recorded).await, useless("duplicate"));
    desk.clock.advance(MINUTE * 11);
    match format {
        Format::Capcom6 | Format::SmsForwarder | Format::HttpSms => desk.refused(&recorded, "late").await,
        _ => assert_eq!(desk.post(&recorded).await, useless("duplicate")),
    }
    let huge = Webhook { body: vec![b'x'; 300 << 10], ..recorded };
    assert_eq!(desk.post(&huge).await.0, 413);
    desk.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capcom6_forwards() {
    forwards(Format::Capcom6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn httpsms_forwards() {
    forwards(Format::HttpSms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smsforwarder_forwards() {
    forwards(Format::SmsForwarder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bogkonstantin_forwards() {
    forwards(Format::Bogkonstantin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn textbee_forwards() {
    forwards(Format::TextBee).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_forwards() {
    forwards(Format::Twilio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_forwards() {
    forwards(Format::Json).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_falls_silent_is_told_once_and_once_when_it_speaks_again() {
    let mut desk = Desk::new(Format::Capcom6, "silent_after = \"2h\"\n").await;
    desk.phone.ping().await.unwrap();
    assert_eq!(desk.state().await, "unproven");
    desk.clock.advance(HOUR * 2);
    let mail = desk.mailbox.nth(1, PATIENCE).await.unwrap();
    assert!(mail.subject().contains("Phone office has fallen silent"), "{}", mail.subject());
    for part in ["has not been heard of since", "phone_silent", "No portal needs it", "battery"] {
        assert!(mail.body().contains(part), "{part} is not in {}", mail.body());
    }
    assert_eq!(desk.state().await, "silent");
    // Restarts and days do not tell it again.
    desk.stop().await;
    desk.start().await;
    assert_eq!(desk.state().await, "silent");
    desk.clock.advance(HOUR * 24);
    desk.stop().await;
    desk.start().await;
    let open = desk.app().parts().alerts.list().await.unwrap();
    assert_eq!((open.len(), open[0].subject.as_str(), open[0].open), (1, "phone/office", true));
    // A login tries it all the same.
    let mut login = desk.asked().await;
    desk.phone.line().deliver(desk.sms(TEXT));
    assert_eq!(desk.attempt(2).await.answer, json!({"success": true, "buffered": true}));
    assert_eq!(login.code(desk.clock.now() + MINUTE).await.unwrap().secret.expose(), "572913");
    let mail = desk.mailbox.nth(2, PATIENCE).await.unwrap();
    assert!(mail.subject().contains("Phone office is heard of again"), "{}", mail.subject());
    assert_eq!(desk.state().await, "unproven");
    let metrics = desk.client.get(desk.url("/metrics")).bearer_auth(&desk.token).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("nightporter_phone_last_seen_timestamp_seconds{phone=\"office\"} 18000"), "{metrics}");
    assert_eq!(desk.mailbox.count(), 2);
    desk.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_that_used_to_come_are_missed_without_being_configured() {
    let desk = Desk::new(Format::HttpSms, "").await;
    for _ in 0..4 {
        desk.phone.ping().await.unwrap();
        desk.clock.advance(MINUTE * 30);
    }
    assert_eq!(desk.state().await, "unproven");
    desk.clock.advance(HOUR);
    assert_eq!(desk.state().await, "unproven");
    desk.clock.advance(HOUR);
    desk.mailbox.nth(1, PATIENCE).await.unwrap();
    assert_eq!(desk.state().await, "silent");
    desk.phone.ping().await.unwrap();
    desk.mailbox.nth(2, PATIENCE).await.unwrap();
    assert_eq!(desk.state().await, "unproven");
    desk.clear().await;
}

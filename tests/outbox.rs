//! The outbox's and the alerts' promises: a real store, a real SMTP server, real HTTP endpoints on loopback, and the
//! clock held, so that a cooldown or a back-off passes when the test says so.
#![allow(clippy::disallowed_methods, reason = "a test's own servers are spawned here")]

#[path = "outbox/smtp.rs"]
mod smtp;
#[path = "outbox/web.rs"]
mod web;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightporter::alerts::{self, Alert, Alerts, Raised, Resolved};
use nightporter::clock::{Clock, Time, within};
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::outbox::{
    Attachment, Channel, Content, Entry, MailSettings, Message, Outbox, Settings, State, TelegramSettings,
    WebhookSettings,
};
use nightporter::secret::{Secret, Vault, hmac_sha256};
use nightporter::store::{Durability, Record, Store};
use serde::{Deserialize, Serialize};
use smtp::{Closed, Mail, Mood, Smtp};
use tokio::sync::mpsc::UnboundedReceiver;
use web::{Endpoint, Post};

const MINUTE: Duration = Duration::from_secs(60);

/// The outbox's letters, as far as one may listen to them.
#[derive(Serialize, Deserialize)]
struct Letters;

impl Record for Letters {
    const SPACE: &'static str = "outbox";
    const SCHEMA: u8 = 1;
}

struct Bench {
    store: Store,
    outbox: Outbox,
    alerts: Alerts,
    clock: Clock,
    life: Lifecycle,
    dir: tempfile::TempDir,
    settings: Settings,
    to: Vec<Channel>,
    lives: u64,
}

impl Bench {
    fn new(settings: Settings, to: &[Channel]) -> Self {
        let clock = Clock::held(Time::from_millis(1_700_000_000_000));
        Self::open(tempfile::tempdir().unwrap(), clock, settings, to.to_vec(), 1)
    }

    fn open(dir: tempfile::TempDir, clock: Clock, settings: Settings, to: Vec<Channel>, lives: u64) -> Self {
        let life = Lifecycle::new();
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let vault = Arc::new(Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap());
        // Another process draws other ids.
        let random = Random::seeded(lives);
        let outbox =
            Outbox::start(store.clone(), vault.clone(), clock.clone(), random.clone(), settings.clone(), &life)
                .unwrap();
        let told = alerts::Settings {
            cooldown: MINUTE * 10,
            channels: to.clone(),
            public_url: Some("https://porter.example.com".to_owned()),
        };
        let alerts = Alerts::start(store.clone(), outbox.clone(), vault, clock.clone(), random, told, &life);
        Self { store, outbox, alerts, clock, life, dir, settings, to, lives }
    }

    /// Ends everything and starts it again on the same store with other settings.
    async fn restart(self, settings: Settings) -> Self {
        let Self { store, outbox, alerts, clock, life, dir, to, lives, .. } = self;
        assert!(life.shutdown(Duration::from_secs(60)).await, "a task did not stop");
        drop((store, outbox, alerts));
        Self::open(dir, clock, settings, to, lives + 1)
    }

    /// Waits until the outbox looks as wanted. The changes are subscribed to first, so none is missed.
    async fn until(&self, wanted: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        let mut changes = self.store.changes::<Letters>();
        within(Duration::from_secs(60), async {
            loop {
                let entries = self.outbox.list().await.unwrap();
                if wanted(&entries) {
                    return entries;
                }
                changes.recv().await.unwrap();
            }
        })
        .await
        .expect("the outbox did not come to look as wanted")
    }

    async fn until_sent(&self, count: usize) -> Vec<Entry> {
        self.until(|entries| {
            entries.len() == count && entries.iter().all(|entry| matches!(entry.state, State::Sent(_)))
        })
        .await
    }

    async fn raise(&self, cause: &str) -> Raised {
        self.alerts.raise("portal/vroong", &alert(cause)).await.unwrap()
    }

    async fn resolve(&self) -> Resolved {
        self.alerts.resolve("portal/vroong", "vroong is back", "Both sessions are logged in.").await.unwrap()
    }

    /// Proves that nothing more is on its way: a message raised now about something else comes next and is the last.
    async fn expect_only_the_mark(&self, mails: &mut UnboundedReceiver<Mail>, already: usize) {
        let mark = Alert { title: "mark".to_owned(), ..alert("mark") };
        assert_eq!(self.alerts.raise("mark", &mark).await.unwrap(), Raised::Sent);
        assert_eq!(next(mails).await.header("Subject").unwrap(), "[Nightporter] mark");
        self.until_sent(already + 1).await;
        assert!(mails.try_recv().is_err());
    }
}

fn alert(cause: &str) -> Alert {
    Alert {
        cause: cause.to_owned(),
        title: "바룽: 로그인이 안 됩니다".to_owned(),
        body: "비밀번호가 거부되었습니다. 새 비밀번호를 설정하세요.".to_owned(),
        attachments: Vec::new(),
    }
}

fn ops() -> Channel {
    Channel::Mail { to: "ops@example.com".to_owned() }
}

fn mail(url: &str) -> Settings {
    let mail = MailSettings::new(url, None, None, "나이트포터 <porter@example.com>").unwrap();
    Settings { mail: Some(mail), ..Settings::default() }
}

fn message(bench: &Bench, id: &str, channel: Channel) -> Message {
    let content = Content::new("점검", "시험 문자");
    let created_at = bench.clock.now();
    Message { id: id.to_owned(), channel, content, files: Vec::new(), created_at, expires_at: None }
}

async fn next<T>(arrivals: &mut UnboundedReceiver<T>) -> T {
    within(Duration::from_secs(60), arrivals.recv()).await.expect("nothing arrived").expect("the server ended")
}

#[tokio::test]
async fn an_alert_arrives_as_a_mail_with_its_korean_and_its_picture() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[ops()]);
    // More than one piece of a record, and every byte value.
    let bytes: Vec<u8> = (0..150_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let picture = Attachment { name: "화면.png".to_owned(), mime: "image/png".to_owned(), bytes: bytes.clone() };
    let huge =
        Attachment { name: "huge.png".to_owned(), mime: "image/png".to_owned(), bytes: vec![0; 1024 * 1024 + 1] };
    let alert = Alert { attachments: vec![picture, huge], ..alert("captcha") };
    assert_eq!(bench.alerts.raise("portal/vroong", &alert).await.unwrap(), Raised::Sent);
    let mail = next(&mut server.mails).await;
    assert_eq!(mail.to, ["ops@example.com"]);
    assert_eq!(mail.header("Subject").unwrap(), "[Nightporter] 바룽: 로그인이 안 됩니다");
    assert_eq!(mail.header("From").unwrap(), "나이트포터 <porter@example.com>");
    assert_eq!(mail.header("Auto-Submitted").unwrap(), "auto-generated");
    assert_eq!(mail.header("Date").unwrap(), "Tue, 14 Nov 2023 22:13:20 +0000");
    let id = mail.header("Message-ID").unwrap();
    assert!(id.starts_with('<') && id.ends_with("@example.com>") && id.len() < 70, "{id}");
    let text = mail.text();
    for part in [
        "비밀번호가 거부되었습니다.",
        "huge.png",
        "About: portal/vroong",
        "Cause: captcha",
        "(https://porter.example.com)",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let parts = mail.parts();
    assert!(parts.len() == 2 && parts[1] == bytes, "the picture arrives unharmed");
    let entries = bench.until_sent(1).await;
    assert_eq!(entries[0].subject, "[Nightporter] 바룽: 로그인이 안 됩니다");
}

#[tokio::test]
async fn a_subject_cannot_become_a_second_header() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[]);
    let content = Content::new("경고\r\nBcc: evil@example.com\r\n\r\n", ".\r\nQUIT\n점 하나");
    bench.outbox.enqueue(vec![Message { content, ..message(&bench, "x", ops()) }]).await.unwrap();
    let mail = next(&mut server.mails).await;
    assert_eq!((mail.to.as_slice(), mail.header("Bcc")), (["ops@example.com".to_owned()].as_slice(), None));
    assert_eq!(mail.header("Subject").unwrap(), "경고  Bcc: evil@example.com");
    assert_eq!(mail.text().trim_end(), ".\nQUIT\n점 하나");
}

#[tokio::test]
async fn a_mail_with_a_page_carries_both_texts_and_its_files() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[]);
    let content = Content::new("확인 코드", "코드: 123456").with_html("<p>코드: <b>123456</b></p>".to_owned());
    bench.outbox.enqueue(vec![Message { content, ..message(&bench, "both", ops()) }]).await.unwrap();
    let mail = next(&mut server.mails).await;
    assert!(mail.header("Content-Type").unwrap().starts_with("multipart/alternative"));
    let parts = mail.parts().into_iter().map(|part| String::from_utf8(part).unwrap().trim_end().to_owned());
    assert_eq!(parts.collect::<Vec<_>>(), ["코드: 123456", "<p>코드: <b>123456</b></p>"]);
}

#[tokio::test]
async fn a_mail_that_is_of_no_use_any_more_is_not_sent() {
    let closed = Closed::new();
    let bench = Bench::new(mail(&format!("smtp://{}", closed.address())), &[]);
    let ends = bench.clock.now() + Duration::from_secs(60);
    let code = Message { expires_at: Some(ends), ..message(&bench, "code", ops()) };
    bench.outbox.enqueue(vec![code, message(&bench, "stays", ops())]).await.unwrap();
    // Not before it is settled: an attempt that ends after the clock was moved on lets the channel rest from then on.
    let tried_once = |entry: &Entry| entry.attempts == 1 && entry.state == State::Queued;
    bench.until(|entries| entries.iter().any(|entry| entry.id == "code" && tried_once(entry))).await;
    bench.clock.advance(Duration::from_secs(60));
    let failed = |entry: &Entry| {
        entry.id == "code"
            && matches!(&entry.state, State::Failed(reason) if reason.starts_with("not delivered while it was of use"))
    };
    let waits = |entry: &Entry| entry.id == "stays" && tried_once(entry);
    bench.until(|entries| entries.iter().any(failed) && entries.iter().any(waits)).await;
    let mut server = closed.open(Mood::default());
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(next(&mut server.mails).await.header("Subject").unwrap(), "점검");
    bench.until(|entries| entries.iter().any(|entry| matches!(entry.state, State::Sent(_)))).await;
    assert!(server.mails.try_recv().is_err());
}

#[tokio::test]
async fn a_dead_server_is_tried_again_with_growing_pauses_and_one_mail_comes() {
    let closed = Closed::new();
    let bench = Bench::new(mail(&format!("smtp://{}", closed.address())), &[ops()]);
    bench.raise("no_sms").await;
    // At least 4 s and at most 6 s, then 8 to 12, then 16 to 24.
    for (attempt, seconds) in [(1, 6), (2, 12), (3, 24)] {
        let entries =
            bench.until(|entries| entries.iter().any(|e| e.state == State::Queued && e.attempts == attempt)).await;
        assert!(entries[0].last_error.as_deref().unwrap().starts_with("connecting:"), "{entries:?}");
        if attempt < 3 {
            bench.clock.advance(Duration::from_secs(seconds));
        }
    }
    let mut server = closed.open(Mood::default());
    // The third pause is at least 16 s.
    bench.clock.advance(Duration::from_secs(15));
    assert_eq!(bench.outbox.list().await.unwrap()[0].attempts, 3);
    bench.clock.advance(Duration::from_secs(9));
    next(&mut server.mails).await;
    assert_eq!(bench.until_sent(1).await[0].attempts, 4);
    bench.expect_only_the_mark(&mut server.mails, 1).await;
}

#[tokio::test]
async fn what_was_taken_before_the_end_is_sent_once_after_the_start() {
    // No mail server is set in the first life: everything is written down and nothing leaves.
    let bench = Bench::new(Settings::default(), &[ops()]);
    let mark = message(&bench, "twice", ops());
    bench.outbox.enqueue(vec![mark.clone()]).await.unwrap();
    bench.outbox.enqueue(vec![mark]).await.unwrap();
    assert_eq!(bench.raise("no_sms").await, Raised::Sent);
    let mut server = Smtp::start(Mood::default());
    let bench = bench.restart(mail(&server.url())).await;
    let mut subjects =
        [next(&mut server.mails).await, next(&mut server.mails).await].map(|m| m.header("Subject").unwrap());
    subjects.sort();
    assert_eq!(subjects, ["[Nightporter] 바룽: 로그인이 안 됩니다", "점검"]);
    bench.until_sent(2).await;
    let settings = bench.settings.clone();
    let bench = bench.restart(settings).await;
    bench.outbox.enqueue(vec![message(&bench, "twice", ops())]).await.unwrap();
    bench.expect_only_the_mark(&mut server.mails, 2).await;
}

#[tokio::test]
async fn what_only_the_incident_carries_at_the_end_is_sent_after_the_start() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[ops()]);
    // Mover and couriers are gone; the store still takes the change that a domain is making.
    assert!(bench.life.shutdown(Duration::from_secs(60)).await);
    assert_eq!(bench.raise("no_sms").await, Raised::Sent);
    assert!(bench.outbox.list().await.unwrap().is_empty());
    let settings = bench.settings.clone();
    let bench = bench.restart(settings).await;
    assert!(next(&mut server.mails).await.text().contains("비밀번호가"));
    bench.until_sent(1).await;
    bench.expect_only_the_mark(&mut server.mails, 1).await;
}

#[tokio::test]
async fn an_attempt_that_the_end_cut_off_is_made_again_with_the_same_message_id() {
    // A server that accepts the connection and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(mail(&format!("smtp://{}", silent.local_addr().unwrap())), &[ops()]);
    bench.outbox.enqueue(vec![message(&bench, "cut", ops())]).await.unwrap();
    let _held = within(MINUTE, silent.accept()).await.unwrap().unwrap();
    bench.until(|entries| entries[0].state == State::Sending).await;
    let mut server = Smtp::start(Mood::default());
    let bench = bench.restart(mail(&server.url())).await;
    let id = next(&mut server.mails).await.header("Message-ID").unwrap();
    bench.until_sent(1).await;
    // Another store, the same id: the Message-ID is a function of it.
    let other = Bench::new(mail(&server.url()), &[]);
    other.outbox.enqueue(vec![message(&other, "cut", ops())]).await.unwrap();
    assert_eq!(next(&mut server.mails).await.header("Message-ID").unwrap(), id);
}

#[tokio::test]
async fn the_cooldown_holds_across_a_restart_and_other_causes_have_their_own() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[ops()]);
    assert_eq!(bench.raise("no_sms").await, Raised::Sent);
    bench.clock.advance(MINUTE);
    assert_eq!(bench.raise("no_sms").await, Raised::Already);
    next(&mut server.mails).await;
    bench.until_sent(1).await;
    let settings = bench.settings.clone();
    let bench = bench.restart(settings).await;
    bench.clock.advance(MINUTE * 8);
    assert_eq!(bench.raise("no_sms").await, Raised::Already);
    assert_eq!(bench.raise("captcha").await, Raised::Sent);
    assert!(next(&mut server.mails).await.text().contains("Cause: captcha"));
    bench.clock.advance(MINUTE);
    assert_eq!(bench.raise("no_sms").await, Raised::Sent, "ten minutes after the first");
    assert!(next(&mut server.mails).await.text().contains("Cause: no_sms"));
    bench.until_sent(3).await;
    bench.expect_only_the_mark(&mut server.mails, 3).await;
}

#[tokio::test]
async fn an_end_is_told_once_and_only_if_the_beginning_was() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[ops()]);
    assert_eq!(bench.resolve().await, Resolved::NothingOpen);
    bench.raise("no_sms").await;
    next(&mut server.mails).await;
    bench.clock.advance(MINUTE * 3);
    assert_eq!(bench.resolve().await, Resolved::Sent);
    assert_eq!(bench.resolve().await, Resolved::NothingOpen);
    let subject = next(&mut server.mails).await.header("Subject").unwrap();
    assert_eq!(subject, "[Nightporter] vroong is back (recovered after 3 min)");
    bench.until_sent(2).await;
    let report = &bench.alerts.list().await.unwrap()[0];
    assert!(!report.open && report.told && report.cause == "no_sms", "{report:?}");
    assert_eq!(report.resolved_at, Some(bench.clock.now()));
    assert_eq!(report.detail, "비밀번호가 거부되었습니다. 새 비밀번호를 설정하세요.");
    bench.expect_only_the_mark(&mut server.mails, 2).await;
}

#[tokio::test]
async fn a_relapse_in_the_cooldown_is_told_at_its_end_if_it_lasts() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[ops()]);
    bench.raise("no_sms").await;
    bench.clock.advance(MINUTE);
    bench.resolve().await;
    bench.until_sent(2).await;
    let due = bench.clock.now() + MINUTE * 9;
    // It fails and heals again: nobody hears of either.
    assert_eq!(bench.raise("no_sms").await, Raised::CoolingDown(due));
    assert_eq!(bench.resolve().await, Resolved::Quietly);
    // It fails and stays down, over a restart.
    assert_eq!(bench.raise("no_sms").await, Raised::CoolingDown(due));
    assert_eq!(bench.raise("no_sms").await, Raised::Already);
    let settings = bench.settings.clone();
    let bench = bench.restart(settings).await;
    assert_eq!(bench.until_sent(2).await.len(), 2);
    bench.clock.advance(MINUTE * 9);
    bench.until_sent(3).await;
    for _ in 0..3 {
        next(&mut server.mails).await;
    }
    assert_eq!(bench.resolve().await, Resolved::Sent);
    next(&mut server.mails).await;
    bench.until_sent(4).await;
    bench.expect_only_the_mark(&mut server.mails, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_reports_at_once_make_one_message() {
    let mut server = Smtp::start(Mood::default());
    let bench = Arc::new(Bench::new(mail(&server.url()), &[ops()]));
    let raises: Vec<_> = (0..30)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.raise("no_sms").await })
        })
        .collect();
    let mut sent = 0;
    for raise in raises {
        sent += usize::from(raise.await.unwrap() == Raised::Sent);
    }
    assert_eq!(sent, 1);
    next(&mut server.mails).await;
    bench.until_sent(1).await;
    bench.expect_only_the_mark(&mut server.mails, 1).await;
}

#[tokio::test]
async fn a_refused_recipient_is_final_for_that_one_and_a_busy_one_waits_alone() {
    let mood = Mood {
        unknown: vec!["gone@example.com".to_owned()],
        busy: vec!["busy@example.com".to_owned()],
        ..Mood::default()
    };
    let mut server = Smtp::start(mood);
    let to = ["gone@example.com", "busy@example.com", "ops@example.com"].map(|to| Channel::Mail { to: to.to_owned() });
    let bench = Bench::new(mail(&server.url()), &to);
    bench.raise("no_sms").await;
    assert_eq!(next(&mut server.mails).await.to, ["ops@example.com"]);
    let entries = bench
        .until(|entries| entries.len() == 3 && entries.iter().all(|e| e.attempts == 1 && e.state != State::Sending))
        .await;
    let state = |to: &Channel| entries.iter().find(|entry| entry.channel == *to).unwrap();
    assert!(matches!(&state(&to[0]).state, State::Failed(reason) if reason.contains("550")), "{entries:?}");
    assert!(state(&to[1]).state == State::Queued && state(&to[1]).last_error.as_deref().unwrap().contains("451"));
    server.mood.lock().unwrap().busy.clear();
    bench.clock.advance(Duration::from_secs(6));
    assert_eq!(next(&mut server.mails).await.to, ["busy@example.com"]);
    let settled = bench.until(|entries| entries.iter().all(|entry| entry.next_at.is_none())).await;
    assert_eq!(settled.iter().filter(|entry| matches!(entry.state, State::Failed(_))).count(), 1);
}

#[tokio::test]
async fn a_message_is_given_up_after_48_hours_and_stays_visible() {
    let bench = Bench::new(Settings::default(), &[]);
    bench.outbox.enqueue(vec![message(&bench, "late", ops())]).await.unwrap();
    bench.until(|entries| entries[0].attempts == 1 && entries[0].state == State::Queued).await;
    bench.clock.advance(Duration::from_secs(48 * 3600));
    let entries = bench.until(|entries| matches!(entries[0].state, State::Failed(_))).await;
    let wanted = "not delivered within 48 h; last: no mail server is set";
    assert_eq!(entries[0].state, State::Failed(wanted.to_owned()));
}

#[tokio::test]
async fn credentials_are_used_and_wrong_ones_wait_for_new_settings() {
    let login = Some(("porter".to_owned(), "열려라".to_owned()));
    let mut server = Smtp::start(Mood { login, ..Mood::default() });
    let with = |password: &str| {
        let user = Some("porter".to_owned());
        let mail = MailSettings::new(&server.url(), user, Some(Secret::new(password)), "porter@example.com");
        Settings { mail: Some(mail.unwrap()), ..Settings::default() }
    };
    let (wrong, right) = (with("틀림"), with("열려라"));
    let bench = Bench::new(wrong, &[ops()]);
    bench.raise("no_sms").await;
    let entries = bench.until(|entries| entries.iter().any(|e| e.attempts == 1 && e.state == State::Queued)).await;
    let error = entries[0].last_error.as_deref().unwrap();
    assert!(error.contains("535") && !error.contains("틀림"), "{error}");
    // No time passes: new settings are tried at once.
    bench.outbox.reconfigure(right);
    next(&mut server.mails).await;
    bench.until_sent(1).await;
}

#[tokio::test]
async fn without_the_required_starttls_nothing_is_sent() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&format!("smtp+starttls://{}", server.address)), &[ops()]);
    bench.raise("no_sms").await;
    let entries = bench.until(|entries| entries.iter().any(|e| e.attempts == 1 && e.state == State::Queued)).await;
    assert!(entries[0].last_error.as_deref().unwrap().starts_with("STARTTLS:"), "{entries:?}");
    assert!(server.mails.try_recv().is_err());
}

#[tokio::test]
async fn a_silent_mail_server_delays_no_webhook_and_the_signature_holds() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hook = Endpoint::start(vec![(503, String::new())]).await;
    let webhook = WebhookSettings::new(&format!("{}/hooks/geheim", hook.url()), Secret::new("s3cret")).unwrap();
    let settings = Settings { webhook: Some(webhook), ..mail(&format!("smtp://{}", silent.local_addr().unwrap())) };
    let bench = Bench::new(settings, &[ops(), Channel::Webhook]);
    bench.raise("no_sms").await;
    let _held = within(MINUTE, silent.accept()).await.unwrap().unwrap();
    let first: Post = next(&mut hook.posts).await;
    bench.until(|entries| entries.iter().any(|e| e.channel == Channel::Webhook && e.last_error.is_some())).await;
    bench.clock.advance(Duration::from_secs(6));
    let post = next(&mut hook.posts).await;
    assert_eq!(post.path, "/hooks/geheim");
    let stamp = post.header("x-nightporter-timestamp");
    assert_eq!(stamp, "1700000006");
    let tag = hmac_sha256(b"s3cret", &[stamp.as_bytes(), b".", &post.body]);
    assert_eq!(post.header("x-nightporter-signature"), data_encoding::HEXLOWER.encode(&tag));
    let json = post.json();
    assert_eq!(json["subject"], "[Nightporter] 바룽: 로그인이 안 됩니다");
    assert_eq!(json["created_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(json["id"], post.header("idempotency-key"));
    assert_eq!(first.header("idempotency-key"), post.header("idempotency-key"));
    let entries = bench.until(|entries| entries.iter().any(|e| matches!(e.state, State::Sent(_)))).await;
    assert!(entries.iter().any(|entry| entry.channel == ops() && entry.state == State::Sending), "{entries:?}");
}

#[tokio::test]
async fn telegram_is_obeyed_when_it_asks_to_wait_and_its_token_stays_secret() {
    let busy = "{\"ok\":false,\"description\":\"retry 123:tok-EN\",\"parameters\":{\"retry_after\":70}}".to_owned();
    let mut api = Endpoint::start(vec![(429, busy)]).await;
    let telegram = TelegramSettings::new(&api.url(), Secret::new("123:tok-EN"), "-100").unwrap();
    let bench = Bench::new(Settings { telegram: Some(telegram), ..Settings::default() }, &[Channel::Telegram]);
    bench.raise("no_sms").await;
    assert_eq!(next(&mut api.posts).await.path, "/bot123:tok-EN/sendMessage");
    let entries = bench.until(|entries| entries.iter().any(|e| e.last_error.is_some())).await;
    let error = entries[0].last_error.as_deref().unwrap();
    assert!(error.contains("429") && !error.contains("tok-EN"), "{error}");
    bench.clock.advance(Duration::from_secs(69));
    bench.outbox.enqueue(vec![message(&bench, "later", Channel::Telegram)]).await.unwrap();
    assert!(api.posts.try_recv().is_err());
    bench.clock.advance(Duration::from_secs(1));
    let post = next(&mut api.posts).await.json();
    assert_eq!(post["chat_id"], "-100");
    assert!(post["text"].as_str().unwrap().starts_with("[Nightporter] 바룽: 로그인이 안 됩니다\n\n비밀번호가"));
    bench.until_sent(2).await;
}

#[tokio::test]
async fn telegram_gets_a_picture_with_its_caption_or_the_text_alone() {
    let mut api = Endpoint::start(vec![(400, "{\"description\":\"PHOTO_INVALID_DIMENSIONS\"}".to_owned())]).await;
    let telegram = TelegramSettings::new(&api.url(), Secret::new("1:a"), "@ops").unwrap();
    let bench = Bench::new(Settings { telegram: Some(telegram), ..Settings::default() }, &[Channel::Telegram]);
    let png = Attachment { name: "x.png".to_owned(), mime: "image/png".to_owned(), bytes: b"\x89PNG\r\n\0".to_vec() };
    bench.alerts.raise("a", &Alert { attachments: vec![png], ..alert("captcha") }).await.unwrap();
    let photo = next(&mut api.posts).await;
    assert_eq!(photo.path, "/bot1:a/sendPhoto");
    let has = |part: &[u8]| photo.body.windows(part.len()).any(|window| window == part);
    assert!(has(b"\x89PNG\r\n\0") && has("비밀번호가".as_bytes()) && has(b"@ops"));
    assert_eq!(next(&mut api.posts).await.path, "/bot1:a/sendMessage");
    bench.until_sent(1).await;
}

#[tokio::test]
async fn without_a_channel_incidents_are_recorded_and_the_first_channel_hears_of_the_next() {
    let mut server = Smtp::start(Mood::default());
    let bench = Bench::new(mail(&server.url()), &[]);
    assert_eq!(bench.raise("no_sms").await, Raised::Unheard);
    let reports = bench.alerts.list().await.unwrap();
    assert!(reports.len() == 1 && reports[0].open && !reports[0].told && reports[0].subject == "portal/vroong");
    bench.alerts.reconfigure(alerts::Settings { cooldown: MINUTE, channels: vec![ops()], public_url: None });
    assert_eq!(bench.raise("no_sms").await, Raised::Sent);
    next(&mut server.mails).await;
    bench.until_sent(1).await;
}

#[tokio::test]
async fn a_test_alert_tells_how_each_channel_took_it() {
    let mood = Mood { unknown: vec!["gone@example.com".to_owned()], ..Mood::default() };
    let mut server = Smtp::start(mood);
    let gone = Channel::Mail { to: "gone@example.com".to_owned() };
    let bench = Bench::new(mail(&server.url()), &[ops(), gone, Channel::Webhook]);
    let tried = bench.alerts.test().await;
    assert_eq!(next(&mut server.mails).await.header("Subject").unwrap(), "[Nightporter] Test alert");
    assert_eq!((tried[0].channel.clone(), tried[0].error.clone()), (ops(), None));
    assert!(tried[1].error.as_deref().unwrap().contains("550"));
    assert_eq!(tried[2].error.as_deref(), Some("no alert webhook is set"));
    assert!(bench.outbox.list().await.unwrap().is_empty(), "a test leaves nothing behind");
}

#[tokio::test]
async fn texts_are_sealed_in_the_store() {
    let bench = Bench::new(Settings::default(), &[ops()]);
    bench.outbox.enqueue(vec![message(&bench, "x", ops())]).await.unwrap();
    bench.raise("no_sms").await;
    bench.until(|entries| entries.len() == 2).await;
    let dir = bench.dir.path().to_owned();
    bench.store.flush().await.unwrap();
    let mut files = vec![dir];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            read += bytes.len();
            for text in ["시험 문자", "비밀번호가"] {
                let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!found, "{text} is readable in {}", path.display());
            }
        }
    }
    assert!(read > 0);
}

//! The inbox's promises, on a real store in a temporary directory with the clock held: a code is never too early, never
//! used twice, never somebody else's.

#[path = "inbox/two_phones.rs"]
mod two_phones;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightporter::clock::{Clock, Time, within};
use nightporter::lifecycle::Lifecycle;
use nightporter::portals::code::Rules;
use nightporter::portals::forwarders::Message;
use nightporter::portals::inbox::{
    Busy, CODE_TIMEOUT, Code, Expected, Inbox, NoCode, NotTyped, PhoneState, QUEUE_MAX, Reason, Receipt, Turn,
};
use nightporter::secret::{Secret, Vault};
use nightporter::store::{Durability, Store};

struct Bench {
    inbox: Inbox,
    clock: Clock,
    life: Lifecycle,
    dir: tempfile::TempDir,
    log: Log,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::held(at("08:31:20.250"));
        Self::open(tempfile::tempdir().unwrap(), clock, Log::begin())
    }

    fn open(dir: tempfile::TempDir, clock: Clock, log: Log) -> Self {
        let life = Lifecycle::new();
        let store = Store::open(&dir.path().join("store"), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let vault = Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap();
        let inbox = Inbox::new(store, clock.clone(), Arc::new(vault), &life);
        Self { inbox, clock, life, dir, log }
    }

    /// The process ends and starts again.
    async fn restart(self) -> Self {
        let Self { inbox, clock, life, dir, log } = self;
        assert!(life.shutdown(Duration::from_secs(60)).await);
        drop(inbox);
        Self::open(dir, clock, log)
    }

    fn until(&self, time: &str) {
        self.clock.advance(at(time).since(self.clock.now()));
        assert_eq!(self.clock.now(), at(time), "the clock only goes forward");
    }

    async fn turn(&self, portal: &str) -> Turn {
        self.inbox.turn(&["office"], portal, self.clock.now() + CODE_TIMEOUT).await.unwrap()
    }

    /// A login that has clicked "send code".
    async fn asked(&self, portal: &str) -> Turn {
        let mut turn = self.turn(portal).await;
        turn.expect(expected()).await.unwrap();
        turn
    }

    async fn receive(&self, message: &Message) -> Receipt {
        self.inbox.receive("office", message).await.unwrap()
    }

    /// Lets the login wait, and something else happen once it does.
    async fn meanwhile(&self, turn: &mut Turn, then: impl Future<Output = ()>) -> Result<Code, NoCode> {
        let deadline = self.clock.now() + CODE_TIMEOUT;
        // `join!` polls in order: the login waits before `then` begins. A wake-up that is lost shall fail, not hang.
        let both = async { tokio::join!(turn.code(deadline), then).0 };
        within(Duration::from_secs(60), both).await.expect("the login was never woken")
    }

    async fn in_vain(&self, turn: &mut Turn) {
        let waited = self.meanwhile(turn, async { self.clock.advance(CODE_TIMEOUT) }).await;
        assert!(matches!(waited, Err(NoCode::Late)), "{waited:?}");
    }

    fn state(&self) -> PhoneState {
        self.inbox.phone("office").unwrap().state
    }
}

fn at(time: &str) -> Time {
    format!("2025-11-20T{time}Z").parse().unwrap()
}

fn expected() -> Expected {
    let rules = Rules { length: 6, anchors: vec!["인증번호".to_owned()], pattern: None, host: None };
    Expected { rules, senders: vec!["1588-1234".to_owned()], timeout: CODE_TIMEOUT }
}

fn sms(code: &str, sent: &str) -> Message {
    Message {
        from: "15881234".to_owned(),
        text: Secret::new(format!("[Web발신] 인증번호 [{code}] 를 입력해 주세요.")),
        sent_at: Some(at(sent)),
        event_id: Some("event-1".to_owned()),
    }
}

fn said(text: &str, sent: &str) -> Message {
    Message { text: Secret::new(text), ..sms("", sent) }
}

fn handed() -> Receipt {
    Receipt::Handed { portal: "vroong".to_owned() }
}

fn buffered() -> Receipt {
    Receipt::Buffered { portal: "vroong".to_owned() }
}

const fn refused(reason: Reason) -> Receipt {
    Receipt::Refused(reason)
}

fn code(secret: &str, age_millis: u64, buffered: bool) -> Code {
    Code { secret: Secret::new(secret), age: Duration::from_millis(age_millis), buffered }
}

/// Everything that a test's thread logs. Every test keeps one, and none may find a code or a text in it.
struct Log {
    lines: Lines,
    _logging: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let plain = tracing_subscriber::fmt().with_ansi(false).without_time().with_max_level(tracing::Level::TRACE);
        let _logging = tracing::subscriber::set_default(plain.with_writer(move || writer.clone()).finish());
        Self { lines, _logging }
    }

    fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let text = self.text();
        let codes = ["751539", "111111", "222222", "333333", "123456", "654321", "인증번호", "Web발신"];
        if !std::thread::panicking() {
            assert!(!codes.iter().any(|code| text.contains(code)), "{text}");
        }
    }
}

#[tokio::test]
async fn the_code_that_came_one_second_before_anyone_waited() {
    let bench = Bench::new();
    let mut login = bench.turn("vroong").await;
    bench.until("08:31:27.250");
    login.expect(expected()).await.unwrap();
    bench.until("08:31:28.100");
    assert_eq!(bench.receive(&sms("751539", "08:31:28.000")).await, buffered());
    bench.until("08:31:29.300");
    assert_eq!(login.code(at("08:33:29.300")).await.unwrap(), code("751539", 1200, true));
    login.accepted().await.unwrap();
    drop(login);
    assert_eq!(bench.receive(&sms("111111", "08:31:29.000")).await, refused(Reason::NoLoginWaiting));
    let log = bench.log.text();
    assert!(log.contains("SMS code for portal vroong was 1.2 s early"), "{log}");
    assert!(log.contains("SMS on phone office refused: no_login_waiting"), "{log}");
}

#[tokio::test]
async fn a_late_code_is_handed_to_the_login_that_waits() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    let got = bench.meanwhile(&mut login, async {
        bench.until("08:32:50.000");
        assert_eq!(bench.receive(&sms("751539", "08:32:49.000")).await, handed());
    });
    assert_eq!(got.await.unwrap(), code("751539", 0, false));
}

#[tokio::test]
async fn a_login_waits_no_longer_than_the_recipe_says() {
    let bench = Bench::new();
    let mut login = bench.turn("vroong").await;
    login.expect(Expected { timeout: Duration::from_secs(5), ..expected() }).await.unwrap();
    let waited = bench.meanwhile(&mut login, async { bench.clock.advance(Duration::from_secs(5)) }).await;
    assert!(matches!(waited, Err(NoCode::Late)));
}

#[tokio::test]
async fn one_sms_as_two_webhooks_counts_once() {
    let bench = Bench::new();
    let first = sms("751539", "08:31:20.000");
    let text = format!("{}\n", first.text.expose());
    // Another id, a trailing newline, the milliseconds of another source: the same SMS.
    let second = Message {
        event_id: Some("event-2".to_owned()),
        text: Secret::new(text),
        sent_at: Some(at("08:31:20.900")),
        ..first.clone()
    };
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&first).await, buffered());
    assert_eq!(bench.receive(&second).await, refused(Reason::Duplicate));
    assert!(login.code(bench.clock.now()).await.is_ok());
    assert_eq!(bench.receive(&second).await, refused(Reason::Duplicate));
    bench.in_vain(&mut login).await;
}

#[tokio::test]
async fn deliveries_at_once_give_one_code_to_one_login() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    let message = sms("751539", "08:31:21.000");
    let receipts = Mutex::new(Vec::new());
    let got = bench.meanwhile(&mut login, async {
        let all = futures_util::future::join_all((0..16).map(|_| bench.receive(&message))).await;
        receipts.lock().unwrap().extend(all);
    });
    assert_eq!(got.await.unwrap(), code("751539", 0, false));
    let receipts = receipts.into_inner().unwrap();
    assert_eq!(receipts.iter().filter(|receipt| **receipt == handed()).count(), 1);
    assert_eq!(receipts.iter().filter(|receipt| **receipt == refused(Reason::Duplicate)).count(), 15);
    // The next login on the phone does not get it either.
    drop(login);
    let mut next = bench.asked("other").await;
    bench.in_vain(&mut next).await;
}

#[tokio::test]
async fn a_code_older_than_its_request_is_stale() {
    let bench = Bench::new();
    let mut login = bench.turn("vroong").await;
    bench.until("08:31:27.750");
    login.expect(expected()).await.unwrap();
    assert_eq!(bench.receive(&sms("111111", "08:31:26.999")).await, refused(Reason::Stale));
    // Carriers tell whole seconds: this one was sent in the second of the click.
    assert_eq!(bench.receive(&sms("222222", "08:31:27.000")).await, buffered());
    // Asked again: what was asked for before does not count any more.
    bench.until("08:31:50.000");
    login.expect(expected()).await.unwrap();
    assert_eq!(bench.receive(&sms("333333", "08:31:49.000")).await, refused(Reason::Stale));
    bench.in_vain(&mut login).await;
}

#[tokio::test]
async fn a_carrier_time_that_cannot_be_is_stale() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&sms("111111", "08:36:20.251")).await, refused(Reason::Stale));
    assert_eq!(bench.receive(&sms("222222", "04:31:20.000")).await, refused(Reason::Stale));
    assert_eq!(bench.receive(&sms("333333", "08:36:20.250")).await, buffered());
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("333333"));
}

#[tokio::test]
async fn a_code_without_a_carrier_time_counts_by_its_arrival() {
    let bench = Bench::new();
    let timeless = |code| Message { sent_at: None, ..sms(code, "08:31:20.000") };
    assert_eq!(bench.receive(&timeless("111111")).await, refused(Reason::NoLoginWaiting));
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&timeless("111111")).await, refused(Reason::Duplicate), "the same message again");
    assert_eq!(bench.receive(&timeless("222222")).await, buffered());
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("222222"));
}

#[tokio::test]
async fn a_buffered_code_lives_thirty_seconds() {
    let bench = Bench::new();
    for (wait, lives) in [(29_999, true), (30_000, false)] {
        let mut login = bench.asked("vroong").await;
        let sent = Message { sent_at: Some(bench.clock.now()), ..sms("751539", "00:00:00.000") };
        assert_eq!(bench.receive(&sent).await, buffered());
        bench.clock.advance(Duration::from_millis(wait));
        if lives {
            assert_eq!(login.code(bench.clock.now()).await.unwrap(), code("751539", wait, true));
        } else {
            bench.in_vain(&mut login).await;
        }
    }
}

#[tokio::test]
async fn logins_queue_for_the_phone_and_get_it_in_order() {
    let bench = Bench::new();
    let first = bench.asked("vroong").await;
    let order = Mutex::new(Vec::new());
    let queued = |portal: &'static str| {
        let (bench, order) = (&bench, &order);
        async move {
            let turn = bench.turn(portal).await;
            order.lock().unwrap().push(portal);
            drop(turn);
        }
    };
    let release = async {
        assert!(order.lock().unwrap().is_empty(), "one login at a time");
        drop(first);
    };
    tokio::join!(queued("acme"), queued("beta"), queued("gamma"), release);
    assert_eq!(*order.lock().unwrap(), ["acme", "beta", "gamma"]);
}

#[tokio::test]
async fn a_login_does_not_queue_for_ever_nor_behind_everybody() {
    let bench = Bench::new();
    let first = bench.turn("vroong").await;
    let deadline = bench.clock.now() + Duration::from_secs(10);
    let queued =
        futures_util::future::join_all((0..QUEUE_MAX).map(|_| bench.inbox.turn(&["office"], "late", deadline)));
    let others = async {
        let full = bench.inbox.turn(&["office"], "one too many", deadline).await;
        assert_eq!(full.map(|_| ()), Err(Busy::Full));
        let other = bench.inbox.turn(&["home"], "vroong", deadline).await;
        assert!(other.is_ok(), "another phone is free");
        bench.clock.advance(Duration::from_secs(10));
    };
    let (queued, ()) = tokio::join!(queued, others);
    assert!(queued.into_iter().all(|turn| matches!(turn, Err(Busy::Deadline))));
    drop(first);
    bench.turn("vroong").await;
}

#[tokio::test]
async fn the_next_login_never_gets_the_code_of_the_one_before() {
    let bench = Bench::new();
    let standby = bench.asked("vroong").await;
    assert_eq!(bench.receive(&sms("751539", "08:31:21.000")).await, buffered());
    drop(standby);
    let mut next = bench.turn("vroong").await;
    assert_eq!(bench.receive(&sms("222222", "08:31:22.000")).await, refused(Reason::NoLoginWaiting), "none asked for");
    next.expect(expected()).await.unwrap();
    bench.in_vain(&mut next).await;
}

#[tokio::test]
async fn what_is_not_the_code_is_refused_with_its_reason() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    let stranger = Message { from: "15880000".to_owned(), ..sms("111111", "08:31:21.000") };
    assert_eq!(bench.receive(&stranger).await, refused(Reason::SenderNotAllowed));
    assert_eq!(bench.receive(&said("택배가 도착했습니다.", "08:31:21.000")).await, refused(Reason::NoCode));
    let two = said("인증번호 111222 또는 333444", "08:31:21.000");
    assert_eq!(bench.receive(&two).await, refused(Reason::Ambiguous));
    bench.in_vain(&mut login).await;
}

#[tokio::test]
async fn after_a_rejected_code_only_a_newer_sms_counts() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    let wrong = sms("111111", "08:31:25.000");
    bench.until("08:31:26.000");
    assert_eq!(bench.receive(&wrong).await, buffered());
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("111111"));
    login.rejected().await.unwrap();
    let got = bench.meanwhile(&mut login, async {
        bench.until("08:31:30.000");
        assert_eq!(bench.receive(&wrong).await, refused(Reason::Duplicate));
        assert_eq!(bench.receive(&sms("222222", "08:31:24.000")).await, refused(Reason::Stale), "sent before it");
        assert_eq!(bench.receive(&sms("111111", "08:31:29.000")).await, refused(Reason::Duplicate), "the same code");
        assert_eq!(bench.receive(&sms("333333", "08:31:29.000")).await, handed());
    });
    assert_eq!(got.await.unwrap().secret, Secret::new("333333"));
}

#[tokio::test]
async fn of_two_early_codes_the_newer_is_used() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&sms("222222", "08:31:25.000")).await, buffered());
    assert_eq!(bench.receive(&sms("333333", "08:31:26.000")).await, buffered());
    assert_eq!(bench.receive(&sms("111111", "08:31:24.000")).await, refused(Reason::Stale));
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("333333"));
    bench.in_vain(&mut login).await;
}

#[tokio::test]
async fn an_operator_types_the_code() {
    let bench = Bench::new();
    let typed = |text: &str| bench.inbox.type_code("vroong", &Secret::new(text));
    assert_eq!(typed("123456"), Err(NotTyped::NotWaiting));
    let mut login = bench.asked("vroong").await;
    for text in ["", " ", "12 34", "12345678901234567", "１２３４"] {
        assert_eq!(typed(text), Err(NotTyped::Malformed), "{text}");
    }
    assert_eq!(bench.inbox.type_code("other", &Secret::new("123456")), Err(NotTyped::NotWaiting));
    // Before the wait, and before an SMS that is here already.
    assert_eq!(bench.receive(&sms("751539", "08:31:21.000")).await, buffered());
    assert_eq!(typed(" 123456\n"), Ok(()));
    assert_eq!(login.code(bench.clock.now()).await.unwrap(), code("123456", 0, true));
    login.rejected().await.unwrap();
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("751539"));
    // During the wait.
    let got = bench.meanwhile(&mut login, async { assert_eq!(typed("654321"), Ok(())) }).await;
    assert_eq!(got.unwrap(), code("654321", 0, false));
    login.accepted().await.unwrap();
    assert_eq!(bench.state(), PhoneState::Unproven, "the operator's code proves no phone");
}

#[tokio::test]
async fn a_restart_knows_the_duplicates_and_uses_no_old_code() {
    let bench = Bench::new();
    let used = sms("111111", "08:31:21.000");
    let kept = sms("222222", "08:31:22.000");
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&used).await, buffered());
    assert!(login.code(bench.clock.now()).await.is_ok());
    assert_eq!(bench.receive(&kept).await, buffered());
    drop(login);
    let bench = bench.restart().await;
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&used).await, refused(Reason::Duplicate));
    assert_eq!(bench.receive(&kept).await, refused(Reason::Duplicate));
    bench.in_vain(&mut login).await;
}

#[tokio::test]
async fn a_rejected_code_is_not_typed_by_a_later_login_either() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&sms("111111", "08:31:21.000")).await, buffered());
    assert!(login.code(bench.clock.now()).await.is_ok());
    login.rejected().await.unwrap();
    drop(login);
    let mut next = bench.asked("vroong").await;
    // The phone forwards the same SMS once more, and says the time of that.
    assert_eq!(bench.receive(&sms("111111", "08:31:25.000")).await, refused(Reason::Duplicate));
    bench.in_vain(&mut next).await;
    drop(next);
    let bench = bench.restart().await;
    let mut after = bench.asked("vroong").await;
    assert_eq!(bench.receive(&sms("111111", "08:33:26.000")).await, refused(Reason::Duplicate));
    assert_eq!(bench.receive(&sms("222222", "08:33:26.000")).await, buffered());
    assert_eq!(after.code(bench.clock.now()).await.unwrap().secret, Secret::new("222222"));
}

#[tokio::test]
async fn neither_text_nor_code_is_in_the_store() {
    let bench = Bench::new();
    let login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&sms("751539", "08:31:21.000")).await, buffered());
    drop(login);
    let bench = bench.restart().await;
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(bench.dir.path().join("store/sled")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("office"), "the record is there to be read");
    assert!(!holds("751539") && !holds("인증번호") && !holds("15881234"));
}

#[tokio::test]
async fn a_phone_is_proven_by_an_accepted_code_and_silent_after_a_wait_in_vain() {
    let bench = Bench::new();
    assert_eq!(bench.state(), PhoneState::Unproven);
    assert_eq!(bench.inbox.phone("office").unwrap().last_seen_at, None);
    bench.inbox.ping("office").await.unwrap();
    assert_eq!(bench.inbox.phone("office").unwrap().last_seen_at, Some(bench.clock.now()));
    let mut login = bench.asked("vroong").await;
    bench.in_vain(&mut login).await;
    assert_eq!(bench.state(), PhoneState::Silent);
    bench.inbox.ping("office").await.unwrap();
    assert_eq!(bench.state(), PhoneState::Silent, "a ping is no code");
    login.expect(expected()).await.unwrap();
    assert_eq!(bench.receive(&Message { sent_at: None, ..sms("751539", "00:00:00.000") }).await, buffered());
    assert!(login.code(bench.clock.now()).await.is_ok());
    assert_eq!(bench.state(), PhoneState::Unproven);
    login.accepted().await.unwrap();
    assert_eq!(bench.state(), PhoneState::Proven);
    let bench = {
        drop(login);
        bench.restart().await
    };
    assert_eq!(bench.state(), PhoneState::Proven);
    bench.clock.advance(Duration::from_secs(30 * 24 * 60 * 60));
    assert_eq!(bench.state(), PhoneState::Unproven, "a month is long enough to lose a phone");
}

#[tokio::test]
async fn shutdown_ends_every_wait() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    let deadline = bench.clock.now() + CODE_TIMEOUT;
    let stop = async { bench.life.stopping().cancel() };
    let (code, queued, ()) = tokio::join!(login.code(deadline), bench.inbox.turn(&["office"], "next", deadline), stop);
    assert!(matches!(code, Err(NoCode::Stopping)));
    assert!(matches!(queued, Err(Busy::Stopping)));
    assert_ne!(bench.state(), PhoneState::Silent, "nobody waited in vain");
}

#[tokio::test]
async fn the_same_digits_sent_at_another_time_are_a_new_code() {
    let bench = Bench::new();
    let mut login = bench.asked("vroong").await;
    assert_eq!(bench.receive(&sms("111111", "08:31:21.000")).await, buffered());
    assert!(login.code(bench.clock.now()).await.is_ok());
    // The portal was asked again and sent the same digits again; carriers tell whole seconds.
    bench.until("08:31:40.500");
    login.expect(expected()).await.unwrap();
    assert_eq!(bench.receive(&sms("111111", "08:31:21.900")).await, refused(Reason::Duplicate), "the first, again");
    assert_eq!(bench.receive(&sms("111111", "08:31:40.000")).await, buffered());
    assert_eq!(bench.receive(&sms("111111", "08:31:40.400")).await, refused(Reason::Duplicate));
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("111111"));
}

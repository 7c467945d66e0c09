//! An appliance in this process, a real mail server, and whoever sends requests from whichever address.

use std::time::Duration;

use nightporter::app::{self, App, Setup};
use nightporter::clock::{self, Clock, Time};
use nightporter::config::Sources;
use nightporter::demo::mailbox::{Mail, Mailbox};
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::told::Told;

/// What no test waits longer for; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What most users here have chosen.
pub(crate) const PASSWORD: &str = "나의 첫 비밀번호";
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Settings with which no rate stands in the way of what is tested.
pub(crate) const UNLIMITED: &str =
    "client_per_minute = 1000000\naddress_per_minute = 1000000\ntotal_per_minute = 1000000\n";

/// The appliance, its mail server and its clients.
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    pub(crate) mailbox: Mailbox,
    dir: tempfile::TempDir,
    /// `[store]`.
    store: String,
    client: Client,
    life: Lifecycle,
    starts: u64,
    app: Option<App>,
}

impl Desk {
    /// With what `[accounts]` says.
    pub(crate) async fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("url = \"sled:{}\"", dir.path().join("store").display());
        Self::keeping(dir, store, settings).await
    }

    /// With what `[store]` and `[accounts]` say.
    pub(crate) async fn keeping(dir: tempfile::TempDir, store: String, settings: &str) -> Self {
        let (clock, life) = (Clock::held(Time::from_millis(1_800_000_000_000)), Lifecycle::new());
        let mailbox = Mailbox::start(None, &clock, &life).await.unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut desk = Self { clock, mailbox, dir, store, client, life, starts: 0, app: None };
        desk.configure(&desk.mail_section(), settings);
        desk.start().await;
        desk
    }

    fn configure(&self, mail: &str, settings: &str) {
        let store = &self.store;
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"10m\"\npublic_url = \"https://porter.example.com\"\n\
             trusted_proxies = [\"127.0.0.1/32\"]\n[store]\n{store}\n{mail}[accounts]\n{settings}\n"
        );
        std::fs::write(self.dir.path().join("nightporter.toml"), config).unwrap();
    }

    /// The same appliance with other settings, after a restart.
    pub(crate) async fn configure_again(&mut self, settings: &str) {
        self.configure(&self.mail_section(), settings);
        self.restart().await;
    }

    fn mail_section(&self) -> String {
        format!("[mail]\nurl = \"{}\"\nfrom = \"porter@a.example\"\n", self.mailbox.url())
    }

    /// The same appliance without a mail server, after a restart.
    pub(crate) async fn without_mail(&mut self) {
        self.configure("", "");
        self.restart().await;
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    async fn start(&mut self) {
        self.starts += 1;
        let sources = Sources { file: Some(self.dir.path().join("nightporter.toml")), ..Sources::default() };
        let setup = Setup {
            config: app::load(&sources).unwrap_or_else(|error| panic!("{error:?}")),
            sources,
            clock: self.clock.clone(),
            random: Random::seeded(self.starts),
            metrics: Metrics::install().unwrap(),
            log: None,
        };
        self.app = Some(App::start(setup).await.unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        assert!(self.app.take().unwrap().stop(PATIENCE).await, "something did not end in time");
        self.start().await;
    }

    pub(crate) async fn stop(mut self) {
        assert!(self.app.take().unwrap().stop(PATIENCE).await, "something did not end in time");
        assert!(self.life.shutdown(PATIENCE).await);
    }

    /// A POST to `/api/auth/{path}` of whoever lives at `ip`.
    pub(crate) async fn post_from(&self, ip: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Told {
        let url = format!("http://{}/api/auth/{path}", self.app().address());
        let request = self.client.request(Method::POST, url).header("x-forwarded-for", ip);
        let told = Told::to(request, body, headers).await;
        assert_eq!(told.header("cache-control"), "no-store", "{path} {}", told.text);
        if told.status == 429 || told.body["code"] == "busy" {
            assert!(told.header("retry-after").parse::<u64>().unwrap() > 0, "{}", told.text);
        }
        told
    }

    /// A POST that waits for no answer; its client leaves when the connection is dropped.
    pub(crate) async fn begin(&self, path: &str, body: &Value) -> tokio::net::TcpStream {
        let (address, body) = (self.app().address(), body.to_string());
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /api/auth/{path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Told {
        self.post_from("203.0.113.7", path, &body.to_string(), &[]).await
    }

    /// Registers; the answer.
    pub(crate) async fn register(&self, email: &str, password: &str) -> Told {
        self.post("register", &json!({"email": email, "password": password, "full_name": "김민서"})).await
    }

    /// Registers; the ticket and the code in the mail that came.
    pub(crate) async fn ticket(&self, email: &str, password: &str) -> (String, String) {
        let mails = self.mailbox.count();
        let registered = self.register(email, password).await;
        assert_eq!(registered.status, 202, "{}", registered.text);
        let code = code(&self.mail(mails + 1).await);
        (registered.body["registration_id"].as_str().unwrap().to_owned(), code)
    }

    pub(crate) async fn verify(&self, email: &str, code: &str, ticket: Option<&str>) -> Told {
        let mut body = json!({"email": email, "verification_code": code});
        if let Some(ticket) = ticket {
            body["registration_id"] = ticket.into();
        }
        self.post("verify-registration", &body).await
    }

    /// A user from the first step to the last.
    pub(crate) async fn user(&self, email: &str, password: &str) -> Told {
        let (ticket, code) = self.ticket(email, password).await;
        let verified = self.verify(email, &code, Some(&ticket)).await;
        assert_eq!(verified.status, 201, "{}", verified.text);
        verified
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Told {
        self.post("login", &json!({"email": email, "password": password})).await
    }

    /// Asks for a code at `path`; the code in the mail that came.
    pub(crate) async fn code_from(&self, path: &str, body: &Value) -> String {
        let mails = self.mailbox.count();
        let sent = self.post(path, body).await;
        assert_eq!(sent.status, 202, "{}", sent.text);
        code(&self.mail(mails + 1).await)
    }

    /// The mail of that number, counted from 1.
    pub(crate) async fn mail(&self, number: usize) -> Mail {
        self.mailbox.nth(number, PATIENCE).await.expect("the mail did not come")
    }

    /// Looks again and again, on real time, until it is so.
    pub(crate) async fn until(&self, so: impl AsyncFn() -> bool) {
        let look = async {
            while !so().await {
                clock::pause(Duration::from_millis(10)).await;
            }
        };
        clock::within(PATIENCE, look).await.expect("it never came to that");
    }
}

/// The six digits that stand alone in a mail.
pub(crate) fn code(mail: &Mail) -> String {
    let body = mail.body();
    let digits = |word: &&str| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit());
    let code = body.split_whitespace().find(digits).unwrap_or_else(|| panic!("no code in {body}"));
    assert!(!mail.subject().contains(code));
    code.to_owned()
}

/// Another code than this.
pub(crate) fn other(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

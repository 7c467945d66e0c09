//! The stage: the demo's portal, phone and mail server on loopback, and the whole appliance before them, in this process or
//! as the real binary where it has to be killed. Every wait has a deadline and tells on failure what was seen instead.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hyper::Method;
use nightporter::app::{self, App, Setup};
use nightporter::clock::{self, Clock};
use nightporter::config::Sources;
use nightporter::demo::caller::{Answer, Caller};
use nightporter::demo::mailbox::{Mail, Mailbox};
use nightporter::demo::phone::{self, Attempt, Phone};
use nightporter::demo::portal::{self, Controls, Counters, Portal};
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::operators::Scope;
use nightporter::secret::Secret;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What no test waits longer for: cold starts of Chromium on a busy machine included. Nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PORTAL: &str = "/api/portals/hanbit";
pub(crate) const ORDERS: &str = "/api/portals/hanbit/relay/api/orders?limit=3";
const LOOK: Duration = Duration::from_millis(20);
const DRAIN: Duration = PATIENCE;

/// Appliances at once: each has two browsers.
static PLACES: Semaphore = Semaphore::const_new(2);

/// The neighbours and the appliance.
pub(crate) struct Stage {
    pub(crate) portal: Controls,
    pub(crate) phone: Phone,
    pub(crate) mailbox: Mailbox,
    pub(crate) clock: Clock,
    pub(crate) password: Secret,
    caller: Caller,
    url: String,
    dir: tempfile::TempDir,
    life: Lifecycle,
    app: Option<App>,
    child: Option<Child>,
    starts: u64,
    _place: SemaphorePermit<'static>,
}

/// How a stage differs from the usual one.
pub(crate) struct Scene<'a> {
    /// The time that appliance and neighbours live in.
    pub(crate) clock: Clock,
    /// `sessions` of the portal.
    pub(crate) sessions: &'a str,
    /// The shipped recipe, for the portal's address.
    pub(crate) text: fn(&str) -> String,
    /// Words of the shipped recipe and what they are replaced with.
    pub(crate) recipe: &'a [(&'a str, &'a str)],
}

impl Default for Scene<'_> {
    fn default() -> Self {
        Self { clock: Clock::system(), sessions: "parallel", text: portal::recipe_toml, recipe: &[] }
    }
}

impl Stage {
    /// Neighbours on a good day and a configuration; the appliance is not started.
    pub(crate) async fn set(scene: Scene<'_>) -> Self {
        let place = PLACES.acquire().await.unwrap();
        let Scene { clock, sessions, text, recipe } = scene;
        let dir = tempfile::tempdir().unwrap();
        // The browser's account must be able to pass through.
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let (random, life) = (Random::seeded(1), Lifecycle::new());
        let settings = phone::Settings {
            backoff: Duration::from_millis(100),
            ..phone::Settings::capcom6("office", Secret::new("phone secret"))
        };
        let phone = Phone::start(settings, &clock, &random, &life);
        let account = portal::Account::partner(&random, phone.line());
        let (user, password) = (account.user.clone(), account.password.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let portal = Portal::start(listener, portal::Settings::of(account), &clock, &random, &life).unwrap();
        let mailbox = Mailbox::start(None, &clock, &life).await.unwrap();
        let caller = Caller::new("", Secret::new(""));
        let (base_url, portal) = (portal.base_url(), portal.controls());
        let (app, child, starts, url) = (None, None, 0, String::new());
        let stage =
            Self { portal, phone, mailbox, clock, password, caller, url, dir, life, app, child, starts, _place: place };
        stage.write("hanbit.toml", &hurried(&text(&base_url), recipe));
        stage.write("password", stage.password.expose());
        stage.write("phone-secret", "phone secret");
        stage.write("nightporter.toml", &stage.configuration(&user, sessions));
        stage
    }

    fn configuration(&self, user: &str, sessions: &str) -> String {
        let (dir, mail) = (self.dir.path().display(), self.mailbox.url());
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sled:{dir}/store\"\n\
             [browser]\nruntime_dir = \"{dir}/run\"\n\
             [mail]\nurl = \"{mail}\"\nfrom = \"porter@example.com\"\n[alerts]\nemail = [\"ops@example.com\"]\n\
             [phones.office]\nforwarder = \"capcom6\"\nsecret_file = \"{dir}/phone-secret\"\n\
             [portals.hanbit]\nrecipe = \"{dir}/hanbit.toml\"\nphone = \"office\"\nusername = \"{user}\"\n\
             password_file = \"{dir}/password\"\nsessions = \"{sessions}\"\n"
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn operator(&mut self, url: &str, token: Option<Secret>) {
        self.phone.connect(url);
        let token = token.unwrap_or_else(|| self.caller.token().clone());
        self.caller = Caller::new(url, token);
        url.clone_into(&mut self.url);
    }

    /// Starts the appliance in this process.
    pub(crate) async fn start(&mut self) {
        self.starts += 1;
        let sources = Sources { file: Some(self.path("nightporter.toml")), ..Sources::default() };
        let setup = Setup {
            config: app::load(&sources).unwrap(),
            sources,
            clock: self.clock.clone(),
            // Another seed for each start: ids must not come again.
            random: Random::seeded(100 + self.starts),
            metrics: Metrics::install().unwrap(),
            log: None,
        };
        let app = App::start(setup).await.unwrap();
        let scopes = BTreeSet::from([Scope::PortalsRead, Scope::PortalsRelay, Scope::PortalsManage]);
        let first = self.starts == 1;
        let token =
            if first { Some(app.parts().operators.add("test", scopes, None).await.unwrap().text) } else { None };
        self.operator(&format!("http://{}", app.address()), token);
        self.app = Some(app);
    }

    /// Lets the appliance of this process read its configuration again.
    pub(crate) async fn reload(&self) {
        self.app.as_ref().unwrap().reload().await.unwrap();
    }

    /// Stops the appliance of this process in order.
    pub(crate) async fn stop(&mut self) {
        assert!(self.app.take().unwrap().stop(DRAIN).await, "something did not stop in time");
    }

    /// The real binary, in the stage's directory.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
        command.current_dir(self.dir.path()).env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts the real binary and returns as soon as it listens.
    pub(crate) async fn launch(&mut self) {
        self.starts += 1;
        let log = self.path(&format!("{}.log", self.starts));
        let mut command = self.program();
        command.args(["serve", "--config", "nightporter.toml"]).stdout(Stdio::null());
        self.child = Some(command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
        let listening = async {
            loop {
                let text = fs::read_to_string(&log).unwrap();
                if let Some((_, url)) = text.split_once("listening on ").filter(|(_, rest)| rest.contains('\n')) {
                    return url.split_whitespace().next().unwrap().to_owned();
                }
                clock::pause(LOOK).await;
            }
        };
        let url = clock::within(PATIENCE, listening).await.unwrap_or_else(|_| panic!("{}", self.log()));
        let token = if self.starts == 1 { Some(self.token().await) } else { None };
        self.operator(&url, token);
    }

    async fn token(&self) -> Secret {
        let mut command = self.program();
        command.args(["token", "add", "test", "--config", "nightporter.toml"]);
        command.args(["--scope", "portals:read", "--scope", "portals:relay", "--scope", "portals:manage"]);
        command.args(["--scope", "metrics"]);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        Secret::new(text.split_whitespace().find(|word| word.starts_with("npt_")).unwrap())
    }

    /// Kills the real binary and sees that its browsers go with it.
    pub(crate) async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
        let leaving = async {
            while !processes_of(&self.path("run")).is_empty() {
                clock::pause(LOOK).await;
            }
        };
        let left = clock::within(PATIENCE, leaving).await;
        assert!(left.is_ok(), "browsers are left: {:?}", processes_of(&self.path("run")));
    }

    /// The process number of the real binary.
    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().and_then(Child::id).unwrap().cast_signed()
    }

    /// Asks the real binary to read its configuration again.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), Signal::HUP).unwrap();
    }

    /// Everything that the real binary has logged.
    pub(crate) fn log(&self) -> String {
        let read = |number| fs::read_to_string(self.path(&format!("{number}.log"))).unwrap_or_default();
        (1..=self.starts).map(read).collect()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.caller.get(path).await.unwrap()
    }

    pub(crate) async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.caller.call(method, path, headers).await.unwrap()
    }

    /// The address of `path` at the appliance.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The operator's token.
    pub(crate) fn token_text(&self) -> &str {
        self.caller.token().expose()
    }

    /// A POST of the operator's to `path`, still to be sent; no proxy of the machine's comes between.
    pub(crate) fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.post(self.url(path)).bearer_auth(self.token_text())
    }

    /// An operator's wish: `failover`, `reauth`, `pause`, `resume`. Returns status and `code` of the answer.
    pub(crate) async fn wish(&self, what: &str) -> (u16, Value) {
        let answer = self.call(Method::POST, &format!("{PORTAL}/{what}"), &[]).await;
        (answer.status.as_u16(), answer.json()["code"].clone())
    }

    /// A relay call that must get its answer; returns the portal's name for the session that served it.
    pub(crate) async fn served(&self) -> String {
        let answer = self.get(ORDERS).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["ok"]), (200, &Value::Bool(true)), "{}", self.told().await);
        answer.json()["session"].as_str().unwrap().to_owned()
    }

    /// The portal's name for the session that serves at this moment; none while the portal or the appliance is down.
    pub(crate) async fn serving(&self) -> Option<String> {
        let answer = self.caller.get(ORDERS).await.ok()?;
        answer.json()["session"].as_str().map(str::to_owned)
    }

    pub(crate) async fn state(&self) -> Value {
        self.get(PORTAL).await.json()
    }

    /// What happened, newest first.
    pub(crate) async fn events(&self) -> Vec<Value> {
        self.get(&format!("{PORTAL}/events")).await.json()["events"].as_array().unwrap().clone()
    }

    /// The details of the events of one kind, oldest first.
    pub(crate) async fn told_of(&self, kind: &str) -> Vec<String> {
        let events = self.events().await.into_iter().rev().filter(|event| event["kind"] == kind);
        events.map(|event| event["detail"].as_str().unwrap().to_owned()).collect()
    }

    async fn told(&self) -> String {
        let events: Vec<_> = self.events().await.iter().map(|event| format!("\n  {event}")).collect();
        format!("{:#}{}\n{:?}\n{}", self.state().await, events.concat(), self.counters(), self.log())
    }

    /// Waits until the portal's state is as wanted.
    pub(crate) async fn when(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let watching = async {
            loop {
                let state = self.state().await;
                if wanted(&state) {
                    return state;
                }
                clock::pause(LOOK).await;
            }
        };
        match clock::within(PATIENCE, watching).await {
            Ok(state) => state,
            Err(_) => panic!("waited in vain for {what}: {}", self.told().await),
        }
    }

    /// Lets the time until the next check pass, once the keeper has planned one: it plans after the check is told.
    pub(crate) async fn checked_after(&self, span: Duration) {
        let now = self.clock.now().to_string();
        self.when("a check is planned", |state| state["next_check_at"].as_str() > Some(&now)).await;
        self.clock.advance(span);
    }

    /// Waits until both sessions are logged in.
    pub(crate) async fn live(&self) -> Value {
        self.when("live", |state| state["state"] == "live").await
    }

    /// Waits until so many events of one kind were told.
    pub(crate) async fn happened(&self, kind: &str, times: usize) {
        let watching = async {
            while self.told_of(kind).await.len() < times {
                clock::pause(LOOK).await;
            }
        };
        let watched = clock::within(PATIENCE, watching).await;
        assert!(watched.is_ok(), "waited in vain for {times} {kind}: {}", self.told().await);
    }

    /// What the phone's webhook of that number, from 1, came to.
    pub(crate) async fn attempt(&self, number: usize) -> Attempt {
        self.phone.attempted(number, PATIENCE).await.unwrap()[number - 1].clone()
    }

    /// The mail of that number, from 1.
    pub(crate) async fn mail(&self, number: usize) -> Mail {
        self.mailbox.nth(number, PATIENCE).await.unwrap()
    }

    /// What the portal has counted.
    pub(crate) fn counters(&self) -> Counters {
        self.portal.counters("partner01")
    }

    /// The process numbers of the browsers themselves, each the leader of its children's group.
    pub(crate) fn browsers(&self) -> BTreeSet<i32> {
        let leads =
            |pid: &i32| rustix::process::getpgid(Pid::from_raw(*pid)).is_ok_and(|group| group.as_raw_pid() == *pid);
        // A crash handler leads a group of its own for a moment.
        let main = |pid: &i32| !command_line(*pid).contains("crashpad");
        processes_of(&self.path("run")).into_iter().filter(leads).filter(main).collect()
    }

    /// The process numbers of everything that belongs to a browser.
    pub(crate) fn browser_processes(&self) -> BTreeSet<i32> {
        processes_of(&self.path("run"))
    }

    /// Those that are not a browser's main process.
    pub(crate) fn browser_parts(&self) -> BTreeSet<i32> {
        &self.browser_processes() - &self.browsers()
    }

    /// The process numbers of the browsers' renderers.
    pub(crate) fn renderers(&self) -> BTreeSet<i32> {
        self.browser_processes().into_iter().filter(|pid| command_line(*pid).contains("--type=renderer")).collect()
    }

    /// Stops everything in order.
    pub(crate) async fn strike(mut self) {
        if self.app.is_some() {
            self.stop().await;
        }
        if self.child.is_some() {
            self.kill().await;
        }
        assert!(self.life.shutdown(DRAIN).await);
    }
}

/// Kills a process as the kernel would, unless it has ended by itself since it was seen.
pub(crate) fn kill_9(pid: i32) {
    let killed = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    assert!(matches!(killed, Ok(()) | Err(Errno::SRCH)), "{killed:?}");
}

/// The id of a slot's session.
pub(crate) fn id_of(state: &Value, slot: &str) -> String {
    state[slot]["session_id"].as_str().unwrap_or_else(|| panic!("no {slot} in {state}")).to_owned()
}

/// The shipped recipe with little patience and many logins, and what a test changes beyond that.
fn hurried(recipe: &str, changes: &[(&str, &str)]) -> String {
    let usual = [
        ("logins_per_hour = 5", "logins_per_hour = 20"),
        ("attempts = 3", "attempts = 2"),
        ("backoff = \"5s\"", "backoff = \"1s\""),
    ];
    usual.iter().chain(changes).fold(recipe.to_owned(), |recipe, (from, to)| {
        assert_eq!(recipe.matches(from).count(), 1, "{from}");
        recipe.replace(from, to)
    })
}

/// Numbers of the live processes whose command line mentions `directory`.
fn processes_of(directory: &Path) -> BTreeSet<i32> {
    let marker = directory.to_str().unwrap();
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // A zombie has an empty command line: it is dead, and waits for whoever inherited it.
    numbers.filter(|pid| command_line(*pid).contains(marker)).collect()
}

fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

//! What keeping a portal alive costs and how fast it acts: a failover, a check, a code on its way from the phone into the
//! page. Everything is on loopback and, but for Chromium and the portal of the checks, in this process. `README.md`
//! beside this file holds a run.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and tells")]
#![allow(clippy::unwrap_used, reason = "what cannot be measured ends the run")]

#[path = "../tests/relay/house.rs"]
mod house;
#[path = "../tests/relay/mirror.rs"]
mod mirror;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/portals/stage.rs"]
mod stage;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use house::{House, PATIENCE, Seed};
use nightporter::clock::{Clock, Stopwatch};
use nightporter::demo::phone::Mode;
use nightporter::portals::check::{self, Verdict};
use nightporter::portals::recipe::Recipe;
use nightporter::portals::upstream::Upstream;
use stage::{Scene, Stage};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Failovers measured, each in an appliance of its own.
const FAILOVERS: usize = 40;
/// Checks measured, and the sessions and the pause of the promise.
const CHECKS: u32 = 20_000;
const SESSIONS: f64 = 100.0;
const EVERY: f64 = 60.0;
/// Codes measured, each in a login of its own.
const CODES: usize = 15;
/// Tells this program that it is to be the portal of the checks, in a process whose time does not count.
const BE_PORTAL: &str = "NIGHTPORTER_BENCH_PORTAL";
/// The kernel's ticks a second in `/proc/PID/stat`, the same on every Linux of today.
const TICKS: f64 = 100.0;

#[tokio::main]
async fn main() {
    if std::env::var_os(BE_PORTAL).is_some() {
        return be_portal().await;
    }
    println!("| what | median | least | greatest |");
    println!("|---|---|---|---|");
    failovers().await;
    checks().await;
    codes().await;
}

fn tell(what: &str, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (least, greatest) = (values[0], values[values.len() - 1]);
    println!("| {what} | {:.2} {unit} | {least:.2} {unit} | {greatest:.2} {unit} |", values[values.len() / 2]);
}

fn recipe(base: &str) -> String {
    format!(
        "base_url = \"{base}\"\n[login]\nsteps = [{{ goto = \"/login\" }}]\n[check]\n\
         request = {{ path = \"/check\" }}\nalive = {{ status = [200], json = {{ \"/ok\" = true }} }}\n\
         expired = [{{ status = [401] }}, {{ redirect = \"/login\" }}, {{ json = {{ \"/error\" = \"login_required\" }} }}]\n"
    )
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// From the moment at which the portal has written "logged out" to the arrival of the same request in the other session:
/// verdict, durable promotion, second sending.
async fn failovers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (said, spans) = (Arc::new(Mutex::new(None::<Stopwatch>)), Arc::new(Mutex::new(Vec::new())));
    let (portal_said, portal_spans) = (Arc::clone(&said), Arc::clone(&spans));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (said, spans) = (Arc::clone(&portal_said), Arc::clone(&portal_spans));
            tokio::spawn(async move {
                while let Some(seen) = mirror::read_request(&mut stream).await {
                    if seen.all("cookie") == ["SID=sid-a"] {
                        answer(&mut stream, "401 Unauthorized", "{}").await;
                        *said.lock().unwrap() = Some(Stopwatch::start());
                    } else if let Some(since) = said.lock().unwrap().take() {
                        spans.lock().unwrap().push(since.elapsed().as_secs_f64() * 1e3);
                    }
                    answer(&mut stream, "200 OK", "{\"ok\":true}").await;
                }
            });
        }
    });
    for _ in 0..FAILOVERS {
        let seeds = [Seed::new("a", "sid-a"), Seed::new("b", "sid-b")];
        let house = House::new(&recipe(&format!("http://{address}")), &seeds, &Clock::system()).await;
        let running = house.start().await;
        let answer = running.get("/x").await;
        assert_eq!((answer.status().as_u16(), answer.headers()["x-session-epoch"].to_str().unwrap()), (200, "2"));
        running.stop().await;
    }
    let spans = std::mem::take(&mut *spans.lock().unwrap());
    assert_eq!(spans.len(), FAILOVERS);
    tell("failover: \"logged out\" written to the request in the other session", "ms", spans);
}

/// A portal that answers every request alike, until its standard input ends.
async fn be_portal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().lines().count();
        std::process::exit(0);
    });
    let orders = format!("{{\"ok\":true,\"orders\":[\"{}\"]}}", "주문 ".repeat(200));
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let orders = orders.clone();
        tokio::spawn(async move {
            while mirror::read_request(&mut stream).await.is_some() {
                answer(&mut stream, "200 OK", &orders).await;
            }
        });
    }
}

/// The processor time of one check: request, answer, verdict.
async fn checks() {
    let mut portal = Command::new(std::env::current_exe().unwrap())
        .env(BE_PORTAL, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(portal.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let recipe = Recipe::parse(&recipe(&format!("http://{}", address.trim())), Path::new("bench.toml")).unwrap();
    let (upstream, session) = (Upstream::new().unwrap(), Seed::new("a", "sid-a").session());
    let mut shares = Vec::new();
    for _ in 0..5 {
        let before = processor_seconds();
        for _ in 0..CHECKS / 5 {
            assert_eq!(check::check_by_jar(&upstream, &recipe, &session).await, Verdict::Alive);
        }
        let each = (processor_seconds() - before) / f64::from(CHECKS / 5);
        shares.push(each * SESSIONS / EVERY * 100.0);
    }
    drop(portal.stdin.take());
    portal.wait().unwrap();
    tell("checks of 100 sessions every 60 s, of one core", "%", shares);
}

/// User and system time of this process.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Numbers 14 and 15 of the whole line, of which the first two are gone.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// Notes when a login says that it has typed its code.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Option<Stopwatch>>>);

impl std::io::Write for Ear {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if String::from_utf8_lossy(line).contains("done: code \"#code\"") {
            *self.0.lock().unwrap() = Some(Stopwatch::start());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// From the phone's webhook leaving to the code in its field (arrival, extraction, the hand to the login, the keys), and on
/// to the portal having it (the click on the button, the form's way). Real Chromium.
async fn codes() {
    let ear = Ear::default();
    let heard = Arc::clone(&ear.0);
    let logs = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || ear.clone());
    logs.init();
    let changes = [("logins_per_hour = 20", "logins_per_hour = 60")];
    let mut stage = Stage::set(Scene { recipe: &changes, sessions: "single", ..Scene::default() }).await;
    stage.start().await;
    stage.live().await;
    let (mut typed, mut spans) = (Vec::new(), Vec::new());
    for number in 2..2 + CODES {
        stage.phone.set_mode(Mode::Offline);
        // The next call finds out that the session has ended, and the keeper logs in anew.
        stage.portal.expire_all();
        stage.call(hyper::Method::GET, stage::ORDERS, &[("x-park-timeout", "0")]).await;
        stage.phone.received(number, PATIENCE).await.unwrap();
        stage.when("a login that waits", |state| state["active"]["status"] == "awaiting_code").await;
        let watch = Stopwatch::start();
        stage.phone.set_mode(Mode::Prompt);
        let accepted = |counted: &nightporter::demo::portal::Counters| counted.codes_accepted == number as u64;
        stage.portal.counted("partner01", PATIENCE, accepted).await.unwrap();
        let submitted = watch.elapsed();
        spans.push(submitted.as_secs_f64() * 1e3);
        let since = heard.lock().unwrap().take().unwrap();
        typed.push((watch.elapsed() - since.elapsed()).as_secs_f64() * 1e3);
        stage.happened("authenticated", number).await;
    }
    stage.strike().await;
    tell("code: webhook sent to the code typed", "ms", typed);
    tell("code: webhook sent to the code at the portal, typed and submitted", "ms", spans);
}

//! A disk that fails the real binary while it writes: its last byte goes to somebody else, or it stops answering. The
//! process ends either way, and what it acknowledged is there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use nightporter::clock;
use reqwest::{Client, Method};

use crate::cli::house::{House, PATIENCE, Server};
use crate::small::SmallDisk;

const CLIENTS: usize = 8;
/// Acknowledged between two attempts to fill the disk under the writers.
const AT_WORK: usize = 200;

/// The smallest reserve, so that a small disk is enough.
fn config(disk: &SmallDisk) -> String {
    format!("[store]\nurl = \"sled:{}\"\nreserve = \"16 MiB\"\n", disk.path().join("store").display())
}

struct Application {
    client: Client,
    token: String,
}

impl Application {
    fn new(house: &House) -> Self {
        let made = house.ok(&["token", "add", "app", "--scope", "sessions", "--config", "porter.toml"]);
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { client, token: made.trim().to_owned() }
    }

    /// The status of the answer; None when the server was gone before it came.
    async fn ask(&self, server: &Server, method: Method, id: &str) -> Option<u16> {
        let request = self.client.request(method.clone(), format!("{}/api/sessions/a/{id}", server.url));
        let request = request.bearer_auth(&self.token);
        let request = match method {
            Method::PUT => {
                let body = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(5000));
                request.header("content-type", "application/json").header("if-none-match", "*").body(body)
            }
            _ => request,
        };
        Some(request.send().await.ok()?.status().as_u16())
    }

    /// Makes sessions until the server is gone, and after each that was refused reads and deletes what is not there.
    async fn work(&self, server: &Server, name: usize, answers: &Answers) {
        for n in 0.. {
            let id = format!("{name}-{n}");
            let Some(status) = self.ask(server, Method::PUT, &id).await else { return };
            if status == 201 {
                answers.made.lock().unwrap().insert(id);
                answers.acknowledged.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            answers.note(&Method::PUT, status);
            for method in [Method::GET, Method::DELETE] {
                let Some(status) = self.ask(server, method.clone(), &id).await else { return };
                answers.note(&method, status);
            }
        }
    }

    async fn all_are_there(&self, server: &Server, made: &BTreeSet<String>) {
        for id in made {
            assert_eq!(self.ask(server, Method::GET, id).await, Some(200), "{id}");
        }
    }
}

/// What was acknowledged, and how often each other answer came.
#[derive(Default)]
struct Answers {
    made: Mutex<BTreeSet<String>>,
    acknowledged: AtomicUsize,
    others: Mutex<BTreeMap<(String, u16), usize>>,
    over: AtomicBool,
}

impl Answers {
    fn note(&self, method: &Method, status: u16) {
        *self.others.lock().unwrap().entry((method.to_string(), status)).or_default() += 1;
    }

    /// Waits until so much more was acknowledged; false when the end came before that.
    async fn acknowledge(&self, more: usize) -> bool {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + more;
        let reached = async {
            while self.acknowledged.load(Ordering::Relaxed) < wanted && !self.over.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        };
        clock::within(PATIENCE, reached).await.unwrap();
        !self.over.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_meets_the_end_of_the_disk_ends_the_process_and_nothing_is_lost() {
    let house = House::new();
    let Some(disk) = SmallDisk::mount(house.path("disk"), "96m") else { return };
    house.write("porter.toml", &config(&disk));
    let (application, answers) = (Application::new(&house), Answers::default());
    let mut server = house.serve(&["--config", "porter.toml"]);
    let working = async {
        join_all((0..CLIENTS).map(|name| application.work(&server, name, &answers))).await;
        answers.over.store(true, Ordering::Relaxed);
    };
    // Most often the database meets the end at once; otherwise the store has noticed in time, and goes on when there is room.
    let filling = async {
        while answers.acknowledge(AT_WORK).await {
            disk.leave(0);
            let ended = async {
                while !answers.over.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
            };
            if clock::within(Duration::from_secs(1), ended).await.is_err() {
                disk.clear();
            }
        }
    };
    join(working, filling).await;
    assert_eq!(server.end().code(), Some(1));
    server.wait_for("the disk is full");
    let others = answers.others.into_inner().unwrap();
    let honest = |(method, status): &(String, u16)| *status == 507 || (method != "PUT" && *status == 404);
    assert!(others.keys().all(honest), "{others:?}");
    disk.clear();
    let server = house.serve(&["--config", "porter.toml"]);
    application.all_are_there(&server, &answers.made.into_inner().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stops_answering_ends_the_process_and_nothing_is_lost() {
    let house = House::new();
    house.write("porter.toml", "");
    let (application, answers) = (Application::new(&house), Answers::default());
    let mut server = house.serve(&["--config", "porter.toml"]);
    let hanging = async {
        assert!(answers.acknowledge(AT_WORK).await);
        // Every sync takes longer than anybody waits.
        let inject = "inject=fdatasync:delay_enter=600s";
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject, "-p"]);
        strace.arg(server.pid().to_string()).stdin(Stdio::null()).spawn().unwrap()
    };
    let working = join_all((0..CLIENTS).map(|name| application.work(&server, name, &answers)));
    let ending = async {
        let mut strace = hanging.await;
        // It is not reaped before who traces it lets go.
        tokio::task::block_in_place(|| server.wait_for("store commit stopped turning: the process ends here"));
        strace.kill().and_then(|()| strace.wait()).unwrap();
    };
    join(working, ending).await;
    assert_eq!(server.end().code(), Some(1));
    let server = house.serve(&["--config", "porter.toml"]);
    application.all_are_there(&server, &answers.made.into_inner().unwrap()).await;
}

#[test]
fn on_a_full_disk_the_commands_ask_for_room_and_not_for_a_restore() {
    let house = House::new();
    let Some(disk) = SmallDisk::mount(house.path("disk"), "48m") else { return };
    house.write("porter.toml", &config(&disk));
    house.ok(&["token", "add", "app", "--scope", "sessions", "--config", "porter.toml"]);
    disk.leave(0);
    let backup = house.run(&["backup", "a.snapshot", "--config", "porter.toml"]);
    assert!(backup.code == 1 && backup.err.contains("is full") && backup.err.contains("make 4 MiB"), "{backup:?}");
    let compact = house.run(&["compact", "--config", "porter.toml"]);
    assert!(compact.code == 1 && compact.err.contains("make 4 MiB"), "{compact:?}");
    let doctor = house.run(&["doctor", "--config", "porter.toml"]);
    assert!(doctor.out.contains("→ make room") && !doctor.out.contains("restore"), "{doctor:?}");
    disk.clear();
    house.ok(&["backup", "a.snapshot", "--config", "porter.toml"]);
}

#[test]
fn a_disk_that_cannot_be_written_is_told_with_the_path_and_nothing_is_lost() {
    let house = House::new();
    let Some(disk) = SmallDisk::mount(house.path("disk"), "48m") else { return };
    house.write("porter.toml", &config(&disk));
    house.ok(&["token", "add", "app", "--scope", "sessions", "--config", "porter.toml"]);
    disk.set_read_only(true);
    let refused = house.run(&["serve", "--listen", "127.0.0.1:0", "--config", "porter.toml"]);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.err.contains("disk/store/sled/mark: Read-only file system"), "{refused:?}");
    disk.set_read_only(false);
    assert!(house.ok(&["token", "list", "--config", "porter.toml"]).contains("app"));
}

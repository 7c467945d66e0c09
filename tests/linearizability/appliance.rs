//! The real binary, killed and started again, and a client of its sessions.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::session::{Answer, Data, Request};

/// What no request waits longer for; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data directory with a process on it.
pub(crate) struct Appliance {
    dir: tempfile::TempDir,
    child: Child,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Appliance {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = program(&dir).args(["token", "add", "app", "--scope", "sessions"]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let (child, url) = start(&dir);
        Self { dir, child, url, token }
    }

    /// kill -9; returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start(&mut self) {
        (self.child, self.url) = start(&self.dir);
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(dir: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
    command.current_dir(dir.path()).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// Starts a server and waits until it says where it listens.
fn start(dir: &tempfile::TempDir) -> (Child, String) {
    let mut command = program(dir);
    command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let listening = lines.find(|line| line.contains("listening on ")).expect("it ended before it listened");
    let url = listening.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    // A pipe that nobody reads would stop it.
    std::thread::spawn(move || lines.for_each(drop));
    (child, url)
}

/// One connection's worth of requests.
pub(crate) struct Caller {
    client: Client,
    token: String,
}

impl Caller {
    pub(crate) fn new(token: &str) -> Self {
        Self { client: Client::builder().no_proxy().timeout(PATIENCE).build().unwrap(), token: token.to_owned() }
    }

    /// Asks for the session `id`; None: the request was never sent.
    pub(crate) async fn ask(&self, url: &str, id: &str, request: &Request) -> Option<Answer> {
        let (method, header, data) = match request {
            Request::Create(data) => (Method::PUT, Some(("if-none-match", "*".to_owned())), Some(data)),
            Request::Read => (Method::GET, None, None),
            Request::Replace { version, data } => {
                (Method::PUT, Some(("if-match", format!("\"{version}\""))), Some(data))
            }
            Request::Merge(data) => (Method::PATCH, None, Some(data)),
            Request::Delete { version } => {
                (Method::DELETE, version.map(|version| ("if-match", format!("\"{version}\""))), None)
            }
        };
        let mut asked = self.client.request(method, format!("{url}/api/sessions/proof/{id}")).bearer_auth(&self.token);
        if let Some((name, value)) = header {
            asked = asked.header(name, value);
        }
        if let Some(data) = data {
            asked = asked.json(&json!({ "data": data }));
        }
        let answer = match asked.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return None,
            Err(error) => return Some(cut_off(&error)),
        };
        let status = answer.status();
        match answer.text().await {
            Ok(text) => Some(read(status, &text)),
            Err(error) => Some(cut_off(&error)),
        }
    }
}

fn cut_off(error: &reqwest::Error) -> Answer {
    assert!(!error.is_timeout(), "the server hangs: {error}");
    Answer::Unknown
}

fn read(status: StatusCode, text: &str) -> Answer {
    match status.as_u16() {
        200 | 201 => {
            let body: Value = serde_json::from_str(text).unwrap();
            let data: Data = serde_json::from_value(body["data"].clone()).unwrap();
            Answer::Is(body["version"].as_u64().unwrap(), data)
        }
        204 => Answer::Removed,
        404 => Answer::Missing,
        412 => Answer::Refused,
        _ => panic!("{status}: {text}"),
    }
}

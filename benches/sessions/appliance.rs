//! The real binary in a directory of its own, and connections to it that stay open.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use nightporter::clock;
use tokio::net::TcpStream;

/// A running appliance; killed when dropped.
pub(crate) struct Appliance {
    child: Child,
    address: String,
    token: String,
    _dir: tempfile::TempDir,
}

/// An answer, as far as it matters.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: String,
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) location: String,
}

/// A connection that stays open.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: String,
    /// A stream that is being followed.
    stream: Option<Incoming>,
}

impl Appliance {
    /// With its store on the disk of `beside`, and these files and lines of configuration besides.
    pub(crate) async fn start(beside: &Path, lines: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir_in(beside).unwrap();
        let (file, log) = (dir.path().join("nightporter.toml"), dir.path().join("log"));
        let store = fs::canonicalize(dir.path()).unwrap().join("store");
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        // Requests are not told: writing a line for each is no part of what is measured.
        let config = format!(
            "[server]\nlisten = \"{address}\"\nmax_connections = 20480\n[store]\nurl = \"sled:{}\"\n[log]\nlevel = \"warn\"\n\
             {lines}\n",
            store.display()
        );
        fs::write(&file, config).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let program = |word: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
            command.args(word).arg("--config").arg(&file).stdin(Stdio::null());
            // Where the bench keeps its files is none of its settings.
            command.env_remove("NIGHTPORTER_BENCH_DIR");
            command
        };
        let child = program(&["serve"]).stderr(fs::File::create(&log).unwrap()).stdout(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(&address).await.is_err() {
            clock::pause(Duration::from_millis(20)).await;
        }
        let made = program(&["token", "add", "bench", "--scope", "sessions", "--scope", "flows"]).output().unwrap();
        let text = String::from_utf8(made.stdout).unwrap();
        let token = text.split_whitespace().find(|word| word.starts_with("npt_")).unwrap().to_owned();
        Self { child, address, token, _dir: dir }
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Connection { sender, host: self.address.clone(), token: format!("Bearer {}", self.token), stream: None }
    }

    /// Its resident memory in KiB.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// What the system says of its memory under this name, in KiB.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The processor's time that it has used so far.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The second field is a name in parentheses, which may hold spaces; user and system time are the 14th and 15th.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        // Linux tells them in hundredths of a second on every machine that we run on.
        Duration::from_millis(ticks * 10)
    }

    /// Where it listens.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Connection {
    /// Sends a request with a JSON body, if any, and reads its answer to the end.
    pub(crate) async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.token)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let mut answer = self.sender.send_request(request).await.unwrap();
        let told =
            |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let (etag, location) = (told(header::ETAG), told(header::LOCATION));
        let status = answer.status();
        while let Some(frame) = answer.body_mut().frame().await {
            frame.unwrap();
        }
        Answer { status, etag, location }
    }

    /// Comes with this token from now on.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) fn authorize(&mut self, token: &str) {
        self.token = format!("Bearer {token}");
    }

    /// Opens a stream of events, and reads its first one.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) async fn follow(&mut self, path: &str) {
        let request = Request::builder().uri(path).header(header::HOST, &self.host);
        let request = request.header(header::AUTHORIZATION, &self.token).body(Full::default()).unwrap();
        let mut answer = self.sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut text = Vec::new();
        while !text.windows(6).any(|window| window == b"event:") {
            text.extend_from_slice(answer.body_mut().frame().await.unwrap().unwrap().data_ref().unwrap());
        }
        self.stream = Some(answer.into_body());
    }
}

//! The real binary in a directory of its own, and connections to it that stay open.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hyper::{Method, StatusCode};
use nightporter::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) etag: String,
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) location: String,
}

/// A connection that stays open, without a library for HTTP: the load comes from the machine that is measured, and must cost
/// as little of it as can be.
pub(crate) struct Connection {
    stream: TcpStream,
    /// The lines that every head has.
    common: String,
    /// The request that is sent.
    out: Vec<u8>,
    /// What has come of the answer.
    input: Vec<u8>,
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
        self.connect_as(&self.token).await
    }

    /// A connection of whoever has this token.
    pub(crate) async fn connect_as(&self, token: &str) -> Connection {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let common = format!("host: {}\r\nauthorization: Bearer {token}\r\n", self.address);
        Connection { stream, common, out: Vec::new(), input: Vec::new() }
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
        used(&format!("/proc/{}", self.child.id()))
    }

    /// What its threads whose names begin like this have used of it.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) fn processor_of(&self, name: &str) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let threads = threads.map(|thread| thread.unwrap().path().display().to_string());
        let named = |thread: &String| fs::read_to_string(format!("{thread}/comm")).unwrap().starts_with(name);
        threads.filter(named).map(|thread| used(&thread)).sum()
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
        let Self { common, out, .. } = self;
        out.clear();
        write!(out, "{method} {path} HTTP/1.1\r\n{common}").unwrap();
        for (name, value) in headers {
            write!(out, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() {
            write!(out, "content-type: application/json\r\ncontent-length: {}\r\n", body.len()).unwrap();
        }
        write!(out, "\r\n{body}").unwrap();
        self.stream.write_all(out).await.unwrap();
        self.input.clear();
        loop {
            self.fill().await;
            if let Some((answer, length)) = Answer::read(&self.input)
                && self.input.len() >= length
            {
                assert_eq!(self.input.len(), length, "more came than was asked for");
                return answer;
            }
        }
    }

    /// Opens a stream of events, and reads its first one.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) async fn follow(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\n{}\r\n", self.common);
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.input.clear();
        while !self.input.windows(6).any(|window| window == b"event:") {
            self.fill().await;
        }
        assert!(self.input.starts_with(b"HTTP/1.1 200 "));
    }

    async fn fill(&mut self) {
        self.input.reserve(4096);
        assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "the appliance closed the connection");
    }
}

impl Answer {
    /// The answer in `input` and how long it is with its body, once its head is there.
    fn read(input: &[u8]) -> Option<(Self, usize)> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(end) = head.parse(input).unwrap() else { return None };
        let told = |name: &str| {
            let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| std::str::from_utf8(header.value).unwrap().to_owned()).unwrap_or_default()
        };
        let length = told("content-length").parse().unwrap_or(0);
        let status = StatusCode::from_u16(head.code.unwrap()).unwrap();
        Some((Self { status, etag: told("etag"), location: told("location") }, end + length))
    }
}

/// The processor's time of a process or thread.
#[allow(dead_code, reason = "each bench uses its part of it")]
fn used(place: &str) -> Duration {
    let stat = fs::read_to_string(format!("{place}/stat")).unwrap();
    // The second field is a name in parentheses, which may hold spaces; user and system time are the 14th and 15th.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // Linux tells them in hundredths of a second on every machine that we run on.
    Duration::from_millis(ticks * 10)
}

//! A portal that keeps what it was sent, byte for byte, and answers what a test has written down, byte for byte. And a
//! client that is as exact.
#![allow(dead_code, reason = "each binary that shares this uses its part of it")]
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nightporter::clock::{Clock, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::house::{House, PATIENCE, PORTAL, Running, Seed};

/// What `/endless` sends before it ends after all.
pub(crate) const ENDLESS: u64 = 256 << 20;
const PIECE: usize = 64 << 10;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<BTreeMap<String, Vec<u8>>>,
    once: Mutex<Vec<(String, Vec<u8>)>>,
    dead: Mutex<BTreeSet<String>>,
    written: AtomicU64,
    refused: AtomicU64,
    changed: Notify,
    entered: Notify,
    open: Notify,
    cut: Notify,
}

/// The portal; clones are the same one.
#[derive(Clone)]
pub(crate) struct Mirror {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Mirror {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mirror = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let serving = mirror.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        mirror
    }

    /// An appliance with this portal and the sessions `a` and `b`.
    pub(crate) async fn house(&self, clock: &Clock) -> House {
        House::new(&self.recipe(""), &[Seed::new("a", "sid-a"), Seed::new("b", "sid-b")], clock).await
    }

    /// How it is logged in to; `expired` are more signs of an expiry than 401.
    pub(crate) fn recipe(&self, expired: &str) -> String {
        format!(
            "base_url = \"http://{}\"\n[login]\nsteps = [{{ goto = \"/login\" }}, {{ wait_for = \"#account\" }}]\n\
             [check]\nrequest = {{ method = \"GET\", path = \"/check\" }}\nalive = {{ status = [200] }}\n\
             expired = [{{ status = [401] }}{expired}]\n",
            self.address
        )
    }

    /// From now on `path` is answered with these bytes, and then the connection is closed.
    pub(crate) fn answer(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), bytes.into());
    }

    /// The next request for `path` is answered with these bytes.
    pub(crate) fn answer_once(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.shared.once.lock().unwrap().push((path.to_owned(), bytes.into()));
    }

    fn written_for(&self, path: &str) -> Vec<u8> {
        let mut once = self.shared.once.lock().unwrap();
        if let Some(index) = once.iter().position(|(of, _)| of == path) {
            return once.remove(index).1;
        }
        let written = self.shared.answers.lock().unwrap().get(path).cloned();
        let plain = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok".to_vec();
        written.unwrap_or(plain)
    }

    /// Sessions with these cookies are logged out, all others are not.
    pub(crate) fn log_out(&self, sids: &[&str]) {
        *self.shared.dead.lock().unwrap() = sids.iter().map(|sid| (*sid).to_owned()).collect();
    }

    /// What came for `path`.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().iter().filter(|seen| seen.path() == path).cloned().collect()
    }

    /// How many requests have come.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many bytes of `/endless` were taken off its hands.
    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Waits until it has answered `count` requests with 401.
    pub(crate) async fn has_refused(&self, count: u64) {
        let refused = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.refused.load(Ordering::SeqCst) >= count {
                    return;
                }
                changed.await;
            }
        };
        within(PATIENCE, refused).await.unwrap();
    }

    /// Waits until a request for `/hold` is there.
    pub(crate) async fn entered(&self) {
        within(PATIENCE, self.shared.entered.notified()).await.unwrap();
    }

    /// Answers a request for `/hold`, as written down for it if it is.
    pub(crate) fn release(&self) {
        self.shared.open.notify_one();
    }

    /// Waits until the other side has hung up on `/hold` or `/endless`.
    pub(crate) async fn cut(&self) {
        within(PATIENCE, self.shared.cut.notified()).await.unwrap();
    }

    async fn serve(&self, mut stream: TcpStream) {
        let Some(seen) = read_request(&mut stream).await else { return };
        let path = seen.path().to_owned();
        let cookie = seen.all("cookie").join("; ");
        self.shared.seen.lock().unwrap().push(seen);
        let dead = self.shared.dead.lock().unwrap().iter().any(|sid| cookie.contains(&format!("SID={sid}")));
        if dead {
            let _ =
                stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
            self.shared.refused.fetch_add(1, Ordering::SeqCst);
            self.shared.changed.notify_waiters();
            return;
        }
        match path.as_str() {
            "/endless" => self.endless(stream).await,
            "/hold" => self.hold(stream).await,
            _ => {
                let written = self.written_for(&path);
                // It closes after each answer and says so: a client that reused the connection would be in doubt.
                let line = find(&written, b"\r\n").unwrap();
                let closing = [&written[..line], b"\r\nConnection: close", &written[line..]].concat();
                let _ = stream.write_all(&closing).await;
            }
        }
    }

    async fn endless(&self, mut stream: TcpStream) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/octet-stream\r\nContent-Length: {ENDLESS}\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let piece = vec![b'x'; PIECE];
        while self.written() < ENDLESS {
            if stream.write_all(&piece).await.is_err() {
                self.shared.cut.notify_one();
                return;
            }
            self.shared.written.fetch_add(PIECE as u64, Ordering::SeqCst);
        }
    }

    async fn hold(&self, mut stream: TcpStream) {
        self.shared.entered.notify_one();
        let mut byte = [0];
        tokio::select! {
            () = self.shared.open.notified() => {
                let held = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nheld".to_vec();
                let written = self.shared.answers.lock().unwrap().get("/hold").cloned().unwrap_or(held);
                let _ = stream.write_all(&written).await;
            }
            _ = stream.read(&mut byte) => self.shared.cut.notify_one(),
        }
    }
}

/// Reads one request; None when it does not come whole.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let (line, headers) = parse_head(&bytes[..end]);
    let mut seen = Seen { line, headers, body: bytes.split_off(end + 4) };
    if let Some(length) = seen.all("content-length").first().map(|length| length.parse::<usize>().unwrap()) {
        while seen.body.len() < length {
            if stream.read_buf(&mut seen.body).await.ok()? == 0 {
                return None;
            }
        }
    } else if seen.all("transfer-encoding") == ["chunked"] {
        while !seen.body.ends_with(b"0\r\n\r\n") {
            if stream.read_buf(&mut seen.body).await.ok()? == 0 {
                return None;
            }
        }
        seen.body = unchunk(&seen.body);
    }
    Some(seen)
}

fn parse_head(head: &[u8]) -> (String, Vec<(String, String)>) {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap();
    let header = |line: String| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    (line, lines.filter_map(header).collect())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    whole
}

/// An answer as it arrived.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Seen,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends `bytes` to `address` and reads until the other side closes.
pub(crate) async fn speak(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut got = Vec::new();
    within(PATIENCE, stream.read_to_end(&mut got)).await.unwrap().unwrap();
    if got.starts_with(b"HTTP/1.1 100 ") {
        got.drain(..find(&got, b"\r\n\r\n").unwrap() + 4);
    }
    let end = find(&got, b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&got)));
    let (line, headers) = parse_head(&got[..end]);
    let body = got.split_off(end + 4);
    let head = Seen { line, headers, body: Vec::new() };
    let chunked = head.all("transfer-encoding") == ["chunked"] && !body.is_empty();
    let status = head.line.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: if chunked { unchunk(&body) } else { body } }
}

/// A request through the relay, with the headers and the body given, for a connection that ends with it.
pub(crate) async fn call(running: &Running, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let target = format!("/api/portals/{PORTAL}/relay{path}");
    call_target(running, method, &target, headers, body).await
}

/// The same for any target.
pub(crate) async fn call_target(running: &Running, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
    let token = &running.token;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut bytes = format!(
        "{method} {target} HTTP/1.1\r\nHost: porter\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         {length}{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    speak(running.app.address(), &bytes).await
}

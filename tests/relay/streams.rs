//! Bodies flow: they are never held whole, never read faster than they are taken, and end when somebody goes away.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use nightporter::clock::{Clock, within};
use nightporter::operators::Scope;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::demo::Demo;
use super::house::{House, PATIENCE, PORTAL, held, token};
use super::mirror::{ENDLESS, Mirror};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The binary, serving; killed when dropped.
struct Binary {
    child: Child,
    url: String,
}

impl Binary {
    fn serve(house: &House) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nightporter"))
            .args(["serve", "--config"])
            .arg(house.path("nightporter.toml"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening on ")).unwrap();
        let url = line.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// A line of `/proc/PID/status`, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_passes_through_the_binary_each_way_in_little_memory() {
    let clock = Clock::system();
    let demo = Demo::start(&clock).await;
    let house = demo.house(&clock).await;
    let running = house.start().await;
    let token = token(&running.app, "big", &[Scope::PortalsRelay]).await;
    let client = running.client.clone();
    running.stop().await;
    let binary = Binary::serve(&house);
    let relay = |path: &str| format!("{}/api/portals/{PORTAL}/relay{path}", binary.url);
    let warm = client.get(relay("/api/orders?limit=1")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(warm.status().as_u16(), 200);
    let before = binary.memory("VmRSS");

    let down = client.get(relay(&format!("/api/big?bytes={GIB}"))).bearer_auth(&token).send().await.unwrap();
    let sizes = down.bytes_stream().map(|piece| piece.unwrap().len() as u64);
    assert_eq!(sizes.fold(0, |sum, size| async move { sum + size }).await, GIB);

    let piece = Bytes::from(vec![b'u'; MIB as usize]);
    let mut crc = crc32fast::Hasher::new();
    (0..GIB / MIB).for_each(|_| crc.update(&piece));
    let pieces = stream::iter((0..GIB / MIB).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    let up = client.post(relay("/api/upload")).bearer_auth(&token).body(reqwest::Body::wrap_stream(pieces));
    let told: Value = up.send().await.unwrap().json().await.unwrap();
    assert_eq!((&told["bytes"], &told["crc32"]), (&GIB.into(), &crc.finalize().into()));

    let growth = binary.memory("VmHWM").saturating_sub(before);
    assert!(growth < 64 * MIB, "{} MiB more at the peak", growth / MIB);
}

/// To how many bytes this kernel lets a socket's buffer grow.
fn largest_buffer(name: &str) -> u64 {
    let sizes = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
    sizes.split_whitespace().next_back().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_portal_is_read_no_faster_than_the_caller_reads() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let mut pieces = running.get("/endless").await.bytes_stream();
    let (mut read, mut furthest) = (0, 0);
    while let Some(piece) = within(PATIENCE, pieces.next()).await.unwrap() {
        read += piece.unwrap().len() as u64;
        furthest = furthest.max(mirror.written().saturating_sub(read));
        tokio::task::yield_now().await;
    }
    assert_eq!(read, ENDLESS);
    // What the sockets of both hops may hold, and a little of ours.
    let held = 2 * (largest_buffer("tcp_rmem") + largest_buffer("tcp_wmem"));
    assert!(furthest < held + 8 * MIB, "the portal was {} MiB ahead", furthest / MIB);
    running.stop().await;
}

/// A call over a socket of its own, to be dropped at will.
async fn caller(running: &super::house::Running, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.app.address()).await.unwrap();
    let head = format!(
        "GET /api/portals/{PORTAL}/relay{path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\r\n",
        running.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_takes_the_call_with_it() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    // In the middle of the answer.
    let mut stream = caller(&running, "/endless").await;
    let mut some = vec![0; 100_000];
    within(PATIENCE, stream.read_exact(&mut some)).await.unwrap().unwrap();
    drop(stream);
    mirror.cut().await;
    assert!(mirror.written() < ENDLESS);
    // Before the answer.
    let stream = caller(&running, "/hold").await;
    mirror.entered().await;
    drop(stream);
    mirror.cut().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_finished_before_the_end() {
    let mirror = Mirror::start().await;
    let clock = held();
    let running = mirror.house(&clock).await.start().await;
    let (address, call) = (running.app.address(), running.relay(Method::GET, "/hold"));
    let call = tokio::spawn(async move { call.send().await.unwrap().text().await.unwrap() });
    mirror.entered().await;
    let release = async {
        // Once nobody can come in any more, the stopping has begun.
        let closed = async { while TcpStream::connect(address).await.is_ok() {} };
        within(PATIENCE, closed).await.unwrap();
        mirror.release();
    };
    tokio::join!(running.stop(), release);
    assert_eq!(call.await.unwrap(), "held");
}

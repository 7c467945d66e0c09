//! The peer: a real redis-server from the distribution, its data in a directory of its own. It is spoken to here in its own
//! protocol straight over the socket, without a library: the load comes from the machine that is measured, and must cost as
//! little of it as can be.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nightporter::clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::load::{self, SIZE};

/// How often Redis forces its log to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fsync {
    /// Before it answers.
    Always,
    /// Once a second: an answer may be lost.
    EverySecond,
}

/// A running server; killed when dropped.
pub(crate) struct Redis {
    child: Child,
    port: Option<u16>,
    dir: tempfile::TempDir,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of its own.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    /// Commands that are to be sent.
    out: Vec<u8>,
    /// Read, not yet understood.
    input: Vec<u8>,
}

/// Compare-and-swap of a record with a version, as an application that shares sessions in Redis writes it: `KEYS[1]`, the
/// version that the caller has seen, the new value, its life in milliseconds (0: none). Returns the new version, or the
/// negated version that stands there, and one less, so that it is never 0.
pub(crate) const SWAP: &str = "local v = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
    if v ~= tonumber(ARGV[1]) then return -v - 1 end
    redis.call('HSET', KEYS[1], 'v', v + 1, 'd', ARGV[2])
    if ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
    return v + 1";

/// Changes a record: it knows the version that it wrote last, and reads again when somebody else was faster.
pub(crate) struct Swapper {
    connection: Connection,
    /// The script's name.
    script: String,
    key: String,
    value: String,
    /// The record's life in milliseconds; 0: it has no end.
    life: String,
    version: i64,
}

impl Swapper {
    pub(crate) async fn new(redis: &Redis, key: String, life: u64) -> Self {
        let mut connection = redis.connect().await;
        let script = connection.call(&["SCRIPT", "LOAD", SWAP]).await.text;
        Self { connection, script, key, value: format!("{:0SIZE$}", 1), life: life.to_string(), version: 0 }
    }
}

impl load::Client for Swapper {
    async fn act(&mut self) {
        loop {
            let version = self.version.to_string();
            let Self { connection, script, key, value, life, .. } = self;
            let told = connection.call(&["EVALSHA", script, "1", key, &version, value, life]).await.number;
            if told > 0 {
                self.version = told;
                return;
            }
            self.version = -told - 1;
        }
    }
}

/// What Redis answered.
pub(crate) struct Reply {
    /// The number, or the length of the text.
    pub(crate) number: i64,
    pub(crate) text: String,
}

impl Connection {
    /// Sends a command and reads its answer.
    pub(crate) async fn call(&mut self, words: &[&str]) -> Reply {
        self.add(words);
        self.send().await;
        self.reply().await
    }

    /// Adds a command to those that [`Connection::send`] sends.
    pub(crate) fn add(&mut self, words: &[&str]) {
        write!(self.out, "*{}\r\n", words.len()).unwrap();
        for word in words {
            write!(self.out, "${}\r\n{word}\r\n", word.len()).unwrap();
        }
    }

    pub(crate) async fn send(&mut self) {
        self.stream.write_all(&self.out).await.unwrap();
        self.out.clear();
    }

    /// The answer to the oldest command that has none yet.
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut end = None;
        loop {
            if end.is_none() {
                end = self.input.windows(2).position(|two| two == b"\r\n");
            }
            if let Some(end) = end {
                let line = std::str::from_utf8(&self.input[..end]).unwrap();
                let (kind, rest) = line.split_at(1);
                let (number, text) = match kind {
                    ":" => (rest.parse().unwrap(), None),
                    "$" => (rest.parse().unwrap(), Some(end + 2..end + 2 + rest.parse::<usize>().unwrap())),
                    "+" => (0, None),
                    _ => panic!("redis answered {line}"),
                };
                let whole = text.as_ref().map_or(end + 2, |text| text.end + 2);
                if self.input.len() >= whole {
                    let text = text.map(|text| String::from_utf8(self.input[text].to_owned()).unwrap());
                    self.input.drain(..whole);
                    return Reply { number, text: text.unwrap_or_default() };
                }
            }
            self.input.reserve(4096);
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "redis closed the connection");
        }
    }
}

impl Redis {
    /// On a socket in a new directory beside the store's, or on a port of loopback.
    pub(crate) async fn start(beside: &Path, fsync: Fsync, tcp: bool) -> Self {
        let dir = tempfile::tempdir_in(beside).unwrap();
        let port = tcp.then(free_port);
        let fsync = match fsync {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
        };
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.unwrap_or_default().to_string()])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", fsync, "--loglevel", "warning"])
            .arg("--unixsocket")
            .arg(dir.path().join(SOCKET))
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed as the peer: apt-get install redis-server");
        let redis = Self { child, port, dir };
        for _ in 0..200 {
            if redis.reach().await.is_ok() {
                return redis;
            }
            clock::pause(Duration::from_millis(25)).await;
        }
        panic!("redis-server does not answer");
    }

    async fn reach(&self) -> std::io::Result<Box<dyn Stream>> {
        let Some(port) = self.port else {
            return Ok(Box::new(UnixStream::connect(self.socket()).await?));
        };
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Connection {
        Connection { stream: self.reach().await.unwrap(), out: Vec::new(), input: Vec::new() }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SOCKET: &str = "redis.sock";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

//! The peer: a real redis-server from the distribution, its data in a directory of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nightporter::clock;
use redis::aio::MultiplexedConnection;
use redis::{Client, Script};

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
    client: Client,
    dir: tempfile::TempDir,
}

/// Compare-and-swap of a record with a version, as an application that shares sessions in Redis writes it: `KEYS[1]`, the
/// version that the caller has seen, the new value, its life in milliseconds (0: none). Returns the new version, or the
/// negated version that stands there, and one less, so that it is never 0.
fn swap() -> Script {
    Script::new(
        "local v = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
         if v ~= tonumber(ARGV[1]) then return -v - 1 end
         redis.call('HSET', KEYS[1], 'v', v + 1, 'd', ARGV[2])
         if ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
         return v + 1",
    )
}

/// Changes a record: it knows the version that it wrote last, and reads again when somebody else was faster.
pub(crate) struct Swapper {
    connection: MultiplexedConnection,
    script: Script,
    key: String,
    /// The record's life in milliseconds; 0: it has no end.
    life: u64,
    version: i64,
}

impl Swapper {
    pub(crate) async fn new(redis: &Redis, key: String, life: u64) -> Self {
        Self { connection: redis.connect().await, script: swap(), key, life, version: 0 }
    }
}

impl load::Client for Swapper {
    async fn act(&mut self) {
        loop {
            let mut call = self.script.key(&self.key);
            call.arg(self.version).arg(format!("{:0SIZE$}", self.version)).arg(self.life);
            let told: i64 = call.invoke_async(&mut self.connection).await.unwrap();
            if told > 0 {
                self.version = told;
                return;
            }
            self.version = -told - 1;
        }
    }
}

impl Redis {
    /// On a socket in a new directory beside the store's, or on a port of loopback.
    pub(crate) async fn start(beside: &Path, fsync: Fsync, tcp: bool) -> Self {
        let dir = tempfile::tempdir_in(beside).unwrap();
        let socket = dir.path().join("redis.sock");
        let port = if tcp { free_port() } else { 0 };
        let fsync = match fsync {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
        };
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", fsync, "--loglevel", "warning"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed as the peer: apt-get install redis-server");
        let url = if tcp { format!("redis://127.0.0.1:{port}/") } else { format!("unix://{}", socket.display()) };
        let redis = Self { child, client: Client::open(url).unwrap(), dir };
        for _ in 0..200 {
            if redis.client.get_multiplexed_async_connection().await.is_ok() {
                return redis;
            }
            clock::pause(Duration::from_millis(25)).await;
        }
        panic!("redis-server does not answer");
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        self.client.get_multiplexed_async_connection().await.unwrap()
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

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

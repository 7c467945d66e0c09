//! The edge's limits: how long, how large, how many. Numbers only; whoever waits or counts does so elsewhere.

use std::time::Duration;

/// Headers that one request may carry; more are answered with 431. hyper's own default, which keeps its parser's table
/// on the stack.
pub const MAX_HEADERS: usize = 100;

/// Every limit that the accept loop, the connections and the body readers keep. The defaults are meant for a small
/// machine behind a proxy or on the open net.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first byte of a request head to its end, and from accepting a connection to its first byte. 408.
    pub header_read: Duration,
    /// How long a connection may be silent between two requests; longer than the 60 s that nginx keeps its upstreams,
    /// so that the proxy closes first and never sends into a closing connection.
    pub keep_alive: Duration,
    /// Bytes of request line and headers together. 431, or 414 when the line alone is longer.
    pub max_head: usize,
    /// Connections served at once by one listener; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// How long a write may make no progress before the connection is cut.
    pub write_stall: Duration,
    /// The TLS handshake, start to end.
    pub handshake: Duration,
    /// The longest wait for the next piece of a request body while a handler reads it. 408.
    pub body_idle: Duration,
    /// The time for a whole body that is read into memory (JSON, raw bytes); streams have only `body_idle`. 408.
    pub body_total: Duration,
    /// Bytes of a body that is read into memory. 413. A route raises it with `axum::extract::DefaultBodyLimit`.
    pub max_body: usize,
    /// How long requests in flight may take to end once the server stops; then their connections are cut.
    pub drain: Duration,
    /// How long a connection that is closed before its client has finished sending is read and thrown away, so that the
    /// answer reaches the client instead of a reset.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            max_head: 32 * 1024,
            max_connections: 1024,
            write_stall: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(60),
            max_body: 1024 * 1024,
            drain: Duration::from_secs(20),
            linger: Duration::from_secs(2),
        }
    }
}

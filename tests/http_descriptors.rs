//! The accept loop without file descriptors. In a process of its own, because it takes them all.

use std::fs::File;

use axum::routing::get;
use nightporter::clock::{Clock, Time};
use nightporter::http::client::TrustedProxies;
use nightporter::http::edge::{Edge, Settings};
use nightporter::http::limits::Limits;
use nightporter::http::listener::Listener;
use nightporter::http::server::Server;
use nightporter::http::workers::Workers;
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use utoipa_axum::router::OpenApiRouter;

#[tokio::test]
async fn without_descriptors_connections_wait_and_are_served_later() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let life = Lifecycle::new();
    let settings = Settings {
        clock: Clock::held(Time::from_millis(0)),
        random: Random::seeded(1),
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
    };
    let edge = Edge::new(OpenApiRouter::new().route("/hello", get(async || "hello")), settings);
    let server = Server::new(edge, Limits::default(), &life, Workers::start().unwrap(), life.stopping());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.serve("test", Listener::Tcp(listener)).unwrap();

    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One for the client; none is left for the server's end.
    taken.pop();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(File::open("/dev/null").is_err(), "the server had a descriptor after all");
    assert_eq!(client.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    drop(taken);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
}

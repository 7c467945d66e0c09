//! Accepts connections, serves each on a task of its own on one of the [`workers`](super::workers), and drains them when
//! told to stop. hyper's own connection under the router instead of `axum::serve`, which has no limits. Knows nothing of
//! routes.
//!
//! A client that closes its connection, or only its sending half, has lost interest: its handler is dropped where it
//! waits. What must be finished nevertheless belongs on a task of its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::body::Paced;
use super::client::Peer;
use super::edge::Edge;
use super::exchange::{Exchange, Guarded};
use super::leftover::Leftover;
use super::limits::Limits;
use super::listener::{Accepted, Listener};
use super::wire::Wire;
use super::workers::Workers;
use crate::clock;
use crate::lifecycle::Lifecycle;

/// First and longest pause after `accept` failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Serves one edge on any number of listeners.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    edge: Edge,
    limits: Limits,
    life: Lifecycle,
    workers: Workers,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    /// A server that stops accepting and drains when `stop` is cancelled: [`Lifecycle::stopping`], or a token that
    /// is cancelled before it, so that requests in flight still find the parts they need.
    pub fn new(edge: Edge, limits: Limits, life: &Lifecycle, workers: Workers, stop: CancellationToken) -> Self {
        Self(Arc::new(Shared { edge, limits, life: life.clone(), workers, stop, connections: TaskTracker::new() }))
    }

    /// Starts serving `listener`; `name` is for the log. Returns the TCP address bound, if it is one.
    pub fn serve(&self, name: &str, listener: Listener) -> Option<SocketAddr> {
        let address = listener.address();
        let accepting = accept(Arc::clone(&self.0), name.to_owned(), listener);
        let accepting = self.0.connections.track_future(accepting);
        self.0.life.spawn(format!("http {name}"), accepting);
        address
    }

    /// Waits, once stopped, until every connection has ended; by [`Limits::drain`] the last one has been cut.
    pub async fn drained(&self) {
        self.0.stop.cancelled().await;
        self.0.connections.close();
        self.0.connections.wait().await;
    }
}

async fn accept(shared: Arc<Shared>, name: String, listener: Listener) {
    let places = Arc::new(Semaphore::new(shared.limits.max_connections));
    let mut pause = ACCEPT_PAUSE.0;
    loop {
        let next = async {
            // A place first: without one the connection waits in the kernel's backlog, costing us nothing.
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, place))
        };
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok(((stream, peer), place)) => {
                pause = ACCEPT_PAUSE.0;
                let task = shared.connections.track_future(connection(Arc::clone(&shared), stream, peer, place));
                shared.life.spawn_on(shared.workers.next(), "http connection", task);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if pause == ACCEPT_PAUSE.0 {
                    tracing::error!(listener = name, %error, "{name} cannot accept connections: {error}; trying on");
                }
                let _ = clock::within(pause, shared.stop.cancelled()).await;
                pause = (pause * 2).min(ACCEPT_PAUSE.1);
            }
        }
    }
}

// The client gave up between its SYN and our accept: nothing is wrong here, and the next one can be taken at once.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}

async fn connection(shared: Arc<Shared>, stream: Accepted, peer: Peer, place: OwnedSemaphorePermit) {
    let conversing = async {
        match stream {
            Accepted::Tcp(stream) => converse(&shared, TcpStream::from_std(stream)?, peer, place).await,
            Accepted::Unix(stream) => converse(&shared, UnixStream::from_std(stream)?, peer, place).await,
            Accepted::Tls(stream, acceptor) => {
                let handshake = acceptor.accept(TcpStream::from_std(stream)?);
                tokio::select! {
                    biased;
                    () = shared.stop.cancelled() => {}
                    done = clock::within(shared.limits.handshake, handshake) => match done {
                        Ok(Ok(stream)) => converse(&shared, stream, peer, place).await,
                        Ok(Err(error)) => tracing::debug!(?peer, %error, "TLS handshake failed: {error}"),
                        Err(error) => tracing::debug!(?peer, "TLS handshake not finished: {error}"),
                    },
                }
            }
        }
        io::Result::Ok(())
    };
    // Handlers are caught closer to the request. What is left is an answer's body that panics while it is sent: the
    // client sees it break off, and nobody else is harmed.
    match AssertUnwindSafe(conversing).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(?peer, %error, "a connection cannot be served: {error}"),
        Err(_) => tracing::error!(?peer, "an answer panicked while it was being sent; its connection is cut"),
    }
}

/// Bytes of an answer that are held for a slow client, at least; what is left of it waits in its own body.
const HELD: usize = 32 * 1024;

async fn converse<S>(shared: &Arc<Shared>, stream: S, peer: Peer, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let exchange = Arc::new(Exchange::default());
    let wire = Wire::new(stream, Arc::clone(&exchange), shared.limits, place);
    let service = hyper::service::service_fn(|request| {
        answer(shared.edge.clone(), shared.limits.body_idle, Arc::clone(&exchange), peer, request)
    });
    let conversing = http1::Builder::new()
        // The wire keeps the time: hyper's timer cannot tell an idle connection from a slow head.
        .header_read_timeout(None)
        // A head arrives whole. What counts is the other direction: hyper's 400 KiB for every client that does not read.
        .max_buf_size(shared.limits.max_head.max(HELD).saturating_add(HELD))
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades();
    let mut conversing = pin!(conversing);
    // Asked only when it calls: to ask the token itself at every turn takes a lock that all connections share.
    let mut stopping = FuturesUnordered::from_iter([shared.stop.cancelled()]);
    let ended = tokio::select! {
        // The stop first: an answer that is about to be given says that it is the last one.
        biased;
        Some(()) = stopping.next() => {
            conversing.as_mut().graceful_shutdown();
            clock::within(shared.limits.drain, conversing).await
        }
        ended = conversing.as_mut() => Ok(ended),
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(?peer, %error, "connection ended: {error}"),
        Err(_) => tracing::warn!(?peer, "a request did not end within the drain limit; its connection is cut"),
    }
}

async fn answer(
    edge: Edge,
    idle: Duration,
    exchange: Arc<Exchange>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Guarded>, Infallible> {
    let (refusal, busy) = exchange.take();
    let (head, body) = request.into_parts();
    let (body, leftover) = Leftover::lend(&head.headers, body);
    let mut request = Request::from_parts(head, Body::new(Paced::new(body, idle)));
    request.extensions_mut().insert(peer);
    if let Some(refusal) = refusal {
        request.extensions_mut().insert(*refusal);
    }
    // The router is always ready.
    let mut response = edge.into_router().call(request).await?;
    leftover.settle(&mut response).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        exchange.upgrade();
    }
    Ok(response.map(|body| Guarded::new(body, busy)))
}

//! The portal's socket: its own accept loop, because a portal that is down must be able to slam the door and to hang
//! up in the middle of an answer, which no router can.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::{Outage, Site};
use crate::clock;
use crate::lifecycle::Lifecycle;

/// Connections served at once; more wait in the accept queue.
const CONNECTIONS: usize = 512;
/// How long the head of a request may take.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The pause after a failed accept, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `life` stops.
pub(super) fn start(listener: TcpListener, router: Router, site: &Site, life: &Lifecycle) {
    let router = router.layer(middleware::from_fn_with_state(site.clone(), weather));
    life.supervise("demo portal", accept(listener, router, site.clone(), life.clone()));
}

async fn accept(listener: TcpListener, router: Router, site: Site, life: Lifecycle) {
    let stop = life.stopping();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok(_) if site.outage() == Some(Outage::Closing) => {}
            Ok((stream, _)) => {
                let (router, site) = (router.clone(), site.clone());
                life.spawn("demo portal connection", async move {
                    serve(stream, router, &site).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "demo portal: accepting failed");
                clock::pause(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, router: Router, site: &Site) {
    let answer = |request: hyper::Request<hyper::body::Incoming>| {
        let (router, site) = (router.clone(), site.clone());
        async move {
            let Ok(response) = router.oneshot(request.map(Body::new)).await;
            if site.outage() == Some(Outage::CutAnswers) {
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
            }
            Ok(response)
        }
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut faults = site.0.faults.subscribe();
    tokio::select! {
        // An error here is the client's going away or our own hanging up; neither needs anybody.
        _ = connection => {}
        _ = faults.wait_for(|faults| faults.outage == Some(Outage::Closing)) => {}
        () = site.0.stop.cancelled() => {}
    }
}

/// What befalls every request alike: maintenance and slowness.
async fn weather(State(site): State<Site>, request: Request, next: Next) -> Response {
    site.pace(|faults| faults.pace).await;
    if site.outage() == Some(Outage::Maintenance) {
        return site.pages().maintenance();
    }
    next.run(request).await
}

impl Site {
    fn outage(&self) -> Option<Outage> {
        self.0.faults.borrow().outage
    }
}

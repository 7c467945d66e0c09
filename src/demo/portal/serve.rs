//! The portal's socket: its own accept loop, because a portal that is down must be able to slam the door and to hang
//! up in the middle of an answer, which no router can.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::{self, Next};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt, stream};
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

/// The longest answer that a fault rewrites.
const WHOLE: usize = 4 << 20;

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
            match site.outage() {
                Some(Outage::CutAnswers) => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
                Some(Outage::HalfAnswers) => Ok(half(response).await),
                _ => Ok(response),
            }
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

/// An answer that breaks off in its middle.
async fn half(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, WHOLE).await.unwrap_or_default();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len().max(2)));
    let first = stream::iter([Ok(whole.slice(..whole.len() / 2))]);
    let hang_up = stream::once(async {
        // A turn of the loop in which hyper flushes what it has.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    Response::from_parts(head, Body::from_stream(first.chain(hang_up)))
}

/// An answer as an older portal gives it: pages in EUC-KR, and compressed.
async fn dated(response: Response) -> Response {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let is_page = kind.starts_with("text/html");
    if !is_page && !kind.contains("json") {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let text = axum::body::to_bytes(body, WHOLE).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let bytes = if is_page { encoding_rs::EUC_KR.encode(&text).0.into_owned() } else { text.into_owned().into_bytes() };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to a vector cannot fail.
    let packed = gzip.write_all(&bytes).and_then(|()| gzip.finish()).unwrap_or_default();
    if is_page {
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=EUC-KR"));
    }
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(packed.len()));
    Response::from_parts(head, Body::from(packed))
}

/// What befalls every request alike: maintenance, slowness and age.
async fn weather(State(site): State<Site>, request: Request, next: Next) -> Response {
    site.pace(|faults| faults.pace).await;
    if site.outage() == Some(Outage::Maintenance) {
        return site.pages().maintenance();
    }
    let answer = next.run(request).await;
    if site.faults().dated { dated(answer).await } else { answer }
}

impl Site {
    fn outage(&self) -> Option<Outage> {
        self.0.faults.borrow().outage
    }
}

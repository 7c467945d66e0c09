//! The doors: every socket that somebody can knock at. Opened last, closed first.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use super::{Ground, Parts, StartError};
use crate::clock;
use crate::config::{self, Config};
use crate::http::auth;
use crate::http::client::TrustedProxies;
use crate::http::control::socket::{self, SocketFile};
use crate::http::control::{Control, Place, Reach};
use crate::http::edge::{Edge, Settings};
use crate::http::health::Health;
use crate::http::limits::Limits;
use crate::http::listener::Listener;
use crate::http::metrics::Metrics;
use crate::http::server::Server;
use crate::http::tls::Tls;
use crate::http::workers::Workers;
use crate::operators::Scope;

/// Connections that may wait in the kernel until they are accepted: a burst of clients that all come back at once.
const WAITING: u32 = 1024;

/// The open doors.
#[derive(Debug)]
pub(super) struct Doors {
    /// Where the API is served.
    pub(super) address: SocketAddr,
    servers: Vec<Server>,
    tls: Option<Tls>,
    stop: CancellationToken,
    socket: SocketFile,
}

impl Doors {
    /// Binds everything, and only then serves: a port that is taken must not leave a half-open house.
    pub(super) async fn open(
        ground: &Ground,
        parts: &Parts,
        metrics: Metrics,
        config: &Config,
    ) -> Result<Self, StartError> {
        let server = &config.server;
        let tls = server.tls.as_ref().map(|tls| Tls::load(&tls.cert, &tls.key)).transpose()?;
        let api = bind("server.listen", server.listen).await?;
        let address = local(&api, server.listen)?;
        let open_metrics = match server.metrics_listen {
            Some(asked) => Some((bind("server.metrics_listen", asked).await?, asked)),
            None => None,
        };
        let metrics_url = match &open_metrics {
            Some((listener, asked)) => Some(format!("http://{}", local(listener, *asked)?)),
            None => None,
        };
        let (control, file) = socket::bind(&config.store.path)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let place = Place { url: url.clone(), metrics_url, store: config.store.path.clone() };

        let workers = Workers::start().map_err(StartError::Workers)?;
        let opening = Opening { ground, limits: limits(server), workers, stop: CancellationToken::new(), server };
        let health = Health::new(ground.readiness.clone(), &ground.clock);
        let guarded = metrics
            .clone()
            .routes(Some(parts.portals.clone()))
            .route_layer(auth::require(&parts.operators, Scope::Metrics));
        let listener = match &tls {
            Some(tls) => Listener::Tls(api, tls.clone()),
            None => Listener::Tcp(api),
        };
        let mut servers = vec![opening.serve("api", health.routes().merge(guarded).merge(parts.routes()), listener)];
        if let Some((listener, _)) = open_metrics {
            servers.push(opening.serve(
                "metrics",
                metrics.routes(Some(parts.portals.clone())),
                Listener::Tcp(listener),
            ));
        }
        let reach = Reach {
            operators: parts.operators.clone(),
            readiness: ground.readiness.clone(),
            api: parts.portals_api.clone(),
            flows: parts.flows_api.clone(),
            accounts: parts.accounts.clone(),
            users: parts.users_api.clone(),
            alerts: parts.alerts.clone(),
            store: parts.store.clone(),
        };
        let routes = Control::new(reach, place, &ground.clock).routes();
        servers.push(opening.serve("control", routes, Listener::Unix(control)));
        let (version, store) = (env!("CARGO_PKG_VERSION"), config.store.path.display());
        tracing::info!(url, version, %store, "listening on {url}");
        Ok(Self { address, servers, tls, stop: opening.stop, socket: file })
    }

    /// Takes a renewed certificate over.
    pub(super) fn reload(&self) {
        if let Some(tls) = &self.tls
            && let Err(error) = tls.reload()
        {
            tracing::error!(%error, "the certificate stays as it is: {error}");
        }
    }

    /// Stops accepting and waits for requests in flight, at most `limit`.
    pub(super) async fn close(self, limit: Duration) -> bool {
        self.stop.cancel();
        let drained = futures_util::future::join_all(self.servers.iter().map(Server::drained));
        let closed = clock::within(limit, drained).await.is_ok();
        // Gone before the store is: the next server of this store makes its own.
        drop(self.socket);
        closed
    }
}

/// What every door is opened with.
struct Opening<'a> {
    ground: &'a Ground,
    limits: Limits,
    workers: Workers,
    stop: CancellationToken,
    server: &'a config::Server,
}

impl Opening<'_> {
    fn serve(&self, name: &str, routes: OpenApiRouter, listener: Listener) -> Server {
        let settings = Settings {
            clock: self.ground.clock.clone(),
            random: self.ground.random.clone(),
            trusted_proxies: TrustedProxies::new(self.server.trusted_proxies.iter().copied()),
            limits: self.limits,
        };
        let (edge, workers, stop) = (Edge::new(routes, settings), self.workers.clone(), self.stop.clone());
        let server = Server::new(edge, self.limits, &self.ground.life, workers, stop);
        server.serve(name, listener);
        server
    }
}

fn limits(server: &config::Server) -> Limits {
    let max_connections = server.max_connections as usize;
    Limits { max_connections, max_body: server.max_body, drain: server.drain, ..Limits::default() }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listener(address).map_err(|source| StartError::Listen { key, address, source })
}

/// Like [`TcpListener::bind`], with a longer queue: that has 128, and of a burst of more the rest tries again a second later.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { key: "server.listen", address, source })
}

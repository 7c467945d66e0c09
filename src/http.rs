//! The edge: HTTP/1.1 in, problems and answers out. Extract → one domain call → map; no rule of any domain lives here.
//!
//! Bytes pass the rooms in this order: [`server`] accepts and owns connections, which run on [`workers`], `wire` judges
//! heads before hyper parses them, [`edge`] surrounds every route with what all of them share (id, log, metrics, panics,
//! limits), and the extractors in [`json`], [`params`], [`body`] and [`etag`] turn requests into values or a [`problem`].
//!
//! HTTP/1.1 only, on purpose: what stands in front (nginx, Caddy, a load balancer) speaks HTTP/2 to browsers and
//! HTTP/1.1 to us, a second protocol would need every guard here a second time, and WebSocket needs no other.

pub mod accounts;
pub mod auth;
pub mod body;
mod chunks;
pub mod client;
pub mod control;
pub mod edge;
pub mod etag;
mod exchange;
mod feed;
pub mod flows;
mod head;
pub mod health;
pub mod idempotency;
pub mod json;
mod leftover;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod openapi;
pub mod params;
mod phones;
pub mod portals;
pub mod problem;
mod relay;
pub mod request_id;
pub mod server;
pub mod sessions;
pub mod tls;
pub mod users;
mod wire;
pub mod workers;

//! The HTTP surface and the I/O shell of signaling: one TCP port for STUN/TURN, TLS, pages, API and WebSocket.

pub mod access;
pub mod admin;
pub mod assets;
pub mod compressed;
mod desk;
pub mod diagnosis;
pub mod figures;
pub mod front;
pub mod gate;
pub mod host;
pub mod hub;
pub mod ice;
pub mod live;
pub mod metrics;
mod polling;
pub mod routes;
pub mod socketio;
pub mod tls;
pub mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::net::Net;
use crate::webhooks::Webhooks;

/// What every connection and handler shares.
pub struct Web {
    /// What a reload replaces.
    pub live: live::Live,
    /// Up to which change the file of what was revoked is written.
    pub kept: watch::Receiver<u64>,
    pub net: Net,
    pub hub: hub::HubHandle,
    /// The sockets that really bound: the ICE configuration names no other.
    pub bound: Bound,
    /// The certificate in use: which hosts it covers and whether browsers trust it by themselves.
    pub identity: Arc<tls::Identity>,
    /// Present where certificates come by ACME.
    pub acme: Option<Arc<tls::acme::Acme>>,
    pub webhooks: Webhooks,
    /// What the HTTP surface counts.
    pub figures: figures::Figures,
    pub admin: admin::Admin,
}

impl Web {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.live.get().config)
    }
}

/// Every socket that really bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    /// The listener of `--metrics`.
    pub metrics: Option<SocketAddr>,
}

/// What a handler knows of the connection a request came on; an extension of every request.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client as we see it (after `X-Forwarded-For` from a trusted proxy).
    pub client: SocketAddr,
    /// The address the connection came to.
    pub server: SocketAddr,
    /// The request came over TLS (or a trusted proxy says so).
    pub secure: bool,
    /// The listener is bound to a literal loopback address, and no proxy stands before it.
    pub loopback_listener: bool,
}

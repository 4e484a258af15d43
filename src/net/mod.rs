//! The I/O shell of the relay: shards for UDP, one task per TCP or TLS client, ports, quotas, hairpin.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::Config;
use crate::relay::FiveTuple;

/// A UDP address that could not be bound, or another reason not to start.
#[derive(Debug, thiserror::Error)]
#[error("{address}/udp: {reason}")]
pub struct StartError {
    pub address: SocketAddr,
    /// True when another process holds the port.
    pub in_use: bool,
    pub reason: String,
}

/// The running relay shell; cheap to clone.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Shared>,
}

struct Shared {}

/// What `net` needs beside the configuration.
pub struct Setup<'a> {
    pub config: &'a Config,
    /// Secrets of time-limited credentials, newest first.
    pub turn_secrets: Vec<Vec<u8>>,
    /// The nonce key is derived from this state-directory secret, so that a restart invalidates no nonce.
    pub nonce_secret: Vec<u8>,
    /// Every TCP address that `web` has bound, for the own-service-port rule of the peer policy.
    pub tcp_addresses: Vec<SocketAddr>,
}

impl Net {
    /// Binds every UDP address and starts the shards. A default address whose family is missing is a warning.
    pub fn start(setup: Setup<'_>) -> Result<Self, StartError> {
        let _ = setup;
        todo!("N")
    }

    /// The UDP addresses that really bound.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        let _ = &self.shared;
        todo!("N")
    }

    /// Serves STUN/TURN on a TCP or TLS connection until it ends. `first` are bytes already read from it.
    pub async fn serve_stream<S>(&self, stream: S, tuple: FiveTuple, first: &[u8])
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let _ = (stream, tuple, first);
        todo!("N")
    }

    /// Ends every allocation of `subject` and refuses new ones until `until` (unix seconds).
    pub fn revoke(&self, subject: &str, until: u64) {
        let _ = (subject, until);
        todo!("N")
    }

    /// Live allocations, for the log line at the end and for status.
    pub fn allocations(&self) -> usize {
        todo!("N")
    }

    /// Stops the shards, closes every relay socket and waits for the threads.
    pub fn stop(&self) {
        todo!("N")
    }
}

/// The addresses of this host's interfaces (loopback included).
pub fn interface_addresses() -> Vec<IpAddr> {
    todo!("N")
}

/// The source address of the default route of each family, if there is one: what a LAN reaches us on.
pub fn default_route_addresses() -> Vec<IpAddr> {
    todo!("N")
}

//! The sans-IO STUN/TURN server: bytes and time in, outputs out.
//!
//! The contract is the same as everywhere in this code base: *one input, then drain `poll_output` to `None`, then the
//! next input*. The return value of [`Relay::handle_client`] and [`Relay::handle_peer`] is the hot path (where a
//! payload goes, without copying it); everything else is queued as [`Output`].

pub mod event;
pub mod framing;
pub mod settings;
pub mod stun;
pub mod types;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::time::{Mono, Now};

pub use event::{
    DropReason, EndReason, Event, OpenError, OpenRelay, Output, ReplyBytes, Route, ToClient, ToPeer, Traffic,
};
pub use settings::Settings;
pub use types::{ChannelNumber, Family, FiveTuple, RelayId, Transport};

/// What every `Relay` of the process shares: settings compiled into policy, keys and user tables.
pub struct Shared {
    settings: Settings,
}

impl Shared {
    /// Compiles `settings`.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The settings it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// One STUN/TURN server core: all clients of a shard, or the one client of a stream.
pub struct Relay {
    shared: Arc<Shared>,
}

impl Relay {
    /// A core without allocations. `seed` feeds transaction ids of indications and reservation tokens. Costs no heap
    /// until the first allocation, so that every TCP and TLS connection can have one.
    pub fn new(shared: Arc<Shared>, seed: u64) -> Self {
        let _ = seed;
        Self { shared }
    }

    /// Replaces settings, keys and policy; live allocations stay.
    pub fn set_shared(&mut self, shared: Arc<Shared>) {
        self.shared = shared;
    }

    /// Takes one datagram (UDP) or one frame (stream, cut by `framing`) from a client. `Some` says where its payload
    /// goes; replies and everything else are drained with [`Relay::poll_output`].
    pub fn handle_client(&mut self, now: Now, tuple: &FiveTuple, datagram: &[u8]) -> Option<ToPeer> {
        let _ = (now, tuple, datagram);
        todo!("relay")
    }

    /// Takes a packet of `len` payload bytes that peer `from` sent to the relayed address `relay`. `Some` says to which
    /// client it goes and what stands before it. `None`: dropped and counted.
    pub fn handle_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, len: usize) -> Option<ToClient> {
        let _ = (now, relay, from, len);
        todo!("relay")
    }

    /// The outcome of an [`OpenRelay`]: the bound address, or why not. Unknown ids answer with `CloseRelay`.
    pub fn relay_opened(&mut self, now: Now, relay: RelayId, outcome: Result<SocketAddr, OpenError>) {
        let _ = (now, relay, outcome);
        todo!("relay")
    }

    /// Ends every allocation of `subject` (its owner left, was kicked, or its token was revoked).
    pub fn revoke(&mut self, now: Now, subject: &str) {
        let _ = (now, subject);
        todo!("relay")
    }

    /// Ends every allocation: the client's stream closed, or the server stops.
    pub fn close(&mut self, now: Now) {
        let _ = now;
        todo!("relay")
    }

    /// Expires what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
        todo!("relay")
    }

    /// When `handle_timeout` is next due; `None` while nothing can expire.
    pub fn poll_timeout(&self) -> Option<Mono> {
        todo!("relay")
    }

    /// The next output; drain to `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!("relay")
    }

    /// Live allocations.
    pub fn allocations(&self) -> usize {
        todo!("relay")
    }
}

//! TCP allocations (RFC 6062): the requests and indications about data connections. The bytes themselves never come here:
//! the shell joins two sockets.
//!
//! A *link* is a peer data connection on its way or there: asked for by Connect or accepted from a peer, waiting for its
//! ConnectionBind, joined. ConnectionBind comes on a connection of its own, which has another [`super::Relay`], so the
//! shell keeps the connection ids of all of them and says what it found.

mod accept;
mod allocate;
mod bind;
mod connect;
mod links;
mod meter;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Exchange;
use super::event::{ReplyBytes, Route};
use super::response::{Asked, ErrorCode, Seal, close, refusal};
use super::stun::{Builder, Integrity};
use super::types::{FiveTuple, RelayId};
use crate::credentials::turn::LongTermKey;

pub(super) use bind::Binding;
pub(super) use links::Links;
pub use meter::{Meter, Way};

/// How long a Connect may take (RFC 6062 section 5.2: at least 30 seconds).
const CONNECT: Duration = Duration::from_secs(30);

/// How long a peer data connection waits for its ConnectionBind (RFC 6062 sections 5.2 and 5.3).
const BIND: Duration = Duration::from_secs(30);

/// CONNECTION-ID (RFC 6062 section 6.2.1): one of its kind in the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u32);

/// Names a link of one relayed address; never used twice by the same allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId {
    pub relay: RelayId,
    pub number: u32,
}

/// What the core asks of its shell about TCP connections. A [`super::Output::CloseRelay`] closes every link of that
/// relayed address as well, without a word about each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOutput {
    /// Connect to `peer` from the relayed address, then call [`super::Relay::peer_connected`].
    Connect { link: LinkId, peer: SocketAddr, route: Route },
    /// Find the connection of `subject`, join it with this client's, then call [`super::Relay::connection_bound`].
    Bind { connection: ConnectionId, subject: Arc<str> },
    /// The link's time is over: close whatever there is of it.
    Close(LinkId),
}

/// Why a peer was not reached; each maps to one error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// An address of ours where no relayed address is live: 403 Forbidden.
    Forbidden,
    /// Refused, unreachable, or no answer: 447 Connection Timeout or Failure.
    Failed,
    /// The limit on connections in all: 508 Insufficient Capacity.
    Capacity,
}

/// Why there was nothing to bind; each maps to one error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindError {
    /// No such connection, or it is not pending any more: 400 Bad Request.
    Unknown,
    /// Another subject's: 441 Wrong Credentials.
    WrongOwner,
}

/// A request that waits for its shell, and how its reply is protected.
pub(super) struct Waiting {
    asked: Asked,
    integrity: Integrity,
    key: LongTermKey,
}

impl Waiting {
    fn new(exchange: &Exchange<'_>) -> Self {
        Self { asked: exchange.asked, integrity: exchange.identity.integrity, key: exchange.identity.key }
    }

    fn seal<'a>(&'a self, software: &'a str) -> Option<Seal<'a>> {
        Some(Seal { integrity: self.integrity, key: &self.key, software })
    }

    fn succeed(&self, software: &str, fill: impl FnOnce(&mut Builder)) -> Option<ReplyBytes> {
        let mut reply = self.asked.success();
        fill(&mut reply);
        close(&self.asked, reply, self.seal(software))
    }

    fn refuse(&self, software: &str, code: ErrorCode) -> Option<ReplyBytes> {
        refusal(&self.asked, &code.into(), self.seal(software))
    }
}

impl super::Relay {
    /// Answers a request that waited with an error.
    fn refuse_waiting(&mut self, tuple: &FiveTuple, waiting: &Waiting, code: ErrorCode) {
        self.note_refused(tuple, waiting.asked.method, code);
        let reply = waiting.refuse(&self.shared.settings.software, code);
        self.reply(tuple, reply);
    }
}

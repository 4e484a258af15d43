//! What the core asks of its shell and tells it: drained with [`super::Relay::poll_output`] after every input.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use super::tcp::TcpOutput;
use super::types::{Family, FiveTuple, RelayId};

/// Room for the largest control message we send (a 401 with a long realm, a success with two relayed addresses).
pub const REPLY_CAPACITY: usize = 548;

/// The bytes of one control reply, kept inline so that a refused request touches no heap.
#[derive(Clone)]
pub struct ReplyBytes(Kept);

#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and kept inline so that it costs no heap"
)]
enum Kept {
    Inline {
        bytes: [u8; REPLY_CAPACITY],
        len: u16,
    },
    /// A reply with PADDING (RFC 5780 section 7.6), which is meant to be too large for one packet.
    Large(Box<[u8]>),
}

impl ReplyBytes {
    /// Copies `message`, cutting nothing: `None` when it does not fit [`REPLY_CAPACITY`].
    pub fn new(message: &[u8]) -> Option<Self> {
        let mut bytes = [0; REPLY_CAPACITY];
        bytes.get_mut(..message.len())?.copy_from_slice(message);
        Some(Self(Kept::Inline { bytes, len: message.len() as u16 }))
    }

    /// A reply of any size.
    pub(super) fn large(message: Vec<u8>) -> Self {
        Self(Kept::Large(message.into()))
    }
}

impl Deref for ReplyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Inline { bytes, len } => &bytes[..usize::from(*len)],
            Kept::Large(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for ReplyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyBytes({} bytes)", self.len())
    }
}

/// Where a payload of the packet just handled goes: out of the relay socket to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToPeer {
    /// The relay socket to send from.
    pub relay: RelayId,
    /// The destination, canonical.
    pub peer: SocketAddr,
    /// Whether it lies on this server.
    pub route: Route,
    /// Start of the payload within the datagram (or frame) given to `handle_client`.
    pub start: usize,
    /// Length of the payload; may be zero.
    pub len: usize,
    /// The Send indication carried DONT-FRAGMENT (RFC 8656 section 11.1): the packet is sent alone with DF set.
    pub dont_fragment: bool,
}

/// How the shell reaches a peer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Another host: send it out of the relay socket.
    Network,
    /// An address of ours (bound or advertised): handed over in the process to the live relayed address with that
    /// IP and port. Where none is live: sent out of the relay socket when `else_network` (the peer policy's allow
    /// list covers the address and the port is no service port of ours), dropped and counted otherwise.
    Own { else_network: bool },
}

/// Longest header put before peer data: a Data indication from an IPv6 peer (20 + 24 + 4).
pub const HEAD_ROOM: usize = 48;

/// Where a packet from a peer goes: to the client, with `head` before the payload and `padding` zero bytes behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToClient {
    pub tuple: FiveTuple,
    pub head: [u8; HEAD_ROOM],
    pub head_len: u8,
    pub padding: u8,
}

impl ToClient {
    /// The header bytes: 4 for ChannelData, 36 or 48 for a Data indication.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }
}

/// What the shell must do next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a reply kept inline costs no heap, and the queue is short")]
pub enum Output {
    /// Send a control message to a client.
    ToClient { tuple: FiveTuple, bytes: ReplyBytes },
    /// Grant or refuse a relay socket, then call [`super::Relay::relay_opened`] with the outcome.
    OpenRelay(OpenRelay),
    /// The relayed address is gone: close its socket and return its port.
    CloseRelay(RelayId),
    /// About the connections of a TCP allocation; only clients over TCP and TLS have such.
    Tcp(TcpOutput),
    /// Something worth counting or logging happened.
    Event(Event),
}

/// A relay socket the core asks for: the second phase of an Allocate (RFC 8656 section 7.2).
#[derive(Clone, Debug)]
pub struct OpenRelay {
    pub relay: RelayId,
    pub tuple: FiveTuple,
    pub family: Family,
    /// REQUESTED-TRANSPORT was TCP (RFC 6062 section 5.1): a listening socket is asked for.
    pub tcp: bool,
    /// EVEN-PORT was asked for (RFC 8656 section 18.7).
    pub even_port: bool,
    /// EVEN-PORT with R=1: the next higher port is reserved under this token (RFC 8656 section 7.2).
    pub reserve: Option<[u8; 8]>,
    /// RESERVATION-TOKEN: take the port reserved under this token.
    pub reservation: Option<[u8; 8]>,
    /// Whom the allocation counts for (DESIGN section 5), never the ephemeral username.
    pub subject: Arc<str>,
}

/// Why a relay socket was refused; each maps to one error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The subject has its allocations: 486 Allocation Quota Reached.
    Quota,
    /// No port, descriptor or total quota left: 508 Insufficient Capacity.
    Capacity,
    /// No relay address of that family: 440 Address Family not Supported.
    Family,
    /// The subject was revoked: 401, since the credential is no longer one.
    Revoked,
}

/// Lifecycle events, for logs, metrics and the signaling side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Created {
        relay: RelayId,
        tuple: FiveTuple,
        subject: Arc<str>,
        relayed: SocketAddr,
        lifetime: u32,
    },
    Refreshed {
        relay: RelayId,
        lifetime: u32,
    },
    Deleted {
        relay: RelayId,
        tuple: FiveTuple,
        subject: Arc<str>,
        relayed: SocketAddr,
        reason: EndReason,
        traffic: Traffic,
    },
    /// A request was refused with this error code.
    Refused {
        tuple: FiveTuple,
        method: u16,
        code: u16,
    },
    /// A packet or request was dropped without an answer.
    Dropped(DropReason),
    PermissionDenied {
        relay: RelayId,
        peer: SocketAddr,
    },
}

/// Payload bytes and packets an allocation relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub to_peer_bytes: u64,
    pub to_peer_packets: u64,
    pub to_client_bytes: u64,
    pub to_client_packets: u64,
}

impl Traffic {
    pub(super) fn count_to_peer(&mut self, len: usize) {
        self.to_peer_packets += 1;
        self.to_peer_bytes += len as u64;
    }

    pub(super) fn count_to_client(&mut self, len: usize) {
        self.to_client_packets += 1;
        self.to_client_bytes += len as u64;
    }
}

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Refresh with LIFETIME 0.
    Released,
    Expired,
    /// The subject's credential was revoked.
    Revoked,
    /// The client's TCP or TLS connection closed, or the server stops.
    Closed,
}

impl EndReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Released, Self::Expired, Self::Revoked, Self::Closed];

    /// Lower-case name for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
        }
    }
}

/// Why a packet got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    Malformed,
    UnknownChannel,
    NoAllocation,
    NoPermission,
    PeerDenied,
    SourcePortZero,
    Indication,
    Budget,
    Bandwidth,
    /// An allocation has as many TCP connections as it may.
    Connections,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::UnknownChannel,
        Self::NoAllocation,
        Self::NoPermission,
        Self::PeerDenied,
        Self::SourcePortZero,
        Self::Indication,
        Self::Budget,
        Self::Bandwidth,
        Self::Connections,
    ];

    /// Lower-case name for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownChannel => "unknown_channel",
            Self::NoAllocation => "no_allocation",
            Self::NoPermission => "no_permission",
            Self::PeerDenied => "peer_denied",
            Self::SourcePortZero => "source_port_zero",
            Self::Indication => "indication",
            Self::Budget => "budget",
            Self::Bandwidth => "bandwidth",
            Self::Connections => "connections",
        }
    }
}

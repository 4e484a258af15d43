//! The words of RFC 8656 as types. Each doc line is the RFC's definition in short.

use std::net::{IpAddr, SocketAddr};

/// How the client reaches us: the transport of the 5-tuple (RFC 8656 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// TCP and TLS carry frames in a byte stream; ChannelData is padded to four bytes there (RFC 8656 section 12.5).
    pub fn is_stream(self) -> bool {
        self != Self::Udp
    }

    /// Lower-case name for logs, metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Client address and port, server address and port, transport: identifies an allocation (RFC 8656 section 2).
/// Addresses are canonical: an IPv4-mapped IPv6 address never appears here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub transport: Transport,
}

/// Address family of a relayed transport address (RFC 8656 section 18.6: 0x01 and 0x02).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Name for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// Names one relayed transport address of one allocation. Slots are re-used, generations are not, so an id that
/// outlives its allocation never reaches the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelayId {
    pub slot: u32,
    pub generation: u32,
    /// An allocation may have one relayed address of each family (RFC 8656 section 7.2, ADDITIONAL-ADDRESS-FAMILY).
    pub family: Family,
}

/// A channel number (RFC 8656 section 12): 0x4000 to 0x4FFF, to 0x7FFF with `legacy_channels` (RFC 5766).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelNumber(pub u16);

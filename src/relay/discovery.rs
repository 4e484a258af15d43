//! NAT behaviour discovery (RFC 5780): a Binding request may ask for its answer from our other address or port, at
//! another port of its own, or in more bytes than a packet holds.
//!
//! All of it is for strangers, so all of it is within their budget, and no answer is larger than its request allows.

use std::net::{IpAddr, SocketAddr};

use super::Relay;
use super::budget::PACKET_HEADERS;
use super::event::ReplyBytes;
use super::framing::padded;
use super::request::{self, fixed};
use super::response::{Asked, ErrorCode, Refusal, close, refusal};
use super::stun::{ATTRIBUTE_HEADER, FINGERPRINT_XOR, HEADER, Message, attr};
use super::types::{FiveTuple, Transport};
use crate::time::Now;

/// What a Binding request of this usage may carry beside the base protocol's attributes.
const UNDERSTOOD: [u16; 3] = [attr::CHANGE_REQUEST, attr::PADDING, attr::RESPONSE_PORT];

/// RFC 5780 section 7.2: the flags of CHANGE-REQUEST.
const CHANGE_IP: u8 = 0x04;
const CHANGE_PORT: u8 = 0x02;

/// Most bytes of PADDING in an answer: with them it is larger than Ethernet's MTU, which is what is tested.
const PADDING: usize = 1_500;

/// One reply counts as one against the budget up to this size.
const BYTES_PER_TOKEN: usize = 128;

/// The two addresses and two ports that RFC 5780 section 6 asks of a server; all four pairs are listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternate {
    /// The address and port that clients are told.
    pub first: SocketAddr,
    /// The other address with the other port.
    pub other: SocketAddr,
}

/// What a request of this usage asks for.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    change_ip: bool,
    change_port: bool,
    response_port: Option<u16>,
    padding: Option<usize>,
}

impl Alternate {
    /// Whether the client of `tuple` came to one of the four, over UDP.
    pub(super) fn serves(&self, tuple: &FiveTuple) -> bool {
        let (ip, port) = (tuple.server.ip(), tuple.server.port());
        tuple.transport == Transport::Udp
            && [self.first.ip(), self.other.ip()].contains(&ip)
            && [self.first.port(), self.other.port()].contains(&port)
    }

    /// `server` with its address, its port or both exchanged for the other ones.
    fn changed(&self, server: SocketAddr, ip: bool, port: bool) -> SocketAddr {
        let swap = |is_first: bool| if is_first { self.other } else { self.first };
        let changed_ip = if ip { swap(server.ip() == self.first.ip()).ip() } else { server.ip() };
        let changed_port = if port { swap(server.port() == self.first.port()).port() } else { server.port() };
        SocketAddr::new(changed_ip, changed_port)
    }
}

impl Wishes {
    fn parse(message: &Message<'_>) -> Result<Self, ErrorCode> {
        let [.., flags] = fixed::<4>(message, attr::CHANGE_REQUEST)?.unwrap_or_default();
        // RFC 5780 section 7.5: a port, and two bytes that some count as its padding and others do not.
        let port = match message.get(attr::RESPONSE_PORT) {
            None => None,
            Some(&[high, low] | &[high, low, _, _]) => Some(u16::from_be_bytes([high, low])),
            Some(_) => return Err(ErrorCode::BadRequest),
        };
        let padding = message.get(attr::PADDING).map(<[u8]>::len);
        // Section 6.1: both together would make us send a large packet where nobody asked for it.
        if port == Some(0) || (port.is_some() && padding.is_some()) {
            return Err(ErrorCode::BadRequest);
        }
        let (change_ip, change_port) = (flags & CHANGE_IP != 0, flags & CHANGE_PORT != 0);
        Ok(Self { change_ip, change_port, response_port: port, padding })
    }
}

impl Relay {
    /// A Binding request to one of the four addresses (RFC 5780 section 6.1).
    pub(super) fn discover(&mut self, now: Now, tuple: &FiveTuple, message: &Message<'_>, alternate: Alternate) {
        let wishes =
            request::refuse_unknown(message, &UNDERSTOOD).and_then(|()| Wishes::parse(message).map_err(Refusal::from));
        let wanted = wishes.as_ref().copied().unwrap_or_default();
        // Another port of the sender's address has proven nothing, whoever asks.
        let is_stranger = wanted.response_port.is_some() || !self.has_proven_address(now, tuple, message);
        let padding = wanted.padding.map_or(0, |padding| padding.min(PADDING));
        if is_stranger && !self.spend(now, tuple, 1 + (padding / BYTES_PER_TOKEN) as u64) {
            return;
        }
        let reply = match wishes {
            Ok(_) => self.discovery_reply(tuple, message, alternate, wanted),
            Err(refused) => {
                self.note_refused(tuple, message.method, refused.code());
                refusal(&Asked::of(message), &refused, None)
            }
        };
        if let Some(reply) = reply.as_ref().filter(|_| is_stranger) {
            self.budget.count(message.len(), reply.len());
        }
        let server = alternate.changed(tuple.server, wanted.change_ip, wanted.change_port);
        let client = SocketAddr::new(tuple.client.ip(), wanted.response_port.unwrap_or(tuple.client.port()));
        self.reply(&FiveTuple { client, server, ..*tuple }, reply);
    }

    fn discovery_reply(
        &self,
        tuple: &FiveTuple,
        message: &Message<'_>,
        alternate: Alternate,
        wishes: Wishes,
    ) -> Option<ReplyBytes> {
        let asked = Asked::of(message);
        let seen = |bound: SocketAddr| SocketAddr::new(self.advertised(bound.ip()), bound.port());
        let origin = alternate.changed(tuple.server, wishes.change_ip, wishes.change_port);
        let other = alternate.changed(tuple.server, true, true);
        let mut success = asked.success();
        success
            .xor_address(attr::XOR_MAPPED_ADDRESS, tuple.client)
            .plain_address(attr::RESPONSE_ORIGIN, seen(origin))
            .plain_address(attr::OTHER_ADDRESS, seen(other));
        // The RFC wants MAPPED-ADDRESS as well, our bound on amplification goes before it: over IPv6 a request needs 44
        // bytes for it.
        let allowed = 2 * (message.len() + PACKET_HEADERS) - PACKET_HEADERS;
        let fingerprint = if asked.has_fingerprint { ATTRIBUTE_HEADER + 4 } else { 0 };
        let wanted = wishes.padding.map(|padding| padding.min(PADDING));
        let behind = fingerprint + wanted.map_or(0, |padding| ATTRIBUTE_HEADER + padded(padding));
        let address = ATTRIBUTE_HEADER + if tuple.client.is_ipv4() { 8 } else { 20 };
        if success.size() + address + behind <= allowed {
            success.plain_address(attr::MAPPED_ADDRESS, tuple.client);
        }
        let Some(wanted) = wanted else { return close(&asked, success, None) };
        let room = allowed.saturating_sub(success.size() + fingerprint + ATTRIBUTE_HEADER);
        let padding = if padded(wanted) <= room { wanted } else { room / 4 * 4 };
        Some(with_padding(&success.finish()?, padding, asked.has_fingerprint))
    }

    fn advertised(&self, bound: IpAddr) -> IpAddr {
        self.shared.settings.advertised(bound)
    }
}

/// `reply` with PADDING of `len` zero bytes behind it, and FINGERPRINT behind that where it is wanted.
fn with_padding(reply: &[u8], len: usize, has_fingerprint: bool) -> ReplyBytes {
    let mut bytes = Vec::with_capacity(reply.len() + 2 * ATTRIBUTE_HEADER + padded(len) + 4);
    bytes.extend_from_slice(reply);
    bytes.extend_from_slice(&attr::PADDING.to_be_bytes());
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    bytes.resize(bytes.len() + padded(len), 0);
    let fingerprint = if has_fingerprint { ATTRIBUTE_HEADER + 4 } else { 0 };
    let length = (bytes.len() + fingerprint - HEADER) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    if has_fingerprint {
        let value = crc32fast::hash(&bytes) ^ FINGERPRINT_XOR;
        bytes.extend_from_slice(&attr::FINGERPRINT.to_be_bytes());
        bytes.extend_from_slice(&4_u16.to_be_bytes());
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    ReplyBytes::large(bytes)
}

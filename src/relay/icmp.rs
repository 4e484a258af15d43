//! ICMP errors that peers' networks send back (RFC 8656 section 11.5): the client learns of them in a Data indication
//! that carries no data.

use std::net::SocketAddr;

use super::Relay;
use super::event::{DropReason, Output, ReplyBytes};
use super::policy::canonical;
use super::stun::{Builder, Class, attr, method};
use super::types::{Family, FiveTuple, RelayId};
use crate::time::Now;

/// An ICMP error about a packet from a relayed address: ICMPv4 or ICMPv6 as the family of that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    pub kind: u8,
    pub code: u8,
    /// The MTU, where the error tells one.
    pub mtu: u32,
}

impl IcmpError {
    /// RFC 8656 section 11.5: what tells a client something about its path; anything else is nobody's business.
    fn is_told(self, family: Family) -> bool {
        match family {
            // Destination unreachable, time exceeded.
            Family::V4 => matches!(self.kind, 3 | 11),
            // Destination unreachable, packet too big, time exceeded.
            Family::V6 => matches!(self.kind, 1..=3),
        }
    }

    /// RFC 8656 section 18.13: sixteen reserved bits, seven of type and nine of code, and the MTU where the packet was
    /// too big.
    fn attribute(self, family: Family) -> [u8; 8] {
        let is_too_big = match family {
            Family::V4 => (self.kind, self.code) == (3, 4),
            Family::V6 => self.kind == 2,
        };
        let [high, low] = (u16::from(self.kind) << 9 | u16::from(self.code)).to_be_bytes();
        let [d0, d1, d2, d3] = if is_too_big { self.mtu } else { 0 }.to_be_bytes();
        [0, 0, high, low, d0, d1, d2, d3]
    }
}

impl Relay {
    /// Takes an ICMP error about a UDP packet that went from the relayed address `relay` to `peer`, both read from the
    /// packet that the error quotes. The indication for the client, if any, is drained with [`Relay::poll_output`].
    pub fn handle_peer_icmp(&mut self, now: Now, relay: RelayId, peer: SocketAddr, error: IcmpError) {
        match self.icmp_indication(now, relay, canonical(peer), error) {
            Ok((tuple, Some(bytes))) => self.push_bounded(Output::ToClient { tuple, bytes }),
            Ok((_, None)) => {}
            Err(reason) => self.note_dropped(reason),
        }
    }

    fn icmp_indication(
        &mut self,
        now: Now,
        relay: RelayId,
        peer: SocketAddr,
        error: IcmpError,
    ) -> Result<(FiveTuple, Option<ReplyBytes>), DropReason> {
        let family = relay.family;
        if Family::of(peer.ip()) != family || peer.port() == 0 || !error.is_told(family) {
            return Err(DropReason::Malformed);
        }
        let allocation = self.table.relay(relay).ok_or(DropReason::NoAllocation)?;
        if !allocation.is_live(family, now.mono) {
            return Err(DropReason::NoAllocation);
        }
        allocation.permitted(peer.ip(), now.mono).ok_or(DropReason::NoPermission)?;
        let tuple = allocation.tuple;
        let mut indication = Builder::new(Class::Indication, method::DATA, self.rng.transaction());
        indication.xor_address(attr::XOR_PEER_ADDRESS, peer).attribute(attr::ICMP, &error.attribute(family));
        Ok((tuple, indication.finish()))
    }
}

//! The hot path: ChannelData, Send and Data (RFC 8656 sections 11 and 12). No allocation, no clock; every packet is
//! held against the lifetimes of its allocation, permission and channel.

use std::net::SocketAddr;

use super::Relay;
use super::bandwidth::Way;
use super::event::{DropReason, HEAD_ROOM, ToClient, ToPeer};
use super::framing::{CHANNEL_HEADER, padded};
use super::policy::canonical;
use super::request::is_understood;
use super::stun::{
    ATTRIBUTE_HEADER, Class, HEADER, Message, attr, header, method, read_xor_address, write_xor_address,
};
use super::types::{ChannelNumber, Family, FiveTuple, RelayId};
use crate::time::Now;

/// What a Send indication says (RFC 8656 section 11.2).
struct Send {
    peer: SocketAddr,
    start: usize,
    len: usize,
    dont_fragment: bool,
}

impl Relay {
    /// ChannelData from a client (RFC 8656 section 12.6).
    pub(super) fn channel_data(&mut self, now: Now, tuple: &FiveTuple, datagram: &[u8]) -> Option<ToPeer> {
        let forwarded = self.forward_channel_data(now, tuple, datagram);
        self.count_drop(forwarded)
    }

    fn forward_channel_data(&mut self, now: Now, tuple: &FiveTuple, datagram: &[u8]) -> Result<ToPeer, DropReason> {
        let (&[n0, n1, l0, l1], rest) = datagram.split_first_chunk().ok_or(DropReason::Malformed)?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        // Bytes behind the payload are padding, which UDP clients may add.
        if len > rest.len() {
            return Err(DropReason::Malformed);
        }
        let allocation = self.table.allocation(tuple).ok_or(DropReason::NoAllocation)?;
        let number = u16::from_be_bytes([n0, n1]);
        let (peer, route) = allocation.channel(number, now.mono).ok_or(DropReason::UnknownChannel)?;
        let family = Family::of(peer.ip());
        if !allocation.is_live(family, now.mono) {
            return Err(DropReason::NoAllocation);
        }
        self.shared.bandwidth.admit(&mut allocation.meters, Way::ToPeer, len, now.mono)?;
        allocation.count_to_peer(family, len);
        self.traffic.count_to_peer(len);
        let relay = allocation.id(family);
        Ok(ToPeer { relay, peer, route, start: CHANNEL_HEADER, len, dont_fragment: false })
    }

    /// A Send indication from a client (RFC 8656 section 11.2).
    pub(super) fn send_indication(&mut self, now: Now, tuple: &FiveTuple, message: &Message<'_>) -> Option<ToPeer> {
        let forwarded = self.forward_send(now, tuple, message);
        self.count_drop(forwarded)
    }

    fn forward_send(&mut self, now: Now, tuple: &FiveTuple, message: &Message<'_>) -> Result<ToPeer, DropReason> {
        let Send { peer, start, len, dont_fragment } = read_send(message).ok_or(DropReason::Malformed)?;
        let allocation = self.table.allocation(tuple).ok_or(DropReason::NoAllocation)?;
        let family = Family::of(peer.ip());
        // A TCP relayed address sends no datagrams.
        if !allocation.is_live(family, now.mono) || allocation.tcp.is_some() {
            return Err(DropReason::NoAllocation);
        }
        let reach = allocation.permitted(peer.ip(), now.mono).ok_or(DropReason::NoPermission)?;
        let route = self.shared.policy.route(reach, peer.port()).ok_or(DropReason::PeerDenied)?;
        self.shared.bandwidth.admit(&mut allocation.meters, Way::ToPeer, len, now.mono)?;
        allocation.count_to_peer(family, len);
        self.traffic.count_to_peer(len);
        Ok(ToPeer { relay: allocation.id(family), peer, route, start, len, dont_fragment })
    }

    /// Takes a packet of `len` payload bytes that peer `from` sent to the relayed address `relay`. `Some` says to which
    /// client it goes and what stands before it. `None`: dropped and counted.
    pub fn handle_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, len: usize) -> Option<ToClient> {
        let forwarded = self.forward_to_client(now, relay, canonical(from), len);
        self.count_drop(forwarded)
    }

    fn forward_to_client(
        &mut self,
        now: Now,
        relay: RelayId,
        from: SocketAddr,
        len: usize,
    ) -> Result<ToClient, DropReason> {
        // RFC 8656 section 11.3: only with a permission for the peer's IP. Port 0 cannot be answered.
        if from.port() == 0 {
            return Err(DropReason::SourcePortZero);
        }
        let allocation = self.table.relay(relay).ok_or(DropReason::NoAllocation)?;
        if Family::of(from.ip()) != relay.family || !allocation.is_live(relay.family, now.mono) {
            return Err(DropReason::NoAllocation);
        }
        allocation.permitted(from.ip(), now.mono).ok_or(DropReason::NoPermission)?;
        let tuple = allocation.tuple;
        let packet = match allocation.channel_to(from, now.mono) {
            Some(number) => channel_header(tuple, number, len)?,
            None => {
                let transaction = self.rng.transaction();
                data_indication(tuple, from, len, transaction)?
            }
        };
        self.shared.bandwidth.admit(&mut allocation.meters, Way::ToClient, len, now.mono)?;
        allocation.count_to_client(relay.family, len);
        self.traffic.count_to_client(len);
        Ok(packet)
    }

    fn count_drop<T>(&mut self, forwarded: Result<T, DropReason>) -> Option<T> {
        forwarded.map_err(|reason| self.note_dropped(reason)).ok()
    }
}

fn read_send(message: &Message<'_>) -> Option<Send> {
    let (mut peer, mut data, mut dont_fragment) = (None, None, false);
    for attribute in message.attributes() {
        match attribute.kind {
            // Of each the first counts.
            attr::XOR_PEER_ADDRESS if peer.is_none() => {
                peer = Some(read_xor_address(attribute.value, &message.transaction)?);
            }
            attr::DATA if data.is_none() => data = Some((attribute.start, attribute.value.len())),
            attr::DONT_FRAGMENT => dont_fragment = true,
            kind if is_understood(kind) => {}
            _ => return None,
        }
    }
    let peer = peer.filter(|peer| peer.port() != 0).map(canonical)?;
    let (start, len) = data?;
    Some(Send { peer, start, len, dont_fragment })
}

/// RFC 8656 section 12.5: four bytes, and padding on streams only.
fn channel_header(tuple: FiveTuple, number: ChannelNumber, len: usize) -> Result<ToClient, DropReason> {
    let length = u16::try_from(len).map_err(|_| DropReason::Malformed)?;
    let mut head = [0; HEAD_ROOM];
    head[..2].copy_from_slice(&number.0.to_be_bytes());
    head[2..4].copy_from_slice(&length.to_be_bytes());
    let padding = if tuple.transport.is_stream() { (padded(len) - len) as u8 } else { 0 };
    Ok(ToClient { tuple, head, head_len: CHANNEL_HEADER as u8, padding })
}

/// RFC 8656 section 11.4: XOR-PEER-ADDRESS, then DATA whose value the shell puts behind.
fn data_indication(
    tuple: FiveTuple,
    from: SocketAddr,
    len: usize,
    transaction: [u8; 12],
) -> Result<ToClient, DropReason> {
    let (address, address_len) = write_xor_address(from, &transaction);
    let data_at = HEADER + ATTRIBUTE_HEADER + address_len;
    let head_len = data_at + ATTRIBUTE_HEADER;
    let message_length = u16::try_from(head_len - HEADER + padded(len)).map_err(|_| DropReason::Malformed)?;
    let mut head = [0; HEAD_ROOM];
    head[..HEADER].copy_from_slice(&header(Class::Indication, method::DATA, &transaction, message_length));
    head[20..22].copy_from_slice(&attr::XOR_PEER_ADDRESS.to_be_bytes());
    head[22..24].copy_from_slice(&(address_len as u16).to_be_bytes());
    head[24..data_at].copy_from_slice(&address[..address_len]);
    head[data_at..data_at + 2].copy_from_slice(&attr::DATA.to_be_bytes());
    head[data_at + 2..head_len].copy_from_slice(&(len as u16).to_be_bytes());
    Ok(ToClient { tuple, head, head_len: head_len as u8, padding: (padded(len) - len) as u8 })
}

//! Relay sockets: how they are opened, and the set that one shard or stream owns.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::grants::{Charge, Lease};
use super::hairpin::Listing;
use super::pace::Share;
use super::sys;
use crate::relay::{Family, RelayId};

/// Socket buffers asked for: bursts of video must not be lost while another socket has its turn.
const BUFFER: usize = 4 << 20;
/// Receive buffer of a relay socket: what one allocation gets from its peers, while all clients share one listener. With as
/// much for each as for all of them, packets to clients would come seconds late where those to peers are lost.
const RELAY_RECEIVE: usize = 512 << 10;
/// Least receive buffer of a relay socket: as much as the kernel gives by default, some hundred packets of video.
const LEAST_RECEIVE: usize = 128 << 10;
/// What the receive buffers of a shard's relay sockets are to stay below while each has more than the least.
const ALL_RECEIVE: usize = 32 << 20;

/// Opens a relay socket on `address`: as [`open`] with a smaller receive buffer, and the kernel keeps ICMP errors for us
/// (RFC 8656 section 11.5).
pub(super) fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(address)?;
    if sys::force_receive_buffer(socket.as_fd(), RELAY_RECEIVE).is_err() {
        socket.set_recv_buffer_size(RELAY_RECEIVE)?;
    }
    sys::report_errors(socket.as_fd(), address.is_ipv6())?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Gives the relay socket of this number less memory where its shard has many.
pub(super) fn share_memory(socket: BorrowedFd<'_>, number: u32) {
    let share = (ALL_RECEIVE / (number as usize + 1)).max(LEAST_RECEIVE);
    if share < RELAY_RECEIVE && sys::force_receive_buffer(socket, share).is_err() {
        // More memory than its share is no reason to refuse an allocation.
        let _ = SockRef::from(&socket).set_recv_buffer_size(share);
    }
}

/// A UDP socket for `address`, not bound yet and ready for the packet path: not blocking, one family, large buffers,
/// fragmentation allowed (RFC 8656 section 15: DF is not set unless asked for), receive coalescing where the kernel has
/// it.
pub(super) fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    prepare(&socket, address)?;
    Ok(socket)
}

/// Gives a socket of this address its buffers and options.
pub(super) fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if sys::force_buffers(socket.as_fd(), BUFFER).is_err() {
        // The system's limit applies; what it grants is logged once at start.
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
    }
    sys::set_dont_fragment(socket.as_fd(), address.is_ipv6(), false)?;
    // Without GRO every datagram comes alone: slower, never wrong.
    let _ = sys::enable_gro(socket.as_fd());
    Ok(())
}

/// A live relayed address.
pub(super) struct RelaySocket<S> {
    pub id: RelayId,
    pub socket: S,
    /// What peers see as the source of its packets.
    pub advertised: SocketAddr,
    /// What it gives in a turn.
    pub share: Share,
    // Held for their drop: the address leaves the directory before its port is given back.
    _listing: Listing,
    lease: Lease,
}

impl<S> RelaySocket<S> {
    pub(super) fn new(id: RelayId, socket: S, advertised: SocketAddr, listing: Listing, lease: Lease) -> Self {
        Self { id, socket, advertised, share: Share::default(), _listing: listing, lease }
    }
}

/// The relay sockets of one owner, numbered densely; a number is re-used only after its socket is closed.
pub(super) struct RelaySockets<S> {
    slots: Vec<Option<RelaySocket<S>>>,
    free: Vec<u32>,
    numbers: FxHashMap<RelayId, u32>,
}

impl<S> Default for RelaySockets<S> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), numbers: FxHashMap::default() }
    }
}

impl<S: AsFd> RelaySockets<S> {
    /// Adds a socket and returns its number.
    pub(super) fn insert(&mut self, relay: RelaySocket<S>) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.numbers.insert(relay.id, number);
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = Some(relay);
        }
        number
    }

    /// Closes the socket of `id`.
    pub(super) fn remove(&mut self, id: RelayId) {
        if let Some(number) = self.numbers.remove(&id)
            && let Some(slot) = self.slots.get_mut(number as usize)
        {
            *slot = None;
            self.free.push(number);
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&RelaySocket<S>> {
        self.slots.get(number as usize)?.as_ref()
    }

    /// Sets what the socket of a number gives in a turn.
    pub(super) fn set_share(&mut self, number: u32, share: Share) {
        if let Some(Some(relay)) = self.slots.get_mut(number as usize) {
            relay.share = share;
        }
    }

    /// Number and socket of `id`.
    pub(super) fn find(&self, id: RelayId) -> Option<(u32, &RelaySocket<S>)> {
        let number = *self.numbers.get(&id)?;
        Some((number, self.get(number)?))
    }

    /// The descriptor of a number.
    pub(super) fn descriptor(&self, number: u32) -> Option<BorrowedFd<'_>> {
        self.get(number).map(|relay| relay.socket.as_fd())
    }

    /// What the relayed address of the other family, if the allocation of `id` has one, takes of the quota.
    pub(super) fn charge_of_other_family(&self, id: RelayId) -> Option<Arc<Charge>> {
        let family = match id.family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        self.find(RelayId { family, ..id }).map(|(_, relay)| Arc::clone(relay.lease.charge()))
    }

    /// One past the highest number in use.
    pub(super) fn end(&self) -> u32 {
        self.slots.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_relay_sockets_share_memory() {
        let granted = |number| {
            let socket = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
            share_memory(socket.as_fd(), number);
            SockRef::from(&socket).recv_buffer_size().expect("its size")
        };
        let first = granted(0);
        assert!(first <= 2 * RELAY_RECEIVE, "no more than was asked for, as the kernel counts: {first}");
        assert!(granted(40) == first, "forty are not many");
        let of_many = granted(10_000);
        assert!((LEAST_RECEIVE..=2 * LEAST_RECEIVE).contains(&of_many), "{of_many}");
    }
}

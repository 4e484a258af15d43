//! What shards and streams have in common: the way of a payload from a client to a peer, and what is told to the log.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::counters::Counters;
use super::hairpin::{Cache, Directory, Outbox};
use super::mailbox::Mailbox;
use super::relay_socket::RelaySockets;
use super::sys::{self, Origin};
use super::udp::{Path, Payload, SendQueue};
use crate::relay::{Event, Family, IcmpError, RelayId, Route, ToPeer};

/// Errors taken off one relay socket per turn: whoever can make a network send ICMP errors must not hold up the rest.
const ERRORS_PER_TURN: usize = 16;
/// "Fragmentation needed" of ICMPv4 (RFC 792) and "packet too big" of ICMPv6 (RFC 4443).
const TOO_BIG: [(u8, u8); 2] = [(3, 4), (2, 0)];

/// The tools of one thread for sending what clients send to peers.
pub(super) struct Forwarder {
    pub queue: SendQueue,
    cache: Cache,
    outbox: Outbox,
}

impl Forwarder {
    pub(super) fn new(directory: Arc<Directory>, gso: bool) -> Self {
        Self { queue: SendQueue::new(gso), cache: Cache::new(directory), outbox: Outbox::default() }
    }

    /// Sends a payload on its way: queued for the relay socket, or put into the outbox of its owner.
    ///
    /// `Some((relay, from))`: the peer is a relayed address of `own` itself, whose core takes it as a packet `from` there.
    pub(super) fn send_to_peer<S: AsFd>(
        &mut self,
        to: &ToPeer,
        (payload, bytes): (Payload, &[u8]),
        sockets: &RelaySockets<S>,
        own: &Arc<Mailbox>,
        counters: &Counters,
    ) -> Option<(RelayId, SocketAddr)> {
        let (number, relay) = sockets.find(to.relay)?;
        if let Route::Own { else_network } = to.route {
            if let Some(entry) = self.cache.resolve(to.peer) {
                if Arc::ptr_eq(&entry.mailbox, own) {
                    counters.hairpins.add(1);
                    return Some((entry.relay, relay.advertised));
                }
                self.outbox.push(&entry, relay.advertised, bytes, counters);
                return None;
            }
            if !else_network {
                counters.hairpin_unknown.add(1);
                return None;
            }
        }
        let path = Path { socket: number, to: to.peer, source: None };
        if to.dont_fragment {
            self.queue.push_unfragmented(path, payload);
        } else {
            self.queue.push(path, &[], payload, 0);
        }
        None
    }

    /// Hands over what other owners get: at the end of a turn.
    pub(super) fn deliver(&mut self, counters: &Counters) {
        self.outbox.deliver(counters);
    }
}

/// Takes what is in the error queue of a relay socket of `family`, up to a share of the turn, and gives each error about
/// a packet to `tell`, with the peer that the packet was for. `whole`: where a packet was to go that this host itself
/// found too large, since over IPv4 the kernel leaves its port out.
pub(super) fn take_errors(
    socket: BorrowedFd<'_>,
    family: Family,
    whole: Option<SocketAddr>,
    mut tell: impl FnMut(SocketAddr, IcmpError),
) {
    for _ in 0..ERRORS_PER_TURN {
        // A failing read ends the turn, not the socket.
        let Ok(Some(error)) = sys::take_error(socket) else { return };
        let is_incomplete = error.to.port() == 0;
        let (kind, code) = match error.origin {
            Origin::Icmp { kind, code } => (kind, code),
            Origin::TooBigHere => TOO_BIG[family as usize],
            Origin::Other => continue,
        };
        let known = whole.filter(|whole| is_incomplete && whole.ip() == error.to.ip());
        tell(known.unwrap_or(error.to), IcmpError { kind, code, mtu: error.mtu });
    }
}

/// A subject as it may stand in the log at any level: without the client prefix that the open mode counts by.
fn logged(subject: &str) -> &str {
    if subject.starts_with("t.open-") { "t.open" } else { subject }
}

/// Tells the log about an event. Client and peer addresses appear at debug level only.
pub(super) fn log(event: &Event) {
    match event {
        Event::Created { relay, tuple, subject, relayed, lifetime } => {
            let transport = tuple.transport.name();
            let subject = logged(subject);
            tracing::info!(transport, subject, lifetime, family = ?relay.family, "allocation created");
            tracing::debug!(client = %tuple.client, server = %tuple.server, %relayed, "allocation created");
        }
        Event::Refreshed { relay, lifetime } => tracing::debug!(?relay, lifetime, "allocation refreshed"),
        Event::Deleted { relay, tuple, subject, relayed, reason, traffic } => {
            let transport = tuple.transport.name();
            tracing::info!(
                transport,
                subject = logged(subject),
                ?reason,
                family = ?relay.family,
                port = relayed.port(),
                to_peer_bytes = traffic.to_peer_bytes,
                to_client_bytes = traffic.to_client_bytes,
                "allocation ended"
            );
            tracing::debug!(client = %tuple.client, server = %tuple.server, "allocation ended");
        }
        Event::Refused { tuple, method, code } => {
            tracing::debug!(client = %tuple.client, transport = tuple.transport.name(), method, code, "request refused");
        }
        Event::Dropped(reason) => tracing::trace!(?reason, "dropped"),
        Event::PermissionDenied { relay, peer } => tracing::debug!(?relay, %peer, "permission denied"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_client_address_is_logged() {
        assert_eq!(logged("t.open-4-c00002.0011aabb"), "t.open");
        for subject in ["t.token.0011aabb", "p.peer", "c.ada"] {
            assert_eq!(logged(subject), subject);
        }
    }
}

//! A peer's connection to the relayed address (RFC 6062 section 5.3), and what becomes of links.

use std::net::SocketAddr;

use super::links::Stage;
use super::{BIND, ConnectionId, LinkId};
use crate::relay::event::ReplyBytes;
use crate::relay::policy::canonical;
use crate::relay::stun::{Builder, Class, attr, method};
use crate::relay::types::{Family, RelayId};
use crate::relay::{DropReason, Output, Relay};
use crate::time::Now;

impl Relay {
    /// A peer has connected to the relayed address `relay`, and its connection is called `connection`. `Some`: the client
    /// is told and has its time to bind it. `None`: it is to be closed at once.
    pub fn peer_arrived(
        &mut self,
        now: Now,
        relay: RelayId,
        from: SocketAddr,
        connection: ConnectionId,
    ) -> Option<LinkId> {
        let arrived = self.admit_peer(now, relay, canonical(from), connection);
        let (link, tuple, bytes) = arrived.map_err(|reason| self.note_dropped(reason)).ok()?;
        self.reschedule(relay.slot);
        self.push(Output::ToClient { tuple, bytes });
        Some(link)
    }

    fn admit_peer(
        &mut self,
        now: Now,
        relay: RelayId,
        from: SocketAddr,
        connection: ConnectionId,
    ) -> Result<(LinkId, crate::relay::FiveTuple, ReplyBytes), DropReason> {
        let room = self.shared.settings.tcp_connections;
        // 1. A live TCP relayed address, and a peer that could be connected to.
        let allocation = self.table.relay(relay).ok_or(DropReason::NoAllocation)?;
        if Family::of(from.ip()) != relay.family || !allocation.is_live(relay.family, now.mono) {
            return Err(DropReason::NoAllocation);
        }
        if from.port() == 0 {
            return Err(DropReason::SourcePortZero);
        }
        // 2. A permission for its IP address.
        allocation.permitted(from.ip(), now.mono).ok_or(DropReason::NoPermission)?;
        // 3. Room for one more.
        let tuple = allocation.tuple;
        let links = allocation.tcp.as_mut().ok_or(DropReason::NoAllocation)?;
        if links.len() >= room {
            return Err(DropReason::Connections);
        }
        // 4. ConnectionAttempt: the peer, and what to call the connection.
        let transaction = self.rng.transaction();
        let mut indication = Builder::new(Class::Indication, method::CONNECTION_ATTEMPT, transaction);
        indication.xor_address(attr::XOR_PEER_ADDRESS, from);
        indication.attribute(attr::CONNECTION_ID, &connection.0.to_be_bytes());
        let bytes = indication.finish().ok_or(DropReason::Malformed)?;
        let number = links.add(from, Stage::Pending { until: now.mono + BIND });
        Ok((LinkId { relay, number }, tuple, bytes))
    }

    /// The client's side of a link has come: it lives as long as both sides and the allocation do.
    pub fn link_bound(&mut self, link: LinkId) {
        let links = self.table.relay(link.relay).and_then(|allocation| allocation.tcp.as_mut());
        if let Some(found) = links.and_then(|links| links.get_mut(link.number)) {
            found.stage = Stage::Bound;
            self.reschedule(link.relay.slot);
        }
    }

    /// One of the two sides of a link is gone: the peer may be connected to again.
    pub fn link_closed(&mut self, link: LinkId) {
        let links = self.table.relay(link.relay).and_then(|allocation| allocation.tcp.as_mut());
        if links.and_then(|links| links.remove(link.number)).is_some() {
            self.reschedule(link.relay.slot);
        }
    }
}

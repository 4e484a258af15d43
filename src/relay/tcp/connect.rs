//! Connect (RFC 6062 section 5.2), in two phases: the request is checked, the shell connects, its answer makes the reply.
//!
//! A permission is not needed: the client itself names the peer, and the policy is asked as for a permission.

use std::net::SocketAddr;

use super::links::{Link, Stage};
use super::{BIND, CONNECT, ConnectError, ConnectionId, LinkId, TcpOutput, Waiting};
use crate::relay::event::Route;
use crate::relay::permit::relay_for;
use crate::relay::policy::Policy;
use crate::relay::request::peers;
use crate::relay::response::{ErrorCode, Refusal};
use crate::relay::stun::attr;
use crate::relay::table::State;
use crate::relay::types::{Family, RelayId};
use crate::relay::{Exchange, Output, Relay};
use crate::time::Now;

/// Ports below are those of well-known services (mail, shells, the web): no peer of a call listens there, and a relay
/// that reached them would be everybody's proxy. `allow_peer` opens them for the addresses it lists.
const WELL_KNOWN: u16 = 1024;

impl Relay {
    /// The reply comes when the shell has answered.
    pub(in crate::relay) fn connect(&mut self, exchange: &Exchange<'_>) -> Result<(), Refusal> {
        let room = self.shared.settings.tcp_connections;
        // 1. An allocation of the sender's, with a TCP relayed address.
        let slot = self.owned(exchange)?;
        let allocation = self.table.at(slot).ok_or(ErrorCode::AllocationMismatch)?;
        if allocation.tcp.is_none() {
            return Err(ErrorCode::BadRequest.into());
        }
        // 2. XOR-PEER-ADDRESS must be there, well-formed, and of a family that we relay.
        let peer = peers(exchange.message).next().ok_or(ErrorCode::BadRequest)??;
        if peer.port() == 0 {
            return Err(ErrorCode::BadRequest.into());
        }
        let relay = relay_for(allocation, peer)?;
        let Some(links) = &mut allocation.tcp else { return Err(ErrorCode::BadRequest.into()) };
        // 3. One connection to a peer at a time, be it on its way, pending or bound.
        if links.has_peer(peer) {
            return Err(ErrorCode::ConnectionAlreadyExists.into());
        }
        // 4. The policy: no denied peer, no service of ours, no well-known port of anybody's.
        let policy = &self.shared.policy;
        let is_open = peer.port() >= WELL_KNOWN || policy.is_allowed(peer.ip());
        let Some(route) = route(policy, peer).filter(|_| is_open) else { return Err(self.deny(relay, peer).into()) };
        // 5. Room for one more.
        if links.len() >= room {
            return Err(ErrorCode::InsufficientCapacity.into());
        }
        // 6. The shell connects, and has its time for it.
        let stage = Stage::Connecting { until: exchange.now.mono + CONNECT, request: Box::new(Waiting::new(exchange)) };
        let link = LinkId { relay, number: links.add(peer, stage) };
        self.reschedule(slot);
        self.push(Output::Tcp(TcpOutput::Connect { link, peer, route }));
        Ok(())
    }

    /// The outcome of a [`TcpOutput::Connect`]. A link that is no longer waited for answers a connection with
    /// [`TcpOutput::Close`].
    pub fn peer_connected(&mut self, now: Now, link: LinkId, outcome: Result<ConnectionId, ConnectError>) {
        let Some((request, tuple)) = self.take_request(now, link, outcome.is_ok()) else {
            if outcome.is_ok() {
                self.push(Output::Tcp(TcpOutput::Close(link)));
            }
            return;
        };
        match outcome {
            Ok(ConnectionId(connection)) => {
                let software = &self.shared.settings.software;
                let reply = request.succeed(software, |reply| {
                    reply.attribute(attr::CONNECTION_ID, &connection.to_be_bytes());
                });
                self.reply(&tuple, reply);
            }
            Err(error) => {
                let code = match error {
                    ConnectError::Forbidden => ErrorCode::Forbidden,
                    ConnectError::Failed => ErrorCode::ConnectionFailure,
                    ConnectError::Capacity => ErrorCode::InsufficientCapacity,
                };
                self.refuse_waiting(&tuple, &request, code);
            }
        }
        self.reschedule(link.relay.slot);
    }

    /// The Connect that waits for a link, which is pending now or gone.
    fn take_request(
        &mut self,
        now: Now,
        link: LinkId,
        is_connected: bool,
    ) -> Option<(Box<Waiting>, crate::relay::FiveTuple)> {
        let allocation = self.table.relay(link.relay)?;
        let tuple = allocation.tuple;
        let links = allocation.tcp.as_mut()?;
        let found = links.get_mut(link.number).filter(|found| Family::of(found.peer.ip()) == link.relay.family)?;
        if !matches!(found.stage, Stage::Connecting { .. }) {
            return None;
        }
        let before = std::mem::replace(&mut found.stage, Stage::Pending { until: now.mono + BIND });
        if !is_connected {
            links.remove(link.number);
        }
        match before {
            Stage::Connecting { request, .. } => Some((request, tuple)),
            Stage::Pending { .. } | Stage::Bound => None,
        }
    }

    /// Closes the links with peers that a new policy denies.
    pub(in crate::relay) fn deny_links(&mut self) {
        for slot in self.table.select(|state| matches!(state, State::Live(_))) {
            let policy = &self.shared.policy;
            let links = self.table.at(slot).and_then(|allocation| allocation.tcp.as_mut());
            let denied = links.map(|links| links.take_denied(|peer| route(policy, peer).is_some()));
            self.close_links(slot, denied.unwrap_or_default(), ErrorCode::Forbidden);
        }
    }

    /// Closes the links of an allocation whose time is over.
    pub(in crate::relay) fn expire_links(&mut self, now: Now, slot: u32) {
        let Some(allocation) = self.table.at(slot) else { return };
        let Some(links) = &mut allocation.tcp else { return };
        let over = links.take_due(now.mono);
        self.close_links(slot, over, ErrorCode::ConnectionFailure);
    }

    /// Closes links that were taken out; who waits for a Connect is told `code`.
    fn close_links(&mut self, slot: u32, gone: Vec<(u32, Link)>, code: ErrorCode) {
        let Some(allocation) = self.table.at(slot).filter(|_| !gone.is_empty()) else { return };
        let (tuple, any) = (allocation.tuple, allocation.id(Family::V4));
        for (number, link) in gone {
            let relay = RelayId { family: Family::of(link.peer.ip()), ..any };
            self.push(Output::Tcp(TcpOutput::Close(LinkId { relay, number })));
            if let Stage::Connecting { request, .. } = link.stage {
                self.refuse_waiting(&tuple, &request, code);
            }
        }
        self.reschedule(slot);
    }

    /// Forgets the links of a relayed address that ends; who waits for a Connect is told.
    pub(in crate::relay) fn end_links(&mut self, slot: u32, family: Family) {
        let Some(allocation) = self.table.at(slot) else { return };
        let tuple = allocation.tuple;
        let gone = allocation.tcp.as_mut().map(|links| links.take_family(family)).unwrap_or_default();
        for (_, link) in gone {
            if let Stage::Connecting { request, .. } = link.stage {
                self.refuse_waiting(&tuple, &request, ErrorCode::ConnectionFailure);
            }
        }
    }

    /// Sets the deadline of a slot anew after its links have changed.
    pub(super) fn reschedule(&mut self, slot: u32) {
        if let Some(due) = self.table.at(slot).map(|allocation| allocation.deadline()) {
            self.table.schedule(slot, due);
        }
    }
}

/// How `peer` is reached; `None` when the policy denies it.
fn route(policy: &Policy, peer: SocketAddr) -> Option<Route> {
    policy.judge(peer.ip()).and_then(|reach| policy.route(reach, peer.port()))
}

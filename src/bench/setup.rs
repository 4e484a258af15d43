//! Everything that stands before the load begins: clients with their allocations, peers, and how each sends.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::forwarder;
use super::link::{Link, Tls, udp_socket};
use super::packet::{Envelope, Framing, Way};
use super::session::{Login, Session};
use crate::relay::Transport;

/// Peer sockets at most; each serves a share of the allocations.
const PEER_SOCKETS: usize = 16;

/// Whom clients talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Sockets of the generator.
    Own,
    /// The next allocation: a packet goes through the server twice.
    Allocation,
}

/// What is to be set up.
#[derive(Clone)]
pub struct Plan {
    pub server: SocketAddr,
    pub transport: Transport,
    pub tls: Option<Tls>,
    pub login: Login,
    pub allocations: usize,
    pub framing: Framing,
    pub peers: Peers,
    /// Payload bytes of a packet.
    pub size: usize,
    /// Bursts leave as one message that the kernel cuts.
    pub gso: bool,
    /// Bursts come in as one message.
    pub gro: bool,
    /// Unix time until which credentials made here are good.
    pub expires: u64,
    /// Nobody reads what comes to the first client and its peer, so that a hot allocation costs the generator little.
    pub deaf: bool,
}

/// Which socket something leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Link(usize),
    Peer(usize),
}

/// One way of a flow.
#[derive(Clone, Debug)]
pub struct Lane {
    pub via: Via,
    pub to: SocketAddr,
    pub envelope: Envelope,
}

/// Clients and peers, ready for the load.
pub struct Field {
    pub links: Vec<Link>,
    /// Of each link; none with the bare forwarder.
    pub sessions: Vec<Session>,
    /// The one address that each link sends to.
    pub reaches: Vec<SocketAddr>,
    pub peers: Vec<UdpSocket>,
    /// Both ways of each flow, by [`Way`].
    pub flows: Vec<[Lane; 2]>,
}

impl Field {
    /// Makes all allocations, one after the other.
    pub fn new(plan: &Plan) -> io::Result<Self> {
        let mut field =
            Self { links: Vec::new(), sessions: Vec::new(), reaches: Vec::new(), peers: Vec::new(), flows: Vec::new() };
        match plan.peers {
            Peers::Own => field.with_own_peers(plan)?,
            Peers::Allocation => field.with_allocations_as_peers(plan)?,
        }
        for link in &field.links {
            link.go_async()?;
        }
        for peer in &field.peers {
            peer.set_nonblocking(true)?;
        }
        Ok(field)
    }

    fn with_own_peers(&mut self, plan: &Plan) -> io::Result<()> {
        let sockets = plan.allocations.min(PEER_SOCKETS);
        for number in 0..plan.allocations {
            let mut link = connect(plan)?;
            // The first has a peer of its own if there are enough: if it is hot, nobody else's packets wait behind its.
            let index = if number == 0 { 0 } else { (number * sockets / plan.allocations).max(1).min(sockets - 1) };
            if self.peers.len() <= index {
                let here = SocketAddr::new(link.local_addr()?.ip(), 0);
                self.peers.push(udp_socket(here, plan.gro)?);
            }
            let peer = self.peers.get(index).map_or(Ok(plan.server), UdpSocket::local_addr)?;
            let relayed = if plan.framing == Framing::Bare {
                forwarder::join(&mut link, peer)?
            } else {
                let mut session = Session::new(&plan.login, number as u32, plan.expires);
                let relayed = session.allocate(&mut link)?;
                session.reach(&mut link, plan.framing, peer)?;
                self.sessions.push(session);
                relayed
            };
            let to_peer = Lane { via: Via::Link(number), to: plan.server, envelope: envelope(plan, peer) };
            let to_client = Lane { via: Via::Peer(index), to: relayed, envelope: Envelope::default() };
            self.flows.push([to_peer, to_client]);
            self.links.push(link);
            self.reaches.push(peer);
        }
        Ok(())
    }

    fn with_allocations_as_peers(&mut self, plan: &Plan) -> io::Result<()> {
        let mut relayed = Vec::new();
        for number in 0..plan.allocations {
            let mut link = connect(plan)?;
            let mut session = Session::new(&plan.login, number as u32, plan.expires);
            relayed.push(session.allocate(&mut link)?);
            self.links.push(link);
            self.sessions.push(session);
        }
        for (number, (link, session)) in self.links.iter_mut().zip(&mut self.sessions).enumerate() {
            // The last of an odd number talks to nobody.
            let partner = relayed.get(number ^ 1).or(relayed.get(number)).copied().unwrap_or(plan.server);
            session.reach(link, plan.framing, partner)?;
            self.reaches.push(partner);
        }
        for first in (0..plan.allocations & !1).step_by(2) {
            let lane = |link: usize| {
                let to = self.reaches.get(link).copied().unwrap_or(plan.server);
                Lane { via: Via::Link(link), to: plan.server, envelope: envelope(plan, to) }
            };
            self.flows.push([lane(first), lane(first + 1)]);
        }
        Ok(())
    }

    /// One way of a flow.
    pub fn lane(&self, flow: usize, way: Way) -> Option<&Lane> {
        self.flows.get(flow).map(|lanes| &lanes[way as usize])
    }
}

fn connect(plan: &Plan) -> io::Result<Link> {
    match plan.transport {
        Transport::Udp => Link::udp(plan.server, plan.gro),
        Transport::Tcp => Link::stream(plan.server, None),
        Transport::Tls => Link::stream(plan.server, plan.tls.as_ref()),
    }
}

fn envelope(plan: &Plan, peer: SocketAddr) -> Envelope {
    Envelope::new(plan.framing, plan.size, peer, plan.transport.is_stream())
}

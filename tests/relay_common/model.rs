//! A small reference model of RFC 8656 beside the core: the same steps for both, and the same outcome after each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use relais::relay::{Family, RelayId};

use super::*;

pub const PEERS: [&str; 5] = [PEER, PEER_TOO, OTHER_PEER, PRIVATE_PEER, PEER_V6];
pub const CLIENTS: [&str; 3] = ["198.51.100.7:4000", "198.51.100.7:4001", "198.51.100.8:4000"];
pub const NUMBERS: [u16; 3] = [0x4000, 0x4001, 0x5000];

/// Clients, peers and numbers by their place in the lists above.
#[derive(Clone, Debug)]
pub enum Step {
    /// `dual`: with ADDITIONAL-ADDRESS-FAMILY IPv6.
    Allocate {
        client: usize,
        id: u32,
        dual: bool,
    },
    Refresh {
        client: usize,
        lifetime: u32,
        family: Option<Family>,
    },
    Permit {
        client: usize,
        peers: Vec<usize>,
    },
    Bind {
        client: usize,
        number: usize,
        peer: usize,
    },
    Send {
        client: usize,
        peer: usize,
    },
    ChannelData {
        client: usize,
        number: usize,
    },
    FromPeer {
        client: usize,
        peer: usize,
    },
    Revoke {
        client: usize,
    },
    Pass {
        seconds: u64,
        timer: bool,
    },
    Garbage {
        client: usize,
        bytes: Vec<u8>,
    },
}

/// The reference: what RFC 8656 says, in seconds.
#[derive(Default)]
struct Model {
    allocations: HashMap<usize, Allocation>,
    now: u64,
}

struct Allocation {
    id: u32,
    /// Each relayed address and when it ends; a family that ended stays here as a thing of the past.
    relays: Vec<(RelayId, u64)>,
    permissions: HashMap<IpAddr, u64>,
    /// Peer and expiry by number, kept for the 300 s of reservation.
    channels: HashMap<u16, (SocketAddr, u64)>,
}

impl Allocation {
    fn has(&self, family: Family, now: u64) -> bool {
        self.relays.iter().any(|(relay, expires)| relay.family == family && *expires > now)
    }

    /// The error for a peer: 443 without a relayed address of its family, 403 by policy.
    fn verdict(&self, peer: SocketAddr, now: u64) -> Option<u16> {
        match peer {
            _ if !self.has(family_of(peer), now) => Some(443),
            _ if peer == addr(PRIVATE_PEER) => Some(403),
            _ => None,
        }
    }
}

fn family_of(peer: SocketAddr) -> Family {
    if peer.is_ipv4() { Family::V4 } else { Family::V6 }
}

impl Model {
    fn live(&mut self, client: usize) -> Option<&mut Allocation> {
        let now = self.now;
        let is_live = |allocation: &&mut Allocation| allocation.relays.iter().any(|(_, expires)| *expires > now);
        self.allocations.get_mut(&client).filter(is_live)
    }

    /// Relayed addresses that are alive.
    fn relays(&self) -> usize {
        let relays = self.allocations.values().flat_map(|allocation| &allocation.relays);
        relays.filter(|(_, expires)| *expires > self.now).count()
    }

    fn is_permitted(&mut self, client: usize, peer: SocketAddr) -> bool {
        let now = self.now;
        self.live(client).is_some_and(|allocation| {
            allocation.has(family_of(peer), now)
                && allocation.permissions.get(&peer.ip()).is_some_and(|expires| *expires > now)
        })
    }

    fn channel(&mut self, client: usize, number: u16) -> Option<SocketAddr> {
        let now = self.now;
        let &(peer, expires) = self.live(client)?.channels.get(&number)?;
        (expires > now && self.is_permitted(client, peer)).then_some(peer)
    }

    fn channel_to(&mut self, client: usize, peer: SocketAddr) -> Option<u16> {
        let now = self.now;
        let channels = &self.live(client)?.channels;
        channels.iter().find(|(_, (bound, expires))| *bound == peer && *expires > now).map(|(number, _)| *number)
    }

    fn permit(&mut self, client: usize, peers: &[SocketAddr]) -> Option<u16> {
        let now = self.now;
        let Some(allocation) = self.live(client) else { return Some(437) };
        for peer in peers {
            match allocation.verdict(*peer, now) {
                None => {}
                code => return code,
            }
        }
        if peers.is_empty() {
            return Some(400);
        }
        allocation.permissions.extend(peers.iter().map(|peer| (peer.ip(), now + 300)));
        None
    }

    fn bind(&mut self, client: usize, number: u16, peer: SocketAddr) -> Option<u16> {
        let now = self.now;
        let Some(allocation) = self.live(client) else { return Some(437) };
        let is_taken = |(bound, (to, expires)): (&u16, &(SocketAddr, u64))| {
            *expires + 300 > now && (*bound == number) != (*to == peer)
        };
        if number > 0x4fff || allocation.channels.iter().any(is_taken) {
            return Some(400);
        }
        if let Some(code) = allocation.verdict(peer, now) {
            return Some(code);
        }
        allocation.channels.retain(|_, (to, _)| *to != peer);
        allocation.channels.insert(number, (peer, now + 600));
        allocation.permissions.insert(peer.ip(), now + 300);
        None
    }
}

/// The core with its simulated shell, and the model.
pub struct Pair {
    world: World,
    model: Model,
    clients: Vec<Client>,
}

impl Pair {
    pub fn new() -> Self {
        let mut world = World::new(settings());
        let mut client = |(address, subject): (&&str, &str)| {
            let mut client = Client::new(tuple(address), subject);
            // No row of steps takes as long.
            let credential = turn::mint(SECRET, subject, UNIX + 100 * 365 * 86_400);
            (client.username, client.password) = (credential.username, credential.password);
            world.challenge(&mut client);
            client
        };
        let clients = CLIENTS.iter().zip(["p.1", "p.2", "p.1"]).map(&mut client).collect();
        Self { world, model: Model::default(), clients }
    }

    fn ask(&mut self, client: usize, ask: Ask) -> Reply {
        let client = &mut self.clients[client];
        let reply = self.world.ask(client, ask.clone().signed(client));
        if reply.code() != Some(438) {
            return reply;
        }
        // An hour has passed: the new nonce does it.
        client.nonce = reply.get(0x0015).unwrap();
        self.world.ask(client, ask.signed(client))
    }

    /// One step of both; they must agree.
    pub fn run(&mut self, step: &Step) {
        match step {
            Step::Allocate { client, id, dual } => self.allocate(*client, *id, *dual),
            Step::Refresh { client, lifetime, family } => self.refresh(*client, *lifetime, *family),
            Step::Permit { client, peers } => {
                let ask = peers.iter().fold(Ask::request(CREATE_PERMISSION, 50), |ask, peer| ask.peer(PEERS[*peer]));
                let peers: Vec<SocketAddr> = peers.iter().map(|peer| addr(PEERS[*peer])).collect();
                assert_eq!(self.ask(*client, ask).code(), self.model.permit(*client, &peers));
            }
            Step::Bind { client, number, peer } => {
                let ask = Ask::request(CHANNEL_BIND, 51).channel(NUMBERS[*number]).peer(PEERS[*peer]);
                let wanted = self.model.bind(*client, NUMBERS[*number], addr(PEERS[*peer]));
                assert_eq!(self.ask(*client, ask).code(), wanted);
            }
            Step::Send { client, peer } => self.send(*client, PEERS[*peer]),
            Step::ChannelData { client, number } => self.channel_data(*client, NUMBERS[*number]),
            Step::FromPeer { client, peer } => self.packet_from(*client, PEERS[*peer]),
            Step::Revoke { client } => {
                let subject = if *client == 1 { "p.2" } else { "p.1" };
                self.world.relay.revoke(self.world.now, subject);
                self.world.drain();
                self.model.allocations.retain(|owner, _| (*owner == 1) != (*client == 1));
            }
            Step::Pass { seconds, timer } => {
                self.model.now += seconds;
                match timer {
                    true => self.world.pass(*seconds),
                    false => self.world.pass_without_timer(Duration::from_secs(*seconds)),
                }
            }
            Step::Garbage { client, bytes } => {
                // Noise may turn out to be a packet, as long as it goes where packets may go.
                let sent = self.world.send(&self.clients[*client].tuple, bytes);
                assert!(sent.is_none_or(|sent| self.model.is_permitted(*client, sent.peer)));
                self.world.replies.clear();
            }
        }
        self.check(matches!(step, Step::Pass { timer: true, .. }));
    }

    fn allocate(&mut self, client: usize, id: u32, dual: bool) {
        let ask = Ask::request(ALLOCATE, id).transport(17);
        let reply = self.ask(client, if dual { ask.additional_family(2) } else { ask });
        match self.model.live(client) {
            Some(allocation) if allocation.id != id => assert_eq!(reply.code(), Some(437)),
            Some(_) => assert_eq!((reply.code(), reply.lifetime()), (None, Some(600))),
            None => {
                assert_eq!((reply.code(), reply.lifetime()), (None, Some(600)));
                let expires = self.model.now + 600;
                let opened = self.world.opened.iter().rev().take(1 + usize::from(dual));
                let relays = opened.map(|relay| (*relay, expires)).collect();
                let (permissions, channels) = (HashMap::new(), HashMap::new());
                self.model.allocations.insert(client, Allocation { id, relays, permissions, channels });
            }
        }
    }

    fn refresh(&mut self, client: usize, lifetime: u32, family: Option<Family>) {
        let ask = Ask::request(REFRESH, 52).lifetime(lifetime);
        let reply = self.ask(
            client,
            match family {
                None => ask,
                Some(Family::V4) => ask.family(1),
                Some(Family::V6) => ask.family(2),
            },
        );
        let now = self.model.now;
        let Some(allocation) = self.model.live(client) else {
            assert_eq!(reply.code(), Some(437));
            return;
        };
        if family.is_some_and(|family| !allocation.has(family, now)) {
            assert_eq!(reply.code(), Some(443));
            return;
        }
        let granted = if lifetime == 0 { 0 } else { lifetime.clamp(600, 3600) };
        assert_eq!((reply.code(), reply.lifetime()), (None, Some(granted)));
        for (relay, expires) in &mut allocation.relays {
            if *expires > now && family.is_none_or(|family| family == relay.family) {
                *expires = now + u64::from(granted);
            }
        }
        if granted == 0 {
            // The channels of a family that its client ends go with it, reservations too.
            let relays = &allocation.relays;
            let is_alive = |family| relays.iter().any(|(relay, expires)| relay.family == family && *expires > now);
            allocation.channels.retain(|_, (peer, _)| is_alive(family_of(*peer)));
        }
    }

    fn send(&mut self, client: usize, peer: &str) {
        let sent = self.world.send_to(&self.clients[client], peer, b"payload");
        let is_permitted = self.model.is_permitted(client, addr(peer));
        assert_eq!(sent.map(|sent| sent.peer), is_permitted.then(|| addr(peer)));
    }

    fn channel_data(&mut self, client: usize, number: u16) {
        let sent = self.world.channel_data(&self.clients[client], number, b"payload");
        assert_eq!(sent.map(|sent| sent.peer), self.model.channel(client, number));
    }

    /// A packet of `peer` at each relayed address that the client has or last had.
    fn packet_from(&mut self, client: usize, peer: &str) {
        let Some(allocation) = self.model.allocations.get(&client) else { return };
        for (relay, _) in allocation.relays.clone() {
            let got = self.world.peer(relay, peer, 7);
            if relay.family != family_of(addr(peer)) || !self.model.is_permitted(client, addr(peer)) {
                assert_eq!(got, None);
                continue;
            }
            let got = got.expect("a permitted peer's packet");
            assert_eq!(got.tuple, self.clients[client].tuple);
            let indication = if relay.family == Family::V4 { 36 } else { 48 };
            match self.model.channel_to(client, addr(peer)) {
                Some(number) => assert_eq!(got.head()[..2], number.to_be_bytes()),
                None => assert_eq!(got.head().len(), indication),
            }
        }
    }

    /// Every way of a packet, by each of the core's indexes: the 5-tuple, the relayed address, number and peer.
    pub fn observe(&mut self) {
        for client in 0..CLIENTS.len() {
            for number in NUMBERS {
                self.channel_data(client, number);
            }
            for peer in PEERS {
                self.send(client, peer);
                self.packet_from(client, peer);
            }
        }
    }

    /// In the end everything ends.
    pub fn finish(mut self) {
        self.observe();
        self.world.pass(3600);
        assert_eq!((self.world.relay.allocations(), self.world.relay.poll_timeout()), (0, None));
        assert_eq!(self.world.opened.len(), self.world.closed.len());
    }

    fn check(&self, is_swept: bool) {
        let (world, live) = (&self.world, self.model.relays());
        let open = world.opened.len() - world.closed.len();
        assert!(open >= live && world.relay.allocations() <= open, "sockets and relayed addresses");
        if is_swept {
            assert_eq!(open, live, "what is over is closed");
            assert!(world.relay.poll_timeout().is_none_or(|due| due > world.now.mono));
        }
        assert_eq!(world.relay.poll_timeout().is_none(), world.relay.allocations() == 0);
        assert_eq!(world.relay.allocations() == 0, open == 0);
    }
}

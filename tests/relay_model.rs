//! Random operations on the core and on a small reference model of it. After each: no packet passes without a live
//! permission in either direction, replies are what the model says, sockets open are sockets the model knows, and the
//! timer is never in the past.

mod relay_common;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use relais::relay::RelayId;
use relay_common::*;

const PEERS: [&str; 5] = [PEER, PEER_TOO, OTHER_PEER, PRIVATE_PEER, PEER_V6];
const CLIENTS: [&str; 3] = ["198.51.100.7:4000", "198.51.100.7:4001", "198.51.100.8:4000"];
const NUMBERS: [u16; 3] = [0x4000, 0x4001, 0x5000];

#[derive(Clone, Debug)]
enum Step {
    Allocate { client: usize, id: u32 },
    Refresh { client: usize, lifetime: u32 },
    Permit { client: usize, peers: Vec<usize> },
    Bind { client: usize, number: usize, peer: usize },
    Send { client: usize, peer: usize },
    ChannelData { client: usize, number: usize },
    FromPeer { client: usize, peer: usize },
    Revoke { client: usize },
    Pass { seconds: u64, timer: bool },
    Garbage { client: usize, bytes: Vec<u8> },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS.len();
    let peer = 0..PEERS.len();
    let number = 0..NUMBERS.len();
    prop_oneof![
        3 => (client.clone(), 0_u32..3).prop_map(|(client, id)| Step::Allocate { client, id }),
        2 => (client.clone(), prop_oneof![Just(0), Just(600), Just(1200), Just(9999)])
            .prop_map(|(client, lifetime)| Step::Refresh { client, lifetime }),
        3 => (client.clone(), prop::collection::vec(peer.clone(), 0..4))
            .prop_map(|(client, peers)| Step::Permit { client, peers }),
        3 => (client.clone(), number.clone(), peer.clone())
            .prop_map(|(client, number, peer)| Step::Bind { client, number, peer }),
        4 => (client.clone(), peer.clone()).prop_map(|(client, peer)| Step::Send { client, peer }),
        4 => (client.clone(), number).prop_map(|(client, number)| Step::ChannelData { client, number }),
        4 => (client.clone(), peer).prop_map(|(client, peer)| Step::FromPeer { client, peer }),
        1 => client.clone().prop_map(|client| Step::Revoke { client }),
        4 => (prop_oneof![Just(1), Just(120), Just(299), Just(300), Just(301), Just(600)], any::<bool>())
            .prop_map(|(seconds, timer)| Step::Pass { seconds, timer }),
        1 => (client, prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(client, bytes)| Step::Garbage { client, bytes }),
    ]
}

/// The reference: what RFC 8656 says, in seconds.
#[derive(Default)]
struct Model {
    allocations: HashMap<usize, Allocation>,
    now: u64,
}

struct Allocation {
    relay: RelayId,
    id: u32,
    expires: u64,
    permissions: HashMap<IpAddr, u64>,
    /// Peer and expiry by number, kept for the 300 s of reservation.
    channels: HashMap<u16, (SocketAddr, u64)>,
}

impl Model {
    fn live(&mut self, client: usize) -> Option<&mut Allocation> {
        let now = self.now;
        self.allocations.get_mut(&client).filter(|allocation| allocation.expires > now)
    }

    fn is_permitted(&mut self, client: usize, peer: SocketAddr) -> bool {
        let now = self.now;
        self.live(client)
            .is_some_and(|allocation| allocation.permissions.get(&peer.ip()).is_some_and(|expires| *expires > now))
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
            match verdict(*peer) {
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
        if let Some(code) = verdict(peer) {
            return Some(code);
        }
        allocation.channels.retain(|_, (to, _)| *to != peer);
        allocation.channels.insert(number, (peer, now + 600));
        allocation.permissions.insert(peer.ip(), now + 300);
        None
    }
}

/// The error for a peer on an IPv4 allocation.
fn verdict(peer: SocketAddr) -> Option<u16> {
    match peer {
        _ if peer.is_ipv6() => Some(443),
        _ if peer == addr(PRIVATE_PEER) => Some(403),
        _ => None,
    }
}

struct Pair {
    world: World,
    model: Model,
    clients: Vec<Client>,
}

impl Pair {
    fn new() -> Self {
        let mut world = World::new(settings());
        let clients = CLIENTS.iter().zip(["p.1", "p.2", "p.1"]);
        let clients = clients.map(|(address, subject)| world.client(address, subject)).collect();
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

    fn run(&mut self, step: &Step) {
        match step {
            Step::Allocate { client, id } => self.allocate(*client, *id),
            Step::Refresh { client, lifetime } => self.refresh(*client, *lifetime),
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
            Step::Send { client, peer } => {
                let sent = self.world.send_to(&self.clients[*client], PEERS[*peer], b"payload");
                let is_permitted = self.model.is_permitted(*client, addr(PEERS[*peer]));
                assert_eq!(sent.map(|sent| sent.peer), is_permitted.then(|| addr(PEERS[*peer])));
            }
            Step::ChannelData { client, number } => {
                let sent = self.world.channel_data(&self.clients[*client], NUMBERS[*number], b"payload");
                assert_eq!(sent.map(|sent| sent.peer), self.model.channel(*client, NUMBERS[*number]));
            }
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
                    false => self.world.pass_without_timer(std::time::Duration::from_secs(*seconds)),
                }
            }
            Step::Garbage { client, bytes } => {
                assert_eq!(self.world.send(&self.clients[*client].tuple, bytes), None);
                self.world.replies.clear();
            }
        }
        self.check(matches!(step, Step::Pass { timer: true, .. }));
    }

    fn allocate(&mut self, client: usize, id: u32) {
        let reply = self.ask(client, Ask::request(ALLOCATE, id).transport(17));
        match self.model.live(client) {
            Some(allocation) if allocation.id != id => assert_eq!(reply.code(), Some(437)),
            Some(_) => assert_eq!((reply.code(), reply.lifetime()), (None, Some(600))),
            None => {
                assert_eq!((reply.code(), reply.lifetime()), (None, Some(600)));
                let relay = *self.world.opened.last().unwrap();
                let (permissions, channels) = (HashMap::new(), HashMap::new());
                let expires = self.model.now + 600;
                self.model.allocations.insert(client, Allocation { relay, id, expires, permissions, channels });
            }
        }
    }

    fn refresh(&mut self, client: usize, lifetime: u32) {
        let reply = self.ask(client, Ask::request(REFRESH, 52).lifetime(lifetime));
        let now = self.model.now;
        let Some(allocation) = self.model.live(client) else {
            assert_eq!(reply.code(), Some(437));
            return;
        };
        let granted = if lifetime == 0 { 0 } else { lifetime.clamp(600, 3600) };
        assert_eq!((reply.code(), reply.lifetime()), (None, Some(granted)));
        allocation.expires = now + u64::from(granted);
    }

    fn packet_from(&mut self, client: usize, peer: &str) {
        let Some(relay) = self.model.allocations.get(&client).map(|allocation| allocation.relay) else { return };
        let got = self.world.peer(relay, peer, 7);
        if !self.model.is_permitted(client, addr(peer)) {
            assert_eq!(got, None);
            return;
        }
        let got = got.expect("a permitted peer's packet");
        assert_eq!(got.tuple, self.clients[client].tuple);
        match self.model.channel_to(client, addr(peer)) {
            Some(number) => assert_eq!(got.head()[..2], number.to_be_bytes()),
            None => assert_eq!(got.head().len(), 36),
        }
    }

    fn check(&self, is_swept: bool) {
        let world = &self.world;
        assert_eq!(world.opened.len() - world.closed.len(), world.relay.allocations(), "sockets and allocations");
        let live = self.model.allocations.values().filter(|allocation| allocation.expires > self.model.now).count();
        assert!(world.relay.allocations() >= live);
        if is_swept {
            assert_eq!(world.relay.allocations(), live);
            assert!(world.relay.poll_timeout().is_none_or(|due| due > world.now.mono));
        }
        assert_eq!(world.relay.poll_timeout().is_none(), world.relay.allocations() == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_core_does_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step);
        }
        // In the end everything ends.
        pair.world.pass(3600);
        prop_assert_eq!(pair.world.relay.allocations(), 0);
        prop_assert_eq!(pair.world.opened.len(), pair.world.closed.len());
    }

    #[test]
    fn arbitrary_datagrams_never_panic_and_leave_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut world = World::new(settings());
        prop_assert!(world.send(&tuple(CLIENTS[0]), &bytes).is_none());
        prop_assert_eq!(world.relay.allocations(), 0);
        prop_assert_eq!(world.relay.poll_timeout(), None);
    }

    /// A good request with bytes changed: it may be refused or dropped, never half-done.
    #[test]
    fn damaged_requests_change_nothing(
        at in prop::collection::vec((0_usize..140, any::<u8>()), 1..4),
        method in prop::sample::select(vec![ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND]),
    ) {
        let mut world = World::new(settings());
        let (client, _) = world.allocated(CLIENTS[0], "p.1");
        let good = Ask::request(method, 9).transport(17).channel(0x4000).peer(PEER).lifetime(0).signed(&client).bytes();
        let mut bad = good.clone();
        for (index, byte) in at {
            let length = bad.len();
            bad[index % length] = byte;
        }
        prop_assume!(bad != good);
        world.send(&client.tuple, &bad);
        prop_assert_eq!(world.relay.allocations(), 1);
        prop_assert!(world.send_to(&client, PEER, b"x").is_none());
    }

    #[test]
    fn frames_of_a_stream_are_what_was_put_in(
        payloads in prop::collection::vec((0x4000_u16..0x8000, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        chunk in 1_usize..64,
    ) {
        let mut stream = Vec::new();
        for (number, payload) in &payloads {
            stream.extend(channel_data(*number, payload));
            stream.resize(stream.len().next_multiple_of(4), 0);
        }
        let (mut buffered, mut frames) = (Vec::new(), Vec::new());
        for piece in stream.chunks(chunk) {
            buffered.extend_from_slice(piece);
            while let Some((frame, advance)) = relais::relay::framing::next_frame(&buffered).unwrap() {
                frames.push(buffered[..frame].to_vec());
                buffered.drain(..advance);
            }
        }
        let wanted: Vec<Vec<u8>> = payloads.iter().map(|(number, payload)| channel_data(*number, payload)).collect();
        prop_assert_eq!(frames, wanted);
        prop_assert!(buffered.is_empty());
    }
}

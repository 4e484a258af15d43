//! What batching must not change: the same packets through a running shard, in bursts that the kernel cuts and coalesces
//! and one by one, give every peer and every client the same bytes in the same order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::sys::{Outgoing, Piece, Sender};
use super::{Net, Setup};
use crate::bench::Login;
use crate::bench::link::{Link, udp_socket};
use crate::bench::packet::{Envelope, Framing, Incoming, open};
use crate::bench::session::{Session, release};
use crate::clock;
use crate::config::parse::cidr;
use crate::config::{Config, Listen};
use crate::relay::stun::{attr, method};

const SECRET: &[u8] = b"north";
/// How long a packet may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const CLIENTS: usize = 3;
/// Every client has a channel to each.
pub(super) const PEERS: usize = 2;
/// Sizes at the edges: nothing, odd ones, Ethernet's largest, the largest that fits behind a channel's header.
const SIZES: [usize; 8] = [0, 1, 160, 161, 1_200, 1_472, 9_000, 65_503];

/// Where a packet of a client goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    Channel(usize),
    Indication(usize),
    /// A channel that was never bound: nobody gets it.
    Unbound,
    /// A peer without permission: nobody gets it.
    Foreign,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub client: usize,
    pub target: Target,
    pub size: usize,
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let target = prop_oneof![
        6 => (0..PEERS).prop_map(Target::Channel),
        2 => (0..PEERS).prop_map(Target::Indication),
        1 => Just(Target::Unbound),
        1 => Just(Target::Foreign),
    ];
    let size = prop_oneof![12 => 0..6usize, 1 => 6..8usize].prop_map(|index| SIZES[index]);
    // Bursts of one size are what is coalesced.
    let burst = (0..CLIENTS, target, size, 1..20usize);
    prop::collection::vec(burst, 1..8).prop_map(|bursts| {
        let packets = bursts.into_iter().flat_map(|(client, target, size, count)| {
            // An indication's header is larger than a channel's, and no datagram is beyond 65,507 bytes.
            let is_channel = matches!(target, Target::Channel(_) | Target::Unbound);
            let size = if is_channel { size } else { size.min(9_000) };
            std::iter::repeat_n(Packet { client, target, size }, if size > 2_000 { 1 } else { count })
        });
        packets.collect()
    })
}

/// A running shard, or several, with clients and peers of one family.
pub(super) struct Stage {
    pub net: Net,
    /// The address that clients speak to.
    pub server: SocketAddr,
    pub links: Vec<(Link, Session, SocketAddr)>,
    pub peers: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
    sender: Sender,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.net.stop();
    }
}

impl Stage {
    fn new(here: &str) -> Self {
        Self::listening(here, here, 1)
    }

    /// Clients speak to `here`, the server listens on `listen`, which may be every address.
    pub(super) fn listening(listen: &str, here: &str, shards: usize) -> Self {
        let ip = here.parse().unwrap();
        let config = Config {
            udp: Listen { addresses: vec![SocketAddr::new(listen.parse().unwrap(), 0)], explicit: true },
            relay_ips: vec![ip],
            allow_peers: ["127.0.0.0/8", "::1/128"].map(|text| cidr(text).unwrap()).to_vec(),
            shards,
            ..Config::default()
        };
        let net = Net::start(Setup {
            config: &config,
            turn_secrets: vec![SECRET.to_vec()],
            nonce_secret: b"nonce".to_vec(),
            tcp_addresses: Vec::new(),
            revoked: Arc::default(),
        })
        .unwrap();
        let peers: Vec<_> = (0..PEERS).map(|_| socket(ip)).collect();
        let addresses: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
        let server = SocketAddr::new(ip, net.udp_addresses()[0].port());
        let mut stage = Self { net, server, links: Vec::new(), peers, addresses, sender: Sender::new() };
        for number in 0..CLIENTS {
            stage.add_client(number as u32);
        }
        stage
    }

    fn add_client(&mut self, number: u32) {
        let server = self.server;
        let mut link = Link::udp(server, false).unwrap();
        let expires = clock::now().unix + 3_600;
        let mut session = Session::new(&Login::Secret(SECRET.to_vec()), number, expires);
        // The family of the relayed address is the client's.
        let family = if server.is_ipv4() { [1, 0, 0, 0] } else { [2, 0, 0, 0] };
        let answer = session.ask(&mut link, method::ALLOCATE, |request| {
            request.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
            request.attribute(attr::REQUESTED_ADDRESS_FAMILY, &family);
        });
        let relayed = crate::bench::session::relayed(&answer.unwrap()).unwrap();
        for (index, peer) in self.addresses.iter().enumerate() {
            let channel = [0x40, index as u8, 0, 0];
            session
                .ask(&mut link, method::CHANNEL_BIND, |request| {
                    request.attribute(attr::CHANNEL_NUMBER, &channel);
                    request.xor_address(attr::XOR_PEER_ADDRESS, *peer);
                })
                .unwrap();
        }
        let Link::Udp(socket) = &link else { panic!("UDP") };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        self.links.push((link, session, relayed));
    }

    pub(super) fn socket(&self, client: usize) -> &UdpSocket {
        let Link::Udp(socket) = &self.links[client].0 else { panic!("UDP") };
        socket
    }

    pub(super) fn frame(&self, packet: Packet, payload: &[u8]) -> Vec<u8> {
        let foreign = if self.addresses[0].is_ipv4() { "127.0.0.77:9" } else { "[2001:db8::7]:9" };
        let channel = |number: u8| {
            let [high, low] = (payload.len() as u16).to_be_bytes();
            [&[0x40, number, high, low], payload].concat()
        };
        let indication = |peer| {
            let envelope = Envelope::new(Framing::Indication, payload.len(), peer, false);
            [&envelope.head[..], payload, &[0; 3][..envelope.padding]].concat()
        };
        match packet.target {
            Target::Channel(peer) => channel(peer as u8),
            Target::Unbound => channel(0xee),
            Target::Indication(peer) => indication(self.addresses[peer]),
            Target::Foreign => indication(foreign.parse().unwrap()),
        }
    }

    /// Sends frames of one size as one message that the kernel cuts, where it does.
    pub(super) fn burst(&mut self, client: usize, frames: &[Vec<u8>]) {
        let bytes = frames.concat();
        let size = frames[0].len();
        let is_one_message = size <= 1_472 && bytes.len() <= 65_000 && frames.len() <= 64;
        let count = if is_one_message { 1 } else { frames.len() };
        let pieces: Vec<_> = (0..count)
            .map(|index| {
                let len = if is_one_message { bytes.len() } else { size };
                Piece { region: 0, start: (index * size) as u32, len: len as u32 }
            })
            .collect();
        let segment = if is_one_message && frames.len() > 1 { size as u16 } else { 0 };
        let to = self.server;
        let messages: Vec<_> =
            (0..count).map(|index| Outgoing { to, source: None, segment, pieces: index..index + 1 }).collect();
        let Link::Udp(socket) = &self.links[client].0 else { panic!("UDP") };
        let mut done = 0;
        let start = clock::stopwatch();
        while done < count {
            // A packet on loopback counts against its sender until it is received.
            done += match self.sender.send(socket.as_fd(), &[&bytes], &pieces, &messages[done..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(start.elapsed() < PATIENCE, "nobody receives");
                    std::thread::yield_now();
                    0
                }
                sent => sent.unwrap(),
            };
        }
    }

    /// Runs `packets` and checks that each peer gets what is for it from each client, in order, and nothing else.
    pub(super) fn run(&mut self, packets: &[Packet], in_bursts: bool) {
        let payloads: Vec<_> = packets.iter().enumerate().map(|(seed, packet)| pattern(seed, packet.size)).collect();
        let mut expected: Vec<Vec<VecDeque<&[u8]>>> = vec![vec![VecDeque::new(); CLIENTS]; PEERS];
        for (packet, payload) in packets.iter().zip(&payloads) {
            if let Target::Channel(peer) | Target::Indication(peer) = packet.target {
                expected[peer][packet.client].push_back(payload);
            }
        }
        let frames: Vec<_> = packets.iter().zip(&payloads).map(|(packet, bytes)| self.frame(*packet, bytes)).collect();
        let mut start = 0;
        while start < packets.len() {
            let (client, size) = (packets[start].client, frames[start].len());
            let is_alike = |index: &usize| packets[*index].client == client && frames[*index].len() == size;
            let end =
                if in_bursts { (start..packets.len()).take_while(is_alike).last().unwrap() + 1 } else { start + 1 };
            self.burst(client, &frames[start..end]);
            if !in_bursts && let Target::Channel(peer) | Target::Indication(peer) = packets[start].target {
                self.take(&mut expected, peer);
            }
            start = end;
        }
        for peer in 0..PEERS {
            while expected[peer].iter().any(|waiting| !waiting.is_empty()) {
                self.take(&mut expected, peer);
            }
        }
        self.assert_silence();
    }

    /// The same with so many lists of packets that chance makes, in bursts and one by one.
    pub(super) fn run_any(&mut self, cases: u32) {
        let stage = RefCell::new(self);
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config)
            .run(&packets(), |packets| {
                stage.borrow_mut().run(&packets, true);
                stage.borrow_mut().run(&packets, false);
                Ok(())
            })
            .unwrap();
    }

    /// Takes one packet at a peer and checks that it is the next of its client.
    fn take(&self, expected: &mut [Vec<VecDeque<&[u8]>>], peer: usize) {
        let mut buffer = vec![0; 1 << 16];
        let (len, from) = self.peers[peer].recv_from(&mut buffer).expect("a packet is missing");
        let client = self.links.iter().position(|(_, _, relayed)| *relayed == from).expect("an allocation's address");
        let next = expected[peer][client].pop_front().expect("nothing more is due");
        assert!(buffer[..len] == *next, "peer {peer}, client {client}: {len} bytes instead of {}", next.len());
    }

    /// A last packet through every pair: what came before it and was not expected would be found here.
    pub(super) fn assert_silence(&mut self) {
        for client in 0..CLIENTS {
            for peer in 0..PEERS {
                let packet = Packet { client, target: Target::Channel(peer), size: 4 };
                let frame = self.frame(packet, b"last");
                self.burst(client, &[frame]);
                let mut buffer = [0; 2048];
                let (len, from) = self.peers[peer].recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..len], from), (&b"last"[..], self.links[client].2));
            }
        }
    }
}

pub(super) fn socket(ip: std::net::IpAddr) -> UdpSocket {
    let socket = udp_socket(SocketAddr::new(ip, 0), false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(super) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (seed * 37 + index * 11) as u8).collect()
}

#[test]
fn bursts_and_single_packets_bring_peers_the_same_bytes() {
    for here in ["127.0.0.1", "::1"] {
        let mut stage = Stage::new(here);
        stage.run_any(12);
        let totals = stage.net.totals();
        assert!(totals.send_calls < totals.sent, "{here}: something was batched: {totals:?}");
    }
}

#[test]
fn an_allocation_that_ends_within_a_burst_relays_nothing_behind_that() {
    let mut stage = Stage::new("127.0.0.1");
    let packet = Packet { client: 0, target: Target::Channel(0), size: 300 };
    let frames: Vec<_> = (0..8).map(|seed| stage.frame(packet, &pattern(seed, 300))).collect();
    let (ending, _) = stage.links[0].1.request(method::REFRESH, release).unwrap();
    stage.burst(0, &frames[..4]);
    stage.socket(0).send(&ending).unwrap();
    stage.burst(0, &frames[4..]);
    let mut buffer = [0; 2048];
    for seed in 0..4 {
        let (len, from) = stage.peers[0].recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&pattern(seed, 300)[..], stage.links[0].2));
    }
    // The next that comes is another client's: of the four behind the end there is none.
    let other = Packet { client: 1, ..packet };
    let frame = stage.frame(other, b"other");
    stage.burst(1, &[frame]);
    let (len, from) = stage.peers[0].recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"other"[..], stage.links[1].2));
}

#[test]
fn a_foreign_packet_within_a_burst_of_peers_is_left_out_and_one_too_large_harms_none() {
    let mut stage = Stage::new("127.0.0.1");
    let relayed = stage.links[0].2;
    let foreign = socket("127.0.0.77".parse().unwrap());
    let sizes = [500, 500, 500, 0, 1, 65_503, 65_507, 500, 500, 160];
    for (seed, size) in sizes.into_iter().enumerate() {
        stage.peers[0].send_to(&pattern(seed, size), relayed).unwrap();
        foreign.send_to(b"nobody wants this", relayed).unwrap();
    }
    let mut buffer = vec![0; 1 << 16];
    for (seed, size) in sizes.into_iter().enumerate().filter(|(_, size)| *size <= 65_503) {
        let len = stage.socket(0).recv(&mut buffer).expect("a packet is missing");
        let Incoming::Payload(payload) = open(&buffer[..len]) else { panic!("ChannelData of {len} bytes") };
        assert_eq!(buffer[..2], [0x40, 0], "the channel of the peer");
        assert!(payload == pattern(seed, size), "{} bytes instead of {size}", payload.len());
    }
    stage.assert_silence();
}

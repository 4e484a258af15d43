//! The relay core, before and behind the authentication.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relais::credentials::turn;
use relais::relay::event::REPLY_CAPACITY;
use relais::relay::stun::{Builder, Class, Integrity, Message, attr, method};
use relais::relay::tcp::{BindError, ConnectError, ConnectionId, LinkId};
use relais::relay::{
    Alternate, Event, Family, FiveTuple, OpenError, Output, Relay, RelayId, Route, Settings, Shared, TcpOutput,
    Transport,
};
use relais::time::{Mono, Now};

use super::Steps;

const SECRET: &[u8] = b"north";
const REALM: &str = "relais";
const PERMISSIONS: usize = 16;
const TCP_CONNECTIONS: usize = 4;

/// Settings, with peers denied or not, and with the two addresses of RFC 5780 or with one.
fn shared(deny: bool, alternate: Option<Alternate>) -> Arc<Shared> {
    let block = |network: &str, prefix| relais::config::Cidr { network: network.parse().expect("address"), prefix };
    Arc::new(Shared::new(Settings {
        realm: REALM.into(),
        software: "relais".into(),
        turn_secrets: vec![SECRET.to_vec()],
        users: Vec::new(),
        nonce_secrets: vec![b"nonce".to_vec()],
        own_ips: vec!["192.0.2.1".parse().expect("address"), "127.0.0.1".parse().expect("address")],
        service_ports: vec![3478],
        public_ips: Vec::new(),
        alternate,
        allow_peers: Vec::new(),
        deny_peers: if deny { vec![block("8.0.0.0", 8), block("2000::", 3)] } else { Vec::new() },
        permissions: PERMISSIONS,
        channels: 8,
        tcp_connections: TCP_CONNECTIONS,
        legacy_channels: true,
        strict_family: false,
        strict_expiry: false,
        password_algorithms: true,
        limits: relais::relay::settings::Limits::default(),
    }))
}

fn tuple(number: u8) -> FiveTuple {
    let transport = if number & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let (client, server) = if number & 2 == 0 {
        ("198.51.100.7:4000", "192.0.2.1:3478")
    } else {
        ("[2001:db8::7]:4000", "[2001:db8::1]:3478")
    };
    FiveTuple { client: client.parse().expect("address"), server: server.parse().expect("address"), transport }
}

/// The addresses of RFC 5780 that a run's first byte asks for: none, or two of either family.
fn alternate(number: u8) -> Option<Alternate> {
    let (first, other) = match number & 3 {
        1 => ("192.0.2.1:3478", "192.0.2.2:3479"),
        2 => ("[2001:db8::1]:3478", "[2001:db8::2]:3479"),
        _ => return None,
    };
    Some(Alternate { first: first.parse().expect("address"), other: other.parse().expect("address") })
}

/// Where the answer to a request may go and come from: its own five-tuple, and with two addresses any of our four and
/// any port of the client's.
fn assert_answers(to: &FiveTuple, asked: &FiveTuple, alternate: Option<Alternate>) {
    let Some(alternate) = alternate.filter(|_| to != asked) else { return assert_eq!(to, asked) };
    assert_eq!((to.transport, to.client.ip()), (Transport::Udp, asked.client.ip()));
    assert_ne!(to.client.port(), 0);
    let (first, other) = (alternate.first, alternate.other);
    assert!([first.ip(), other.ip()].contains(&to.server.ip()));
    assert!([first.port(), other.port()].contains(&to.server.port()));
}

/// Without credentials nothing is opened, kept or forwarded, and the answer to a datagram is one, and small.
pub fn relay_unauthenticated(data: &[u8]) {
    let mut steps = Steps::new(data);
    let alternate = alternate(steps.byte());
    let mut relay = Relay::new(shared(false, alternate), 7);
    let now = Now { mono: Mono(1), unix: 1_800_000_000 };
    while !steps.is_done() {
        let (tuple, datagram) = (tuple(steps.byte()), steps.bytes());
        assert!(relay.handle_client(now, &tuple, datagram).is_none());
        let mut replies = 0;
        while let Some(output) = relay.poll_output() {
            match output {
                Output::ToClient { tuple: to, bytes } => {
                    replies += 1;
                    assert_answers(&to, &tuple, alternate);
                    assert!(Message::parse(&bytes).is_ok());
                    // In whole packets, and what counts is requests of 40 bytes or more.
                    let (sent, asked) = (bytes.len() + 28, datagram.len().max(40) + 28);
                    assert!(sent <= 2 * asked, "{sent} for {asked}");
                }
                Output::Event(_) => {}
                Output::OpenRelay(_) | Output::CloseRelay(_) | Output::Tcp(_) => {
                    panic!("nobody asked with credentials")
                }
            }
        }
        assert!(replies <= 1);
        assert!(
            relay.handle_peer(now, RelayId { slot: 0, generation: 0, family: Family::V4 }, tuple.client, 1).is_none()
        );
    }
    assert_eq!((relay.allocations(), relay.poll_timeout()), (0, None));
}

/// A relay and what its shell would know.
struct World {
    relay: Relay,
    now: Now,
    open: HashSet<RelayId>,
    /// TCP connections asked for or arrived, and neither closed nor failed.
    links: HashSet<LinkId>,
    created: usize,
    deleted: usize,
    refuse: bool,
    next_port: u16,
}

/// An allocation first, then whatever the input says: raw datagrams, signed requests of any method with any attributes,
/// peers' packets, time, revocations, reloads.
pub fn relay_authenticated(data: &[u8]) {
    let now = Now { mono: Mono(1), unix: 1_800_000_000 };
    let (open, links, next_port) = (HashSet::new(), HashSet::new(), 50_000);
    let mut world = World {
        relay: Relay::new(shared(false, None), 7),
        now,
        open,
        links,
        created: 0,
        deleted: 0,
        refuse: false,
        next_port,
    };
    let transport = [17, 0, 0, 0];
    world.ask(0, method::ALLOCATE, &[(attr::REQUESTED_TRANSPORT, &transport)]);
    assert_eq!(world.relay.allocations(), 1);
    let mut steps = Steps::new(data);
    while !steps.is_done() {
        world.step(&mut steps);
        assert!(world.relay.allocations() <= 4 && world.open.len() <= 8);
        assert_eq!(world.created - world.deleted, world.open.len());
        assert!(world.links.len() <= 4 * TCP_CONNECTIONS);
        assert!(world.links.iter().all(|link| world.open.contains(&link.relay)));
    }
    world.relay.close(world.now);
    world.drain();
    assert!(world.open.is_empty(), "left open: {:?}", world.open);
    assert_eq!((world.relay.allocations(), world.relay.poll_timeout()), (0, None));
}

impl World {
    fn step(&mut self, steps: &mut Steps<'_>) {
        let kind = steps.byte();
        let number = kind >> 4;
        match kind & 0x0f {
            0 => self.client(number, steps.bytes()),
            1..=5 => {
                let method = [
                    method::ALLOCATE,
                    method::REFRESH,
                    method::CREATE_PERMISSION,
                    method::CHANNEL_BIND,
                    u16::from(steps.byte()),
                ];
                let count = steps.byte() % 5;
                let attributes: Vec<_> = (0..count).map(|_| (steps.number(), steps.bytes())).collect();
                self.ask(number, method[usize::from(kind & 0x0f) - 1], &attributes);
            }
            6 => {
                let ip = [steps.byte(), steps.byte(), steps.byte(), steps.byte()];
                let from = SocketAddr::from((ip, steps.number()));
                let (id, len) = (self.id(number), usize::from(steps.number()));
                if let Some(to) = self.relay.handle_peer(self.now, id, from, len) {
                    assert!(self.open.contains(&id) && to.head().len() <= 48 && to.padding < 4);
                }
            }
            7 => {
                self.now = self.now + Duration::from_secs(u64::from(steps.byte()) * 4);
                self.relay.handle_timeout(self.now);
            }
            // Time passes and the timer is late.
            8 => self.now = self.now + Duration::from_secs(u64::from(steps.byte()) * 4),
            9 => self.relay.revoke(self.now, if number & 1 == 0 { "p.a" } else { "p.b" }),
            10 => self.relay.set_shared(shared(number & 1 == 0, None)),
            11 => self.refuse = number & 1 == 0,
            12 => self.arrive(number, steps),
            // What became of a TCP connection, one that is there or not.
            13 => {
                let link = LinkId { relay: self.id(number), number: u32::from(steps.byte()) };
                if steps.byte() & 1 == 0 {
                    self.relay.link_bound(link);
                } else {
                    self.relay.link_closed(link);
                    self.links.remove(&link);
                }
            }
            // A late or repeated answer of the shell: what it had bound must be closed again.
            _ => {
                let id = self.id(number);
                if !self.open.contains(&id) {
                    self.open.insert(id);
                    self.created += 1;
                    self.relay.relay_opened(self.now, id, Ok("192.0.2.1:60000".parse().expect("address")));
                }
            }
        }
        self.drain();
    }

    /// A peer connects to a relayed address.
    fn arrive(&mut self, number: u8, steps: &mut Steps<'_>) {
        let ip = [steps.byte(), steps.byte(), steps.byte(), steps.byte()];
        let from = SocketAddr::from((ip, steps.number()));
        let relay = self.id(number);
        if let Some(link) = self.relay.peer_arrived(self.now, relay, from, ConnectionId(9)) {
            assert!(self.open.contains(&relay) && from.port() != 0);
            assert!(self.links.insert(link), "it has this one already");
        }
    }

    /// Does what the shell would do about a TCP connection.
    fn obey_tcp(&mut self, output: TcpOutput) {
        match output {
            TcpOutput::Connect { link, peer, route } => {
                let is_own = peer.ip().to_string() == "192.0.2.1" || peer.ip().is_loopback();
                assert!(peer.port() >= 1024 && is_own == matches!(route, Route::Own { .. }));
                let outcome = if self.refuse { Err(ConnectError::Failed) } else { Ok(ConnectionId(8)) };
                if outcome.is_ok() {
                    assert!(self.links.insert(link), "it has this one already");
                }
                self.relay.peer_connected(self.now, link, outcome);
            }
            TcpOutput::Bind { .. } => {
                self.relay.connection_bound(if self.refuse { Err(BindError::Unknown) } else { Ok(()) });
            }
            TcpOutput::Close(link) => assert!(self.links.remove(&link), "closed twice, or never there"),
        }
    }

    fn id(&self, number: u8) -> RelayId {
        let family = if number & 1 == 0 { Family::V4 } else { Family::V6 };
        RelayId { slot: u32::from(number >> 1 & 3), generation: u32::from(number >> 3), family }
    }

    fn client(&mut self, number: u8, datagram: &[u8]) {
        if let Some(to) = self.relay.handle_client(self.now, &tuple(number), datagram) {
            assert!(to.start + to.len <= datagram.len() && self.open.contains(&to.relay));
            let ip = to.peer.ip();
            assert!(!ip.is_unspecified() && !ip.is_multicast() && to.peer.port() != 0);
            let is_own = ip.to_string() == "192.0.2.1" || ip.is_loopback();
            match to.route {
                Route::Network => assert!(!is_own),
                Route::Own { else_network } => assert!(is_own && !else_network && to.peer.port() != 3478),
            }
        }
        self.drain();
    }

    /// Gets a nonce, then asks with it.
    fn ask(&mut self, number: u8, method: u16, attributes: &[(u16, &[u8])]) {
        let tuple = tuple(number);
        let challenge = Builder::new(Class::Request, method::ALLOCATE, [1; 12]).finish().expect("short");
        self.relay.handle_client(self.now, &tuple, &challenge);
        let reply = self.drain();
        let nonce = reply.and_then(|reply| Some(Message::parse(&reply).ok()?.get(attr::NONCE)?.to_vec()));
        let nonce = nonce.unwrap_or_default();
        let subject = if number & 4 == 0 { "p.a" } else { "p.b" };
        let credential = turn::mint(SECRET, subject, 1_800_086_400);
        let mut request = Builder::new(Class::Request, method, [number; 12]);
        for (kind, value) in attributes {
            request.attribute(*kind, value);
        }
        request.attribute(attr::USERNAME, credential.username.as_bytes());
        request.attribute(attr::REALM, REALM.as_bytes());
        request.attribute(attr::NONCE, &nonce);
        let key = turn::long_term_key(&credential.username, REALM, &credential.password);
        request.integrity(if number & 8 == 0 { Integrity::Sha1 } else { Integrity::Sha256 }, &key);
        if let Some(bytes) = request.finish() {
            self.client(number, &bytes);
        }
    }

    /// Does what the shell would do; the last reply.
    fn drain(&mut self) -> Option<Vec<u8>> {
        let mut reply = None;
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::ToClient { bytes, .. } => {
                    assert!(bytes.len() <= REPLY_CAPACITY && Message::parse(&bytes).is_ok());
                    reply = Some(bytes.to_vec());
                }
                Output::OpenRelay(open) => {
                    self.next_port = self.next_port.wrapping_add(1).max(50_000);
                    let ip: &str = if open.family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
                    let bound = SocketAddr::new(ip.parse().expect("address"), self.next_port);
                    let outcome = if self.refuse { Err(OpenError::Quota) } else { Ok(bound) };
                    if outcome.is_ok() {
                        assert!(self.open.insert(open.relay), "it has this one already");
                        self.created += 1;
                    }
                    self.relay.relay_opened(self.now, open.relay, outcome);
                }
                Output::Tcp(output) => self.obey_tcp(output),
                Output::CloseRelay(id) => {
                    self.links.retain(|link| link.relay != id);
                    assert!(self.open.remove(&id), "closed twice, or never opened");
                    self.deleted += 1;
                }
                Output::Event(Event::Deleted { relay, .. }) => assert!(!self.open.contains(&relay)),
                Output::Event(_) => {}
            }
        }
        reply
    }
}

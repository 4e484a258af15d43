//! A client of the sans-IO core whose every byte is written and read by the independent `stun` crate.
#![allow(dead_code, reason = "each test file uses its own part of it")]

pub mod model;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relais::config::{Cidr, StaticUser};
use relais::credentials::turn;
use relais::relay::tcp::{BindError, ConnectError, ConnectionId};
use relais::relay::{
    Event, FiveTuple, Limits, OpenError, OpenRelay, Output, Relay, RelayId, Settings, Shared, TcpOutput, ToClient,
    ToPeer, Transport,
};
use relais::time::{Mono, Now};
use stun::attributes::{self, AttrType};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Message, MessageClass, MessageType,
    Method, Setter,
};
use stun::xoraddr::XorMappedAddress;

pub const BINDING: Method = stun::message::METHOD_BINDING;
pub const ALLOCATE: Method = stun::message::METHOD_ALLOCATE;
pub const REFRESH: Method = stun::message::METHOD_REFRESH;
pub const SEND: Method = stun::message::METHOD_SEND;
pub const CREATE_PERMISSION: Method = stun::message::METHOD_CREATE_PERMISSION;
pub const CHANNEL_BIND: Method = stun::message::METHOD_CHANNEL_BIND;
pub const CONNECT: Method = stun::message::METHOD_CONNECT;
pub const CONNECTION_BIND: Method = stun::message::METHOD_CONNECTION_BIND;
pub const CONNECTION_ATTEMPT: Method = stun::message::METHOD_CONNECTION_ATTEMPT;

pub const SECRET: &[u8] = b"north";
pub const REALM: &str = "relais";
pub const UNIX: u64 = 1_800_000_000;

pub const PEER: &str = "8.8.8.8:5000";
pub const PEER_TOO: &str = "8.8.8.8:5001";
pub const OTHER_PEER: &str = "1.1.1.1:5000";
pub const PEER_V6: &str = "[2606:4700::1111]:5000";
pub const PRIVATE_PEER: &str = "10.0.0.1:5000";

/// Outputs of one input, in worlds as small as those of the tests.
const MOST_OUTPUTS: usize = 10_000;

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn settings() -> Settings {
    Settings {
        realm: REALM.into(),
        software: "Relais test".into(),
        turn_secrets: vec![SECRET.to_vec(), b"south".to_vec()],
        users: vec![StaticUser { name: "alice".into(), password: "wonderland".into() }],
        nonce_secrets: vec![b"nonce key".to_vec(), b"nonce key of before".to_vec()],
        own_ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        service_ports: vec![3478],
        public_ips: Vec::new(),
        alternate: None,
        allow_peers: Vec::new(),
        deny_peers: Vec::new(),
        permissions: 16,
        channels: 8,
        tcp_connections: 4,
        legacy_channels: false,
        strict_family: false,
        strict_expiry: false,
        password_algorithms: true,
        limits: Limits::default(),
    }
}

pub fn cidr(text: &str) -> Cidr {
    let (network, prefix) = text.split_once('/').unwrap();
    Cidr { network: network.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

/// A 5-tuple of our IPv4 listener.
pub fn tuple(client: &str) -> FiveTuple {
    let client = addr(client);
    let server = if client.is_ipv4() { "192.0.2.1:3478" } else { "[2001:db8::1]:3478" };
    FiveTuple { client, server: addr(server), transport: Transport::Udp }
}

/// Someone with a credential and, after the first 401, a nonce.
#[derive(Clone)]
pub struct Client {
    pub tuple: FiveTuple,
    pub username: String,
    pub password: String,
    pub nonce: Vec<u8>,
}

impl Client {
    /// A time-limited credential of `subject`, good for a day.
    pub fn new(tuple: FiveTuple, subject: &str) -> Self {
        let credential = turn::mint(SECRET, subject, UNIX + 86_400);
        Self { tuple, username: credential.username, password: credential.password, nonce: Vec::new() }
    }

    fn key(&self) -> MessageIntegrity {
        MessageIntegrity::new_long_term_integrity(self.username.clone(), REALM.into(), self.password.clone())
    }
}

/// A message to send, attribute by attribute.
#[derive(Clone)]
pub struct Ask {
    message: Message,
}

impl Ask {
    pub fn new(method: Method, class: MessageClass, id: u32) -> Self {
        let mut message = Message::new();
        message.transaction_id.0[8..].copy_from_slice(&id.to_be_bytes());
        message.set_type(MessageType::new(method, class));
        message.write_header();
        Self { message }
    }

    pub fn request(method: Method, id: u32) -> Self {
        Self::new(method, CLASS_REQUEST, id)
    }

    pub fn indication(method: Method) -> Self {
        Self::new(method, CLASS_INDICATION, 1)
    }

    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        self.message.add(AttrType(kind), value);
        self
    }

    pub fn transport(self, protocol: u8) -> Self {
        self.attr(0x0019, &[protocol, 0, 0, 0])
    }

    pub fn lifetime(self, seconds: u32) -> Self {
        self.attr(0x000d, &seconds.to_be_bytes())
    }

    pub fn family(self, family: u8) -> Self {
        self.attr(0x0017, &[family, 0, 0, 0])
    }

    pub fn additional_family(self, family: u8) -> Self {
        self.attr(0x8000, &[family, 0, 0, 0])
    }

    pub fn channel(self, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        self.attr(0x000c, &[high, low, 0, 0])
    }

    pub fn peer(mut self, peer: &str) -> Self {
        let peer = addr(peer);
        let value = XorMappedAddress { ip: peer.ip(), port: peer.port() };
        value.add_to_as(&mut self.message, attributes::ATTR_XOR_PEER_ADDRESS).unwrap();
        self
    }

    pub fn connection(self, id: u32) -> Self {
        self.attr(0x002a, &id.to_be_bytes())
    }

    pub fn data(self, payload: &[u8]) -> Self {
        self.attr(0x0013, payload)
    }

    /// USERNAME, REALM, NONCE and MESSAGE-INTEGRITY.
    pub fn signed(self, client: &Client) -> Self {
        self.attr(0x0006, client.username.as_bytes())
            .attr(0x0014, REALM.as_bytes())
            .attr(0x0015, &client.nonce)
            .integrity(client)
    }

    pub fn integrity(mut self, client: &Client) -> Self {
        client.key().add_to(&mut self.message).unwrap();
        self
    }

    pub fn fingerprint(mut self) -> Self {
        FINGERPRINT.add_to(&mut self.message).unwrap();
        self
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.message.write_length();
        self.message.raw
    }
}

/// A reply, read by the `stun` crate.
#[derive(Clone, Debug)]
pub struct Reply {
    pub message: Message,
}

impl Reply {
    pub fn parse(bytes: &[u8]) -> Self {
        let mut message = Message::new();
        message.unmarshal_binary(bytes).expect("the stun crate reads our replies");
        Self { message }
    }

    pub fn get(&self, kind: u16) -> Option<Vec<u8>> {
        self.message.get(AttrType(kind)).ok()
    }

    /// `None` for a success.
    pub fn code(&self) -> Option<u16> {
        if self.message.typ.class == CLASS_SUCCESS_RESPONSE {
            return None;
        }
        assert_eq!(self.message.typ.class, CLASS_ERROR_RESPONSE);
        let value = self.get(0x0009).expect("an error has a code");
        Some(u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    pub fn reason(&self) -> String {
        String::from_utf8(self.get(0x0009).unwrap()[4..].to_vec()).unwrap()
    }

    pub fn address(&self, kind: u16) -> Option<SocketAddr> {
        let mut address = XorMappedAddress::default();
        address.get_from_as(&self.message, AttrType(kind)).ok()?;
        Some(SocketAddr::new(address.ip, address.port))
    }

    pub fn relayed(&self) -> SocketAddr {
        self.address(0x0016).expect("XOR-RELAYED-ADDRESS")
    }

    /// CONNECTION-ID.
    pub fn connection(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(0x002a)?.try_into().unwrap()))
    }

    pub fn lifetime(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(0x000d)?.try_into().unwrap()))
    }

    pub fn is_signed_by(&self, client: &Client) -> bool {
        let mut message = self.message.clone();
        message.contains(attributes::ATTR_MESSAGE_INTEGRITY) && client.key().check(&mut message).is_ok()
    }

    pub fn has_right_fingerprint(&self) -> bool {
        FINGERPRINT.check(&self.message).is_ok()
    }
}

/// What the shell does with an [`OpenRelay`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// Grants every relay socket at once.
    Grants,
    Refuses(OpenError),
    /// Has no relay address of IPv4.
    OnlyV6,
    /// Keeps it in `asked`: the test answers.
    Waits,
}

/// The core with a simulated clock and a simulated shell.
pub struct World {
    pub relay: Relay,
    pub now: Now,
    pub shell: Shell,
    pub asked: Vec<OpenRelay>,
    pub replies: Vec<(FiveTuple, Reply)>,
    pub events: Vec<Event>,
    pub closed: Vec<RelayId>,
    pub opened: Vec<RelayId>,
    /// What was asked for about TCP connections and is not answered by the two below.
    pub tcp: Vec<TcpOutput>,
    /// What becomes of every Connect; `None`: the test answers.
    pub connects: Option<Result<ConnectionId, ConnectError>>,
    /// What becomes of every ConnectionBind; `None`: the test answers.
    pub binds: Option<Result<(), BindError>>,
    next_port: u16,
}

impl World {
    pub fn new(settings: Settings) -> Self {
        Self {
            relay: Relay::new(Arc::new(Shared::new(settings)), 7),
            now: Now { mono: Mono(5_000), unix: UNIX },
            shell: Shell::Grants,
            asked: Vec::new(),
            replies: Vec::new(),
            events: Vec::new(),
            closed: Vec::new(),
            opened: Vec::new(),
            tcp: Vec::new(),
            connects: None,
            binds: None,
            next_port: 50_000,
        }
    }

    pub fn send(&mut self, tuple: &FiveTuple, bytes: &[u8]) -> Option<ToPeer> {
        let to_peer = self.relay.handle_client(self.now, tuple, bytes);
        self.drain();
        to_peer
    }

    pub fn peer(&mut self, relay: RelayId, from: &str, len: usize) -> Option<ToClient> {
        let to_client = self.relay.handle_peer(self.now, relay, addr(from), len);
        self.drain();
        to_client
    }

    /// Sends and takes the one reply.
    pub fn ask(&mut self, client: &Client, ask: Ask) -> Reply {
        self.try_ask(client, ask).expect("a reply")
    }

    pub fn try_ask(&mut self, client: &Client, ask: Ask) -> Option<Reply> {
        assert!(self.replies.is_empty());
        assert_eq!(self.send(&client.tuple, &ask.bytes()), None);
        assert!(self.replies.len() <= 1, "one answer at most");
        self.replies.pop().map(|(tuple, reply)| {
            assert_eq!(tuple, client.tuple);
            reply
        })
    }

    /// The nonce of a 401.
    pub fn challenge(&mut self, client: &mut Client) {
        let reply = self.ask(client, Ask::request(ALLOCATE, 999).transport(17));
        assert_eq!(reply.code(), Some(401));
        client.nonce = reply.get(0x0015).unwrap();
    }

    /// A client with a nonce.
    pub fn client(&mut self, address: &str, subject: &str) -> Client {
        let mut client = Client::new(tuple(address), subject);
        self.challenge(&mut client);
        client
    }

    /// A client with an allocation.
    pub fn allocated(&mut self, address: &str, subject: &str) -> (Client, RelayId) {
        let client = self.client(address, subject);
        let reply = self.ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client));
        assert_eq!(reply.code(), None);
        (client, *self.opened.last().unwrap())
    }

    pub fn permit(&mut self, client: &Client, peer: &str) {
        let reply = self.ask(client, Ask::request(CREATE_PERMISSION, 2).peer(peer).signed(client));
        assert_eq!(reply.code(), None);
    }

    pub fn bind(&mut self, client: &Client, number: u16, peer: &str) -> Option<u16> {
        self.ask(client, Ask::request(CHANNEL_BIND, 3).channel(number).peer(peer).signed(client)).code()
    }

    pub fn channel_data(&mut self, client: &Client, number: u16, payload: &[u8]) -> Option<ToPeer> {
        self.send(&client.tuple, &channel_data(number, payload))
    }

    pub fn send_to(&mut self, client: &Client, peer: &str, payload: &[u8]) -> Option<ToPeer> {
        self.send(&client.tuple, &Ask::indication(SEND).peer(peer).data(payload).bytes())
    }

    /// Lets time pass and the timer fire.
    pub fn pass(&mut self, seconds: u64) {
        self.pass_without_timer(Duration::from_secs(seconds));
        self.relay.handle_timeout(self.now);
        self.drain();
        assert!(self.relay.poll_timeout().is_none_or(|due| due > self.now.mono), "nothing stays overdue");
    }

    pub fn pass_without_timer(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub fn grant(&mut self, open: &OpenRelay, outcome: Result<SocketAddr, OpenError>) {
        if outcome.is_ok() {
            self.opened.push(open.relay);
        }
        self.relay.relay_opened(self.now, open.relay, outcome);
        self.drain();
    }

    fn answer_tcp(&mut self, output: TcpOutput) {
        match (&output, self.connects, self.binds) {
            (TcpOutput::Connect { link, .. }, Some(outcome), _) => self.relay.peer_connected(self.now, *link, outcome),
            (TcpOutput::Bind { .. }, _, Some(outcome)) => self.relay.connection_bound(outcome),
            _ => self.tcp.push(output),
        }
    }

    /// A client over TCP with a TCP allocation (RFC 6062).
    pub fn tcp_allocated(&mut self, address: &str, subject: &str) -> (Client, RelayId) {
        let mut client = Client::new(FiveTuple { transport: Transport::Tcp, ..tuple(address) }, subject);
        self.challenge(&mut client);
        let reply = self.ask(&client, Ask::request(ALLOCATE, 1).transport(6).signed(&client));
        assert_eq!(reply.code(), None);
        (client, *self.opened.last().unwrap())
    }

    /// An address as a shell would bind it.
    pub fn bound(&mut self, open: &OpenRelay) -> SocketAddr {
        self.next_port += 2;
        let ip = if open.family == relais::relay::Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
        SocketAddr::new(ip.parse().unwrap(), self.next_port)
    }

    pub fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.relay.poll_output() {
            outputs += 1;
            assert!(outputs < MOST_OUTPUTS, "an input has a bounded number of outputs");
            match output {
                Output::ToClient { tuple, bytes } => self.replies.push((tuple, Reply::parse(&bytes))),
                Output::CloseRelay(relay) => self.closed.push(relay),
                Output::Event(event) => self.events.push(event),
                Output::OpenRelay(open) => self.asked.push(open),
                Output::Tcp(output) => self.answer_tcp(output),
            }
        }
        if self.shell == Shell::Waits {
            return;
        }
        while let Some(open) = self.asked.pop() {
            let outcome = match self.shell {
                Shell::Refuses(error) => Err(error),
                Shell::OnlyV6 if open.family == relais::relay::Family::V4 => Err(OpenError::Family),
                Shell::Grants | Shell::OnlyV6 | Shell::Waits => Ok(self.bound(&open)),
            };
            self.grant(&open, outcome);
        }
    }
}

pub fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend(payload);
    bytes
}

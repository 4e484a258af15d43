//! The shell started in this process, and a client that speaks to it over UDP, TCP and TLS.
#![allow(dead_code, reason = "each test file uses its own part of it")]

#[path = "../relay_common/mod.rs"]
#[allow(unused_imports, reason = "each test file uses its own part of it")]
pub mod core;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use relais::config::{Config, Listen};
use relais::credentials::turn;
use relais::net::{Net, Setup, StartError};
use relais::relay::{FiveTuple, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use core::{ALLOCATE, Ask, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, Reply, SECRET};

/// Nothing here takes longer unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for `future`, but not for ever.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Polls `condition` until it holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Loopback listeners of both families, relayed addresses on loopback, peers there allowed.
pub fn config() -> Config {
    Config {
        udp: Listen { addresses: vec![core::addr("127.0.0.1:0"), core::addr("[::1]:0")], explicit: true },
        relay_ips: ["127.0.0.1", "::1"].map(|ip| ip.parse().unwrap()).to_vec(),
        allow_peers: vec![core::cidr("127.0.0.0/8"), core::cidr("::1/128")],
        shards: 2,
        ..Config::default()
    }
}

pub fn start(config: &Config) -> Result<Net, StartError> {
    Net::start(Setup {
        config,
        turn_secrets: vec![SECRET.to_vec()],
        nonce_secret: b"nonce".to_vec(),
        tcp_addresses: Vec::new(),
        revoked: Arc::default(),
    })
}

/// A running shell with a TCP and a TLS port in front; everything stops with it.
pub struct Server {
    pub net: Net,
    pub tcp: SocketAddr,
    pub tls: SocketAddr,
    connector: TlsConnector,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub async fn start(config: &Config) -> Self {
        let net = start(config).expect("the shell starts");
        let (acceptor, connector) = tls();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = (tcp.local_addr().unwrap(), tls.local_addr().unwrap());
        let tasks =
            vec![tokio::spawn(accept(net.clone(), tcp, None)), tokio::spawn(accept(net.clone(), tls, Some(acceptor)))];
        Self { net, tcp: addresses.0, tls: addresses.1, connector, tasks }
    }

    pub fn udp(&self, v4: bool) -> SocketAddr {
        self.net.udp_addresses().into_iter().find(|address| address.is_ipv4() == v4).unwrap()
    }

    /// A client over `kind`, with a credential of `subject`.
    pub async fn client(&self, kind: Kind, subject: &str) -> TurnClient {
        let (link, server) = match kind {
            Kind::Udp4 => (udp_link(self.udp(true)).await, self.udp(true)),
            Kind::Udp6 => (udp_link(self.udp(false)).await, self.udp(false)),
            Kind::Tcp => (Link::stream(TcpStream::connect(self.tcp).await.unwrap()), self.tcp),
            Kind::Tls => (Link::stream(self.connect_tls().await), self.tls),
        };
        let family = (kind == Kind::Udp6).then_some(2);
        TurnClient { family, ..TurnClient::new(link, server, subject) }
    }

    pub async fn connect_tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.tls).await.unwrap();
        self.connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.net.stop();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Udp4,
    Udp6,
    Tcp,
    Tls,
}

async fn accept(net: Net, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    loop {
        let (stream, client) = listener.accept().await.unwrap();
        let (net, acceptor) = (net.clone(), acceptor.clone());
        let server = stream.local_addr().unwrap();
        tokio::spawn(async move {
            let tuple = |transport| FiveTuple { client, server, transport };
            match acceptor {
                None => {
                    // As the front does it: the first bytes are read before it is known whose they are.
                    let mut stream = stream;
                    let mut first = [0; 3];
                    let count = stream.read(&mut first).await.unwrap_or(0);
                    net.serve_stream(stream, tuple(Transport::Tcp), &first[..count]).await;
                }
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        net.serve_tls(stream, tuple(Transport::Tls), &[]).await;
                    }
                }
            }
        });
    }
}

fn tls() -> (TlsAcceptor, TlsConnector) {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Carries frames to the server.
pub enum Link {
    Udp(UdpSocket),
    Stream { stream: Box<dyn Stream>, buffer: Vec<u8> },
}

pub async fn udp_link(server: SocketAddr) -> Link {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = large_socket(any);
    socket.connect(server).await.unwrap();
    Link::Udp(socket)
}

/// A UDP socket that holds a burst.
pub fn large_socket(address: &str) -> UdpSocket {
    let socket = std::net::UdpSocket::bind(address).unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

impl Link {
    pub fn stream(stream: impl Stream + 'static) -> Self {
        Self::Stream { stream: Box::new(stream), buffer: Vec::new() }
    }

    fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    pub async fn send(&mut self, frame: &[u8]) {
        match self {
            Self::Udp(socket) => assert_eq!(socket.send(frame).await.unwrap(), frame.len()),
            Self::Stream { stream, .. } => {
                stream.write_all(frame).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }

    /// The next frame; `None` when the stream has ended.
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; 1 << 16];
                let len = socket.recv(&mut buffer).await.unwrap();
                buffer.truncate(len);
                Some(buffer)
            }
            Self::Stream { stream, buffer } => loop {
                if let Some((frame, advance)) = whole_frame(buffer) {
                    let bytes = buffer[..frame].to_vec();
                    assert!(buffer[frame..advance].iter().all(|byte| *byte == 0), "padding is zero");
                    buffer.drain(..advance);
                    return Some(bytes);
                }
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            },
        }
    }
}

/// This test's own reading of RFC 8656 section 12.5: frame length, and that with padding.
pub fn whole_frame(buffer: &[u8]) -> Option<(usize, usize)> {
    let length = usize::from(u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?]));
    let (frame, advance) =
        if buffer[0] < 4 { (20 + length, 20 + length) } else { (4 + length, 4 + length.next_multiple_of(4)) };
    (buffer.len() >= advance).then_some((frame, advance))
}

/// A TURN client on a link.
pub struct TurnClient {
    pub link: Link,
    pub credential: core::Client,
    /// The relayed address asked for by [`TurnClient::try_allocate`]; `None` leaves it to the server.
    pub family: Option<u8>,
    next_id: u32,
}

/// What a client gets of a peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Data { from: SocketAddr, payload: Vec<u8> },
    Channel { number: u16, payload: Vec<u8> },
}

impl TurnClient {
    pub fn new(link: Link, server: SocketAddr, subject: &str) -> Self {
        let expires = relais::clock::now().unix + 3_600;
        let minted = turn::mint(SECRET, subject, expires);
        let tuple = FiveTuple { client: server, server, transport: Transport::Udp };
        let credential =
            core::Client { tuple, username: minted.username, password: minted.password, nonce: Vec::new() };
        Self { link, credential, family: None, next_id: 1 }
    }

    /// Sends a request and returns its reply; fetches a nonce first if there is none.
    pub async fn ask(&mut self, build: impl Fn(u32) -> Ask) -> Reply {
        if self.credential.nonce.is_empty() {
            let reply = self.exchange(Ask::request(ALLOCATE, 0).transport(17)).await;
            assert_eq!(reply.code(), Some(401));
            self.credential.nonce = reply.get(0x0015).unwrap();
        }
        self.next_id += 1;
        self.exchange(build(self.next_id).signed(&self.credential)).await
    }

    async fn exchange(&mut self, ask: Ask) -> Reply {
        let request = ask.bytes();
        self.link.send(&request).await;
        loop {
            let frame = soon("a reply", self.link.recv()).await.expect("the connection is open");
            // Media may be on its way before the reply, and so may the reply to a request that was sent twice; a reply is
            // a success or an error with the transaction id of its request.
            if frame[0] == 0x01 && frame.get(8..20) == request.get(8..20) {
                return Reply::parse(&frame);
            }
        }
    }

    pub async fn try_allocate(&mut self) -> Reply {
        let family = self.family;
        self.ask(|id| {
            let ask = Ask::request(ALLOCATE, id).transport(17);
            family.map_or(ask.clone(), |family| ask.family(family))
        })
        .await
    }

    /// Allocates and returns the relayed address.
    pub async fn allocate(&mut self) -> SocketAddr {
        let reply = self.try_allocate().await;
        assert_eq!(reply.code(), None, "{reply:?}");
        reply.relayed()
    }

    pub async fn permit(&mut self, peer: SocketAddr) {
        let reply = self.ask(|id| Ask::request(CREATE_PERMISSION, id).peer(&peer.to_string())).await;
        assert_eq!(reply.code(), None);
    }

    pub async fn bind(&mut self, number: u16, peer: SocketAddr) {
        let reply = self.ask(|id| Ask::request(CHANNEL_BIND, id).channel(number).peer(&peer.to_string())).await;
        assert_eq!(reply.code(), None);
    }

    pub async fn release(&mut self) -> Reply {
        self.ask(|id| Ask::request(REFRESH, id).lifetime(0)).await
    }

    /// Releases and goes; the error code, if there was one.
    pub async fn into_released(mut self) -> Option<u16> {
        self.release().await.code()
    }

    pub async fn send_to(&mut self, peer: SocketAddr, payload: &[u8]) {
        self.link.send(&Ask::indication(core::SEND).peer(&peer.to_string()).data(payload).bytes()).await;
    }

    pub async fn send_on(&mut self, number: u16, payload: &[u8]) {
        let mut frame = core::channel_data(number, payload);
        if self.link.is_stream() {
            frame.resize(frame.len().next_multiple_of(4), 0);
        }
        self.link.send(&frame).await;
    }

    /// The next thing a peer sent.
    pub async fn got(&mut self) -> Got {
        let frame = soon("a peer's packet", self.link.recv()).await.expect("the connection is open");
        if frame[0] >= 0x40 {
            let length = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
            return Got::Channel {
                number: u16::from_be_bytes([frame[0], frame[1]]),
                payload: frame[4..4 + length].to_vec(),
            };
        }
        let reply = Reply::parse(&frame);
        assert_eq!(reply.message.typ.to_string(), "Data indication");
        Got::Data { from: reply.address(0x0012).unwrap(), payload: reply.get(0x0013).unwrap() }
    }
}

/// A recognizable payload.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (seed * 31 + index * 7 + index / 251) as u8).collect()
}

/// A peer on the loopback address of the relay's family.
pub fn peer_of(relayed: SocketAddr) -> UdpSocket {
    large_socket(if relayed.ip().is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" })
}

pub async fn receive_from(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (len, from) = soon("a relayed packet", socket.recv_from(&mut buffer)).await.unwrap();
    buffer.truncate(len);
    (buffer, from)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What every transport must do: indications and channels both ways, empty and large packets, bursts in order.
pub async fn battery(server: &Server, kind: Kind) {
    let mut client = server.client(kind, "p.battery").await;
    let relayed = client.allocate().await;
    let peer = peer_of(relayed);
    let there = peer.local_addr().unwrap();
    client.permit(there).await;

    // Sizes around the padding, nothing, Ethernet's and the largest there can be on all transports.
    for (seed, len) in [0, 1, 2, 3, 4, 5, 160, 1200, 1473, 9_000, 65_000].into_iter().enumerate() {
        let payload = pattern(seed, len);
        client.send_to(there, &payload).await;
        assert!(receive_from(&peer).await == (payload.clone(), relayed), "{kind:?}: {len} bytes out, indication");
        peer.send_to(&payload, relayed).await.unwrap();
        assert!(client.got().await == Got::Data { from: there, payload }, "{kind:?}: {len} bytes in, indication");
    }

    client.bind(0x4001, there).await;
    for (seed, len) in [0, 1, 2, 3, 4, 5, 160, 1200, 1473, 9_000, 65_000].into_iter().enumerate() {
        let payload = pattern(seed, len);
        client.send_on(0x4001, &payload).await;
        assert!(receive_from(&peer).await == (payload.clone(), relayed), "{kind:?}: {len} bytes out, channel");
        peer.send_to(&payload, relayed).await.unwrap();
        assert!(client.got().await == Got::Channel { number: 0x4001, payload }, "{kind:?}: {len} bytes in, channel");
    }

    let burst: Vec<Vec<u8>> = (0..300).map(|seed| pattern(seed, BURST[seed % BURST.len()])).collect();
    for payload in &burst {
        client.send_on(0x4001, payload).await;
    }
    for (index, payload) in burst.iter().enumerate() {
        assert!(receive_from(&peer).await.0 == *payload, "{kind:?}: packet {index} of the burst out");
    }
    for payload in &burst {
        peer.send_to(payload, relayed).await.unwrap();
    }
    for (index, payload) in burst.into_iter().enumerate() {
        assert!(client.got().await == Got::Channel { number: 0x4001, payload }, "{kind:?}: packet {index} in");
    }

    assert_eq!(client.release().await.code(), None);
    until("the port to be free", || std::net::UdpSocket::bind(relayed).is_ok()).await;
}

const BURST: [usize; 11] = [1200, 1200, 1200, 1200, 400, 1200, 0, 90, 90, 90, 1201];

/// Two clients, each of which sends to the relayed address of the other.
pub async fn relay_to_relay(server: &Server, kinds: [Kind; 2]) {
    let before = server.net.totals();
    let mut one = server.client(kinds[0], "p.one").await;
    let mut two = server.client(kinds[1], "p.two").await;
    let (at_one, at_two) = (one.allocate().await, two.allocate().await);
    one.permit(at_two).await;
    two.bind(0x4002, at_one).await;
    for seed in 0..20 {
        let payload = pattern(seed, seed * 60);
        one.send_to(at_two, &payload).await;
        assert_eq!(two.got().await, Got::Channel { number: 0x4002, payload: payload.clone() });
        two.send_on(0x4002, &payload).await;
        assert_eq!(one.got().await, Got::Data { from: at_two, payload });
    }
    let after = server.net.totals();
    assert_eq!(after.hairpins - before.hairpins, 40, "{kinds:?}: every packet stayed in the process");
    assert_eq!(after.hairpin_full, before.hairpin_full);
    one.release().await;
    two.release().await;
}

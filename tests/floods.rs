//! Floods of strangers against the whole server: clients are served as ever, and nothing stays behind.
//!
//! Everything runs in this process, so that the heap's bytes can be counted and the resident memory read.

mod heap;
mod net_common;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heap::{at_rest, live};
use net_common::core::{ALLOCATE, Ask, BINDING, REFRESH, Reply, SECRET, addr};
use net_common::{Got, Link, PATIENCE, TurnClient, config, pattern, peer_of, receive_from, soon, udp_link, until};
use relais::app::App;
use relais::config::{Config, Listen};
use relais::net::Net;

const SHARDS: usize = 2;
const REQUESTS: u64 = 200_000;
const GARBAGE: u64 = 50_000;
const HALF_OPEN: usize = 2_000;
/// Datagrams on their way: less than the kernel keeps for one socket that was granted no larger buffer.
const IN_FLIGHT: u64 = 64;
/// Packets of a caller on their way.
const WINDOW: usize = 8;
/// Room for tables that keep their size: the kind of things a flood may leave.
const GROWN_TABLES: isize = 128 << 10;
/// What a connection may hold on the heap that has not said anything whole.
const PER_HALF_OPEN: isize = 12 << 10;
/// RSS after the second flood, beyond that after the first.
const RSS_GROWTH: usize = 5 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_stop_nobody_and_leave_nothing_behind() {
    let server = Flooded::start().await;
    let mut callers = [server.caller(Way::Udp).await, server.caller(Way::Tcp).await];
    // What is made at its first use and kept, such as the buffers of each of the runtime's threads.
    server.flood(&mut callers, 4).await;
    let mut seen = vec![at_rest().await];
    for _ in 0..2 {
        server.flood(&mut callers, 1).await;
        seen.push(at_rest().await);
    }
    println!("(heap, resident) in bytes: {seen:?}");
    for after in &seen[1..] {
        assert!(after.0 <= seen[0].0 + GROWN_TABLES, "on the heap: {seen:?}");
    }
    assert!(seen[2].1 <= seen[1].1 + RSS_GROWTH, "resident: {seen:?}");
    for caller in callers {
        assert_eq!(caller.client.into_released().await, None, "its allocation outlived the floods");
    }
    until("every allocation to end", || server.app.web.net.allocations() == 0).await;
    server.app.stop().await;
}

/// The whole server, with all that a default configuration has.
struct Flooded {
    app: App,
    udp: SocketAddr,
    tcp: SocketAddr,
    probes: Arc<[Probe]>,
    _state: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Udp,
    Tcp,
}

impl Flooded {
    async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let listen = || Listen { addresses: vec![addr("0.0.0.0:0")], explicit: true };
        let secrets = vec![String::from_utf8(SECRET.to_vec()).unwrap()];
        let config = Config {
            state_dir: state.path().join("state"),
            udp: listen(),
            tcp: listen(),
            secrets,
            shards: SHARDS,
            ..config()
        };
        let app = App::start(config).await.unwrap();
        let local = |address: SocketAddr| SocketAddr::new([127, 0, 0, 1].into(), address.port());
        let (udp, tcp) = (local(app.web.bound.udp[0]), local(app.web.bound.tcp[0]));
        let probes = Probe::of_every_shard(&app.web.net, udp).into();
        Self { app, udp, tcp, probes, _state: state }
    }

    async fn client(&self, way: Way, subject: &str) -> TurnClient {
        match way {
            Way::Udp => TurnClient::new(udp_link(self.udp).await, self.udp, subject),
            Way::Tcp => {
                let stream = tokio::net::TcpStream::connect(self.tcp).await.unwrap();
                TurnClient::new(Link::stream(stream), self.tcp, subject)
            }
        }
    }

    async fn caller(&self, way: Way) -> Caller {
        let mut client = self.client(way, "p.caller").await;
        let relayed = client.allocate().await;
        let peer = peer_of(relayed);
        client.bind(0x4000, peer.local_addr().unwrap()).await;
        Caller { client, peer, relayed, sent: 0 }
    }

    /// All floods, one behind the other, while the callers go on and new clients come.
    async fn flood(&self, callers: &mut [Caller; 2], part: usize) {
        let (target, kinds) = (self.udp, requests());
        let requests = move |number: u64| kinds[number as usize % kinds.len()].clone();
        let probes = || Arc::clone(&self.probes);
        let (one, two) = (probes(), probes());
        self.under(callers, move || pour(&one, target, REQUESTS / part as u64, requests)).await;
        self.under(callers, move || pour(&two, target, GARBAGE / part as u64, garbage)).await;
        let before = live();
        let held: Vec<TcpStream> = self.half_open(HALF_OPEN / part).await;
        let cost = (live() - before) / held.len() as isize;
        println!("{} half-open connections, {cost} bytes of heap each", held.len());
        assert!(cost < PER_HALF_OPEN, "{cost} bytes for a half-open connection");
        self.under(callers, || ()).await;
        drop(held);
    }

    /// Runs `flood` on a thread of its own; meanwhile the callers lose nothing, and new clients get in.
    async fn under(&self, callers: &mut [Caller; 2], flood: impl FnOnce() + Send + 'static) {
        let over = AtomicBool::new(false);
        let [one, two] = callers;
        let rounds = (one.sent, two.sent);
        let flooding = async {
            tokio::task::spawn_blocking(flood).await.unwrap();
            over.store(true, Ordering::SeqCst);
        };
        let newcomers = async {
            loop {
                for way in [Way::Udp, Way::Tcp] {
                    self.newcomer(way).await;
                }
                if over.load(Ordering::SeqCst) {
                    return;
                }
            }
        };
        tokio::join!(flooding, one.go_on(&over), two.go_on(&over), newcomers);
        assert!(one.sent > rounds.0 && two.sent > rounds.1);
    }

    /// Gets an allocation as a browser would: what is not answered is asked again.
    async fn newcomer(&self, way: Way) {
        let mut client = self.client(way, "p.newcomer").await;
        if matches!(way, Way::Udp) {
            client.credential.nonce = soon("a 401", self.first_nonce(&mut client)).await;
        }
        client.allocate().await;
        assert_eq!(client.into_released().await, None);
    }

    async fn first_nonce(&self, client: &mut TurnClient) -> Vec<u8> {
        let ask = Ask::request(ALLOCATE, 0).transport(17).bytes();
        loop {
            client.link.send(&ask).await;
            if let Ok(Some(reply)) = tokio::time::timeout(Duration::from_millis(100), client.link.recv()).await {
                return Reply::parse(&reply).get(0x0015).expect("a nonce");
            }
        }
    }

    /// Connections of many prefixes that say nothing, half of a TLS greeting, or the first byte of a STUN message.
    async fn half_open(&self, count: usize) -> Vec<TcpStream> {
        let mut held = Vec::with_capacity(count);
        for number in 0..count {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(stranger(number), 0)).unwrap();
            let stream = socket.connect(self.tcp).await.unwrap();
            let said: &[u8] = [&b""[..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &[0x00][..]][number % 3];
            stream.try_write(said).unwrap();
            held.push(stream.into_std().unwrap());
        }
        held
    }
}

/// A client whose relayed packets are counted.
struct Caller {
    client: TurnClient,
    peer: tokio::net::UdpSocket,
    relayed: SocketAddr,
    sent: usize,
}

impl Caller {
    /// Exchanges packets with its peer until it is `over`: each one must arrive, in order.
    async fn go_on(&mut self, over: &AtomicBool) {
        loop {
            let packets: Vec<_> =
                (self.sent..self.sent + WINDOW).map(|seed| pattern(seed, 100 + seed % 1000)).collect();
            self.sent += WINDOW;
            for packet in &packets {
                self.client.send_on(0x4000, packet).await;
            }
            for packet in &packets {
                assert!(receive_from(&self.peer).await == (packet.clone(), self.relayed));
                self.peer.send_to(packet, self.relayed).await.unwrap();
            }
            for payload in packets {
                assert!(self.client.got().await == Got::Channel { number: 0x4000, payload });
            }
            if over.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// What people without a credential send: each kind of request, and guesses.
fn requests() -> Vec<Vec<u8>> {
    let mut guess = net_common::core::Client::new(net_common::core::tuple("198.51.100.7:4000"), "p.guess");
    guess.password = "guessed".into();
    guess.nonce = b"obMatJos2AAACinvented".to_vec();
    vec![
        Ask::request(BINDING, 1).bytes(),
        Ask::request(ALLOCATE, 2).transport(17).bytes(),
        Ask::request(ALLOCATE, 3).transport(17).signed(&guess).bytes(),
        Ask::request(REFRESH, 4).signed(&guess).bytes(),
        Ask::request(BINDING, 5).fingerprint().bytes(),
        Ask::request(ALLOCATE, 6).transport(17).attr(0x7777, &[0; 64]).bytes(),
    ]
}

/// Noise of all first bytes and lengths; some of it begins like STUN or ChannelData.
fn garbage(number: u64) -> Vec<u8> {
    let mut bytes = pattern(number as usize, (number % 1_400) as usize);
    match number % 4 {
        0 if bytes.len() > 8 => bytes[..8].copy_from_slice(&[0x00, 0x03, 0x00, 0x10, 0x21, 0x12, 0xa4, 0x42]),
        1 if bytes.len() > 4 => bytes[..4].copy_from_slice(&[0x40, 0x00, 0x00, 0x01]),
        _ => {}
    }
    bytes
}

/// Addresses of many prefixes that are all this machine.
fn stranger(number: usize) -> IpAddr {
    [127, 1, (number % 16) as u8, 1].into()
}

/// Sends `count` datagrams from many addresses, no faster than the server takes them: what the kernel drops would not
/// reach the code under test.
fn pour(probes: &[Probe], target: SocketAddr, count: u64, datagram: impl Fn(u64) -> Vec<u8>) {
    let sockets: Vec<UdpSocket> = (0..64).map(|number| UdpSocket::bind((stranger(number), 0)).unwrap()).collect();
    for number in 0..count {
        // Its replies stay unread, as those of a forged source would.
        sockets[(number / 7) as usize % sockets.len()].send_to(&datagram(number), target).unwrap();
        if number % IN_FLIGHT == 0 {
            probes.iter().for_each(Probe::ask);
            probes.iter().for_each(|probe| drop(probe.answered()));
        }
    }
}

/// Has proven its address, so that every Binding is answered: then all before it is done with.
struct Probe {
    socket: UdpSocket,
    request: Vec<u8>,
}

impl Probe {
    fn new(target: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(target).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut probe = Self { socket, request: Ask::request(ALLOCATE, 1).transport(17).bytes() };
        probe.ask();
        let nonce = probe.answered().get(0x0015).expect("a nonce");
        probe.request = Ask::request(BINDING, 2).attr(0x0015, &nonce).bytes();
        probe
    }

    /// As many as reach all of the server's threads.
    fn of_every_shard(net: &Net, target: SocketAddr) -> Vec<Self> {
        let mut probes = vec![Self::new(target)];
        while net.receiving_shards() < SHARDS {
            probes.push(Self::new(target));
        }
        probes
    }

    fn ask(&self) {
        self.socket.send(&self.request).unwrap();
    }

    fn answered(&self) -> Reply {
        let mut buffer = [0; 1024];
        let len = self.socket.recv(&mut buffer).expect("a reply to a proven address");
        Reply::parse(&buffer[..len])
    }
}

//! TCP allocations (RFC 6062) over real sockets: control and data connections over TCP and TLS.

mod net_common;

use std::net::SocketAddr;
use std::time::Duration;

use net_common::core::{ALLOCATE, Ask, CONNECT, CONNECTION_ATTEMPT, CONNECTION_BIND, Reply, addr, cidr};
use net_common::{Kind, Link, Server, Stream, TurnClient, config, ip, pattern, soon, until};
use relais::config::{Config, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MEGABYTES: usize = 10 << 20;

/// A control connection over `kind` with a TCP allocation.
async fn control(server: &Server, kind: Kind, subject: &str) -> (TurnClient, SocketAddr) {
    let mut client = server.client(kind, subject).await;
    let reply = client.ask(|id| Ask::request(ALLOCATE, id).transport(6)).await;
    assert_eq!(reply.code(), None, "{reply:?}");
    (client, reply.relayed())
}

async fn connect(client: &mut TurnClient, peer: SocketAddr) -> Reply {
    client.ask(|id| Ask::request(CONNECT, id).peer(&peer.to_string())).await
}

/// The next ConnectionAttempt: who, and the connection's id.
async fn attempt(client: &mut TurnClient) -> (SocketAddr, u32) {
    let frame = soon("a ConnectionAttempt", client.link.recv()).await.expect("the connection is open");
    let indication = Reply::parse(&frame);
    assert_eq!(indication.message.typ.method, CONNECTION_ATTEMPT);
    (indication.address(0x0012).unwrap(), indication.connection().unwrap())
}

async fn try_bind(server: &Server, kind: Kind, subject: &str, id: u32) -> (TurnClient, Option<u16>) {
    let mut data = server.client(kind, subject).await;
    let reply = data.ask(|number| Ask::request(CONNECTION_BIND, number).connection(id)).await;
    (data, reply.code())
}

/// What a data connection carries from now on, with what has come of it already.
fn raw(client: TurnClient) -> (Box<dyn Stream>, Vec<u8>) {
    match client.link {
        Link::Stream { stream, buffer } => (stream, buffer),
        Link::Udp(_) => panic!("a data connection is a stream"),
    }
}

async fn bind(server: &Server, kind: Kind, subject: &str, id: u32) -> Box<dyn Stream> {
    let (data, code) = try_bind(server, kind, subject, id).await;
    assert_eq!(code, None);
    let (stream, early) = raw(data);
    assert!(early.is_empty());
    stream
}

/// A peer that listens on a loopback address.
async fn listening(ip: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((net_common::ip(ip), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An allocation with one connection to a peer: control, client's side, peer's side, the relayed address.
async fn joined(server: &Server, kind: Kind, subject: &str) -> (TurnClient, Box<dyn Stream>, TcpStream, SocketAddr) {
    let (mut client, relayed) = control(server, kind, subject).await;
    let (peer, there) = listening("127.0.0.1").await;
    let reply = connect(&mut client, there).await;
    assert_eq!(reply.code(), None, "{reply:?}");
    let (peer, from) = soon("the relay's connection", peer.accept()).await.unwrap();
    assert_eq!(from, relayed, "it comes from the relayed address and port");
    let data = bind(server, kind, subject, reply.connection().unwrap()).await;
    (client, data, peer, relayed)
}

/// Waits for the end of a stream, clean or not; what came before it.
async fn drained(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = soon("the end of the stream", stream.read_to_end(&mut bytes)).await;
    bytes
}

/// Sends `payload` both ways at the same time, half-closes, and checks what arrives.
async fn both_ways(one: impl Stream, two: impl Stream, payload: &[u8]) {
    let ((mut one_in, mut one_out), (mut two_in, mut two_out)) = (tokio::io::split(one), tokio::io::split(two));
    let send = async |out: &mut (dyn tokio::io::AsyncWrite + Send + Unpin)| {
        out.write_all(payload).await.unwrap();
        out.shutdown().await.unwrap();
    };
    let (_, _, at_one, at_two) =
        tokio::join!(send(&mut one_out), send(&mut two_out), drained(&mut one_in), drained(&mut two_in));
    assert!(at_one == payload && at_two == payload, "{} and {} bytes", at_one.len(), at_two.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_each_way_over_tcp_and_tls() {
    let server = Server::start(&config()).await;
    let payload = pattern(3, MEGABYTES);
    for kind in [Kind::Tcp, Kind::Tls] {
        let (client, data, peer, _) = joined(&server, kind, "p.big").await;
        both_ways(data, peer, &payload).await;
        drop(client);
        until("the allocation to end", || server.net.allocations() == 0).await;
    }
    let totals = server.net.totals();
    assert_eq!((totals.tcp_to_peer_bytes, totals.tcp_to_client_bytes), (2 * MEGABYTES as u64, 2 * MEGABYTES as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_connects_is_bound_with_what_it_said_before() {
    let server = Server::start(&config()).await;
    for kind in [Kind::Tcp, Kind::Tls] {
        let (mut client, relayed) = control(&server, kind, "p.accept").await;
        client.permit(addr("127.0.0.1:1")).await;
        let mut peer = TcpStream::connect(relayed).await.unwrap();
        let (from, id) = attempt(&mut client).await;
        assert_eq!(from, peer.local_addr().unwrap());
        // Early bytes, and the peer even goes before anybody listens.
        let early = pattern(5, 30_000);
        peer.write_all(&early).await.unwrap();
        peer.shutdown().await.unwrap();
        let (data, code) = try_bind(&server, kind, "p.accept", id).await;
        assert_eq!(code, None);
        let (mut stream, mut got) = raw(data);
        got.extend(drained(&mut stream).await);
        assert!(got == early, "{} bytes", got.len());
        // The other way is still open.
        stream.write_all(b"thank you").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(drained(&mut peer).await, b"thank you");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_refused_or_never_there() {
    let server = Server::start(&config()).await;
    let (mut client, relayed) = control(&server, Kind::Tcp, "p.refused").await;
    // No permission: accepted and closed, and the client hears nothing.
    let mut stranger = TcpStream::connect(relayed).await.unwrap();
    assert!(drained(&mut stranger).await.is_empty());
    // Nobody listens there.
    let (gone, there) = listening("127.0.0.1").await;
    drop(gone);
    assert_eq!(connect(&mut client, there).await.code(), Some(447));
    // A second Connect after the failure is a new one.
    assert_eq!(connect(&mut client, there).await.code(), Some(447));
    // Its own relayed address.
    assert_eq!(connect(&mut client, relayed).await.code(), Some(403));
    // The other family has no relayed address here.
    assert_eq!(connect(&mut client, addr("[::1]:5000")).await.code(), Some(443));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_bind_what() {
    let server = Server::start(&config()).await;
    let (mut client, _) = control(&server, Kind::Tcp, "p.owner").await;
    let (listener, there) = listening("127.0.0.1").await;
    let id = connect(&mut client, there).await.connection().unwrap();
    let (mut peer, _) = soon("the relay's connection", listener.accept()).await.unwrap();
    assert_eq!(connect(&mut client, there).await.code(), Some(446));

    assert_eq!(try_bind(&server, Kind::Tcp, "p.thief", id).await.1, Some(441));
    let (mut data, code) = try_bind(&server, Kind::Tcp, "p.owner", id ^ 1).await;
    assert_eq!(code, Some(400));
    // On the same connection it may try again; then the id is spent.
    let reply = data.ask(|number| Ask::request(CONNECTION_BIND, number).connection(id)).await;
    assert_eq!(reply.code(), None);
    assert_eq!(try_bind(&server, Kind::Tls, "p.owner", id).await.1, Some(400), "bound already");
    assert_eq!(connect(&mut client, there).await.code(), Some(446), "bound counts as well");

    let (mut stream, _) = raw(data);
    // What looks like TLS or STUN is the peer's all the same.
    let bytes = [&[0x16, 3, 1, 0, 5][..], &[0, 1, 0, 0], &[0xff; 100]].concat();
    stream.write_all(&bytes).await.unwrap();
    let mut got = vec![0; bytes.len()];
    soon("the bytes", peer.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, bytes);
    // Closed by the peer, the connection may be made again.
    drop((peer, stream));
    soon("another Connect to be taken", async {
        loop {
            match connect(&mut client, there).await.code() {
                Some(446) => tokio::task::yield_now().await,
                code => return assert!([None, Some(447)].contains(&code), "{code:?}"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_sent_along_with_connection_bind_are_the_peers() {
    let server = Server::start(&config()).await;
    let (mut client, _) = control(&server, Kind::Tcp, "p.early").await;
    let (listener, there) = listening("127.0.0.1").await;
    let id = connect(&mut client, there).await.connection().unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut data = server.client(Kind::Tcp, "p.early").await;
    assert_eq!(data.try_allocate().await.code(), None, "for the nonce");
    assert_eq!(data.release().await.code(), None);
    let mut bytes = Ask::request(CONNECTION_BIND, 77).connection(id).signed(&data.credential).bytes();
    bytes.extend(b"at once");
    data.link.send(&bytes).await;
    let mut got = [0; 7];
    soon("the early bytes", peer.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_sender_back() {
    let server = Server::start(&config()).await;
    for to_peer in [true, false] {
        let (_client, data, peer, _) = joined(&server, Kind::Tcp, "p.slow").await;
        let (mut fast, mut slow): (Box<dyn Stream>, Box<dyn Stream>) =
            if to_peer { (data, Box::new(peer)) } else { (Box::new(peer), data) };
        let chunk = pattern(1, 64 << 10);
        // Nobody reads: what can be sent is what the buffers on the way hold, and then no more.
        let mut sent = 0;
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(300), fast.write(&chunk[sent % chunk.len()..])).await
        {
            sent += written.unwrap();
            assert!(sent < 64 << 20, "nothing holds the sender back");
        }
        let rest = async move {
            fast.shutdown().await.unwrap();
            fast
        };
        let (_, got) = tokio::join!(rest, drained(&mut slow));
        assert_eq!(got.len(), sent);
        assert!(got.chunks(chunk.len()).all(|part| part == &chunk[..part.len()]), "as it was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_closed_the_other_way_goes_on() {
    let server = Server::start(&config()).await;
    for kind in [Kind::Tcp, Kind::Tls] {
        let (_client, mut data, mut peer, _) = joined(&server, kind, "p.half").await;
        data.write_all(b"the question").await.unwrap();
        data.shutdown().await.unwrap();
        assert_eq!(drained(&mut peer).await, b"the question");
        for part in 0..50 {
            peer.write_all(&pattern(part, 1_000)).await.unwrap();
        }
        peer.shutdown().await.unwrap();
        assert!(drained(&mut data).await == (0..50).flat_map(|part| pattern(part, 1_000)).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_client_that_goes_without_a_word_loses_nothing() {
    let server = Server::start(&config()).await;
    let (_client, mut data, mut peer, _) = joined(&server, Kind::Tls, "p.abrupt").await;
    let payload = pattern(4, 1 << 20);
    let send = async {
        data.write_all(&payload).await.unwrap();
        data.flush().await.unwrap();
        // No close_notify.
        drop(data);
    };
    let (_, got) = tokio::join!(send, drained(&mut peer));
    assert!(got == payload, "{} bytes", got.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_does_not_look_like_an_end() {
    let server = Server::start(&config()).await;
    for peer_resets in [true, false] {
        let (_client, mut data, mut peer, _) = joined(&server, Kind::Tcp, "p.reset").await;
        data.write_all(b"x").await.unwrap();
        peer.read_exact(&mut [0]).await.unwrap();
        if peer_resets {
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            assert!(soon("the end", data.read(&mut [0])).await.is_err());
        } else {
            // The allocation goes in the middle of a transfer.
            drop(_client);
            assert!(soon("the end", peer.read(&mut [0])).await.is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_the_allocation() {
    let server = Server::start(&config()).await;
    for how in ["released", "closed", "revoked"] {
        let (mut client, mut data, mut peer, relayed) = joined(&server, Kind::Tls, "p.ends").await;
        client.permit(addr("127.0.0.1:1")).await;
        let mut waiting = TcpStream::connect(relayed).await.unwrap();
        let (_, id) = attempt(&mut client).await;
        let started = relais::clock::now().mono;
        match how {
            "released" => assert_eq!(client.release().await.code(), None),
            "closed" => drop(client),
            _ => server.net.revoke("p.ends", 0),
        }
        for stream in [&mut peer, &mut waiting] {
            drained(stream).await;
        }
        drained(&mut data).await;
        assert!(relais::clock::now().mono - started < Duration::from_secs(1), "{how}");
        until("the port to be free", || std::net::TcpListener::bind(relayed).is_ok()).await;
        assert_eq!(try_bind(&server, Kind::Tcp, "p.ends", id).await.1, Some(400), "{how}");
        assert_eq!(server.net.allocations(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_to_relay_of_both_families() {
    // The advertised address is none of this host's: only inside the process can it be reached.
    let public_ips = vec![relais::config::PublicIp { public: ip("203.0.113.7"), bound: Some(ip("127.0.0.1")) }];
    let server = Server::start(&Config { public_ips, allow_peers: Vec::new(), ..config() }).await;
    for family in [1, 2] {
        let (mut one, mut two) = (server.client(Kind::Tcp, "p.one").await, server.client(Kind::Tls, "p.two").await);
        let allocate = |id| Ask::request(ALLOCATE, id).transport(6).family(family);
        let (at_one, at_two) = (one.ask(allocate).await.relayed(), two.ask(allocate).await.relayed());
        assert_eq!(at_one.ip(), ip(if family == 1 { "203.0.113.7" } else { "::1" }));
        two.permit(at_one).await;
        let id = connect(&mut one, at_two).await.connection().unwrap();
        let (from, other) = attempt(&mut two).await;
        assert_eq!(from, at_one, "by its advertised name");
        let one_data = bind(&server, Kind::Tcp, "p.one", id).await;
        let two_data = bind(&server, Kind::Tls, "p.two", other).await;
        both_ways(one_data, two_data, &pattern(9, 1 << 20)).await;
        // An address of ours where nothing is live.
        let free = SocketAddr::new(at_two.ip(), 1_025);
        assert_eq!(connect(&mut one, free).await.code(), Some(403));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_by_name() {
    let limits = Limits { tcp_connections: 2, tcp_connections_total: 3, ..Limits::default() };
    let server = Server::start(&Config { limits, ..config() }).await;
    let (mut one, relayed) = control(&server, Kind::Tcp, "p.one").await;
    let (mut two, _) = control(&server, Kind::Tcp, "p.two").await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(listening("127.0.0.1").await);
    }
    assert_eq!(connect(&mut one, peers[0].1).await.code(), None);
    assert_eq!(connect(&mut one, peers[1].1).await.code(), None);
    assert_eq!(connect(&mut one, peers[2].1).await.code(), Some(508), "of one allocation");
    assert_eq!(connect(&mut two, peers[0].1).await.code(), None);
    assert_eq!(connect(&mut two, peers[1].1).await.code(), Some(508), "of all together");
    one.permit(addr("127.0.0.1:1")).await;
    let mut stranger = TcpStream::connect(relayed).await.unwrap();
    assert!(drained(&mut stranger).await.is_empty());
    // What ends gives its place back.
    drop(one);
    soon("a place", async { while connect(&mut two, peers[1].1).await.code() == Some(508) {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_holds_the_sender_back_and_loses_nothing() {
    let limits = Limits { bandwidth: Some(400_000), ..Limits::default() };
    let server = Server::start(&Config { limits, ..config() }).await;
    let (_client, mut data, mut peer, _) = joined(&server, Kind::Tcp, "p.rate").await;
    let payload = pattern(2, 800_000);
    let started = relais::clock::now().mono;
    let send = async {
        data.write_all(&payload).await.unwrap();
        data.shutdown().await.unwrap();
    };
    let (_, got) = tokio::join!(send, drained(&mut peer));
    assert!(got == payload);
    // A burst of one second, and the rest at the rate; a read may be in debt.
    let took = relais::clock::now().mono - started;
    assert!(took > Duration::from_millis(800), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_holds_for_connect() {
    let config = Config { allow_peers: vec![cidr("127.0.0.0/8")], ..config() };
    let server = Server::start(&config).await;
    let (mut client, _) = control(&server, Kind::Tcp, "p.policy").await;
    for peer in ["10.0.0.1:5000", "169.254.169.254:8080", "8.8.8.8:25", "192.0.2.1:5000"] {
        assert_eq!(connect(&mut client, addr(peer)).await.code(), Some(403), "{peer}");
    }
    // Our UDP port is a service port, on TCP as well.
    let service = SocketAddr::new(ip("127.0.0.1"), server.udp(true).port());
    assert_eq!(connect(&mut client, service).await.code(), Some(403));
    let off = Server::start(&Config { tcp_relay: false, ..config }).await;
    let mut client = off.client(Kind::Tcp, "p.off").await;
    assert_eq!(client.ask(|id| Ask::request(ALLOCATE, id).transport(6)).await.code(), Some(442));
}

#[tokio::test(flavor = "multi_thread")]
async fn cycles_leave_nothing_behind() {
    let server = Server::start(&config()).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (listener, there) = listening("127.0.0.1").await;
    let mut before = 0;
    for round in 0..30 {
        let (mut client, _) = control(&server, Kind::Tcp, "p.cycle").await;
        let id = connect(&mut client, there).await.connection().unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut data = bind(&server, Kind::Tcp, "p.cycle", id).await;
        data.write_all(b"ping").await.unwrap();
        peer.read_exact(&mut [0; 4]).await.unwrap();
        drop((client, data, peer));
        until("the allocation to end", || server.net.allocations() == 0).await;
        if round == 0 {
            before = descriptors();
        }
    }
    // Other tests of this process have descriptors of their own.
    until("the descriptors to be closed", || descriptors() <= before + 4).await;
}

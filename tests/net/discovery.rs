//! NAT discovery (RFC 5780) with two addresses and two ports.

use std::net::SocketAddr;

use relais::config::{Config, Listen, PublicIp};
use tokio::net::UdpSocket;

use crate::net_common::core::{Ask, BINDING, Reply, addr};
use crate::net_common::{Server, config, ip, receive_from};

pub const CHANGE_REQUEST: u16 = 0x0003;
const PADDING: u16 = 0x0026;
const RESPONSE_PORT: u16 = 0x0027;
const RESPONSE_ORIGIN: u16 = 0x802b;
const OTHER_ADDRESS: u16 = 0x802c;
const MAPPED_ADDRESS: u16 = 0x0001;

/// 127.0.0.1 and 127.0.0.2; four threads, so that most answers must leave from a socket beside the one asked.
pub fn two_addresses() -> Config {
    let udp = Listen { addresses: vec![addr("127.0.0.1:0")], explicit: true };
    Config { udp, alt_ip: Some(ip("127.0.0.2")), shards: 4, ..config() }
}

/// An address that is not XOR-ed.
fn plain(reply: &Reply, kind: u16) -> Option<SocketAddr> {
    let value = reply.get(kind)?;
    assert_eq!((value.len(), value[1]), (8, 1), "IPv4");
    let octets: [u8; 4] = value[4..8].try_into().unwrap();
    Some(SocketAddr::from((octets, u16::from_be_bytes([value[2], value[3]]))))
}

async fn ask(socket: &UdpSocket, server: SocketAddr, ask: Ask) -> (Reply, SocketAddr) {
    socket.send_to(&ask.bytes(), server).await.unwrap();
    let (bytes, from) = receive_from(socket).await;
    (Reply::parse(&bytes), from)
}

fn binding(flags: Option<u8>) -> Ask {
    let ask = Ask::request(BINDING, 7);
    flags.map_or(ask.clone(), |flags| ask.attr(CHANGE_REQUEST, &[0, 0, 0, flags]))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_comes_from_the_address_and_port_asked_for() {
    let server = Server::start(&two_addresses()).await;
    assert_eq!(server.net.udp_addresses().len(), 1, "clients are told the first address alone");
    let first = server.udp(true);
    // Several clients, which the kernel spreads over the threads.
    for _ in 0..8 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let own = socket.local_addr().unwrap();
        let (reply, from) = ask(&socket, first, binding(None)).await;
        assert_eq!((reply.code(), from), (None, first));
        let other = plain(&reply, OTHER_ADDRESS).unwrap();
        assert_eq!(plain(&reply, RESPONSE_ORIGIN), Some(first));
        assert_eq!((reply.address(0x0020), plain(&reply, MAPPED_ADDRESS)), (Some(own), Some(own)));
        assert_eq!(other.ip(), ip("127.0.0.2"));
        assert_ne!(other.port(), first.port());
        for asked in
            [first, other, SocketAddr::new(first.ip(), other.port()), SocketAddr::new(other.ip(), first.port())]
        {
            let opposite = |ip: bool, port: bool| {
                let swap = |is_first: bool| if is_first { other } else { first };
                let ip = if ip { swap(asked.ip() == first.ip()).ip() } else { asked.ip() };
                SocketAddr::new(ip, if port { swap(asked.port() == first.port()).port() } else { asked.port() })
            };
            for (flags, ip, port) in [(0, false, false), (2, false, true), (4, true, false), (6, true, true)] {
                let (reply, from) = ask(&socket, asked, binding(Some(flags))).await;
                assert_eq!((reply.code(), from), (None, opposite(ip, port)), "{asked}, flags {flags}");
                assert_eq!(plain(&reply, RESPONSE_ORIGIN), Some(from));
                assert_eq!(plain(&reply, OTHER_ADDRESS), Some(opposite(true, true)));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn padding_comes_back_and_response_port_is_another_port_of_the_sender() {
    let server = Server::start(&two_addresses()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let there = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (sent, expected) in [(0, 0), (5, 5), (1_000, 1_000), (9_000, 1_500)] {
        let (reply, _) = ask(&socket, server.udp(true), binding(None).attr(PADDING, &vec![0; sent])).await;
        assert_eq!((reply.code(), reply.get(PADDING).unwrap().len()), (None, expected));
        let padded = binding(Some(6)).attr(PADDING, &vec![0; sent]).fingerprint();
        let (reply, _) = ask(&socket, server.udp(true), padded).await;
        assert!(reply.has_right_fingerprint() && reply.get(PADDING).unwrap().len() == expected);
    }
    let [high, low] = there.local_addr().unwrap().port().to_be_bytes();
    for value in [&[high, low][..], &[high, low, 0, 0]] {
        socket.send_to(&binding(None).attr(RESPONSE_PORT, value).bytes(), server.udp(true)).await.unwrap();
        let (bytes, from) = receive_from(&there).await;
        assert_eq!((Reply::parse(&bytes).code(), from), (None, server.udp(true)));
        assert_eq!(Reply::parse(&bytes).address(0x0020), Some(socket.local_addr().unwrap()));
    }
    let both = binding(None).attr(RESPONSE_PORT, &[high, low, 0, 0]).attr(PADDING, &[0; 8]);
    assert_eq!(ask(&socket, server.udp(true), both).await.0.code(), Some(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_address_serves_turn_and_is_no_peer() {
    let server = Server::start(&two_addresses()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (reply, _) = ask(&socket, server.udp(true), binding(None)).await;
    let other = plain(&reply, OTHER_ADDRESS).unwrap();
    let mut client = crate::net_common::TurnClient::new(crate::net_common::udp_link(other).await, other, "p.other");
    client.allocate().await;
    for service in [other, SocketAddr::new(server.udp(true).ip(), other.port())] {
        let reply = client
            .ask(|id| {
                Ask::request(crate::net_common::core::CHANNEL_BIND, id).channel(0x4000).peer(&service.to_string())
            })
            .await;
        assert_eq!(reply.code(), Some(403), "{service} is a service of ours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_address_there_is_no_other() {
    let server = Server::start(&config()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (reply, _) = ask(&socket, server.udp(true), binding(None)).await;
    assert_eq!((reply.get(OTHER_ADDRESS), reply.get(RESPONSE_ORIGIN)), (None, None));
    for (kind, value) in [(CHANGE_REQUEST, &[0, 0, 0, 6][..]), (RESPONSE_PORT, &[9, 9, 0, 0]), (PADDING, &[0; 8])] {
        let (reply, from) = ask(&socket, server.udp(true), binding(None).attr(kind, value)).await;
        assert_eq!((reply.code(), from), (Some(420), server.udp(true)));
        assert_eq!(reply.get(0x000a), Some(kind.to_be_bytes().to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_nat_the_public_addresses_are_told() {
    let rule = |public, bound| PublicIp { public: ip(public), bound: Some(ip(bound)) };
    let public_ips = vec![rule("203.0.113.7", "127.0.0.1"), rule("203.0.113.8", "127.0.0.2")];
    let server = Server::start(&Config { public_ips, ..two_addresses() }).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (reply, _) = ask(&socket, server.udp(true), binding(Some(0))).await;
    assert_eq!(plain(&reply, RESPONSE_ORIGIN).unwrap().ip(), ip("203.0.113.7"));
    assert_eq!(plain(&reply, OTHER_ADDRESS).unwrap().ip(), ip("203.0.113.8"));
}

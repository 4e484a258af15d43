//! ICMP errors reach the client (RFC 8656 section 11.5) and end nothing.

use std::net::SocketAddr;

use crate::net_common::core::{Reply, addr};
use crate::net_common::{Got, Kind, Server, TurnClient, battery, config, pattern, peer_of, receive_from, soon};
use relais::config::Config;

const ICMP: u16 = 0x8004;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;

/// A port on loopback that nobody listens on: it is no ephemeral one, so nobody draws it either.
fn closed(v4: bool) -> SocketAddr {
    addr(if v4 { "127.0.0.1:1" } else { "[::1]:1" })
}

/// The peer, type and code of the next Data indication, which must be one with ICMP and without DATA.
async fn told(client: &mut TurnClient) -> (SocketAddr, u8, u8) {
    let frame = soon("an ICMP indication", client.link.recv()).await.expect("open");
    let indication = Reply::parse(&frame);
    assert_eq!(indication.message.typ.to_string(), "Data indication");
    assert_eq!(indication.get(DATA), None);
    let value = indication.get(ICMP).expect("an ICMP attribute");
    let type_and_code = u16::from_be_bytes([value[2], value[3]]);
    (indication.address(XOR_PEER_ADDRESS).unwrap(), (type_and_code >> 9) as u8, (type_and_code & 0x1ff) as u8)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_is_told_to_the_client_over_every_transport() {
    let server = Server::start(&config()).await;
    let kinds = [(Kind::Udp4, true), (Kind::Udp6, false), (Kind::Tcp, true), (Kind::Tls, true)];
    for (kind, v4) in kinds {
        let expected = if v4 { (3, 3) } else { (1, 4) };
        let mut client = server.client(kind, "p.icmp").await;
        let relayed = client.allocate().await;
        assert_eq!(relayed.is_ipv4(), v4);
        let nobody = closed(v4);
        let peer = peer_of(relayed);
        let there = peer.local_addr().unwrap();
        client.permit(there).await;
        for _ in 0..3 {
            client.send_to(nobody, b"anybody?").await;
            assert_eq!(told(&mut client).await, (nobody, expected.0, expected.1), "{kind:?}");
        }
        // By a channel as well; and the socket serves other peers as before.
        client.bind(0x4000, nobody).await;
        client.send_on(0x4000, b"anybody?").await;
        assert_eq!(told(&mut client).await, (nobody, expected.0, expected.1), "{kind:?}, channel");
        for seed in 0..20 {
            let payload = pattern(seed, 1 + seed * 50);
            client.send_to(there, &payload).await;
            assert_eq!(receive_from(&peer).await, (payload.clone(), relayed));
            peer.send_to(&payload, relayed).await.unwrap();
            assert_eq!(client.got().await, Got::Data { from: there, payload });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_about_one_peer_lose_nothing_of_another() {
    for shards in [1, 2] {
        let server = Server::start(&Config { shards, ..config() }).await;
        for kind in [Kind::Udp4, Kind::Tcp] {
            let mut client = server.client(kind, "p.mixed").await;
            let relayed = client.allocate().await;
            let peer = peer_of(relayed);
            client.bind(0x4000, peer.local_addr().unwrap()).await;
            client.bind(0x4001, closed(true)).await;
            for seed in 0..200 {
                client.send_on(0x4001, b"anybody?").await;
                client.send_on(0x4000, &pattern(seed, 100)).await;
            }
            for seed in 0..200 {
                assert_eq!(receive_from(&peer).await.0, pattern(seed, 100), "{kind:?}, packet {seed}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_errors_ends_no_loop() {
    let server = Server::start(&Config { shards: 1, ..config() }).await;
    let mut noisy = server.client(Kind::Udp4, "p.noisy").await;
    noisy.allocate().await;
    noisy.permit(addr("127.0.0.1:1")).await;
    let nobody = closed(true);
    for _ in 0..5_000 {
        noisy.send_to(nobody, b"anybody?").await;
    }
    battery(&server, Kind::Udp4).await;
    assert_eq!(told(&mut noisy).await.0, nobody);
}

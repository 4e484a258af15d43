//! The shell over UDP: real sockets on loopback, raw messages and the `turn` crate's client.

mod net_common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use net_common::core::{ALLOCATE, Ask, BINDING, Reply, addr};
use net_common::{Got, Kind, Link, Server, TurnClient, battery, config, ip, pattern, peer_of, receive_from};
use net_common::{relay_to_relay, soon, start, until};
use relais::config::{Config, Limits, Listen, PublicIp};
use tokio::net::UdpSocket;
use webrtc_util::conn::Conn;

#[tokio::test(flavor = "multi_thread")]
async fn battery_over_ipv4() {
    battery(&Server::start(&config()).await, Kind::Udp4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn battery_over_ipv6() {
    battery(&Server::start(&config()).await, Kind::Udp6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turn_crates_client_exchanges_data() {
    let server = Server::start(&config()).await;
    let credential =
        TurnClient::new(net_common::udp_link(server.udp(true)).await, server.udp(true), "p.turn").credential;
    let client = turn::client::Client::new(turn::client::ClientConfig {
        stun_serv_addr: server.udp(true).to_string(),
        turn_serv_addr: server.udp(true).to_string(),
        username: credential.username,
        password: credential.password,
        realm: "relais".into(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()),
        vnet: None,
    })
    .await
    .unwrap();
    client.listen().await.unwrap();
    let mapped = client.send_binding_request().await.unwrap();
    assert!(mapped.ip().is_loopback());
    let relay = client.allocate().await.unwrap();
    let peer = peer_of(relay.local_addr().unwrap());
    let there = peer.local_addr().unwrap();
    for seed in 0..50 {
        let payload = pattern(seed, 1 + seed * 20);
        relay.send_to(&payload, there).await.unwrap();
        let (received, from) = receive_from(&peer).await;
        assert_eq!((received, from), (payload.clone(), relay.local_addr().unwrap()));
        peer.send_to(&payload, from).await.unwrap();
        let mut buffer = [0; 2048];
        let (len, from) = soon("the echo", relay.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..len], from), (&payload[..], there));
    }
    relay.close().await.unwrap();
    client.close().await.unwrap();
    until("the allocation to end", || server.net.allocations() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_to_relay_stays_inside() {
    let one_shard = Server::start(&Config { shards: 1, ..config() }).await;
    relay_to_relay(&one_shard, [Kind::Udp4, Kind::Udp4]).await;
    relay_to_relay(&one_shard, [Kind::Udp6, Kind::Udp6]).await;
    // Eight pairs on four threads: that all of them meet on one has a chance of one in 4^15.
    let shards = Server::start(&Config { shards: 4, ..config() }).await;
    for _ in 0..8 {
        relay_to_relay(&shards, [Kind::Udp4, Kind::Udp4]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_its_own_relayed_address() {
    let server = Server::start(&config()).await;
    let mut client = server.client(Kind::Udp4, "p.self").await;
    let relayed = client.allocate().await;
    client.permit(relayed).await;
    client.send_to(relayed, b"me").await;
    assert_eq!(client.got().await, Got::Data { from: relayed, payload: b"me".to_vec() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_between_threads_arrives_whole_and_in_order() {
    let server = Server::start(&Config { shards: 4, ..config() }).await;
    let mut receivers = Vec::new();
    let mut sender = server.client(Kind::Udp4, "p.sender").await;
    let at_sender = sender.allocate().await;
    for index in 0..6 {
        let mut receiver = server.client(Kind::Udp4, "p.receiver").await;
        let relayed = receiver.allocate().await;
        receiver.bind(0x4000, at_sender).await;
        sender.bind(0x4000 + index, relayed).await;
        receivers.push(receiver);
    }
    for round in 0..100 {
        for index in 0..6 {
            sender.send_on(0x4000 + index, &pattern(round, 100 + round)).await;
        }
    }
    for receiver in &mut receivers {
        for round in 0..100 {
            assert_eq!(receiver.got().await, Got::Channel { number: 0x4000, payload: pattern(round, 100 + round) });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_address_stands_for_the_bound_one() {
    let public = PublicIp { public: ip("203.0.113.7"), bound: Some(ip("127.0.0.1")) };
    let server = Server::start(&Config { public_ips: vec![public], shards: 3, ..config() }).await;
    let mut one = server.client(Kind::Udp4, "p.one").await;
    let mut two = server.client(Kind::Udp4, "p.two").await;
    let (at_one, at_two) = (one.allocate().await, two.allocate().await);
    assert_eq!((at_one.ip(), at_two.ip()), (public.public, public.public));
    // Each knows the other by its public address only.
    one.permit(at_two).await;
    two.permit(at_one).await;
    one.send_to(at_two, b"there").await;
    assert_eq!(two.got().await, Got::Data { from: at_one, payload: b"there".to_vec() });
    two.send_to(at_one, b"and back").await;
    assert_eq!(one.got().await, Got::Data { from: at_two, payload: b"and back".to_vec() });
    // The port is the real one.
    let peer = peer_of(addr("127.0.0.1:0"));
    one.permit(peer.local_addr().unwrap()).await;
    peer.send_to(b"hello", SocketAddr::new(ip("127.0.0.1"), at_one.port())).await.unwrap();
    assert_eq!(one.got().await, Got::Data { from: peer.local_addr().unwrap(), payload: b"hello".to_vec() });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_address_without_a_live_port_gets_nothing() {
    let server = Server::start(&Config { allow_peers: Vec::new(), ..config() }).await;
    let mut one = server.client(Kind::Udp4, "p.one").await;
    one.allocate().await;
    let bystander = peer_of(addr("127.0.0.1:0"));
    let mut two = server.client(Kind::Udp4, "p.two").await;
    let at_two = two.allocate().await;
    one.permit(at_two).await;
    one.send_to(bystander.local_addr().unwrap(), b"nobody").await;
    until("the packet to be counted", || server.net.totals().hairpin_unknown == 1).await;
    assert!(bystander.try_recv_from(&mut [0; 8]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_per_subject_is_486_and_total_508() {
    let limits = Limits { allocations_per_subject: 2, allocations_total: 3, ..Limits::default() };
    let server = Server::start(&Config { limits, shards: 3, ..config() }).await;
    let mut clients = Vec::new();
    for (subject, expected) in [("p.a", None), ("p.a", None), ("p.a", Some(486)), ("p.b", None), ("p.c", Some(508))] {
        let mut client = server.client(Kind::Udp4, subject).await;
        assert_eq!(client.try_allocate().await.code(), expected, "{subject}");
        clients.push(client);
    }
    assert_eq!(server.net.allocations(), 3);
    assert_eq!(clients[0].release().await.code(), None);
    let mut next = server.client(Kind::Udp4, "p.a").await;
    until_allocated(&mut next).await;
}

/// The place of an allocation that has just ended is free when its socket is closed.
async fn until_allocated(client: &mut TurnClient) {
    soon("an allocation", async { while client.try_allocate().await.code().is_some() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_range_is_508_and_ports_come_back() {
    let free = free_range(4);
    let server = Server::start(&Config { relay_ports: (free, free + 3), ..config() }).await;
    // One port is held by somebody else.
    let foreign = UdpSocket::bind(("127.0.0.1", free + 1)).await.unwrap();
    let mut clients = Vec::new();
    let mut ports = BTreeSet::new();
    for _ in 0..3 {
        let mut client = server.client(Kind::Udp4, "p.a").await;
        ports.insert(client.allocate().await.port());
        clients.push(client);
    }
    assert_eq!(ports, [free, free + 2, free + 3].into());
    let mut late = server.client(Kind::Udp4, "p.a").await;
    assert_eq!(late.try_allocate().await.code(), Some(508));
    drop(foreign);
    assert_eq!(clients[1].release().await.code(), None);
    until_allocated(&mut late).await;
}

/// The first of `count` neighbouring ports that nobody holds now, the first one even.
fn free_range(count: u16) -> u16 {
    let is_free = |port: u16| std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let start = 20_000 + (std::process::id() as u16 % 500) * 20;
    (start..32_000).step_by(2).find(|first| (*first..first + count).all(is_free)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn even_ports_pairs_and_reservations() {
    let server = Server::start(&config()).await;
    let mut client = server.client(Kind::Udp4, "p.rtp").await;
    let reply = client.ask(|id| Ask::request(ALLOCATE, id).transport(17).attr(0x0018, &[0x80])).await;
    assert_eq!(reply.code(), None);
    let (rtp, token) = (reply.relayed(), reply.get(0x0022).expect("RESERVATION-TOKEN"));
    assert!(rtp.port().is_multiple_of(2));
    let reserved = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    assert!(std::net::UdpSocket::bind(reserved).is_err(), "the next port is held");
    let mut second = server.client(Kind::Udp4, "p.rtp").await;
    let take = |token: Vec<u8>| move |id| Ask::request(ALLOCATE, id).transport(17).attr(0x0022, &token);
    assert_eq!(second.ask(take(vec![0; 8])).await.code(), Some(508), "nobody reserved that");
    let mut thief = server.client(Kind::Udp4, "p.thief").await;
    assert_eq!(thief.ask(take(token.clone())).await.code(), Some(508), "somebody else did");
    let reply = second.ask(take(token)).await;
    assert_eq!((reply.code(), reply.relayed()), (None, reserved));
    // R=0 holds nothing.
    let mut third = server.client(Kind::Udp4, "p.rtp").await;
    let reply = third.ask(|id| Ask::request(ALLOCATE, id).transport(17).attr(0x0018, &[0])).await;
    assert!(reply.relayed().port().is_multiple_of(2) && reply.get(0x0022).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_in_one_allocation_count_once() {
    let limits = Limits { allocations_per_subject: 1, ..Limits::default() };
    let server = Server::start(&Config { limits, ..config() }).await;
    let mut client = server.client(Kind::Udp4, "p.dual").await;
    let reply = client.ask(|id| Ask::request(ALLOCATE, id).transport(17).additional_family(2)).await;
    assert_eq!(reply.code(), None);
    assert_eq!(server.net.allocations(), 1);
    let peer = peer_of(addr("[::1]:0"));
    client.permit(peer.local_addr().unwrap()).await;
    client.send_to(peer.local_addr().unwrap(), b"six").await;
    let (payload, from) = receive_from(&peer).await;
    assert_eq!(payload, b"six");
    peer.send_to(b"back", from).await.unwrap();
    assert_eq!(client.got().await, Got::Data { from: peer.local_addr().unwrap(), payload: b"back".to_vec() });
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_allocations_and_refuses_new_ones() {
    let server = Server::start(&Config { shards: 3, ..config() }).await;
    let mut clients = Vec::new();
    for subject in ["p.gone", "p.gone", "p.gone", "p.stays"] {
        let mut client = server.client(Kind::Udp4, subject).await;
        client.allocate().await;
        clients.push(client);
    }
    server.net.revoke("p.gone", relais::clock::now().unix + 60);
    until("the allocations to end", || server.net.allocations() == 1).await;
    let mut again = server.client(Kind::Udp4, "p.gone").await;
    assert_eq!(again.try_allocate().await.code(), Some(401));
    let mut other = server.client(Kind::Udp4, "p.stays").await;
    other.allocate().await;
    // A revocation whose time is over is none.
    server.net.revoke("p.later", relais::clock::now().unix);
    server.client(Kind::Udp4, "p.later").await.allocate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let wildcard = Listen { addresses: vec![addr("0.0.0.0:0"), addr("[::]:0")], explicit: true };
    let server = Server::start(&Config { udp: wildcard, ..config() }).await;
    for (asked, v4) in [("127.0.0.1", true), ("127.0.0.2", true), ("127.9.8.7", true), ("::1", false)] {
        // The client's socket is connected: an answer from elsewhere would not reach it.
        let target = SocketAddr::new(ip(asked), server.udp(v4).port());
        let mut client = TurnClient::new(net_common::udp_link(target).await, target, "p.multi");
        let relayed = client.allocate().await;
        let peer = peer_of(relayed);
        client.bind(0x4000, peer.local_addr().unwrap()).await;
        for seed in 0..30 {
            peer.send_to(&pattern(seed, 500), relayed).await.unwrap();
        }
        for seed in 0..30 {
            assert_eq!(client.got().await, Got::Channel { number: 0x4000, payload: pattern(seed, 500) });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_threads_of_a_group_share_the_port() {
    let server = Server::start(&Config { shards: 4, ..config() }).await;
    let mut seen = BTreeSet::new();
    // Kept open: a port that is free again may be drawn twice.
    let mut sockets = Vec::new();
    for _ in 0..64 {
        let Link::Udp(socket) = net_common::udp_link(server.udp(true)).await else { unreachable!() };
        socket.send(&Ask::request(BINDING, 1).bytes()).await.unwrap();
        let mut buffer = [0; 512];
        let len = soon("a binding response", socket.recv(&mut buffer)).await.unwrap();
        let mapped = Reply::parse(&buffer[..len]).address(0x0020).unwrap();
        assert_eq!(mapped, socket.local_addr().unwrap());
        seen.insert(mapped);
        sockets.push(socket);
    }
    assert_eq!(seen.len(), 64);
    assert!(server.net.receiving_shards() > 1, "64 clients on one of four threads: a chance of one in 4^63");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_floods_of_it_change_nothing() {
    let server = Server::start(&config()).await;
    let noise = net_common::large_socket("127.0.0.1:0");
    for seed in 0..2_000 {
        let payload = pattern(seed, seed % 1_500);
        // A full socket buffer is no matter here.
        let _ = noise.try_send_to(&payload, server.udp(true));
    }
    battery(&server, Kind::Udp4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_names_its_holder() {
    let server = Server::start(&config()).await;
    let udp = Listen { addresses: vec![server.udp(true)], explicit: true };
    // Also when the second one would share the port among its threads.
    for shards in [1, 4] {
        let error = start(&Config { udp: udp.clone(), shards, ..config() }).err().expect("the port is taken");
        assert!(error.in_use);
        assert_eq!(error.address, server.udp(true));
        let text = error.to_string();
        assert!(text.contains("already in use") && text.contains(&std::process::id().to_string()), "{text}");
    }
    let elsewhere = Listen { addresses: vec![addr("192.0.2.99:0")], explicit: true };
    let error = start(&Config { udp: elsewhere, ..config() }).err().expect("not our address");
    assert!(!error.in_use, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_everything() {
    let server = Server::start(&config()).await;
    let mut client = server.client(Kind::Udp4, "p.a").await;
    let relayed = client.allocate().await;
    let listening = server.udp(true);
    server.net.stop();
    assert_eq!(server.net.allocations(), 0);
    std::net::UdpSocket::bind(relayed).expect("the relay port is free");
    std::net::UdpSocket::bind(listening).expect("the listening port is free");
    server.net.stop();
}

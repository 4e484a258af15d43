//! What loopback alone cannot show: a firewall, a small MTU, an address that comes up. Each test runs itself once more in
//! a network namespace of its own, which needs no root where user namespaces are allowed, and vanishes with it.

mod common;
mod net_common;

use std::net::UdpSocket;
use std::process::Command;

use net_common::core::{Ask, CHANNEL_BIND, Reply, SEND, addr};
use net_common::{
    Kind, PATIENCE, Server, TurnClient, config, ip, pattern, peer_of, receive_from, relay_to_relay, soon,
};
use relais::config::{Config, PublicIp};

/// True within a network namespace where `setup` has run.
fn is_inside(name: &str, setup: &str) -> bool {
    // Clients' ports are apart from the relay's, so that a rule can name either.
    let base = "ip link set lo up; echo 20000 30000 >/proc/sys/net/ipv4/ip_local_port_range";
    common::is_inside(name, &[], &format!("set -e; {base}; {setup}; exec \"$0\" \"$@\""))
}

const FIREWALL: &str =
    "nft 'table inet t { chain in { type filter hook input priority 0; udp dport 49152-65535 drop; }; }'";

#[tokio::test(flavor = "multi_thread")]
async fn a_firewalled_relay_range_is_no_matter_between_clients() {
    if !is_inside("a_firewalled_relay_range_is_no_matter_between_clients", FIREWALL) {
        return;
    }
    // The firewall works: on loopback a datagram is there when the send returns, or never.
    let (closed, open) = (UdpSocket::bind("127.0.0.1:50000").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    closed.set_nonblocking(true).unwrap();
    open.send_to(b"x", "127.0.0.1:50000").unwrap();
    assert!(closed.recv(&mut [0; 8]).is_err(), "the range is closed");
    let public = PublicIp { public: ip("203.0.113.7"), bound: Some(ip("127.0.0.1")) };
    // As bound, and behind a 1:1 NAT, where the advertised address is nobody's here.
    for public_ips in [Vec::new(), vec![public]] {
        let server = Server::start(&Config { public_ips, shards: 2, ..config() }).await;
        let kinds = [Kind::Udp4, Kind::Tcp, Kind::Tls];
        for pair in kinds.into_iter().flat_map(|one| kinds.map(|two| [one, two])) {
            relay_to_relay(&server, pair).await;
        }
    }
}

/// The attribute of the next indication: type, code and MTU.
async fn told(client: &mut TurnClient) -> (u8, u8, u32) {
    let frame = soon("an ICMP indication", client.link.recv()).await.expect("open");
    let value = Reply::parse(&frame).get(0x8004).expect("an ICMP attribute");
    let type_and_code = u16::from_be_bytes([value[2], value[3]]);
    let mtu = u32::from_be_bytes(value[4..8].try_into().unwrap());
    ((type_and_code >> 9) as u8, (type_and_code & 0x1ff) as u8, mtu)
}

#[tokio::test(flavor = "multi_thread")]
async fn dont_fragment_holds_for_its_packet_alone() {
    if !is_inside("dont_fragment_holds_for_its_packet_alone", "ip link set lo mtu 1500") {
        return;
    }
    let server = Server::start(&config()).await;
    for (kind, expected) in [(Kind::Udp4, (3, 4, 1500)), (Kind::Udp6, (2, 0, 1500)), (Kind::Tcp, (3, 4, 1500))] {
        let mut client = server.client(kind, "p.df").await;
        let relayed = client.allocate().await;
        let peer = peer_of(relayed);
        let there = peer.local_addr().unwrap();
        client.permit(there).await;
        let send = |payload: &[u8], whole: bool| {
            let ask = Ask::indication(SEND).peer(&there.to_string()).data(payload);
            if whole { ask.attr(0x001a, &[]).bytes() } else { ask.bytes() }
        };
        for round in 0..3 {
            let (large, small) = (pattern(round, 2_000), pattern(round, 1_000));
            client.link.send(&send(&large, true)).await;
            assert_eq!(told(&mut client).await, expected, "{kind:?}: too large to stay whole");
            client.link.send(&send(&large, false)).await;
            assert_eq!(receive_from(&peer).await.0, large, "{kind:?}: in fragments, as the option is restored");
            client.link.send(&send(&small, true)).await;
            assert_eq!(receive_from(&peer).await.0, small, "{kind:?}: small enough");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_comes_up_is_known_at_once() {
    if !is_inside("an_address_that_comes_up_is_known_at_once", ":") {
        return;
    }
    let allowed = ["--secret", "north", "--allow-peer", "203.0.113.0/24", "--udp", "127.0.0.1:0"];
    let server = common::Server::start_in(
        common::Place::new(),
        &[&allowed[..], &["--tcp", "127.0.0.1:0", "--relay-ip", "127.0.0.1"]].concat(),
    );
    let udp = server.udp[0];
    let mut client = TurnClient::new(net_common::udp_link(udp).await, udp, "p.late");
    client.allocate().await;
    let service = addr(&format!("203.0.113.50:{}", udp.port())).to_string();
    let bind = |id| Ask::request(CHANNEL_BIND, id).channel(0x4000).peer(&service);
    assert_eq!(client.ask(bind).await.code(), None, "an ordinary peer, as yet");
    let added = Command::new("ip").args(["address", "add", "203.0.113.50/32", "dev", "lo"]).status().unwrap();
    assert!(added.success());
    let started = relais::clock::now().mono;
    soon("the address to be our own", async { while client.ask(bind).await.code() != Some(403) {} }).await;
    assert!(relais::clock::now().mono - started < PATIENCE, "told by the kernel, not looked for once a minute");
}

//! Leaving revokes, over real sockets: races against Allocate, and how soon allocations end.

mod net_common;

use std::time::Duration;

use net_common::core::{ALLOCATE, Ask, REFRESH, Reply};
use net_common::{Kind, Server, TurnClient, config, soon, until};
use relais::clock;
use relais::config::Config;
use relais::credentials::turn;

/// Races over UDP; over TCP there are as many connections to open, so fewer.
const RACES: usize = 1_000;
const TCP_RACES: usize = 200;

/// Gives `client` a credential of `subject`; the nonce stays good.
fn become_subject(client: &mut TurnClient, subject: &str) {
    let minted = turn::mint(net_common::core::SECRET, subject, clock::now().unix + 600);
    client.credential.username = minted.username;
    client.credential.password = minted.password;
}

/// A request and the revocation of its subject at once, the one or the other a little earlier. True: it was granted.
async fn race(server: &Server, client: &mut TurnClient, number: usize) -> bool {
    let subject = format!("p.race-{number}");
    become_subject(client, &subject);
    let allocate = Ask::request(ALLOCATE, number as u32 + 10).transport(17).signed(&client.credential).bytes();
    let (net, revoked) = (server.net.clone(), subject.clone());
    let revoke = move |spins: usize| {
        (0..spins).for_each(|_| std::hint::spin_loop());
        net.revoke(&revoked, clock::now().unix + 600);
    };
    // From long before to long after, in steps of some microseconds.
    let spins = number % 50 * 400;
    if number.is_multiple_of(2) {
        let thread = std::thread::spawn(move || revoke(spins));
        client.link.send(&allocate).await;
        thread.join().expect("revoked");
    } else {
        let thread = std::thread::spawn(move || revoke(0));
        (0..spins).for_each(|_| std::hint::spin_loop());
        client.link.send(&allocate).await;
        thread.join().expect("revoked");
    }
    let reply = soon("an answer", client.link.recv()).await.expect("open");
    let code = Reply::parse(&reply).code();
    assert!(code.is_none_or(|code| code == 401), "{code:?}");
    until("the allocation to end", || server.net.allocations() == 0).await;
    assert!(server.net.usage(&subject).await.is_empty());
    code.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_allocation_survives_a_race_with_its_revocation() {
    let server = Server::start(&Config { shards: 1, ..config() }).await;
    let mut client = server.client(Kind::Udp4, "p.first").await;
    client.allocate().await;
    client.release().await;
    let mut granted = 0;
    for number in 0..RACES {
        granted += usize::from(race(&server, &mut client, number).await);
    }
    assert!((1..RACES).contains(&granted), "{granted} of {RACES} were granted for a moment: both sides won at times");
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_over_tcp() {
    let server = Server::start(&config()).await;
    let mut granted = 0;
    for number in 0..TCP_RACES {
        let mut client = server.client(Kind::Tcp, "p.first").await;
        client.allocate().await;
        client.release().await;
        granted += usize::from(race(&server, &mut client, number).await);
    }
    assert!((1..TCP_RACES).contains(&granted), "{granted} of {TCP_RACES} were granted for a moment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_allocations_within_a_second_over_every_transport() {
    let server = Server::start(&config()).await;
    let mut clients = Vec::new();
    for kind in [Kind::Udp4, Kind::Udp6, Kind::Tcp, Kind::Tls] {
        for subject in ["t.token.0001", "t.token.0002", "t.other.0001"] {
            let mut client = server.client(kind, subject).await;
            client.allocate().await;
            clients.push((kind, subject, client));
        }
    }
    assert_eq!(server.net.usage("t.token.0001").await.len(), 4);
    let mut ended = server.net.ended();
    let started = clock::now().mono;
    server.net.revoke("t.token.*", clock::now().unix + 600);
    until("the allocations of the token to end", || server.net.allocations() == 4).await;
    let took = clock::now().mono - started;
    assert!(took < Duration::from_secs(1), "{took:?}");
    for _ in 0..8 {
        let end = soon("the word of an end", ended.recv()).await.expect("told");
        assert!(end.subject.starts_with("t.token.") && end.port != 0, "{end:?}");
        assert_eq!(end.reason.name(), "revoked");
    }
    for (kind, subject, client) in &mut clients {
        let reply = client.ask(|id| Ask::request(REFRESH, id).lifetime(600)).await;
        // Those of the token have no allocation any more, and get none.
        let expected = if *subject == "t.other.0001" { None } else { Some(437) };
        assert_eq!(reply.code(), expected, "{kind:?} {subject}");
        if expected.is_some() {
            assert_eq!(client.try_allocate().await.code(), Some(401), "{kind:?} {subject}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_tells_what_a_subject_holds() {
    let server = Server::start(&config()).await;
    let mut client = server.client(Kind::Tcp, "p.ada").await;
    let relayed = client.allocate().await;
    let peer = net_common::peer_of(relayed);
    let there = peer.local_addr().expect("address");
    client.bind(0x4001, there).await;
    client.send_on(0x4001, b"twelve bytes").await;
    net_common::receive_from(&peer).await;
    peer.send_to(b"back", relayed).await.expect("sent");
    client.got().await;
    let usage = server.net.usage("p.ada").await;
    let [usage] = &usage[..] else { panic!("{usage:?}") };
    assert_eq!((usage.transport.name(), usage.relayed), ("tcp", relayed));
    assert_eq!((usage.permissions, usage.channels), (1, 1));
    let traffic = usage.traffic;
    assert_eq!((traffic.to_peer_packets, traffic.to_peer_bytes), (1, 12));
    assert_eq!((traffic.to_client_packets, traffic.to_client_bytes), (1, 4));
    assert!(usage.expires_in <= Duration::from_secs(600) && usage.expires_in > Duration::from_secs(590));
    assert!(server.net.usage("p.nobody").await.is_empty());
}

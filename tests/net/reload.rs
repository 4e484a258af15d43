//! Settings that change while the server runs: own addresses, secrets, nonce keys.

use relais::config::Config;
use relais::credentials::turn;

use crate::net_common::core::{ALLOCATE, Ask, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SECRET, cidr};
use crate::net_common::{Got, Kind, Server, TurnClient, config, ip, peer_of};

const EVERY_KIND: [Kind; 3] = [Kind::Udp4, Kind::Tcp, Kind::Tls];

fn bind(number: u16, peer: String) -> impl Fn(u32) -> Ask {
    move |id| Ask::request(CHANNEL_BIND, id).channel(number).peer(&peer)
}

/// The code of requests until it is `expected`: a change reaches the threads one after the other.
async fn until_code(client: &mut TurnClient, expected: Option<u16>, build: impl Fn(u32) -> Ask) {
    let what = format!("the answer {expected:?}");
    crate::net_common::soon(&what, async { while client.ask(&build).await.code() != expected {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_comes_up_later_is_our_own() {
    let mut allow_peers = config().allow_peers;
    allow_peers.push(cidr("203.0.113.0/24"));
    let server = Server::start(&Config { allow_peers, ..config() }).await;
    let service = format!("203.0.113.50:{}", server.udp(true).port());
    let mut clients = Vec::new();
    for kind in EVERY_KIND {
        let mut client = server.client(kind, "p.late").await;
        client.allocate().await;
        assert_eq!(client.ask(bind(0x4000, service.clone())).await.code(), None, "an ordinary peer, as yet");
        clients.push(client);
    }
    let mut interfaces = relais::net::interface_addresses();
    assert!(!server.net.set_interface_addresses(&interfaces), "nothing has changed");
    interfaces.push(ip("203.0.113.50"));
    assert!(server.net.set_interface_addresses(&interfaces));
    let errors = server.net.totals().send_errors;
    for client in &mut clients {
        until_code(client, Some(403), bind(0x4001, service.clone())).await;
        // The channel that was bound before leads nowhere now: nothing is sent to a service of ours.
        client.send_on(0x4000, b"a request to ourselves").await;
        assert_eq!(client.ask(bind(0x4000, service.clone())).await.code(), Some(403));
    }
    assert_eq!(server.net.totals().send_errors, errors);
    // A connection that begins later knows as well.
    let mut late = server.client(Kind::Tcp, "p.later").await;
    late.allocate().await;
    assert_eq!(late.ask(bind(0x4000, service)).await.code(), Some(403));
    // And it may go again.
    interfaces.pop();
    assert!(server.net.set_interface_addresses(&interfaces));
    until_code(&mut late, None, |id| Ask::request(CREATE_PERMISSION, id).peer("203.0.113.50:9")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_exchanged_without_a_restart() {
    let server = Server::start(&config()).await;
    let with = |secret: &[u8], client: &mut TurnClient| {
        let minted = turn::mint(secret, "p.secret", relais::clock::now().unix + 600);
        (client.credential.username, client.credential.password) = (minted.username, minted.password);
    };
    let allocate = |id| Ask::request(ALLOCATE, id).transport(17);
    for kind in EVERY_KIND {
        let both = vec![b"newest".to_vec(), SECRET.to_vec()];
        let mut live = server.client(kind, "p.secret").await;
        let relayed = live.allocate().await;
        let peer = peer_of(relayed);
        live.permit(peer.local_addr().unwrap()).await;
        let mut new = server.client(kind, "p.secret").await;
        with(b"newest", &mut new);
        assert_eq!(new.ask(allocate).await.code(), Some(401));
        server.net.reconfigure(|settings| settings.turn_secrets = both).unwrap();
        until_code(&mut new, None, allocate).await;
        // The other secret is still good: for new allocations and for those that live.
        server.client(kind, "p.secret").await.allocate().await;
        assert_eq!(live.ask(|id| Ask::request(REFRESH, id)).await.code(), None);
        server.net.reconfigure(|settings| settings.turn_secrets.truncate(1)).unwrap();
        until_code(&mut live, Some(401), |id| Ask::request(REFRESH, id)).await;
        let mut old = server.client(kind, "p.secret").await;
        assert_eq!(old.ask(allocate).await.code(), Some(401));
        // Media went on all the while, and a credential of the new secret takes the allocation over.
        peer.send_to(b"still there", relayed).await.unwrap();
        assert_eq!(live.got().await, Got::Data { from: peer.local_addr().unwrap(), payload: b"still there".to_vec() });
        with(b"newest", &mut live);
        assert_eq!(live.ask(|id| Ask::request(REFRESH, id)).await.code(), None);
        server.net.reconfigure(|settings| settings.turn_secrets = vec![SECRET.to_vec()]).unwrap();
        until_code(&mut server.client(kind, "p.secret").await, None, allocate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_outlive_one_exchange_of_their_key() {
    let server = Server::start(&config()).await;
    let mut client = server.client(Kind::Udp4, "p.nonce").await;
    client.allocate().await;
    let nonces = |list: &[&[u8]]| list.iter().map(|secret| secret.to_vec()).collect::<Vec<_>>();
    let refresh = |id| Ask::request(REFRESH, id);
    server.net.reconfigure(|settings| settings.nonce_secrets = nonces(&[b"second", b"nonce"])).unwrap();
    // Whichever of the two is in force, the nonce is good.
    assert_eq!(client.ask(refresh).await.code(), None);
    server.net.reconfigure(|settings| settings.nonce_secrets = nonces(&[b"third", b"second"])).unwrap();
    until_code(&mut client, Some(438), refresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_nobody_could_start_with_change_nothing() {
    let server = Server::start(&config()).await;
    let refused = |edit: fn(&mut relais::relay::Settings)| server.net.reconfigure(edit).unwrap_err();
    assert!(refused(|settings| settings.turn_secrets.push(Vec::new())).contains("secret is empty"));
    assert!(refused(|settings| settings.turn_secrets.clear()).contains("nobody could authenticate"));
    assert!(refused(|settings| settings.nonce_secrets.clear()).contains("nonces"));
    assert!(refused(|settings| settings.nonce_secrets = vec![Vec::new()]).contains("nonces"));
    assert!(refused(|settings| settings.realm = "r".repeat(49)).contains("49 bytes"));
    server.client(Kind::Udp4, "p.same").await.allocate().await;
    let empty = relais::net::Setup {
        config: &config(),
        turn_secrets: vec![Vec::new()],
        revoked: Default::default(),
        nonce_secret: b"nonce".to_vec(),
        tcp_addresses: Vec::new(),
    };
    let error = relais::net::Net::start(empty).err().expect("refused").to_string();
    assert!(error.contains("secret is empty"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_denied_later_is_cut_off() {
    let server = Server::start(&config()).await;
    let mut client = server.client(Kind::Udp4, "p.denied").await;
    let relayed = client.allocate().await;
    // Not an address of an interface: those lead to relayed addresses, which no list denies.
    let peer = crate::net_common::large_socket("127.0.0.2:0");
    client.bind(0x4000, peer.local_addr().unwrap()).await;
    server.net.reconfigure(|settings| settings.deny_peers = vec![cidr("127.0.0.0/8")]).unwrap();
    until_code(&mut client, Some(403), |id| Ask::request(CREATE_PERMISSION, id).peer("127.0.0.2:9")).await;
    client.send_on(0x4000, b"late").await;
    peer.send_to(b"late", relayed).await.unwrap();
    // Both have been looked at when the next request is answered, and neither went through.
    client.ask(|id| Ask::request(REFRESH, id)).await;
    assert!(peer.try_recv_from(&mut [0; 64]).is_err());
    assert_eq!(server.net.allocations(), 1);
}

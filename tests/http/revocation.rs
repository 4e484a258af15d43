//! Leaving revokes: what ends when a peer leaves, its token is taken back or a back end says so, and what a restart keeps.

use futures_util::{SinkExt, StreamExt};
use relais::app::App;
use relais::clock;
use relais::config::{Access, Cidr};
use relais::relay::Transport;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::net_common::core::{Ask, REFRESH};
use crate::net_common::{Link, TurnClient, soon, udp_link, until};
use crate::server::{BLOG, SHOP, Server, api_keys};
use crate::signaling::{Socket, join_with, next};

pub(crate) async fn server() -> Server {
    Server::start(|config| {
        config.api_keys = api_keys();
        config.access = Some(Access::Invite);
        config.relay_ips = vec!["127.0.0.1".parse().expect("address")];
        config.allow_peers = vec![Cidr { network: "127.0.0.0".parse().expect("address"), prefix: 8 }];
    })
    .await
}

/// A TURN client with the credential of an ICE configuration.
pub(crate) async fn client(server: &Server, transport: Transport, credential: (&str, &str)) -> TurnClient {
    let (address, link) = match transport {
        Transport::Udp => {
            let address = server.app.web.bound.udp[0];
            (address, udp_link(address).await)
        }
        Transport::Tcp => (server.tcp(), Link::stream(TcpStream::connect(server.tcp()).await.expect("connected"))),
        Transport::Tls => {
            (server.tcp(), Link::stream(server.handshake("localhost", &["stun.turn"]).await.expect("handshake")))
        }
    };
    let mut client = TurnClient::new(link, address, "unused");
    client.credential.username = credential.0.into();
    client.credential.password = credential.1.into();
    client
}

pub(crate) fn credential(ice: &Value) -> (String, String) {
    let turn = &ice["iceServers"][1];
    let text = |name: &str| turn[name].as_str().expect("text").to_owned();
    (text("username"), text("credential"))
}

/// Allocates over every transport with this credential.
pub(crate) async fn allocate(server: &Server, (username, password): &(String, String)) -> Vec<TurnClient> {
    let mut clients = Vec::new();
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        let mut client = client(server, transport, (username, password)).await;
        client.allocate().await;
        clients.push(client);
    }
    clients
}

/// Everything ends within a second from `started`, and neither lives on nor comes back.
pub(crate) async fn all_end(server: &Server, started: relais::time::Mono, clients: &mut [TurnClient]) {
    until("the allocations to end", || server.app.web.net.allocations() == 0).await;
    let took = clock::now().mono - started;
    assert!(took.as_millis() < 1_000, "{took:?}");
    for client in clients {
        assert_eq!(client.ask(|id| Ask::request(REFRESH, id).lifetime(600)).await.code(), Some(437));
        assert_eq!(client.try_allocate().await.code(), Some(401));
    }
}

/// A member of the room `blue`, by a token of the shop's.
pub(crate) async fn member(server: &Server, wish: &str) -> (Value, Socket, Value) {
    let minted = server.post("/api/tokens", SHOP, wish).await.json();
    let (socket, joined) = join_with(server, minted["token"].as_str().expect("text")).await;
    assert_eq!(joined["type"], "joined", "{joined}");
    (minted, socket, joined)
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_ends_the_allocations_of_the_peer() {
    let server = server().await;
    let (_, mut socket, joined) = member(&server, r#"{"room":"blue"}"#).await;
    let mut clients = allocate(&server, &credential(&joined["ice"])).await;
    let started = clock::now().mono;
    socket.send(Message::text(json!({ "type": "leave" }).to_string())).await.expect("sent");
    all_end(&server, started, &mut clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_everything_that_came_by_it() {
    let server = server().await;
    let (minted, mut socket, joined) = member(&server, r#"{"room":"blue"}"#).await;
    let token = minted["token"].as_str().expect("text");
    let ask = format!("GET /api/ice HTTP/1.1\nHost: localhost\nAuthorization: Bearer {token}");
    let before_joining = credential(&server.plain(&ask).await.json());
    let mut clients = allocate(&server, &credential(&joined["ice"])).await;
    clients.extend(allocate(&server, &before_joining).await);
    // Another back end may not.
    let reply = server.post("/api/revoke", BLOG, &json!({ "token": token }).to_string()).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "not-yours"));
    let reply = server.post("/api/revoke", BLOG, &json!({ "jti": minted["jti"] }).to_string()).await;
    assert_eq!(reply.status, 200, "a token of that name of its own, which nobody has");
    assert_eq!(server.app.web.net.allocations(), 6);
    let started = clock::now().mono;
    let wish = json!({ "jti": minted["jti"] }).to_string();
    let revoking = server.post("/api/revoke", SHOP, &wish);
    let (reply, ()) = tokio::join!(revoking, all_end(&server, started, &mut clients));
    assert_eq!((reply.status, reply.json()["kept"].as_bool()), (200, Some(true)), "{}", reply.body);
    let closed = next(&mut socket).await;
    assert_eq!((&closed["code"], &closed["fatal"]), (&json!("token-revoked"), &json!(true)), "{closed}");
    assert!(soon("the end", socket.next()).await.is_none_or(|end| !matches!(end, Ok(Message::Text(_)))));
    let reply = server.plain(&ask).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "token-revoked"));
    let (_, refused) = join_with(&server, token).await;
    assert_eq!(refused["code"], "token-revoked", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_subject_ends_and_stays_out_over_a_restart() {
    let server = server().await;
    let minted = server.post("/api/credentials", SHOP, r#"{"name":"ada","ttl":600}"#).await.json();
    let ada = credential(&minted);
    let bob = credential(&server.post("/api/credentials", SHOP, r#"{"name":"bob"}"#).await.json());
    let mut clients = allocate(&server, &ada).await;
    let long = format!("a.shop.{}", "x".repeat(65));
    for (key, subject) in [
        (BLOG, "a.shop.ada"),
        (SHOP, "a.blog.x"),
        (SHOP, "p.x"),
        (SHOP, "a.shop"),
        (SHOP, "*"),
        (SHOP, &*long),
        (SHOP, "a.shop.no such name"),
    ] {
        let reply = server.post("/api/revoke", key, &json!({ "subject": subject }).to_string()).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "not-yours"), "{subject}");
    }
    let started = clock::now().mono;
    let revoking = server.post("/api/revoke", SHOP, r#"{"subject":"a.shop.ada"}"#);
    let (reply, ()) = tokio::join!(revoking, all_end(&server, started, &mut clients));
    assert_eq!(reply.json()["kept"], true, "{}", reply.body);
    let reply = server.post("/api/credentials", SHOP, r#"{"name":"ada"}"#).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "subject-revoked"));
    // The next run knows it from its first packet on.
    drop(clients);
    let Server { app, dir } = server;
    let config = relais::config::Config { resume: std::time::Duration::ZERO, ..(*app.web.config()).clone() };
    app.stop().await;
    let server = Server { app: App::start(config).await.expect("started again"), dir };
    let mut again = client(&server, Transport::Udp, (&ada.0, &ada.1)).await;
    assert_eq!(again.try_allocate().await.code(), Some(401));
    client(&server, Transport::Udp, (&bob.0, &bob.1)).await.allocate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_sees_what_a_peer_of_its_room_uses() {
    let server = server().await;
    let (_, _member, joined) = member(&server, r#"{"room":"blue","name":"Ada"}"#).await;
    let host = server.post("/api/tokens", SHOP, r#"{"room":"blue","role":"host"}"#).await.json();
    let other = server.post("/api/tokens", SHOP, r#"{"room":"red","role":"host"}"#).await.json();
    let mut clients = allocate(&server, &credential(&joined["ice"])).await;
    let peer = joined["peer"].as_str().expect("id");
    let admin = std::fs::read_to_string(server.dir.path().join("state/admin-token")).expect("made at first run");
    let ask = async |bearer: &str| {
        let lines = format!("GET /api/peers/{peer} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {bearer}");
        server.plain(&lines).await
    };
    for bearer in [host["token"].as_str().expect("text"), admin.trim()] {
        let told = ask(bearer).await.json();
        assert_eq!((&told["room"], &told["name"], &told["connected"]), (&json!("blue"), &json!("Ada"), &json!(true)));
        let mut transports: Vec<&str> = Vec::new();
        for allocation in told["allocations"].as_array().expect("list") {
            transports.push(allocation["transport"].as_str().expect("text"));
            assert!(allocation["relayed"].as_str().expect("text").starts_with("127.0.0.1:"), "{told}");
            assert!(allocation["expiresIn"].as_u64().expect("number") <= 600);
        }
        transports.sort_unstable();
        assert_eq!(transports, ["tcp", "tls", "udp"]);
    }
    let reply = ask(other["token"].as_str().expect("text")).await;
    assert_eq!((reply.status, reply.code().as_str()), (404, "unknown-peer"), "a host of another room");
    assert_eq!(ask(SHOP).await.code(), "not-host");
    clients.pop().expect("one").release().await;
    let told = ask(admin.trim()).await.json();
    assert_eq!(told["allocations"].as_array().expect("list").len(), 2);
}

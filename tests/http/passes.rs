//! Passes that are spent while a page is connected, and sessions that go from one dialect to another.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use relais::clock;
use relais::config::Access;
use relais::relay::Transport;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::net_common::{soon, until};
use crate::revocation::{client, credential};
use crate::server::{SHOP, Server, api_keys};
use crate::signaling::{Socket, join_with, next, open};

async fn server() -> Server {
    Server::start(|config| {
        config.api_keys = api_keys();
        config.access = Some(Access::Invite);
        config.limits.peers_per_room = 4;
        config.relay_ips = vec!["127.0.0.1".parse().expect("address")];
    })
    .await
}

/// A Socket.IO page in `/webrtc`, over a WebSocket.
struct Page {
    socket: Socket,
    /// Packets that came before what was waited for.
    heard: VecDeque<String>,
}

impl Page {
    /// With the answer to CONNECT.
    async fn connect(server: &Server, token: &str) -> (Self, Value) {
        let origin = format!("https://localhost:{}", server.tcp().port());
        let socket = open(server, "/socket.io/?EIO=4&transport=websocket", &origin).await.expect("upgraded");
        let mut page = Self { socket, heard: VecDeque::new() };
        page.say(&format!("40/webrtc,{}", json!({ "token": token }))).await;
        let accepted = page.hear("40/webrtc,").await;
        (page, accepted)
    }

    async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// The JSON behind `start`, of the next packet that begins so.
    async fn hear(&mut self, start: &str) -> Value {
        loop {
            let text = match self.heard.pop_front() {
                Some(text) => text,
                None => match soon("a packet", self.socket.next()).await.expect("open").expect("message") {
                    Message::Text(text) => text.to_string(),
                    Message::Ping(_) | Message::Pong(_) => continue,
                    other => panic!("{other:?} instead of {start}"),
                },
            };
            if let Some(json) = text.strip_prefix(start) {
                return serde_json::from_str(json).expect("JSON");
            }
        }
    }

    /// The acknowledgement of a join of the room `blue`.
    async fn join(&mut self, ack: u32) -> Value {
        self.say(&format!(r#"42/webrtc,{ack}["join-room",{{"room":"blue"}}]"#)).await;
        self.hear(&format!("43/webrtc,{ack}")).await[0].clone()
    }
}

async fn mint(server: &Server, wish: &str) -> (String, Value) {
    let minted = server.post("/api/tokens", SHOP, wish).await.json();
    (minted["token"].as_str().expect("text").to_owned(), minted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_stays_connected_opens_nothing_by_a_revoked_token() {
    let server = server().await;
    let (token, minted) = mint(&server, r#"{"room":"blue"}"#).await;
    let (mut inside, _) = Page::connect(&server, &token).await;
    let (mut outside, _) = Page::connect(&server, &token).await;
    assert_eq!(inside.join(0).await["room"], "blue");
    let reply = server.post("/api/revoke", SHOP, &json!({ "jti": minted["jti"] }).to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(inside.hear("42/webrtc,").await[1]["code"], "token-revoked");
    for page in [&mut inside, &mut outside] {
        let answer = page.join(1).await;
        assert_eq!(answer["error"]["code"], "token-revoked", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_stays_connected_opens_nothing_by_an_expired_token() {
    let server = server().await;
    let now = clock::now().unix;
    let (mut page, _) = Page::connect(&server, &server.token("abc", now + 2)).await;
    assert_eq!(page.join(0).await["room"], "blue");
    page.say(r#"42/webrtc,["leave-room"]"#).await;
    let over = async {
        loop {
            let answer = page.join(1).await;
            if answer["error"]["code"] == "token-expired" {
                return;
            }
            assert_eq!(answer["room"], "blue", "{answer}");
            page.say(r#"42/webrtc,["leave-room"]"#).await;
            // Within the rate of messages.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the end of the token", over).await;
    assert!(clock::now().unix >= now + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_taken_up_by_another_dialect_leaves_no_credential_behind() {
    let server = server().await;
    let (host, _) = mint(&server, r#"{"room":"blue","role":"host"}"#).await;
    let (mut host, _) = join_with(&server, &host).await;
    let (token, _) = mint(&server, r#"{"room":"blue"}"#).await;
    let (mut page, accepted) = Page::connect(&server, &token).await;
    page.join(0).await;
    // The page's private id names its session, and it may speak the native protocol as well.
    let session = format!("{}.1.1", accepted["pid"].as_str().expect("a private id"));
    let origin = format!("https://localhost:{}", server.tcp().port());
    let mut native = open(&server, "/api/ws", &origin).await.expect("upgraded");
    let join = json!({ "type": "join", "v": 1, "room": "blue", "token": token, "session": session, "seq": 1 });
    native.send(Message::text(join.to_string())).await.expect("sent");
    let joined = next(&mut native).await;
    assert_eq!((&joined["resumed"], &joined["peer"]), (&json!(true), &accepted["sid"]), "{joined}");
    let (username, password) = credential(&joined["ice"]);
    let mut relayed = client(&server, Transport::Udp, (&username, &password)).await;
    relayed.allocate().await;
    assert_eq!(server.app.web.net.allocations(), 1);
    let kick = json!({ "type": "kick", "peer": joined["peer"] });
    host.send(Message::text(kick.to_string())).await.expect("sent");
    until("the end of the allocation", || server.app.web.net.allocations() == 0).await;
    let mut again = client(&server, Transport::Udp, (&username, &password)).await;
    assert_eq!(again.try_allocate().await.code(), Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_made_out_to_a_revoked_peer() {
    let server = server().await;
    let (token, _) = mint(&server, r#"{"room":"blue"}"#).await;
    let (mut socket, joined) = join_with(&server, &token).await;
    let admin = std::fs::read_to_string(server.dir.path().join("state/admin-token")).expect("made at first run");
    let subject = format!("p.{}", joined["peer"].as_str().expect("id"));
    let reply = server.post("/api/revoke", admin.trim(), &json!({ "subject": subject }).to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    socket.send(Message::text(r#"{"type":"ice"}"#)).await.expect("sent");
    let told = next(&mut socket).await;
    assert_eq!((&told["code"], &told["fatal"]), (&json!("kicked"), &json!(true)), "{told}");
}

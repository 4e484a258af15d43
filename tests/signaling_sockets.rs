//! Signaling over real sockets: what a page cannot be made to do is done by hand here.

#[path = "http/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with another test")]
mod server;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use server::Server;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const PATIENCE: Duration = Duration::from_secs(20);

async fn open(server: &Server, path: &str) -> Socket {
    let request = format!("ws://{}{path}", server.tcp()).into_client_request().expect("request");
    connect_async(request).await.expect("connected").0
}

async fn say(socket: &mut Socket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.expect("sent");
}

/// The next message; `None` when the connection is over.
async fn hear(socket: &mut Socket) -> Option<Value> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

async fn join(server: &Server, room: &str) -> (Socket, String) {
    let mut socket = open(server, "/api/ws").await;
    say(&mut socket, &json!({"type": "join", "v": 1, "room": room})).await;
    let joined = hear(&mut socket).await.expect("joined");
    let peer = joined["peer"].as_str().unwrap_or_else(|| panic!("{joined}")).to_owned();
    (socket, peer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_let_go_while_others_go_on() {
    let server = Server::start(|config| config.limits.bytes_per_second = 1 << 30).await;
    let (mut talker, _) = join(&server, "stuck").await;
    let (mut sleeper, sleeping) = join(&server, "stuck").await;
    let (mut ada, _) = join(&server, "fine").await;
    let (mut bob, bob_id) = join(&server, "fine").await;
    assert_eq!(hear(&mut talker).await.expect("told")["type"], "peer-joined");
    assert_eq!(hear(&mut ada).await.expect("told")["type"], "peer-joined");
    let large = json!({"type": "candidate", "to": sleeping, "candidate": "x".repeat(900_000)}).to_string();
    let mut lost = false;
    for number in 0..80 {
        talker.send(Message::text(large.clone())).await.expect("sent");
        say(&mut ada, &json!({"type": "candidate", "to": bob_id, "candidate": number})).await;
        assert_eq!(hear(&mut bob).await.expect("carried")["candidate"], number);
        say(&mut talker, &json!({"type": "ping"})).await;
        while !lost {
            let heard = hear(&mut talker).await.expect("told");
            lost = heard["type"] == "peer-lost";
            if heard["type"] == "pong" {
                break;
            }
        }
        if lost {
            break;
        }
    }
    assert!(lost, "72 MB were neither read nor refused");
    // When it wakes up it is told why.
    let mut last = Value::Null;
    while let Some(heard) = hear(&mut sleeper).await {
        last = heard;
    }
    assert_eq!((&last["code"], &last["fatal"]), (&json!("slow-reader"), &json!(true)));
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_is_told_by_every_way_of_leaving() {
    let server = Server::start(|config| config.resume = Duration::ZERO).await;
    for way in 0..3 {
        let (mut stays, _) = join(&server, "r").await;
        let (mut leaves, leaver) = join(&server, "r").await;
        assert_eq!(hear(&mut stays).await.expect("told")["type"], "peer-joined");
        match way {
            0 => say(&mut leaves, &json!({"type": "leave"})).await,
            1 => leaves.close(None).await.expect("closed"),
            _ => drop(leaves),
        }
        let told = hear(&mut stays).await.expect("told");
        let reason = if way == 0 { "left" } else { "lost" };
        assert_eq!((&told["peer"], &told["reason"]), (&json!(leaver), &json!(reason)));
        say(&mut stays, &json!({"type": "leave"})).await;
        assert_eq!(hear(&mut stays).await, None);
    }
    assert_eq!(server.app.web.hub.stats().await.peers, 0);
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_none() {
    let server = Server::start(|_| {}).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";
    let upgrade = "Host: localhost\nUpgrade: websocket\n";
    for (lines, status) in [
        (format!("GET /api/ws HTTP/1.1\n{upgrade}Connection: Upgrade\nSec-WebSocket-Version: 8\n{key}"), 426),
        (format!("GET /api/ws HTTP/1.1\n{upgrade}Connection: Upgrade\nSec-WebSocket-Version: 13\n"), 400),
        (format!("GET /api/ws HTTP/1.1\n{upgrade}Connection: close\nSec-WebSocket-Version: 13\n{key}"), 400),
        (format!("POST /api/ws HTTP/1.1\n{upgrade}Connection: Upgrade\nSec-WebSocket-Version: 13\n{key}"), 400),
        (
            format!(
                "GET /socket.io/?EIO=4&transport=websocket&sid=none HTTP/1.1\n{upgrade}Connection: Upgrade\n\
                 Sec-WebSocket-Version: 13\n{key}"
            ),
            400,
        ),
    ] {
        let reply = server.plain(&lines).await;
        assert_eq!(reply.status, status, "{lines}");
    }
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_pushed_before_they_expire() {
    let server = Server::start(|config| config.credential_ttl = Duration::from_secs(4)).await;
    let (mut page, _) = join(&server, "r").await;
    for seq in [2, 3] {
        let before = relais::clock::now().unix;
        let pushed = hear(&mut page).await.expect("pushed");
        assert_eq!((&pushed["type"], &pushed["seq"]), (&json!("ice"), &json!(seq)));
        let username = pushed["ice"]["iceServers"][1]["username"].as_str().expect("a username").to_owned();
        let expires: u64 = username.split(':').next().and_then(|text| text.parse().ok()).expect("seconds");
        assert!(expires > before + 4, "{username} was made after the one before");
    }
    server.app.stop().await;
}

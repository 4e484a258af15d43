//! Webhooks, to a receiver that fails first.

use std::sync::{Arc, Mutex};

use futures_util::SinkExt;
use hmac::{Hmac, KeyInit, Mac};
use relais::clock;
use relais::config::Webhook;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::net_common::{TurnClient, soon, udp_link, until};
use crate::server::{Reply, Server};
use crate::signaling::join_with;

const SECRET: &[u8] = b"webhook-secret-of-thirty-two-chars";

/// What a receiver got, one entry for each attempt.
type Attempts = Arc<Mutex<Vec<Reply>>>;

/// Answers each attempt with the next of `statuses`, and with 204 when there is none left.
async fn receiver(statuses: &'static [&'static str]) -> (String, Attempts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/hook?for=relais", listener.local_addr().expect("address"));
    let attempts = Attempts::default();
    let noted = Arc::clone(&attempts);
    tokio::spawn(async move {
        let mut statuses = statuses.iter();
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let status = *statuses.next().unwrap_or(&"204 No Content");
            if status == "hang up" {
                continue;
            }
            let mut bytes = Vec::new();
            while !is_whole(&bytes) {
                assert_ne!(stream.read_buf(&mut bytes).await.expect("read"), 0, "a whole request");
            }
            assert!(bytes.starts_with(b"POST /hook?for=relais HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&bytes));
            // The request line looks enough like a status line to be read as a reply.
            let text = String::from_utf8(bytes).expect("UTF-8").replacen("POST /hook?for=relais", "HTTP/1.1 200", 1);
            noted.lock().expect("lock").push(Reply::parse(text.as_bytes()));
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    (url, attempts)
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// Checks headers and signature; gives the message.
fn checked(attempt: &Reply) -> Value {
    use base64::Engine;
    let (id, timestamp) = (attempt.header("webhook-id"), attempt.header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("key");
    mac.update(format!("{id}.{timestamp}.{}", attempt.body).as_bytes());
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(attempt.header("webhook-signature"), format!("v1,{expected}"));
    assert!(clock::now().unix - timestamp.parse::<u64>().expect("a number") < 60);
    assert_eq!(attempt.header("content-type"), "application/json");
    let message = attempt.json();
    assert_eq!(message["id"], id);
    message
}

async fn server(url: String) -> Server {
    Server::start(|config| {
        config.webhook = Some(Webhook { url, secret: SECRET.to_vec() });
        config.relay_ips = vec!["127.0.0.1".parse().expect("address")];
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_first_is_told_everything_in_order() {
    let (url, attempts) = receiver(&["hang up", "503 Service Unavailable"]).await;
    let server = server(url).await;
    let token = server.token("abc", clock::now().unix + 60);
    let (mut socket, joined) = join_with(&server, &token).await;
    let peer = joined["peer"].as_str().expect("id");
    let turn = &joined["ice"]["iceServers"][1];
    let address = server.app.web.bound.udp[0];
    let mut client = TurnClient::new(udp_link(address).await, address, "unused");
    client.credential.username = turn["username"].as_str().expect("text").into();
    client.credential.password = turn["credential"].as_str().expect("text").into();
    let port = client.allocate().await.port();
    socket.send(Message::text(json!({ "type": "leave" }).to_string())).await.expect("sent");
    // One attempt of these was answered with 503 and repeated.
    until("five attempts", || attempts.lock().expect("lock").len() >= 5).await;
    let messages: Vec<Value> = attempts.lock().expect("lock").iter().map(checked).collect();
    assert_eq!(messages[0], messages[1], "the same message again");
    let find = |kind: &str| {
        messages.iter().find(|message| message["type"] == kind).unwrap_or_else(|| panic!("{kind}: {messages:#?}"))
    };
    assert_eq!(find("peer.joined")["data"], json!({ "room": "blue", "peer": peer, "role": "member", "name": "Ada" }));
    assert_eq!(find("peer.left")["data"], json!({ "room": "blue", "peer": peer, "reason": "left" }));
    assert_eq!(find("room.closed")["data"], json!({ "room": "blue" }));
    let ended = &find("allocation.ended")["data"];
    assert_eq!((&ended["subject"], &ended["room"]), (&json!(format!("p.{peer}")), &json!("blue")), "{ended}");
    assert_eq!(
        (&ended["reason"], &ended["port"], &ended["transport"]),
        (&json!("revoked"), &json!(port), &json!("udp"))
    );
    assert_eq!(ended["toPeer"], json!({ "bytes": 0, "packets": 0 }));
    // The relay tells of its end when it has ended, which may be before or after what the room tells.
    let kinds = messages[1..].iter().map(|message| &message["type"]).filter(|kind| **kind != "allocation.ended");
    assert_eq!(kinds.collect::<Vec<_>>(), ["peer.joined", "peer.left", "room.closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_receiver_refuses_is_not_sent_again() {
    let (url, attempts) = receiver(&["410 Gone"]).await;
    let server = server(url).await;
    let token = server.token("abc", clock::now().unix + 60);
    let (mut socket, _) = join_with(&server, &token).await;
    socket.send(Message::text(json!({ "type": "leave" }).to_string())).await.expect("sent");
    until("three attempts", || attempts.lock().expect("lock").len() >= 3).await;
    let kinds: Vec<String> =
        attempts.lock().expect("lock").iter().map(|attempt| checked(attempt)["type"].to_string()).collect();
    assert_eq!(kinds, ["\"peer.joined\"", "\"peer.left\"", "\"room.closed\""]);
    // A stop waits for the last of them, not for ever.
    soon("the stop", server.app.stop()).await;
}

//! The clients of the cases: plain HTTP requests, and a WebSocket whose frames are taken one by one.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::applications::World;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(body: &str) -> Self {
        Self { status: 200, body: body.to_owned() }
    }
}

impl World {
    pub(crate) async fn request(self, method: &str, query: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let head = format!(
            "{method} /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
        let mut reply = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut reply)).await.expect("in time").expect("answered");
        let reply = String::from_utf8(reply).expect("text");
        let (head, body) = reply.split_once("\r\n\r\n").expect("HTTP");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Answer { status, body: body.to_owned() }
    }

    pub(crate) async fn get(self, query: &str) -> Answer {
        self.request("GET", query, "").await
    }

    /// Opens a session on polling; its name.
    pub(crate) async fn open(self) -> Polling {
        let answer = self.get("EIO=4&transport=polling").await;
        let open: serde_json::Value = serde_json::from_str(answer.body.strip_prefix('0').expect("open")).expect("JSON");
        let sid = open["sid"].as_str().expect("a sid").to_owned();
        Polling { world: self, sid }
    }

    /// A WebSocket, or `None` when the handshake is refused.
    pub(crate) async fn connect(self, query: &str) -> Option<Socket> {
        let url = format!("ws://{}/socket.io/?{query}", self.address);
        connect_async(url).await.ok().map(|(stream, _)| Socket { stream })
    }

    /// A session on WebSocket, behind its open packet.
    pub(crate) async fn socket(self) -> Socket {
        let mut socket = self.connect("EIO=4&transport=websocket").await.expect("connected");
        assert!(socket.text().await.starts_with('0'));
        socket
    }
}

/// A session on polling.
#[derive(Clone)]
pub(crate) struct Polling {
    pub(crate) world: World,
    sid: String,
}

impl Polling {
    pub(crate) async fn poll(&self) -> Answer {
        self.world.get(&format!("EIO=4&transport=polling&sid={}", self.sid)).await
    }

    pub(crate) async fn post(&self, body: &str) -> Answer {
        self.world.request("POST", &format!("EIO=4&transport=polling&sid={}", self.sid), body).await
    }

    /// A WebSocket that wants to take over.
    pub(crate) async fn upgrade(&self) -> Option<Socket> {
        self.world.connect(&format!("EIO=4&transport=websocket&sid={}", self.sid)).await
    }

    /// One that has shown that it works.
    pub(crate) async fn probed(&self) -> Socket {
        let mut socket = self.upgrade().await.expect("connected");
        socket.say("2probe").await;
        assert_eq!(socket.text().await, "3probe");
        socket
    }

    /// One that has taken over: a message came over it.
    pub(crate) async fn upgraded(&self) -> Socket {
        let mut socket = self.probed().await;
        socket.say("5").await;
        socket
    }
}

/// A WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(crate) async fn say(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("sent");
    }

    pub(crate) async fn send(&mut self, bytes: &'static [u8]) {
        self.stream.send(Message::binary(bytes)).await.expect("sent");
    }

    /// The next text, pings included.
    pub(crate) async fn text(&mut self) -> String {
        self.next().await.expect("still open")
    }

    /// The same; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        match self.frame().await {
            Some(Message::Text(text)) => Some(text.as_str().to_owned()),
            None => None,
            Some(other) => panic!("{other:?} is no text"),
        }
    }

    /// The next text that is no ping.
    pub(crate) async fn packet(&mut self) -> String {
        loop {
            let text = self.text().await;
            if text != "2" {
                return text;
            }
        }
    }

    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        loop {
            match self.frame().await {
                Some(Message::Binary(bytes)) => return bytes.to_vec(),
                Some(Message::Text(text)) if text.as_str() == "2" => {}
                other => panic!("{other:?} is not binary"),
            }
        }
    }

    /// Waits for the end; what came before it, pings aside.
    pub(crate) async fn closed(&mut self) -> Vec<String> {
        let mut before = Vec::new();
        while let Some(message) = self.frame().await {
            match message {
                Message::Text(text) if text.as_str() == "2" => {}
                other => before.push(other.to_string()),
            }
        }
        before
    }

    async fn frame(&mut self) -> Option<Message> {
        match timeout(PATIENCE, self.stream.next()).await.expect("in time") {
            Some(Ok(Message::Close(_)) | Err(_)) | None => None,
            Some(Ok(message)) => Some(message),
        }
    }
}

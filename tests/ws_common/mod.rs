//! A page's end of a WebSocket to the built binary.

#![allow(dead_code, reason = "every test crate that includes this uses a part of it")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use relais::credentials::token::{Claims, Role, Tokens};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::common::Server;

/// Nothing here takes longer unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One WebSocket.
pub struct Page {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What ends a connection, or stands in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Message(Value),
    /// The close code, when there was one.
    Closed(Option<u16>),
}

impl Page {
    pub async fn open(server: SocketAddr, path: &str) -> Self {
        Self::open_from(server, path, None).await.expect("connected")
    }

    /// With this `Origin`. `Err`: the HTTP status of the refusal.
    pub async fn open_from(server: SocketAddr, path: &str, origin: Option<&str>) -> Result<Self, u16> {
        let mut request = format!("ws://{server}{path}").into_client_request().expect("request");
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", HeaderValue::from_str(origin).expect("header"));
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn say(&mut self, message: &Value) {
        self.say_raw(Message::text(message.to_string())).await;
    }

    /// What the server does not take any more is of no interest: it says why.
    pub async fn say_raw(&mut self, message: Message) {
        let _ = timeout(PATIENCE, self.socket.send(message)).await.expect("taken");
    }

    /// A frame as it is, whether it is right or not.
    pub async fn say_frame(&mut self, frame: Frame) {
        self.say_raw(Message::Frame(frame)).await;
    }

    /// The next message, or the end.
    pub async fn hear(&mut self) -> Heard {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("in time") {
                Some(Ok(Message::Text(text))) => return Heard::Message(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Binary(bytes))) => panic!("a binary frame: {bytes:?}"),
                Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    /// The next message; the end is a failure.
    #[track_caller]
    pub fn message(&mut self) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            match self.hear().await {
                Heard::Message(message) => message,
                Heard::Closed(code) => panic!("closed with {code:?}, {caller}"),
            }
        }
    }

    /// The next message of this type; others are passed over.
    pub async fn message_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.message().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Waits for the end of the connection, however it comes.
    pub async fn closed(&mut self) {
        while let Heard::Message(_) = self.hear().await {}
    }

    /// Joins over the native protocol, with whatever else the join is to say; gives the `joined`.
    pub async fn join(server: &Server, room: &str, more: Value) -> (Self, Value) {
        let mut page = Self::open(server.tcp[0], "/api/ws").await;
        let mut join = json!({"type": "join", "v": 1, "room": room});
        join.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        page.say(&join).await;
        let joined = page.message().await;
        assert_eq!(joined["type"], "joined", "{joined}");
        (page, joined)
    }
}

/// The tokens of a running server.
pub fn tokens(server: &Server) -> Tokens {
    Tokens::new(server.place.state_file("token-key").into_bytes())
}

/// A token for `room`, good for a minute (or over for one).
pub fn token(server: &Server, room: &str, role: Role, is_expired: bool) -> String {
    let now = relais::clock::now().unix;
    let from = if is_expired { now - 120 } else { now };
    tokens(server).mint(&Claims::new(room, role, None, from, 60))
}

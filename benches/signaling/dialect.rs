//! How a page of each kind joins a room, comes back to it and speaks in it.

use std::io;

use serde_json::{Value, json};

use super::wire::{self, Reader, Target, Writer};

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The native protocol; the peer on `ws` takes the same words.
    Native,
    SocketIo,
    Live,
}

/// The messages of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Offer,
    Answer,
    Candidate,
}

/// Size of an offer or answer, and of a candidate, in bytes.
const DESCRIPTION: usize = 2000;
const CANDIDATE: usize = 150;

impl Dialect {
    fn path(self) -> &'static str {
        match self {
            Self::Native => "/api/ws",
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket",
            Self::Live => "/live",
        }
    }
}

/// A place in the rooms: two make a room.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub index: usize,
}

impl Seat {
    pub fn room(self) -> usize {
        self.index / 2
    }

    /// The one who is there first, and offers.
    pub fn is_first(self) -> bool {
        self.index.is_multiple_of(2)
    }
}

/// What brings a lost client back.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// Native: the session; Socket.IO: the `pid`.
    secret: Option<String>,
    /// Native: the last number; Socket.IO: the last offset.
    seq: u64,
    offset: Option<String>,
    /// Our public id, by which we know whether we are the same peer again.
    id: String,
}

/// A client in its room.
pub struct Client {
    dialect: Dialect,
    seat: Seat,
    reader: Reader,
    partner: String,
    pass: Pass,
    /// It is the peer that it was before.
    pub is_same: bool,
}

/// What sends in a client's name.
pub struct Mouth {
    dialect: Dialect,
    seat: Seat,
    partner: String,
    writer: Writer,
}

impl Client {
    /// Connects and joins. With `pass`: comes back.
    pub async fn enter(target: &Target, dialect: Dialect, seat: Seat, pass: Option<&Pass>) -> io::Result<Self> {
        let reader = wire::open(target, seat.index, dialect.path()).await?;
        let pass = pass.cloned().unwrap_or_default();
        let mut client = Self { dialect, seat, reader, partner: String::new(), pass, is_same: false };
        match dialect {
            Dialect::Native => client.enter_native().await?,
            Dialect::SocketIo => client.enter_socketio().await?,
            Dialect::Live => client.enter_live().await?,
        }
        Ok(client)
    }

    async fn enter_native(&mut self) -> io::Result<()> {
        let mut join = json!({
            "type": "join", "v": 1, "room": format!("room-{}", self.seat.room()),
            "instance": format!("i{}", self.seat.index),
        });
        if let Some(secret) = &self.pass.secret {
            join["session"] = json!(secret);
            join["seq"] = json!(self.pass.seq);
        }
        self.reader.writer().send(&join.to_string()).await?;
        let joined = self.until(|message| message["type"] == "joined").await?;
        if let Some(other) = joined["peers"][0]["peer"].as_str() {
            self.partner = other.to_owned();
        }
        let id = text(&joined["peer"]);
        self.is_same = id == self.pass.id;
        self.pass = Pass { secret: joined["session"].as_str().map(str::to_owned), id, ..self.pass.clone() };
        Ok(())
    }

    async fn enter_socketio(&mut self) -> io::Result<()> {
        let writer = self.reader.writer();
        let room = format!("room-{}", self.seat.room());
        self.until_text(|text| text.starts_with('0')).await?;
        match (&self.pass.secret, &self.pass.offset) {
            (Some(pid), Some(offset)) => {
                writer.send(&format!("40/webrtc,{}", json!({ "pid": pid, "offset": offset }))).await?
            }
            _ => writer.send("40/webrtc,").await?,
        }
        let answer = self.until_text(|text| text.starts_with("40/webrtc,") || text.starts_with("44")).await?;
        let answer = answer.strip_prefix("40/webrtc,").ok_or_else(|| io::Error::other(answer.clone()))?;
        let answer: Value = serde_json::from_str(answer)?;
        let id = text(&answer["sid"]);
        self.is_same = id == self.pass.id;
        self.pass.id = id;
        self.pass.secret = answer["pid"].as_str().map(str::to_owned);
        if !self.is_same {
            writer.send(&format!("42/webrtc,1{}", json!(["join-room", { "room": room }]))).await?;
            self.until_text(|text| text.starts_with("43/webrtc,1[")).await?;
        }
        Ok(())
    }

    async fn enter_live(&mut self) -> io::Result<()> {
        let stream = format!("room-{}", self.seat.room());
        let register = if self.seat.is_first() {
            json!({ "type": "streamer", "stream": stream })
        } else {
            json!({ "type": "viewer", "stream": stream, "viewerId": self.seat.index })
        };
        self.reader.writer().send(&register.to_string()).await?;
        if self.seat.is_first() {
            self.until(|message| message["type"] == "viewerCount").await?;
        }
        Ok(())
    }

    /// Waits until the room is complete.
    pub async fn meet(&mut self) -> io::Result<()> {
        if self.dialect == Dialect::Native && self.partner.is_empty() {
            let joined = self.until(|message| message["type"] == "peer-joined").await?;
            self.partner = text(&joined["peer"]);
        }
        if self.dialect == Dialect::Live && self.seat.is_first() {
            self.until(|message| message["type"] == "newViewer").await?;
        }
        Ok(())
    }

    /// Waits for the partner's next message, and gives the stamp in it.
    pub async fn hear(&mut self) -> io::Result<u64> {
        loop {
            let dialect = self.dialect;
            let text = self.reader.next().await?;
            if dialect == Dialect::SocketIo && text == "2" {
                self.reader.writer().send("3").await?;
                continue;
            }
            if let Some(stamp) = stamp(text) {
                return Ok(stamp);
            }
        }
    }

    /// The same, remembering what a resume needs.
    pub async fn hear_and_note(&mut self) -> io::Result<u64> {
        let heard = self.until_text(|text| stamp(text).is_some()).await?;
        Ok(stamp(&heard).unwrap_or_default())
    }

    pub fn mouth(&self) -> Mouth {
        let (dialect, seat, partner) = (self.dialect, self.seat, self.partner.clone());
        Mouth { dialect, seat, partner, writer: self.reader.writer() }
    }

    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// The partner's public id, where the dialect needs it.
    pub fn partner(&self) -> &str {
        &self.partner
    }

    /// Who comes back the same finds the same partner.
    pub fn set_partner(&mut self, partner: String) {
        if self.partner.is_empty() {
            self.partner = partner;
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> io::Result<Value> {
        let text = self.until_text(|text| serde_json::from_str(text).is_ok_and(|value| wanted(&value))).await?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn until_text(&mut self, wanted: impl Fn(&str) -> bool) -> io::Result<String> {
        loop {
            let text = self.reader.next().await?.to_owned();
            if self.dialect == Dialect::SocketIo && text == "2" {
                self.reader.writer().send("3").await?;
            }
            self.note(&text);
            if self.dialect == Dialect::Native && text.contains("\"fatal\":true") {
                return Err(io::Error::other(text));
            }
            if wanted(&text) {
                return Ok(text);
            }
        }
    }

    /// Remembers how far we have heard.
    fn note(&mut self, text: &str) {
        match self.dialect {
            Dialect::Native => {
                let message: Value = serde_json::from_str(text).unwrap_or_default();
                self.pass.seq = message["seq"].as_u64().unwrap_or(self.pass.seq);
            }
            // The last argument of each event is its offset, when the server recovers.
            Dialect::SocketIo if self.pass.secret.is_some() => {
                let Some(event) = text.strip_prefix("42/webrtc,") else { return };
                let event: Vec<Value> = serde_json::from_str(event).unwrap_or_default();
                if let Some(offset) = event.last().and_then(Value::as_str).filter(|_| event.len() > 1) {
                    self.pass.offset = Some(offset.to_owned());
                }
            }
            Dialect::SocketIo | Dialect::Live => {}
        }
    }
}

impl Mouth {
    /// Says `kind` to the partner, with `stamp` in it.
    pub async fn say(&self, kind: Kind, stamp: u64) -> io::Result<()> {
        self.writer.send(&self.text(kind, stamp)).await
    }

    fn text(&self, kind: Kind, stamp: u64) -> String {
        let (name, field, body) = match kind {
            Kind::Offer => ("offer", "offer", description("offer", stamp)),
            Kind::Answer => ("answer", "answer", description("answer", stamp)),
            Kind::Candidate => ("candidate", "candidate", candidate(stamp)),
        };
        let (room, partner) = (self.seat.room(), &self.partner);
        match self.dialect {
            Dialect::Native => {
                let field = if kind == Kind::Candidate { "candidate" } else { "description" };
                format!(r#"{{"type":"{name}","to":"{partner}","{field}":{body}}}"#)
            }
            Dialect::SocketIo => {
                let name = if kind == Kind::Candidate { "ice-candidate" } else { name };
                format!(r#"42/webrtc,["webrtc-{name}",{{"room":"room-{room}","{field}":{body}}}]"#)
            }
            Dialect::Live => {
                let (viewer, target) =
                    if self.seat.is_first() { (self.seat.index + 1, "viewer") } else { (self.seat.index, "streamer") };
                format!(r#"{{"type":"{name}","{field}":{body},"target":"{target}","viewerId":{viewer}}}"#)
            }
        }
    }
}

fn description(kind: &str, stamp: u64) -> String {
    let head = format!(r#"{{"type":"{kind}","sdp":"@{stamp}@v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\n"#);
    let fill = "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1\\r\\n";
    let mut text = head;
    while text.len() + fill.len() < DESCRIPTION {
        text.push_str(fill);
    }
    text + r#""}"#
}

fn candidate(stamp: u64) -> String {
    let head = format!(
        r#"{{"candidate":"@{stamp}@candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":""#
    );
    let fill = "u".repeat(CANDIDATE.saturating_sub(head.len() + 2));
    head + &fill + r#""}"#
}

/// The number between the first two `@` of a message.
fn stamp(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once('@')?;
    rest.split_once('@')?.0.parse().ok()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

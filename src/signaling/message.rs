//! What passes between the dialects and the hub.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Fault, Role};

/// Opaque JSON, carried byte for byte and shared by all who receive it, and the binary parts that it refers to.
#[derive(Clone, Debug)]
pub struct Body(Arc<Content>);

#[derive(Debug)]
struct Content {
    json: Box<RawValue>,
    attachments: Vec<Bytes>,
}

impl Body {
    /// JSON with Socket.IO placeholders for these parts.
    pub fn with_attachments(json: Box<RawValue>, attachments: Vec<Bytes>) -> Self {
        Self(Arc::new(Content { json, attachments }))
    }

    /// The binary parts, which only Socket.IO pages send.
    pub fn attachments(&self) -> &[Bytes] {
        &self.0.attachments
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        self.get().len() + self.attachments().iter().map(Bytes::len).sum::<usize>()
    }
}

impl From<Box<RawValue>> for Body {
    fn from(json: Box<RawValue>) -> Self {
        Self::with_attachments(json, Vec::new())
    }
}

impl Deref for Body {
    type Target = RawValue;

    fn deref(&self) -> &RawValue {
        &self.0.json
    }
}

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.json.serialize(serializer)
    }
}

/// A source of unpredictable bytes, passed in by the shell.
pub trait Random {
    fn fill(&self, bytes: &mut [u8]);
}

/// A signaling peer's public id: random, set by the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Arc<str>);

impl PeerId {
    /// 120 random bits, 20 characters: as long as a Socket.IO id, and not to be guessed.
    pub fn random<R: Random + ?Sized>(random: &R) -> Self {
        Self(random_text::<15, R>(random))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PeerId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Serialize for PeerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The secret that lets a client take up its session again.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// 192 random bits.
    pub fn random<R: Random + ?Sized>(random: &R) -> Self {
        Self(random_text::<24, R>(random))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

fn random_text<const N: usize, R: Random + ?Sized>(random: &R) -> Arc<str> {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes).into()
}

/// One attached client: a WebSocket, or one namespace of a Socket.IO connection. Set by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    pub connection: u64,
    /// Which of the connection's namespaces; 0 for dialects that have none.
    pub slot: u8,
}

/// Where peers meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoomKey {
    /// A room for calls, shared by the native dialect and Socket.IO's `/webrtc`.
    Call(Arc<str>),
    /// One streamer and its viewers.
    Stream(Arc<str>),
    /// Every by-id socket: nobody is told of anybody, only who knows an id reaches it.
    Direct,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Offer,
    Answer,
    Candidate,
    Bye,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    Peer(PeerId),
    /// Whoever it fits: an offer everybody else, an answer the one who offered, a candidate the one being called.
    Others,
}

/// What a client wants, as its dialect understood it.
#[derive(Clone, Debug)]
pub enum Command {
    Join(Box<Join>),
    /// Take up a session in whatever room it is; answered by [`Event::Joined`] or by [`Fault::UnknownSession`].
    Resume(Resume),
    Send {
        to: To,
        kind: Kind,
        body: Option<Body>,
    },
    /// A fresh ICE configuration, in its place among the numbered messages.
    Ice,
    /// A complaint about the client's last message, in its place among the numbered messages.
    Complain(Fault),
    Leave,
}

/// A wish to be in a room; access has been checked.
#[derive(Clone, Debug)]
pub struct Join {
    pub room: RoomKey,
    /// The id that the client gets, unless it takes up a session.
    pub peer: PeerId,
    pub role: Role,
    pub name: Option<String>,
    pub instance: Option<String>,
    /// What the client calls itself (a live page's `viewerId`), as JSON.
    pub alias: Option<Body>,
    /// Present when a lost connection may come back.
    pub session: Option<SessionRequest>,
}

/// The resumable part of a [`Join`].
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// The secret of the session, unless an older one is taken up.
    pub secret: Secret,
    pub resume: Option<Resume>,
    /// While its connection is lost, somebody new may have its place in a full room: a page that was loaded again does
    /// not know of its session.
    pub yields: bool,
}

/// A session to take up.
#[derive(Clone, Debug)]
pub struct Resume {
    pub secret: Secret,
    /// The number of the last message that the client received.
    pub seq: Option<u64>,
}

/// What the hub tells a client.
#[derive(Clone, Debug)]
pub enum Event {
    Joined(Box<Joined>),
    PeerJoined(Box<PeerView>),
    PeerLost(PeerId),
    PeerBack(PeerId),
    PeerLeft {
        peer: PeerId,
        reason: LeaveReason,
    },
    Message {
        from: PeerId,
        kind: Kind,
        body: Option<Body>,
    },
    /// Asked for by [`Command::Ice`]; the dialect puts a fresh configuration in.
    Ice,
    Complaint(Fault),
    /// The server stops.
    Closing,
    /// The hub has nothing more for this link: a join was refused or the session is somebody else's now.
    Closed(Fault),
}

impl Event {
    /// Roughly how many bytes it holds, for the limits of queues.
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        match self {
            Self::Message { body: Some(body), .. } => FIXED + body.size(),
            Self::Joined(joined) => FIXED * (1 + joined.peers.len()),
            _ => FIXED,
        }
    }
}

/// An [`Event`] with its number in the session, counting from 1.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub seq: u64,
    pub event: Event,
}

/// The answer to a join.
#[derive(Clone, Debug)]
pub struct Joined {
    pub room: RoomKey,
    pub peer: PeerId,
    pub session: Option<Secret>,
    /// The session was still known: same peer, and the missed messages follow.
    pub resumed: bool,
    /// So many missed messages follow at once.
    pub missed: usize,
    pub role: Role,
    pub name: Option<String>,
    /// How many peers the room takes.
    pub limit: usize,
    /// How long a lost connection may come back.
    pub resume: Duration,
    /// Who else is there, oldest first.
    pub peers: Vec<PeerView>,
}

/// What one peer is told of another.
#[derive(Clone, Debug)]
pub struct PeerView {
    pub peer: PeerId,
    pub name: Option<String>,
    pub role: Role,
    pub instance: Option<String>,
    /// The role of the one who is told, in perfect negotiation: whoever came later is polite.
    pub polite: bool,
    pub connected: bool,
    pub alias: Option<Body>,
}

/// Why a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaveReason {
    /// It said so.
    Left,
    /// Its connection broke and did not come back in time.
    Lost,
    /// Its page was loaded again and joined as a new peer.
    Reload,
}

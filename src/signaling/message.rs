//! What passes between the dialects and the hub.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Body, Fault, Role};

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

impl fmt::Display for RoomKey {
    /// The name, as the log shows it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(name) => out.write_str(name),
            Self::Stream(name) => write!(out, "live:{name}"),
            Self::Direct => out.write_str("by-id"),
        }
    }
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
    /// A host removes somebody from its room.
    Kick(PeerId),
    /// A host lets nobody new in (true), or everybody again.
    Lock(bool),
    /// A host ends its room.
    Close,
    /// A host wants an access token for its room.
    Invite(Arc<Invite>),
    /// The client was heard of after an [`Event::Probe`].
    Alive,
    Leave,
}

impl Command {
    /// Bytes that it carries.
    pub fn size(&self) -> usize {
        if let Self::Send { body: Some(body), .. } = self { body.size() } else { 0 }
    }
}

/// The access token that a host wants for its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// What the host calls this wish, to know its answer by.
    pub id: Option<String>,
    pub role: Role,
    pub name: Option<String>,
    /// Seconds, as wished.
    pub ttl: Option<u64>,
}

/// What a client came in by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The id of its access token; `None` where it showed none.
    pub token: Option<Arc<str>>,
    /// When that token expires, in unix seconds.
    pub expires: Option<u64>,
    /// That token opens this one room.
    pub one_room: bool,
}

/// What a live page's viewer calls itself: a string or a number, kept in its JSON type, since streamers use it as the
/// key of a map.
#[derive(Clone, Debug)]
pub struct Alias {
    json: Body,
    key: Arc<str>,
}

impl Alias {
    /// `None`: neither a string nor a number that JavaScript can tell from others.
    pub fn parse(json: &RawValue) -> Option<Self> {
        let key = match serde_json::from_str(json.get()).ok()? {
            serde_json::Value::String(text) => format!("\"{text}"),
            // 5, 5.0 and 5e0 are one number to a page, and so are 0 and -0.
            serde_json::Value::Number(number) => format!("{}", number.as_f64().filter(|n| n.is_finite())? + 0.0),
            _ => return None,
        };
        Some(Self { json: json.to_owned().into(), key: key.into() })
    }

    /// As its viewer wrote it.
    pub fn json(&self) -> &Body {
        &self.json
    }

    /// The same for all ways of writing the same id.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }
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
    /// What the client calls itself (a live page's `viewerId`).
    pub alias: Option<Alias>,
    pub pass: Pass,
    /// Why a new peer is refused: a living session may be taken up all the same.
    pub refused: Option<Fault>,
    /// Present when a lost connection may come back.
    pub session: Option<SessionRequest>,
}

#[cfg(test)]
impl Join {
    /// A member whom nothing is known of, without a session.
    pub(crate) fn nobody(room: RoomKey, peer: &str) -> Self {
        Self {
            room,
            peer: peer.into(),
            role: Role::Member,
            name: None,
            instance: None,
            alias: None,
            pass: Pass::default(),
            refused: None,
            session: None,
        }
    }
}

/// The resumable part of a [`Join`].
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// The secret of the session, unless an older one is taken up.
    pub secret: Secret,
    pub resume: Option<Resume>,
    /// The page does not know of its session: no credentials are made out to its peer, and while its connection is lost
    /// somebody new may have its place in a full room, since it would not come back for it after a reload.
    pub unaware: bool,
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
    /// A host locked or unlocked the room.
    Lock {
        locked: bool,
        by: PeerId,
    },
    /// So many viewers are connected now.
    Viewers(usize),
    /// Asked for by [`Command::Invite`]; the dialect puts a fresh token in, which lives no longer than `until` (unix
    /// seconds), the end of the host's own.
    Invite {
        invite: Arc<Invite>,
        until: Option<u64>,
    },
    /// Somebody waits for this client's place: the shell is to see whether it is alive. Without a number.
    Probe,
    Complaint(Fault),
    /// The server will stop when its calls have ended, in so many seconds at most.
    Draining {
        seconds: u64,
    },
    /// The server stops.
    Closing,
    /// The hub has nothing more for this link: a join was refused or the session is somebody else's now.
    Closed(Fault),
}

/// What happened in the rooms, for the log and whoever else watches.
#[derive(Clone, Debug)]
pub enum Notice {
    Joined {
        room: RoomKey,
        peer: PeerId,
        role: Role,
        name: Option<String>,
    },
    /// A peer is gone for good: its credentials end now.
    Left {
        room: RoomKey,
        peer: PeerId,
        reason: LeaveReason,
        /// TURN credentials are made out to it.
        has_credentials: bool,
        /// The id of the token that it came by, when a kick barred it from the only room that it opens, and nobody else
        /// came by it: what was given out for that token ends, too.
        spent: Option<Arc<str>>,
    },
    /// A host locked or unlocked the room.
    Locked {
        room: RoomKey,
        by: PeerId,
        locked: bool,
    },
    /// The last peer left, or a host ended the room.
    RoomClosed {
        room: RoomKey,
    },
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
    /// Nobody new gets in but hosts.
    pub locked: bool,
    /// Viewers that are connected, as far as the room counts them.
    pub viewers: usize,
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
    pub alias: Option<Alias>,
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
    /// A host removed it.
    Kicked,
    /// A host ended the room. Nobody is left to be told.
    Closed,
    /// The token it came with was revoked.
    Revoked,
}

impl LeaveReason {
    /// The word used in messages and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Lost => "lost",
            Self::Reload => "reload",
            Self::Kicked => "kicked",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
        }
    }
}

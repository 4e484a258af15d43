//! The JSON of the native protocol.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::{Invitation, present};
use crate::signaling::{Body, Fault, Invite, Joined, Kind, LeaveReason, PeerId, PeerView, Role, RoomKey};

/// Any message of a client: the fields of all types, since a flat shape lets bodies be borrowed as they stand.
#[derive(Deserialize)]
pub(super) struct ClientMessage<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(default)]
    pub(super) v: Option<u64>,
    #[serde(default, borrow)]
    pub(super) room: Option<Cow<'a, str>>,
    /// In place of a room.
    #[serde(default, borrow)]
    pub(super) stream: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) token: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) instance: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) session: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) seq: Option<u64>,
    #[serde(default, borrow)]
    pub(super) to: Option<Cow<'a, str>>,
    /// Of a kick.
    #[serde(default, borrow)]
    pub(super) peer: Option<Cow<'a, str>>,
    /// Of a lock.
    #[serde(default)]
    pub(super) locked: Option<bool>,
    /// Of an invite, and of a join to a stream.
    #[serde(default)]
    pub(super) role: Option<Role>,
    #[serde(default)]
    pub(super) ttl: Option<u64>,
    #[serde(default, borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) description: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) candidate: Option<&'a RawValue>,
}

/// A message with its number in the session.
#[derive(Serialize)]
pub(super) struct Numbered<'a> {
    #[serde(flatten)]
    pub(super) message: &'a ServerMessage<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ServerMessage<'a> {
    Joined {
        v: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stream: Option<&'a str>,
        peer: &'a PeerId,
        session: Option<&'a str>,
        resumed: bool,
        role: Role,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        limit: usize,
        resume: u64,
        locked: bool,
        viewers: usize,
        peers: Vec<WirePeer<'a>>,
        ice: &'a RawValue,
    },
    Offer {
        from: &'a PeerId,
        description: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<String>,
    },
    Answer {
        from: &'a PeerId,
        description: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<String>,
    },
    Candidate {
        from: &'a PeerId,
        candidate: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<String>,
    },
    Bye {
        from: &'a PeerId,
    },
    Ice {
        ice: &'a RawValue,
    },
    PeerJoined(WirePeer<'a>),
    PeerLost {
        peer: &'a PeerId,
    },
    PeerBack {
        peer: &'a PeerId,
    },
    PeerLeft {
        peer: &'a PeerId,
        reason: LeaveReason,
    },
    Lock {
        locked: bool,
        by: &'a PeerId,
    },
    Viewers {
        count: usize,
    },
    #[serde(rename_all = "camelCase")]
    Invite {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        room: &'a str,
        role: Role,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        token: &'a str,
        expires_at: u64,
    },
    Draining {
        seconds: u64,
    },
    Closing {
        reason: &'a str,
    },
    Error {
        code: &'static str,
        message: String,
        fatal: bool,
    },
    Pong,
}

impl<'a> ServerMessage<'a> {
    pub(super) fn joined(joined: &'a Joined, ice: &'a RawValue) -> Self {
        let (room, stream) = match &joined.room {
            RoomKey::Call(name) => (Some(&**name), None),
            RoomKey::Stream(name) => (None, Some(&**name)),
            RoomKey::Direct => (None, None),
        };
        Self::Joined {
            v: 1,
            room,
            stream,
            peer: &joined.peer,
            session: joined.session.as_ref().map(|secret| secret.as_str()),
            resumed: joined.resumed,
            role: joined.role,
            name: joined.name.as_deref(),
            limit: joined.limit,
            resume: joined.resume.as_secs(),
            locked: joined.locked,
            viewers: joined.viewers,
            peers: joined.peers.iter().map(WirePeer::from).collect(),
            ice,
        }
    }

    pub(super) fn carried(from: &'a PeerId, kind: Kind, body: Option<&'a Body>) -> Self {
        let attachments = body.map(attachments).unwrap_or_default();
        let body = body.map(|body| &**body);
        match kind {
            Kind::Offer => Self::Offer { from, description: body, attachments },
            Kind::Answer => Self::Answer { from, description: body, attachments },
            Kind::Candidate => Self::Candidate { from, candidate: body, attachments },
            Kind::Bye => Self::Bye { from },
        }
    }

    pub(super) fn invite(room: &'a str, invite: &'a Invite, invitation: &'a Invitation) -> Self {
        Self::Invite {
            id: invite.id.as_deref(),
            room,
            role: invite.role,
            name: invite.name.as_deref(),
            token: &invitation.token,
            expires_at: invitation.expires_at,
        }
    }

    pub(super) fn error(fault: Fault, fatal: bool) -> Self {
        Self::Error { code: fault.code(), message: fault.to_string(), fatal }
    }
}

/// The binary parts that a Socket.IO page sent along, as base64.
fn attachments(body: &Body) -> Vec<String> {
    body.attachments().iter().map(|bytes| STANDARD.encode(bytes)).collect()
}

#[derive(Serialize)]
pub(super) struct WirePeer<'a> {
    peer: &'a PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    polite: bool,
    connected: bool,
}

impl<'a> From<&'a PeerView> for WirePeer<'a> {
    fn from(view: &'a PeerView) -> Self {
        Self {
            peer: &view.peer,
            name: view.name.as_deref(),
            role: view.role,
            instance: view.instance.as_deref(),
            polite: view.polite,
            connected: view.connected,
        }
    }
}

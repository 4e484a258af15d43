//! The namespace `/webrtc`: calls in rooms, the same rooms as the native dialect's.
//!
//! A page that knows nothing of us is told only `webrtc-*` events it listens for; `room-joined`, `peer-joined`,
//! `peer-left`, `peer-lost`, `peer-back`, `webrtc-bye` and `error` come in addition.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{Permit, body, to_json};
use super::{Action, Argument, Carried, WireError};
use crate::signaling::{Command, Event, Fault, Join, Joined, Kind, LeaveReason, PeerId, PeerView, Role, RoomKey, To};

/// Longest room and display name, in characters.
const MAX_NAME: usize = 64;

/// One socket in `/webrtc`.
pub(super) struct Rooms {
    id: PeerId,
    permit: Permit,
    /// The room it is in or has asked for.
    room: Option<String>,
    /// The acknowledgement that waits for the hub's answer to the join.
    join_ack: Option<u64>,
}

impl Rooms {
    pub(super) fn new(id: PeerId, permit: Permit) -> Self {
        Self { id, permit, room: None, join_ack: None }
    }

    /// `ack`: the id under which an acknowledgement is expected.
    pub(super) fn handle_message(&mut self, name: &str, argument: Option<&RawValue>, ack: Option<u64>) -> Vec<Action> {
        match self.read(name, argument, ack) {
            Ok(actions) => actions,
            Err(fault) => refusal(None, fault),
        }
    }

    /// `Err`: the server stops.
    pub(super) fn handle_event(&mut self, event: Event) -> Result<Vec<Action>, Fault> {
        Ok(match event {
            Event::Joined(joined) => self.joined(&joined),
            Event::PeerJoined(peer) => vec![Action::Emit("peer-joined", to_json(&WirePeer::from(&*peer)))],
            Event::PeerLost(peer) => vec![told("peer-lost", &peer, None)],
            Event::PeerBack(peer) => vec![told("peer-back", &peer, None)],
            Event::PeerLeft { peer, reason } => vec![told("peer-left", &peer, Some(reason))],
            Event::Message { from, kind, body } => vec![self.carried(&from, kind, body.as_deref())],
            Event::Complaint(fault) => vec![Action::Emit("error", to_json(&WireError::from(fault)))],
            Event::Closing => return Err(Fault::Shutdown),
            Event::Closed(fault) => {
                self.room = None;
                refusal(self.join_ack.take(), fault)
            }
            Event::Ice | Event::Lock { .. } | Event::Viewers(_) | Event::Invite { .. } | Event::Probe => Vec::new(),
        })
    }

    fn read(&mut self, name: &str, argument: Option<&RawValue>, ack: Option<u64>) -> Result<Vec<Action>, Fault> {
        let kind = match name {
            "join-room" => return self.join(argument.ok_or(Fault::BadMessage)?, ack),
            "leave-room" => {
                self.room = None;
                return Ok(vec![Action::Command(Command::Leave), Action::Ack(None, None)]);
            }
            "webrtc-offer" => Kind::Offer,
            "webrtc-answer" => Kind::Answer,
            "webrtc-ice-candidate" => Kind::Candidate,
            "webrtc-bye" => Kind::Bye,
            _ => return Ok(Vec::new()),
        };
        let argument: Argument<'_> = match argument {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| Fault::BadMessage)?,
            None => Argument::default(),
        };
        let room = self.room.as_deref().ok_or(Fault::JoinFirst)?;
        if argument.room.as_deref().is_some_and(|named| named != room) {
            return Err(Fault::WrongRoom);
        }
        let body = match argument.body(kind) {
            Some(raw) => Some(body(raw)),
            None if kind == Kind::Bye => None,
            None => return Err(Fault::BadMessage),
        };
        let to = argument.to.as_deref().map_or(To::Others, |to| To::Peer(to.into()));
        Ok(vec![Action::Command(Command::Send { to, kind, body }), Action::Ack(None, None)])
    }

    fn join(&mut self, argument: &RawValue, ack: Option<u64>) -> Result<Vec<Action>, Fault> {
        let (room, name) = match serde_json::from_str::<Argument<'_>>(argument.get()) {
            Ok(argument) => (argument.room.ok_or(Fault::BadRoom)?, argument.name),
            // Some pages pass the name alone.
            Err(_) => (serde_json::from_str::<Cow<'_, str>>(argument.get()).map_err(|_| Fault::BadMessage)?, None),
        };
        if room.is_empty() || !is_label(&room) {
            return Err(Fault::BadRoom);
        }
        let name = name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        if name.is_some_and(|name| !is_label(name)) {
            return Err(Fault::BadName);
        }
        if !self.permit.opens(&room) {
            return Err(Fault::WrongRoom);
        }
        if self.room.as_deref() == Some(&*room) {
            return Ok(vec![Action::Ack(None, None)]);
        }
        let join = Join {
            room: RoomKey::Call((&*room).into()),
            peer: self.id.clone(),
            role: self.permit.role,
            name: self.permit.name.clone().or_else(|| name.map(str::to_owned)),
            instance: None,
            alias: None,
            pass: self.permit.pass.clone(),
            refused: None,
            session: None,
        };
        self.room = Some(room.into_owned());
        self.join_ack = ack;
        Ok(vec![Action::Command(Command::Join(Box::new(join)))])
    }

    fn joined(&mut self, joined: &Joined) -> Vec<Action> {
        let Some(room) = self.room.as_deref() else { return Vec::new() };
        let peers = joined.peers.iter().map(WirePeer::from).collect();
        let text = to_json(&RoomJoined { room, peer: &joined.peer, limit: joined.limit, peers });
        let mut actions = vec![Action::Emit("room-joined", text.clone())];
        if let Some(ack) = self.join_ack.take() {
            actions.push(Action::Ack(Some(ack), Some(text)));
        }
        actions
    }

    fn carried(&self, from: &PeerId, kind: Kind, body: Option<&RawValue>) -> Action {
        let name = match kind {
            Kind::Offer => "webrtc-offer",
            Kind::Answer => "webrtc-answer",
            Kind::Candidate => "webrtc-ice-candidate",
            Kind::Bye => "webrtc-bye",
        };
        Action::Emit(name, to_json(&Carried::new(from, kind, body, self.room.as_deref())))
    }
}

/// A refusal goes to the acknowledgement and to who listens for `error`.
fn refusal(ack: Option<u64>, fault: Fault) -> Vec<Action> {
    let error = to_json(&WireError::from(fault));
    let answer = format!(r#"{{"error":{error}}}"#);
    vec![Action::Emit("error", error), Action::Ack(ack, Some(answer))]
}

fn told(event: &'static str, peer: &PeerId, reason: Option<LeaveReason>) -> Action {
    Action::Emit(event, to_json(&Told { peer, reason }))
}

fn is_label(text: &str) -> bool {
    text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control)
}

#[derive(Serialize)]
struct Told<'a> {
    peer: &'a PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<LeaveReason>,
}

#[derive(Serialize)]
struct RoomJoined<'a> {
    room: &'a str,
    peer: &'a PeerId,
    limit: usize,
    peers: Vec<WirePeer<'a>>,
}

#[derive(Serialize)]
struct WirePeer<'a> {
    peer: &'a PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    role: Role,
}

impl<'a> From<&'a PeerView> for WirePeer<'a> {
    fn from(view: &'a PeerView) -> Self {
        Self { peer: &view.peer, name: view.name.as_deref(), role: view.role }
    }
}

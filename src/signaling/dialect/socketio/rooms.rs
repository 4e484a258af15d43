//! The namespace `/webrtc`: calls in rooms, the same rooms as the native dialect's.
//!
//! A page that knows nothing of us is told only `webrtc-*` events it listens for; `room-joined`, `peer-joined`,
//! `peer-left`, `peer-lost`, `peer-back`, `webrtc-bye` and `error` come in addition.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{Permit, to_json};
use super::application::{Action, Arguments, Emit};
use super::pages::WEBRTC;
use super::recovery::{Offset, Pid, Return};
use super::{Argument, Carried, Services, WireError, ack, error_event, refusal};
use crate::signaling::{
    Body, Command, Delivery, Event, Fault, Join, Joined, Kind, LeaveReason, PeerId, PeerView, Role, RoomKey,
    SessionRequest, To,
};

/// Longest room and display name, in characters.
const MAX_NAME: usize = 64;

/// One socket in `/webrtc`.
pub(super) struct Rooms {
    id: PeerId,
    pid: Pid,
    permit: Result<Permit, Fault>,
    /// Counts the joins.
    epoch: u64,
    state: State,
    /// The acknowledgement that waits for the hub's answer to a join.
    join_ack: Option<u64>,
}

enum State {
    /// Asked to go on where its client was; else it begins anew with these ids.
    Returning {
        id: PeerId,
        pid: Pid,
    },
    /// Connected, in no room.
    Outside,
    Joining {
        room: String,
    },
    /// In its room, and the messages it missed are on their way, so many.
    CatchingUp {
        room: String,
        missed: usize,
    },
    In {
        room: String,
    },
}

impl Rooms {
    pub(super) fn new(
        permit: Result<Permit, Fault>,
        back: Option<Return>,
        services: &dyn Services,
    ) -> (Self, Vec<Action>) {
        let (id, pid) = (PeerId::random(services), Pid::random(services));
        let mut socket =
            Self { id: id.clone(), pid: pid.clone(), permit, epoch: 0, state: State::Outside, join_ack: None };
        let actions = match back {
            Some(back) => {
                let resume = Action::Command(Command::Resume(back.resume(WEBRTC)));
                socket.epoch = back.offset.epoch;
                socket.pid = back.pid;
                socket.state = State::Returning { id, pid };
                vec![resume]
            }
            None => vec![socket.begin()],
        };
        (socket, actions)
    }

    pub(super) fn is_in_room(&self) -> bool {
        matches!(self.state, State::CatchingUp { .. } | State::In { .. })
    }

    pub(super) fn handle_message(&mut self, name: &str, event: &Arguments<'_>) -> Vec<Action> {
        match self.read(name, event) {
            Ok(actions) => actions,
            Err(fault) => refused(event.ack, fault),
        }
    }

    pub(super) fn handle_delivery(&mut self, delivery: Delivery) -> Vec<Action> {
        let offset = Some(Offset { epoch: self.epoch, seq: delivery.seq }.to_string());
        let emit = |name: &'static str, values, attachments| {
            Action::Emit(Emit { name: name.into(), values, attachments, offset: offset.clone(), ask: None })
        };
        match (delivery.event, &self.state) {
            (Event::Joined(joined), _) => self.joined(&joined, emit),
            (Event::Closed(_), State::Returning { id, pid }) => {
                (self.id, self.pid) = (id.clone(), pid.clone());
                self.epoch = 0;
                vec![self.begin()]
            }
            (Event::Closed(fault), _) => {
                self.state = State::Outside;
                refused(self.join_ack.take(), fault)
            }
            (event, State::CatchingUp { room, .. } | State::In { room }) => {
                let action = told(event, room, emit);
                action.into_iter().chain(self.caught_up(1)).collect()
            }
            // Meant for the room that was left.
            _ => Vec::new(),
        }
    }

    fn read(&mut self, name: &str, event: &Arguments<'_>) -> Result<Vec<Action>, Fault> {
        let argument = event.values.first().copied();
        let kind = match name {
            "join-room" => return self.join(argument.ok_or(Fault::BadMessage)?, event.ack),
            "leave-room" => {
                self.state = State::Outside;
                return Ok(done(Command::Leave, event.ack));
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
        let room = self.room().ok_or(Fault::JoinFirst)?;
        if argument.room.as_deref().is_some_and(|named| named != room) {
            return Err(Fault::WrongRoom);
        }
        let body = argument.body(kind, &event.attachments);
        if body.is_none() && kind != Kind::Bye {
            return Err(Fault::BadMessage);
        }
        let to = argument.to.as_deref().map_or(To::Others, |to| To::Peer(to.into()));
        Ok(done(Command::Send { to, kind, body }, event.ack))
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
        if self.room() == Some(&*room) {
            // A page that was recovered joins again all the same: nothing changes, and it is told who is there.
            self.join_ack = ack;
            let secret = self.pid.secret(WEBRTC, self.epoch);
            let resume = crate::signaling::Resume { secret, seq: None };
            return Ok(vec![Action::Command(Command::Resume(resume))]);
        }
        let permit = self.permit.as_ref().map_err(|fault| *fault)?;
        if !permit.opens(&room) {
            return Err(Fault::WrongRoom);
        }
        self.epoch += 1;
        let secret = self.pid.secret(WEBRTC, self.epoch);
        let join = Join {
            room: RoomKey::Call((&*room).into()),
            peer: self.id.clone(),
            role: permit.role,
            name: permit.name.clone().or_else(|| name.map(str::to_owned)),
            instance: None,
            alias: None,
            pass: permit.pass.clone(),
            refused: None,
            session: Some(SessionRequest { secret, resume: None, unaware: true }),
        };
        self.state = State::Joining { room: room.into_owned() };
        self.join_ack = ack;
        Ok(vec![Action::Command(Command::Join(Box::new(join)))])
    }

    fn joined(
        &mut self,
        joined: &Joined,
        emit: impl Fn(&'static str, String, Vec<bytes::Bytes>) -> Action,
    ) -> Vec<Action> {
        let RoomKey::Call(room) = &joined.room else { return Vec::new() };
        let text = || {
            let peers = joined.peers.iter().map(WirePeer::from).collect();
            to_json(&RoomJoined { room, peer: &joined.peer, limit: joined.limit, peers })
        };
        match &self.state {
            State::Returning { .. } if joined.resumed => {
                self.id = joined.peer.clone();
                self.state = State::CatchingUp { room: room.to_string(), missed: joined.missed };
                self.caught_up(0)
            }
            State::Joining { room: wanted } if **wanted == **room => {
                self.state = State::In { room: room.to_string() };
                let answer = ack(self.join_ack.take(), text());
                [emit("room-joined", text(), Vec::new())].into_iter().chain(answer).collect()
            }
            State::In { .. } | State::CatchingUp { .. } => {
                self.join_ack.take().and_then(|id| ack(Some(id), text())).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The room it is in or has asked for.
    fn room(&self) -> Option<&str> {
        match &self.state {
            State::Joining { room } | State::CatchingUp { room, .. } | State::In { room } => Some(room),
            State::Returning { .. } | State::Outside => None,
        }
    }

    fn begin(&mut self) -> Action {
        self.state = State::Outside;
        match &self.permit {
            Ok(_) => self.accept(),
            Err(fault) => refusal(*fault),
        }
    }

    /// Counts missed messages; behind the last the client is told that it is in.
    fn caught_up(&mut self, count: usize) -> Vec<Action> {
        let State::CatchingUp { room, missed } = &mut self.state else { return Vec::new() };
        *missed = missed.saturating_sub(count);
        if *missed > 0 {
            return Vec::new();
        }
        self.state = State::In { room: std::mem::take(room) };
        vec![self.accept()]
    }

    fn accept(&self) -> Action {
        Action::Accept { sid: self.id.to_string(), pid: Some(self.pid.as_str().to_owned()) }
    }
}

/// An event of the hub as the page gets it.
fn told(event: Event, room: &str, emit: impl Fn(&'static str, String, Vec<bytes::Bytes>) -> Action) -> Option<Action> {
    let plain = |name, text| Some(emit(name, text, Vec::new()));
    match event {
        Event::PeerJoined(peer) => plain("peer-joined", to_json(&WirePeer::from(&*peer))),
        Event::PeerLost(peer) => plain("peer-lost", to_json(&Told { peer: &peer, reason: None })),
        Event::PeerBack(peer) => plain("peer-back", to_json(&Told { peer: &peer, reason: None })),
        Event::PeerLeft { peer, reason } => plain("peer-left", to_json(&Told { peer: &peer, reason: Some(reason) })),
        Event::Message { from, kind, body } => {
            let name = match kind {
                Kind::Offer => "webrtc-offer",
                Kind::Answer => "webrtc-answer",
                Kind::Candidate => "webrtc-ice-candidate",
                Kind::Bye => "webrtc-bye",
            };
            let attachments = body.as_ref().map(|body: &Body| body.attachments().to_vec()).unwrap_or_default();
            Some(emit(name, to_json(&Carried::new(&from, kind, body.as_ref(), Some(room))), attachments))
        }
        Event::Complaint(fault) => plain("error", to_json(&WireError::from(fault))),
        _ => None,
    }
}

/// A command, and an empty acknowledgement if one was asked for.
fn done(command: Command, id: Option<u64>) -> Vec<Action> {
    [Some(Action::Command(command)), ack(id, String::new())].into_iter().flatten().collect()
}

/// A refusal goes to the acknowledgement and to who listens for `error`.
fn refused(id: Option<u64>, fault: Fault) -> Vec<Action> {
    let answer = format!(r#"{{"error":{}}}"#, to_json(&WireError::from(fault)));
    [Some(error_event(fault)), ack(id, answer)].into_iter().flatten().collect()
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

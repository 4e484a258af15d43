//! The main namespace: calls between sockets that know each other's id.

use serde_json::value::RawValue;

use super::super::{Permit, body, to_json};
use super::{Action, Argument, Carried, WireError};
use crate::signaling::{Command, Event, Fault, Join, Kind, PeerId, RoomKey, To};

/// One by-id socket.
pub(super) struct Direct {
    id: PeerId,
    connected: bool,
}

impl Direct {
    /// The socket, and the command that puts it among the others.
    pub(super) fn new(id: PeerId, permit: Permit) -> (Self, Command) {
        let join = Join {
            room: RoomKey::Direct,
            peer: id.clone(),
            role: permit.role,
            name: permit.name,
            instance: None,
            alias: None,
            pass: permit.pass,
            refused: None,
            session: None,
        };
        (Self { id, connected: false }, Command::Join(Box::new(join)))
    }

    pub(super) fn id(&self) -> &PeerId {
        &self.id
    }

    /// The hub has it among the others.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(super) fn handle_message(&mut self, name: &str, argument: Option<&RawValue>) -> Vec<Action> {
        match read(name, argument) {
            Ok(Some(command)) => vec![Action::Command(command), Action::Ack(None, None)],
            Ok(None) => Vec::new(),
            Err(fault) => vec![Action::Ack(None, Some(to_json(&WireError::from(fault))))],
        }
    }

    /// `Err`: the socket is refused, or the server stops.
    pub(super) fn handle_event(&mut self, event: Event) -> Result<Vec<Action>, Fault> {
        Ok(match event {
            Event::Joined(joined) if joined.peer == self.id => {
                self.connected = true;
                vec![Action::Emit("newUser", to_json(&format!("Coucou user :  {}", self.id)))]
            }
            Event::Message { from, kind, body } => carried(&from, kind, body.as_deref()),
            Event::Complaint(fault) => vec![Action::Emit("error", to_json(&WireError::from(fault)))],
            Event::Closing => return Err(Fault::Shutdown),
            Event::Closed(fault) => return Err(fault),
            _ => Vec::new(),
        })
    }
}

/// `None`: an event that means nothing to us.
fn read(name: &str, argument: Option<&RawValue>) -> Result<Option<Command>, Fault> {
    let kind = match name {
        "offer" => Kind::Offer,
        "answer" => Kind::Answer,
        "candidate" => Kind::Candidate,
        _ => return Ok(None),
    };
    let argument = argument.ok_or(Fault::BadMessage)?;
    let argument: Argument<'_> = serde_json::from_str(argument.get()).map_err(|_| Fault::BadMessage)?;
    let raw = argument.body(kind).ok_or(Fault::BadMessage)?;
    let to = argument.to.as_deref().ok_or(Fault::BadMessage)?;
    Ok(Some(Command::Send { to: To::Peer(to.into()), kind, body: Some(body(raw)) }))
}

fn carried(from: &PeerId, kind: Kind, body: Option<&RawValue>) -> Vec<Action> {
    let name = match kind {
        Kind::Offer => "offer",
        Kind::Answer => "answer",
        Kind::Candidate => "candidate",
        Kind::Bye => return Vec::new(),
    };
    vec![Action::Emit(name, to_json(&Carried::new(from, kind, body, None)))]
}

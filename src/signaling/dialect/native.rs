//! The native protocol, version 1 (PROTOCOL.md).

mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::live::viewer_alias;
use super::{Dialect, Ice, MAX_COMPLAINTS, Output, Permit, Services, body, parse_fault, to_json};
use crate::signaling::{
    Command, Delivery, Event, Fault, Invite, Join, Kind, PeerId, Resume, Role, RoomKey, Secret, SessionRequest, To,
};
use crate::time::Mono;
use wire::{ClientMessage, ServerMessage};

/// The first message must come within this time.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest name and instance, in characters.
pub const MAX_NAME: usize = 64;

/// Longest room name, in characters.
pub const MAX_ROOM: usize = 64;

/// The ICE configuration is pushed again after this share of its time, in percent: before Chromium's next refresh
/// could meet an expired credential.
const ICE_REFRESH_PERCENT: u64 = 75;

/// Least time between two pushes of the ICE configuration.
const ICE_REFRESH_FLOOR: Duration = Duration::from_secs(1);

/// One native client.
pub struct Native {
    state: State,
    outputs: VecDeque<Output>,
    /// Complaints since the last good message.
    complaints: u32,
    /// When the credentials should be renewed.
    ice_due: Option<Mono>,
}

enum State {
    /// No join yet.
    Waiting {
        until: Mono,
    },
    /// The hub has the join.
    Joining {
        room: String,
    },
    In {
        room: String,
        peer: PeerId,
    },
    Closed,
}

impl Native {
    pub fn new(now: Mono) -> Self {
        Self {
            state: State::Waiting { until: now + JOIN_TIMEOUT },
            outputs: VecDeque::new(),
            complaints: 0,
            ice_due: None,
        }
    }

    fn read(&mut self, text: &str, services: &dyn Services) -> Result<(), Fault> {
        let message: ClientMessage<'_> = serde_json::from_str(text).map_err(|error| parse_fault(&error))?;
        match (&self.state, &*message.kind) {
            (_, "ping") => self.say(None, &ServerMessage::Pong),
            (State::Waiting { .. }, "join") => return self.join(&message, services),
            (State::Waiting { .. }, _) => return Err(Fault::JoinFirst),
            (_, "offer") => self.send(&message, Kind::Offer, message.description)?,
            (_, "answer") => self.send(&message, Kind::Answer, message.description)?,
            (_, "candidate") => self.send(&message, Kind::Candidate, message.candidate)?,
            (_, "bye") => {
                let to = message.to.as_deref().map_or(To::Others, |to| To::Peer(to.into()));
                self.command(Command::Send { to, kind: Kind::Bye, body: None });
            }
            (_, "ice") => self.command(Command::Ice),
            (_, "kick") => {
                let peer = message.peer.as_deref().ok_or(Fault::BadMessage)?;
                self.command(Command::Kick(peer.into()));
            }
            (_, "lock") => self.command(Command::Lock(message.locked.ok_or(Fault::BadMessage)?)),
            (_, "close") => self.command(Command::Close),
            (_, "invite") => self.command(Command::Invite(Arc::new(invite(&message)?))),
            (_, "leave") => {
                self.command(Command::Leave);
                self.close(1000);
            }
            (_, "join") => return Err(Fault::BadMessage),
            _ => return Err(Fault::UnknownType),
        }
        Ok(())
    }

    fn join(&mut self, message: &ClientMessage<'_>, services: &dyn Services) -> Result<(), Fault> {
        if message.v != Some(1) {
            return Err(Fault::Version);
        }
        let wanted = message.stream.as_deref().or(message.room.as_deref());
        let room = wanted.filter(|room| is_room_name(room)).ok_or(Fault::BadRoom)?;
        let part = message.stream.as_ref().map(|_| part(message.role)).transpose()?;
        let name = message.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let instance = message.instance.as_deref();
        if [name, instance].into_iter().flatten().any(|text| !is_label(text)) {
            return Err(Fault::BadName);
        }
        let resume = message.session.as_deref().map(|secret| Resume { secret: secret.into(), seq: message.seq });
        let permit = services.authorize(message.token.as_deref().filter(|token| !token.is_empty()));
        let permit = permit.and_then(|permit| match part {
            _ if !permit.opens(room) => Err(Fault::WrongRoom),
            Some(Role::Streamer) if permit.role == Role::Viewer => Err(Fault::WrongRole),
            _ => Ok(permit),
        });
        let (permit, refused) = match permit {
            Ok(permit) => (permit, None),
            // The hub knows whether the session lives, and that is proof enough.
            Err(fault) if resume.is_some() => (Permit::nothing(), Some(fault)),
            Err(fault) => return Err(fault),
        };
        let peer = PeerId::random(services);
        let join = Join {
            room: if part.is_some() { RoomKey::Stream(room.into()) } else { RoomKey::Call(room.into()) },
            // A streamer of the live dialect calls each viewer by an id.
            alias: if part == Some(Role::Viewer) { Some(viewer_alias(None, &peer)?) } else { None },
            peer,
            role: part.unwrap_or(permit.role),
            name: permit.name.or_else(|| name.map(str::to_owned)),
            instance: instance.map(str::to_owned),
            pass: permit.pass,
            refused,
            session: Some(SessionRequest { secret: Secret::random(services), resume, unaware: false }),
        };
        self.state = State::Joining { room: room.to_owned() };
        self.command(Command::Join(Box::new(join)));
        Ok(())
    }

    fn send(&mut self, message: &ClientMessage<'_>, kind: Kind, raw: Option<&RawValue>) -> Result<(), Fault> {
        let (Some(to), Some(raw)) = (message.to.as_deref(), raw) else { return Err(Fault::BadMessage) };
        self.command(Command::Send { to: To::Peer(to.into()), kind, body: Some(body(raw)) });
        Ok(())
    }

    /// A message that could not be followed. In the room it gets its number from the hub, like everything else.
    fn complain(&mut self, fault: Fault) {
        self.complaints += 1;
        if fault.is_fatal() || self.complaints >= MAX_COMPLAINTS {
            return self.end(fault);
        }
        match self.state {
            State::Joining { .. } | State::In { .. } => self.command(Command::Complain(fault)),
            State::Waiting { .. } => self.say(None, &ServerMessage::error(fault, false)),
            State::Closed => {}
        }
    }

    fn end(&mut self, fault: Fault) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if fault == Fault::Shutdown {
            self.say(None, &ServerMessage::Closing { reason: "shutdown" });
        } else {
            self.say(None, &ServerMessage::error(fault, true));
        }
        self.close(fault.close_code());
    }

    fn tell(&mut self, now: Mono, delivery: Delivery, services: &dyn Services) -> Result<(), Fault> {
        // The number of viewers of a stream is outside the count.
        let seq = Some(delivery.seq).filter(|&seq| seq > 0);
        match delivery.event {
            Event::Joined(joined) => {
                let ice = self.ice(now, &joined.peer, services)?;
                let State::Joining { room } = &self.state else { return Ok(()) };
                let text = to_json(&wire::Numbered { seq, message: &ServerMessage::joined(&joined, &ice.json) });
                self.outputs.push_back(Output::Text(text));
                self.state = State::In { room: room.clone(), peer: joined.peer };
            }
            Event::Ice => {
                let State::In { peer, .. } = &self.state else { return Ok(()) };
                let peer = peer.clone();
                let ice = self.ice(now, &peer, services)?;
                self.say(seq, &ServerMessage::Ice { ice: &ice.json });
            }
            Event::PeerJoined(peer) => self.say(seq, &ServerMessage::PeerJoined((&*peer).into())),
            Event::PeerLost(peer) => self.say(seq, &ServerMessage::PeerLost { peer: &peer }),
            Event::PeerBack(peer) => self.say(seq, &ServerMessage::PeerBack { peer: &peer }),
            Event::PeerLeft { peer, reason } => self.say(seq, &ServerMessage::PeerLeft { peer: &peer, reason }),
            Event::Message { from, kind, body } => {
                self.say(seq, &ServerMessage::carried(&from, kind, body.as_ref()));
            }
            Event::Lock { locked, by } => self.say(seq, &ServerMessage::Lock { locked, by: &by }),
            Event::Viewers(count) => self.say(seq, &ServerMessage::Viewers { count }),
            Event::Invite { invite, until } => self.hand_out(seq, &invite, until, services),
            Event::Complaint(fault) => self.say(seq, &ServerMessage::error(fault, false)),
            Event::Probe => self.outputs.push_back(Output::Ping),
            Event::Draining { seconds } => self.say(seq, &ServerMessage::Draining { seconds }),
            Event::Closing => {
                self.say(seq, &ServerMessage::Closing { reason: "shutdown" });
                self.close(Fault::Shutdown.close_code());
            }
            Event::Closed(fault) => return Err(fault),
        }
        Ok(())
    }

    fn hand_out(&mut self, seq: Option<u64>, invite: &Invite, until: Option<u64>, services: &dyn Services) {
        let State::In { room, .. } = &self.state else { return };
        let room = room.clone();
        match services.invite(&room, invite, until) {
            Ok(invitation) => self.say(seq, &ServerMessage::invite(&room, invite, &invitation)),
            Err(fault) => self.say(seq, &ServerMessage::error(fault, false)),
        }
    }

    fn ice(&mut self, now: Mono, peer: &PeerId, services: &dyn Services) -> Result<Ice, Fault> {
        let ice = services.ice(peer)?;
        let after = Duration::from_millis(ice.ttl.saturating_mul(10 * ICE_REFRESH_PERCENT)).max(ICE_REFRESH_FLOOR);
        self.ice_due = Some(now + after);
        Ok(ice)
    }

    fn say(&mut self, seq: Option<u64>, message: &ServerMessage<'_>) {
        self.outputs.push_back(Output::Text(to_json(&wire::Numbered { seq, message })));
    }

    fn command(&mut self, command: Command) {
        self.outputs.push_back(Output::Command(command));
    }

    fn close(&mut self, code: u16) {
        self.state = State::Closed;
        self.outputs.push_back(Output::Close(code));
    }
}

impl Dialect for Native {
    fn handle_text(&mut self, _now: Mono, text: &str, services: &dyn Services) {
        if matches!(self.state, State::Closed) {
            return;
        }
        match self.read(text, services) {
            Ok(()) => self.complaints = 0,
            Err(fault) => self.complain(fault),
        }
    }

    fn handle_delivery(&mut self, now: Mono, delivery: Delivery, services: &dyn Services) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if let Err(fault) = self.tell(now, delivery, services) {
            self.end(fault);
        }
    }

    fn handle_fault(&mut self, fault: Fault) {
        self.end(fault);
    }

    fn handle_timeout(&mut self, now: Mono) {
        match self.state {
            State::Waiting { until } if until <= now => self.end(Fault::JoinTimeout),
            State::In { .. } if self.ice_due.is_some_and(|due| due <= now) => {
                self.ice_due = None;
                self.command(Command::Ice);
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Mono> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::In { .. } => self.ice_due,
            State::Joining { .. } | State::Closed => None,
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// What a page is in a stream.
fn part(wanted: Option<Role>) -> Result<Role, Fault> {
    match wanted.unwrap_or(Role::Viewer) {
        role @ (Role::Streamer | Role::Viewer) => Ok(role),
        Role::Host | Role::Member => Err(Fault::BadMessage),
    }
}

/// What a host wishes for whoever it invites.
fn invite(message: &ClientMessage<'_>) -> Result<Invite, Fault> {
    let name = message.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let id = message.id.as_deref();
    if [name, id].into_iter().flatten().any(|text| !is_label(text)) {
        return Err(Fault::BadMessage);
    }
    Ok(Invite {
        id: id.map(str::to_owned),
        role: message.role.unwrap_or(Role::Member),
        name: name.map(str::to_owned),
        ttl: message.ttl,
    })
}

/// 1 to 64 of `A-Z a-z 0-9 . _ ~ -`.
pub(super) fn is_room_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=MAX_ROOM).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_label(text: &str) -> bool {
    text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;

//! The main namespace: calls between sockets that know each other's id.

use super::super::{Permit, to_json};
use super::application::{Action, Arguments, Emit};
use super::pages::MAIN;
use super::recovery::{Offset, Pid, Return};
use super::{Argument, Carried, Services, WireError, ack, error_event, refusal};
use crate::signaling::{Body, Command, Delivery, Event, Fault, Join, Kind, PeerId, RoomKey, SessionRequest, To};

/// A socket of this namespace joins once.
const EPOCH: u64 = 1;

/// One by-id socket.
pub(super) struct Direct {
    id: PeerId,
    pid: Pid,
    state: State,
}

enum State {
    /// Asked to go on where its client was, or else to begin with this permit.
    Returning {
        fresh: Result<Permit, Fault>,
        id: PeerId,
        pid: Pid,
    },
    /// Asked to be among the others.
    Joining,
    /// The messages it missed are on their way, so many.
    CatchingUp {
        missed: usize,
    },
    Connected,
}

impl Direct {
    /// The socket, and what puts it among the others.
    pub(super) fn new(
        permit: Result<Permit, Fault>,
        back: Option<Return>,
        services: &dyn Services,
    ) -> (Self, Vec<Action>) {
        // By-id sockets meet in no room, so an invitation to one room does not let in.
        let permit = permit.and_then(|permit| if permit.room.is_some() { Err(Fault::WrongRoom) } else { Ok(permit) });
        let (id, pid) = (PeerId::random(services), Pid::random(services));
        let mut socket = Self { id: id.clone(), pid: pid.clone(), state: State::Joining };
        let actions = match back {
            Some(back) => {
                let resume = Action::Command(Command::Resume(back.resume(MAIN)));
                socket.pid = back.pid;
                socket.state = State::Returning { fresh: permit, id, pid };
                vec![resume]
            }
            None => socket.begin(permit),
        };
        (socket, actions)
    }

    /// The hub has it among the others.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected | State::CatchingUp { .. })
    }

    pub(super) fn handle_message(&mut self, name: &str, event: &Arguments<'_>) -> Vec<Action> {
        match read(name, event) {
            Ok(Some(command)) => {
                [Some(Action::Command(command)), ack(event.ack, String::new())].into_iter().flatten().collect()
            }
            // An event that means nothing to us.
            Ok(None) => Vec::new(),
            Err(fault) => {
                let answer = ack(event.ack, to_json(&WireError::from(fault)));
                vec![answer.unwrap_or_else(|| error_event(fault))]
            }
        }
    }

    pub(super) fn handle_delivery(&mut self, delivery: Delivery) -> Vec<Action> {
        let offset = Some(Offset { epoch: EPOCH, seq: delivery.seq }.to_string());
        let emit = |name: &'static str, values, attachments| {
            Action::Emit(Emit { name: name.into(), values, attachments, offset: offset.clone(), ask: None })
        };
        match (delivery.event, &mut self.state) {
            (Event::Joined(joined), State::Returning { .. }) if joined.resumed => {
                self.id = joined.peer.clone();
                self.state = State::CatchingUp { missed: joined.missed };
                self.caught_up(0)
            }
            (Event::Joined(joined), State::Joining) if joined.peer == self.id => {
                self.state = State::Connected;
                let greeting = to_json(&format!("Coucou user :  {}", self.id));
                vec![self.accept(), emit("newUser", greeting, Vec::new())]
            }
            (Event::Closed(_), State::Returning { fresh, id, pid }) => {
                let (fresh, id, pid) = (fresh.clone(), id.clone(), pid.clone());
                (self.id, self.pid) = (id, pid);
                self.begin(fresh)
            }
            (Event::Closed(fault), State::Joining) => vec![refusal(fault)],
            (Event::Closed(fault), _) => vec![error_event(fault), Action::Disconnect],
            // Meant for the socket that had the link before.
            (_, State::Returning { .. } | State::Joining) => Vec::new(),
            (event, _) => {
                let action = match event {
                    Event::Message { from, kind, body } => Some(carried(&from, kind, body.as_ref(), emit)),
                    Event::Complaint(fault) => Some(emit("error", to_json(&WireError::from(fault)), Vec::new())),
                    _ => None,
                };
                action.into_iter().chain(self.caught_up(1)).collect()
            }
        }
    }

    fn begin(&mut self, permit: Result<Permit, Fault>) -> Vec<Action> {
        let permit = match permit {
            Ok(permit) => permit,
            Err(fault) => return vec![refusal(fault)],
        };
        self.state = State::Joining;
        let join = Join {
            room: RoomKey::Direct,
            peer: self.id.clone(),
            role: permit.role,
            name: permit.name,
            instance: None,
            alias: None,
            pass: permit.pass,
            refused: None,
            session: Some(SessionRequest { secret: self.pid.secret(MAIN, EPOCH), resume: None, unaware: true }),
        };
        // The hub's answer makes the connection complete.
        vec![Action::Command(Command::Join(Box::new(join)))]
    }

    /// Counts missed messages; behind the last the client is told that it is in.
    fn caught_up(&mut self, count: usize) -> Vec<Action> {
        let State::CatchingUp { missed } = &mut self.state else { return Vec::new() };
        *missed = missed.saturating_sub(count);
        if *missed > 0 {
            return Vec::new();
        }
        self.state = State::Connected;
        vec![self.accept()]
    }

    fn accept(&self) -> Action {
        Action::Accept { sid: self.id.to_string(), pid: Some(self.pid.as_str().to_owned()) }
    }
}

fn read(name: &str, event: &Arguments<'_>) -> Result<Option<Command>, Fault> {
    let kind = match name {
        "offer" => Kind::Offer,
        "answer" => Kind::Answer,
        "candidate" => Kind::Candidate,
        "bye" => Kind::Bye,
        _ => return Ok(None),
    };
    let argument = event.values.first().ok_or(Fault::BadMessage)?;
    let argument: Argument<'_> = serde_json::from_str(argument.get()).map_err(|_| Fault::BadMessage)?;
    let body = argument.body(kind, &event.attachments);
    if body.is_none() && kind != Kind::Bye {
        return Err(Fault::BadMessage);
    }
    let to = argument.to.as_deref().ok_or(Fault::BadMessage)?;
    Ok(Some(Command::Send { to: To::Peer(to.into()), kind, body }))
}

fn carried(
    from: &PeerId,
    kind: Kind,
    body: Option<&Body>,
    emit: impl Fn(&'static str, String, Vec<bytes::Bytes>) -> Action,
) -> Action {
    let name = match kind {
        Kind::Offer => "offer",
        Kind::Answer => "answer",
        Kind::Candidate => "candidate",
        Kind::Bye => "bye",
    };
    let attachments = body.map(|body| body.attachments().to_vec()).unwrap_or_default();
    emit(name, to_json(&Carried::new(from, kind, body, None)), attachments)
}

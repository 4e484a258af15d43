//! Socket.IO 5 on an engine's messages: namespaces, events, acknowledgements, attachments.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::to_json;
use super::application::{Action, Application, Arguments, Connect, Emit};
use super::limits::{MAX_ATTACHMENTS, MAX_NAMESPACES, MAX_PENDING_ACKS};
use super::packet::{Packet, PacketKind};
use super::session::{Protocol, Step};
use super::{Message, Services};
use crate::signaling::{Delivery, Fault};
use crate::time::Mono;

/// The sockets of one connection, one for each namespace that it is in.
pub struct Sockets<A> {
    application: A,
    states: [State; MAX_NAMESPACES],
    /// A packet whose attachments have not all come.
    incomplete: Option<Incomplete>,
    /// Until the first namespace lets the client in.
    connect_by: Option<Mono>,
    /// Bytes of one packet with its attachments.
    max_packet: usize,
    /// Acknowledgements that the client owes, oldest first.
    asked: VecDeque<(u8, u64)>,
    steps: VecDeque<Step>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Out,
    Connecting,
    In,
}

struct Incomplete {
    packet: Packet,
    attachments: Vec<Bytes>,
    bytes: usize,
}

impl<A: Application> Sockets<A> {
    /// `connect_timeout`: within which a client gets into its first namespace. `max_packet`: bytes.
    pub fn new(now: Mono, connect_timeout: Duration, max_packet: usize, application: A) -> Self {
        Self {
            application,
            states: [State::Out; MAX_NAMESPACES],
            incomplete: None,
            connect_by: Some(now + connect_timeout),
            max_packet,
            asked: VecDeque::new(),
            steps: VecDeque::new(),
        }
    }

    fn read(&mut self, message: Message, services: &dyn Services) -> Result<(), Fault> {
        let mut incomplete = match (message, self.incomplete.take()) {
            (Message::Text(text), None) => {
                let packet = Packet::parse(&text).ok_or(Fault::BadMessage)?;
                if packet.attachments > MAX_ATTACHMENTS || (packet.attachments > 0 && !packet.placeholders_fit()) {
                    return Err(Fault::BadMessage);
                }
                Incomplete { packet, attachments: Vec::new(), bytes: text.len() }
            }
            (Message::Binary(bytes), Some(mut incomplete)) => {
                incomplete.bytes += bytes.len();
                incomplete.attachments.push(bytes);
                incomplete
            }
            _ => return Err(Fault::BadMessage),
        };
        if incomplete.bytes > self.max_packet {
            return Err(Fault::TooLarge);
        }
        if incomplete.attachments.len() < incomplete.packet.attachments {
            self.incomplete = Some(incomplete);
            return Ok(());
        }
        let attachments = std::mem::take(&mut incomplete.attachments);
        self.handle_packet(&incomplete.packet, attachments, services)
    }

    fn handle_packet(
        &mut self,
        packet: &Packet,
        attachments: Vec<Bytes>,
        services: &dyn Services,
    ) -> Result<(), Fault> {
        let Some(slot) = self.slot(&packet.namespace) else {
            if packet.kind != PacketKind::Connect {
                return Err(Fault::BadMessage);
            }
            let refusal = Refusal { message: "Invalid namespace", data: None };
            let packet = Packet::new(PacketKind::ConnectError, &packet.namespace, Some(to_json(&refusal)));
            self.send(&packet, Vec::new());
            return Ok(());
        };
        let actions = match (packet.kind, self.state(slot)) {
            (PacketKind::Connect, State::Out) => {
                self.set(slot, State::Connecting);
                let auth = packet.data.as_deref();
                self.application.handle_connect(slot, &Connect { auth, recovery: auth.and_then(recovery) }, services)
            }
            // The stock client asks twice when a page calls `connect()` on a socket that is connecting by itself.
            (PacketKind::Connect, State::Connecting | State::In) => return Ok(()),
            (PacketKind::Disconnect, State::Out) => return Ok(()),
            (PacketKind::Disconnect, State::Connecting | State::In) => {
                self.set(slot, State::Out);
                self.application.handle_disconnect(slot)
            }
            (PacketKind::Event, State::In) => {
                let (name, values) = packet.event().ok_or(Fault::BadMessage)?;
                self.application.handle_event(slot, &name, &Arguments { values, attachments, ack: packet.id })
            }
            (PacketKind::Ack, State::In) => self.handle_ack(slot, packet, attachments)?,
            _ => return Err(Fault::BadMessage),
        };
        self.act(slot, actions);
        Ok(())
    }

    fn handle_ack(&mut self, slot: u8, packet: &Packet, attachments: Vec<Bytes>) -> Result<Vec<Action>, Fault> {
        let (id, values) = packet.id.zip(packet.arguments()).ok_or(Fault::BadMessage)?;
        // One that was given up, or answered before.
        let Some(place) = self.asked.iter().position(|asked| *asked == (slot, id)) else { return Ok(Vec::new()) };
        self.asked.remove(place);
        Ok(self.application.handle_answer(slot, id, &Arguments { values, attachments, ack: None }))
    }

    fn act(&mut self, slot: u8, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Command(command) => self.steps.push_back(Step::Command { slot, command }),
                Action::Accept { sid, pid } => {
                    self.connect_by = None;
                    self.set(slot, State::In);
                    let data = to_json(&Accepted { sid: &sid, pid: pid.as_deref() });
                    self.tell(slot, PacketKind::Connect, Some(data));
                }
                Action::Refuse { message, data } => {
                    self.set(slot, State::Out);
                    let data = data.and_then(|data| RawValue::from_string(data).ok());
                    let refusal = to_json(&Refusal { message: &message, data: data.as_deref() });
                    self.tell(slot, PacketKind::ConnectError, Some(refusal));
                }
                Action::Emit(emit) => self.emit(slot, emit),
                Action::Ack { id, values, attachments } => {
                    let packet = self.packet(slot, PacketKind::Ack, Some(format!("[{values}]")));
                    let packet = Packet { id: Some(id), attachments: attachments.len(), ..packet };
                    self.send(&packet, attachments);
                }
                Action::Disconnect => {
                    self.set(slot, State::Out);
                    self.tell(slot, PacketKind::Disconnect, None);
                }
                Action::Close(fault) => self.steps.push_back(Step::Close(fault)),
            }
        }
    }

    fn emit(&mut self, slot: u8, emit: Emit) {
        let mut data = format!("[{}", to_json(&emit.name));
        let values = Some(emit.values).filter(|values| !values.is_empty());
        for value in values.into_iter().chain(emit.offset.as_ref().map(to_json)) {
            data.push(',');
            data.push_str(&value);
        }
        data.push(']');
        if let Some(id) = emit.ask {
            self.asked.push_back((slot, id));
            if self.asked.len() > MAX_PENDING_ACKS {
                self.asked.pop_front();
            }
        }
        let packet = self.packet(slot, PacketKind::Event, Some(data));
        let packet = Packet { id: emit.ask, attachments: emit.attachments.len(), ..packet };
        self.send(&packet, emit.attachments);
    }

    fn tell(&mut self, slot: u8, kind: PacketKind, data: Option<String>) {
        let packet = self.packet(slot, kind, data);
        self.send(&packet, Vec::new());
    }

    fn send(&mut self, packet: &Packet, attachments: Vec<Bytes>) {
        self.steps.push_back(Step::Send(Message::Text(packet.to_text())));
        self.steps.extend(attachments.into_iter().map(|bytes| Step::Send(Message::Binary(bytes))));
    }

    fn packet(&self, slot: u8, kind: PacketKind, data: Option<String>) -> Packet {
        let namespace = self.application.namespaces().get(usize::from(slot)).copied().unwrap_or("/");
        Packet::new(kind, namespace, data)
    }

    fn slot(&self, namespace: &str) -> Option<u8> {
        let names = self.application.namespaces().iter().take(MAX_NAMESPACES);
        names.zip(0..).find(|(name, _)| **name == namespace).map(|(_, slot)| slot)
    }

    fn state(&self, slot: u8) -> State {
        self.states.get(usize::from(slot)).copied().unwrap_or_default()
    }

    fn set(&mut self, slot: u8, state: State) {
        if let Some(place) = self.states.get_mut(usize::from(slot)) {
            *place = state;
        }
        self.asked.retain(|(asked, _)| *asked != slot || state == State::In);
    }

    fn connected(&self) -> Vec<u8> {
        let states = self.states.iter().zip(0..);
        states.filter(|(state, _)| **state != State::Out).map(|(_, slot)| slot).collect()
    }
}

impl<A: Application> Protocol for Sockets<A> {
    fn handle_message(&mut self, message: Message, services: &dyn Services) {
        if let Err(fault) = self.read(message, services) {
            self.handle_fault(fault);
            self.steps.push_back(Step::Close(Some(fault)));
        }
    }

    fn handle_delivery(&mut self, slot: u8, delivery: Delivery) {
        if self.state(slot) != State::Out {
            let actions = self.application.handle_delivery(slot, delivery);
            self.act(slot, actions);
        }
    }

    fn handle_fault(&mut self, fault: Fault) {
        for slot in self.connected() {
            if self.state(slot) == State::In {
                let actions = self.application.handle_fault(slot, fault);
                self.act(slot, actions);
            }
        }
    }

    fn handle_gone(&mut self) {
        for slot in self.connected() {
            let actions = self.application.handle_disconnect(slot);
            self.act(slot, actions);
        }
    }

    fn handle_timeout(&mut self, now: Mono) {
        if self.connect_by.is_some_and(|until| until <= now) {
            self.connect_by = None;
            self.steps.push_back(Step::Close(Some(Fault::JoinTimeout)));
        }
    }

    fn poll_timeout(&self) -> Option<Mono> {
        self.connect_by
    }

    fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn buffered(&self) -> usize {
        self.incomplete.as_ref().map_or(0, |incomplete| incomplete.bytes)
    }

    fn can_come_back(&self) -> bool {
        self.application.can_come_back()
    }
}

/// What a client of before brings along, beside the page's own `auth`.
fn recovery(auth: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Known {
        pid: Option<Value>,
        offset: Option<Value>,
    }
    match serde_json::from_str(auth).ok()? {
        Known { pid: Some(Value::String(pid)), offset: Some(Value::String(offset)) } => Some((pid, offset)),
        _ => None,
    }
}

#[derive(Serialize)]
struct Accepted<'a> {
    sid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<&'a str>,
}

/// The data of a CONNECT_ERROR.
#[derive(Serialize)]
struct Refusal<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests;

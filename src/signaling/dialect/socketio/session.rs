//! Socket.IO 5 on an [`Engine`]: namespaces, events, acknowledgements, attachments.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{Services, to_json};
use super::direct::Direct;
use super::packet::{Packet, PacketKind};
use super::rooms::Rooms;
use super::{Action, BadRequest, Engine, Frame, Message, Signal, Transport, WireError};
use crate::signaling::{Command, Delivery, Fault, PeerId, Rate};
use crate::time::Mono;

/// A client connects to its first namespace within this time; the stock server's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);

/// Binary attachments of one packet. Our events have none; this is for what others emit.
const MAX_ATTACHMENTS: usize = 10;

/// The slot of the main namespace.
const MAIN: u8 = 0;

/// The slot of `/webrtc`.
const WEBRTC: u8 = 1;

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Never [`Signal::Message`].
    Transport(Signal),
    /// Pass this to the hub, for the namespace of this slot.
    Command { slot: u8, command: Command },
}

/// One client.
pub struct Session {
    engine: Engine,
    /// From the URL; a namespace's `auth.token` wins.
    token: Option<String>,
    main: Option<Direct>,
    webrtc: Option<Rooms>,
    /// A packet whose attachments have not all come.
    incomplete: Option<Incomplete>,
    /// Until the first namespace is connected.
    connect_by: Option<Mono>,
    rate: Rate,
    max_payload: usize,
    outputs: VecDeque<Output>,
}

struct Incomplete {
    packet: Packet,
    received: usize,
    bytes: usize,
}

/// What a session may do, and how it begins.
pub struct Terms {
    /// Bytes of one payload or message.
    pub max_payload: usize,
    pub messages_per_second: u32,
    /// `?token=` of the URL.
    pub token: Option<String>,
}

impl Session {
    pub fn new(now: Mono, sid: &str, transport: Transport, terms: Terms) -> Self {
        Self {
            engine: Engine::new(now, sid, transport, terms.max_payload),
            token: terms.token,
            main: None,
            webrtc: None,
            incomplete: None,
            connect_by: Some(now + CONNECT_TIMEOUT),
            rate: Rate::new(terms.messages_per_second, now),
            max_payload: terms.max_payload,
            outputs: VecDeque::new(),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    /// A GET arrived.
    pub fn handle_poll(&mut self) -> Result<(), BadRequest> {
        self.engine.handle_poll()
    }

    /// The body of a POST arrived.
    pub fn handle_payload(&mut self, now: Mono, payload: &str, services: &dyn Services) -> Result<(), BadRequest> {
        let result = self.engine.handle_payload(now, payload);
        self.read(now, services);
        result
    }

    /// A frame arrived on the session's WebSocket.
    pub fn handle_frame(&mut self, now: Mono, frame: Frame, services: &dyn Services) {
        self.engine.handle_frame(now, frame);
        self.read(now, services);
    }

    /// A WebSocket names this session.
    pub fn handle_probe_opened(&mut self, now: Mono) -> Result<(), BadRequest> {
        self.engine.handle_probe_opened(now)
    }

    /// A frame arrived on the WebSocket that wants to take over.
    pub fn handle_probe_frame(&mut self, frame: &Frame) {
        self.engine.handle_probe_frame(frame);
    }

    /// The WebSocket that wanted to take over is gone.
    pub fn handle_probe_closed(&mut self) {
        self.engine.handle_probe_closed();
    }

    /// Something from the hub for the namespace of `slot`.
    pub fn handle_delivery(&mut self, slot: u8, delivery: Delivery) {
        match slot {
            MAIN => self.main_delivery(delivery),
            _ => {
                let actions = self.webrtc.as_mut().map(|socket| socket.handle_event(delivery.event));
                match actions {
                    Some(Ok(actions)) => self.act(WEBRTC, None, actions),
                    Some(Err(fault)) => self.handle_fault(fault),
                    None => {}
                }
            }
        }
    }

    /// The shell ends the session.
    pub fn handle_fault(&mut self, _fault: Fault) {
        self.engine.close();
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        if self.connect_by.is_some_and(|until| until <= now) {
            self.connect_by = None;
            self.engine.close();
        }
        self.engine.handle_timeout(now);
    }

    pub fn poll_timeout(&self) -> Option<Mono> {
        let engine = self.engine.poll_timeout()?;
        Some(self.connect_by.map_or(engine, |connect| connect.min(engine)))
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        // Messages were all read when they came.
        self.outputs.pop_front().or_else(|| self.engine.poll_signal().map(Output::Transport))
    }

    /// Reads the messages that the engine has got.
    fn read(&mut self, now: Mono, services: &dyn Services) {
        while let Some(signal) = self.engine.poll_signal() {
            let Signal::Message(message) = signal else {
                self.outputs.push_back(Output::Transport(signal));
                continue;
            };
            if self.engine.is_closed() {
                continue;
            }
            let complete = match message {
                _ if !self.rate.take(now) => None,
                Message::Text(text) => self.handle_text(&text, services),
                Message::Binary(bytes) => self.handle_attachment(&bytes, services),
            };
            if complete.is_none() {
                self.engine.close();
            }
        }
    }

    /// `None`: not Socket.IO, the session ends.
    fn handle_text(&mut self, text: &str, services: &dyn Services) -> Option<()> {
        if self.incomplete.is_some() {
            return None;
        }
        let packet = Packet::parse(text)?;
        match packet.attachments {
            0 => self.handle_packet(&packet, services),
            1..=MAX_ATTACHMENTS => {
                self.incomplete = Some(Incomplete { packet, received: 0, bytes: 0 });
                Some(())
            }
            _ => None,
        }
    }

    fn handle_attachment(&mut self, bytes: &Bytes, services: &dyn Services) -> Option<()> {
        let mut incomplete = self.incomplete.take()?;
        incomplete.received += 1;
        incomplete.bytes += bytes.len();
        if incomplete.bytes > self.max_payload {
            return None;
        }
        if incomplete.received < incomplete.packet.attachments {
            self.incomplete = Some(incomplete);
            return Some(());
        }
        self.handle_packet(&incomplete.packet, services)
    }

    fn handle_packet(&mut self, packet: &Packet, services: &dyn Services) -> Option<()> {
        let slot = match packet.namespace.as_str() {
            "/" => MAIN,
            "/webrtc" => WEBRTC,
            other if packet.kind == PacketKind::Connect => {
                let error = ConnectError { message: "Invalid namespace".into(), data: None };
                self.emit(Packet::new(PacketKind::ConnectError, other, Some(to_json(&error))));
                return Some(());
            }
            _ => return None,
        };
        let connected = if slot == MAIN { self.main.is_some() } else { self.webrtc.is_some() };
        match packet.kind {
            PacketKind::Connect if !connected => self.connect(slot, packet, services),
            PacketKind::Disconnect if connected => {
                self.outputs.push_back(Output::Command { slot, command: Command::Leave });
                self.forget(slot);
            }
            PacketKind::Event if connected => self.handle_event(slot, packet),
            PacketKind::Ack if connected => {}
            // The stock client asks twice when a page calls `connect()` on a socket that is connecting by itself.
            PacketKind::Connect => {}
            PacketKind::Disconnect => {}
            PacketKind::Event | PacketKind::Ack | PacketKind::ConnectError => return None,
        }
        Some(())
    }

    fn connect(&mut self, slot: u8, packet: &Packet, services: &dyn Services) {
        self.connect_by = None;
        let auth: Auth = packet.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        let token = auth.token.as_deref().or(self.token.as_deref()).filter(|token| !token.is_empty());
        let permit = match services.authorize(token) {
            // By-id sockets meet in no room, so an invitation to one room does not let in.
            Ok(permit) if slot == MAIN && permit.room.is_some() => Err(Fault::WrongRoom),
            other => other,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(fault) => return self.refuse(slot, fault),
        };
        let id = PeerId::random(services);
        if slot == MAIN {
            let (socket, join) = Direct::new(id, permit);
            // The hub's answer makes the connection complete.
            self.main = Some(socket);
            self.outputs.push_back(Output::Command { slot, command: join });
        } else {
            self.accept(slot, &id);
            self.webrtc = Some(Rooms::new(id, permit));
        }
    }

    fn main_delivery(&mut self, delivery: Delivery) {
        let Some(socket) = &mut self.main else { return };
        let was_connected = socket.is_connected();
        let actions = match socket.handle_event(delivery.event) {
            Ok(actions) => actions,
            Err(Fault::Shutdown) => return self.engine.close(),
            Err(fault) => return self.refuse(MAIN, fault),
        };
        let id = socket.id().clone();
        if !was_connected && socket.is_connected() {
            self.accept(MAIN, &id);
        }
        self.act(MAIN, None, actions);
    }

    fn handle_event(&mut self, slot: u8, packet: &Packet) {
        let Some((name, arguments)) = packet.event() else { return };
        let argument = if packet.attachments == 0 { arguments.first().copied() } else { None };
        let actions = match slot {
            MAIN => self.main.as_mut().map(|socket| socket.handle_message(&name, argument)),
            _ => self.webrtc.as_mut().map(|socket| socket.handle_message(&name, argument, packet.id)),
        };
        self.act(slot, packet.id, actions.unwrap_or_default());
    }

    fn act(&mut self, slot: u8, ack: Option<u64>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Command(command) => self.outputs.push_back(Output::Command { slot, command }),
                Action::Emit(name, argument) => {
                    let data = Some(format!("[{},{argument}]", to_json(&name)));
                    self.emit(Packet::new(PacketKind::Event, namespace(slot), data));
                }
                Action::Ack(id, answer) => {
                    let Some(id) = id.or(ack) else { continue };
                    let data = Some(format!("[{}]", answer.unwrap_or_default()));
                    self.emit(Packet { id: Some(id), ..Packet::new(PacketKind::Ack, namespace(slot), data) });
                }
            }
        }
    }

    fn accept(&mut self, slot: u8, id: &PeerId) {
        let data = Some(to_json(&Accepted { sid: id }));
        self.emit(Packet::new(PacketKind::Connect, namespace(slot), data));
    }

    fn refuse(&mut self, slot: u8, fault: Fault) {
        self.forget(slot);
        let error = ConnectError { message: fault.to_string(), data: Some(fault.into()) };
        self.emit(Packet::new(PacketKind::ConnectError, namespace(slot), Some(to_json(&error))));
    }

    fn forget(&mut self, slot: u8) {
        if slot == MAIN {
            self.main = None;
        } else {
            self.webrtc = None;
        }
    }

    fn emit(&mut self, packet: Packet) {
        self.engine.send(Message::Text(packet.to_text()));
    }
}

fn namespace(slot: u8) -> &'static str {
    if slot == MAIN { "/" } else { "/webrtc" }
}

/// What a client may pass when it connects to a namespace.
#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    token: Option<String>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    sid: &'a PeerId,
}

#[derive(Serialize)]
struct ConnectError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<WireError>,
}

#[cfg(test)]
mod tests;

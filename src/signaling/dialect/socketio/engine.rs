//! Engine.IO 4: a stream of messages over long polling or WebSocket, with heartbeats and the way from one to the other.

use std::collections::VecDeque;

use bytes::Bytes;

use super::limits::{MAX_BUFFERED_PACKETS, MAX_BUFFERED_PAYLOADS};
use super::packet::EnginePacket;
use super::{Terms, Timing};
use crate::signaling::{Fault, Rate};
use crate::time::Mono;

/// How the client is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Polling,
    WebSocket,
}

/// A WebSocket frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Bytes),
}

/// What Engine.IO carries for Socket.IO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Binary(Bytes),
}

/// The request does not fit the session: answer 400 with code 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Bad request")]
pub struct BadRequest;

/// What the engine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Answer the waiting GET with this body.
    Reply(String),
    /// Send this on the session's WebSocket.
    Frame(Frame),
    /// Send this on the WebSocket that wants to take over.
    Probe(String),
    /// The WebSocket that wanted to take over is the session's from now on.
    Switch,
    /// The WebSocket that wanted to take over did not make it: close it.
    DropProbe,
    /// A message arrived.
    Message(Message),
    /// The client broke a rule. Nothing more is read from it, and [`Engine::close`] is due.
    Broken(Fault),
    /// The session is over: close what is open. The last signal.
    Close,
}

/// One session.
#[derive(Debug)]
pub struct Engine {
    transport: Transport,
    /// A GET is waiting.
    polled: bool,
    /// A WebSocket wants to take over, until then.
    upgrade_by: Option<Mono>,
    /// It has shown that it works.
    probed: bool,
    buffer: VecDeque<EnginePacket>,
    buffered: usize,
    max_payload: usize,
    timing: Timing,
    rate: Rate,
    bytes: Rate,
    heartbeat: Heartbeat,
    broken: bool,
    closed: bool,
    signals: VecDeque<Signal>,
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    PingAt(Mono),
    PongBy(Mono),
}

impl Engine {
    /// Opens a session; its first packet tells the client `sid` and the terms.
    pub fn new(now: Mono, sid: &str, transport: Transport, terms: &Terms) -> Self {
        let (timing, max_payload) = (terms.timing, terms.max_payload);
        let upgrades = if transport == Transport::Polling { r#"["websocket"]"# } else { "[]" };
        let open = format!(
            r#"{{"sid":"{sid}","upgrades":{upgrades},"pingInterval":{},"pingTimeout":{},"maxPayload":{max_payload}}}"#,
            timing.ping_interval.as_millis(),
            timing.ping_timeout.as_millis(),
        );
        let mut engine = Self {
            transport,
            polled: false,
            upgrade_by: None,
            probed: false,
            buffer: VecDeque::new(),
            buffered: 0,
            max_payload,
            timing,
            rate: Rate::new(terms.packets_per_second, now),
            bytes: Rate::with_burst(terms.bytes_per_second, terms.bytes_burst, now),
            heartbeat: Heartbeat::PingAt(now + timing.ping_interval),
            broken: false,
            closed: false,
            signals: VecDeque::new(),
        };
        engine.send_packet(EnginePacket::Open(open));
        engine
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that wait for a poll.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// A GET arrived. A second one while one waits ends the session.
    pub fn handle_poll(&mut self) -> Result<(), BadRequest> {
        if self.transport != Transport::Polling || self.closed {
            return Err(BadRequest);
        }
        if self.polled {
            self.close();
            return Err(BadRequest);
        }
        self.polled = true;
        if self.probed && self.buffer.is_empty() {
            // The client waits for its polls to end before it moves over.
            self.buffer.push_back(EnginePacket::Noop);
        }
        self.flush();
        Ok(())
    }

    /// The body of a POST arrived.
    pub fn handle_payload(&mut self, now: Mono, payload: &str) -> Result<(), BadRequest> {
        if self.transport != Transport::Polling || self.closed {
            return Err(BadRequest);
        }
        for record in EnginePacket::records(payload) {
            let Some(packet) = EnginePacket::parse(record) else {
                self.break_off(Fault::BadMessage);
                return Err(BadRequest);
            };
            self.handle_packet(now, packet);
            if self.broken || self.closed {
                break;
            }
        }
        Ok(())
    }

    /// A frame arrived on the session's WebSocket.
    pub fn handle_frame(&mut self, now: Mono, frame: Frame) {
        if self.closed || self.transport != Transport::WebSocket {
            return;
        }
        match frame {
            Frame::Binary(bytes) => self.handle_packet(now, EnginePacket::Binary(bytes)),
            Frame::Text(text) => match EnginePacket::parse(&text) {
                Some(EnginePacket::Binary(_)) | None => self.break_off(Fault::BadMessage),
                Some(packet) => self.handle_packet(now, packet),
            },
        }
    }

    /// A WebSocket names this session. At most one at a time may try.
    pub fn handle_probe_opened(&mut self, now: Mono) -> Result<(), BadRequest> {
        if self.closed || self.transport != Transport::Polling || self.upgrade_by.is_some() {
            return Err(BadRequest);
        }
        self.upgrade_by = Some(now + self.timing.upgrade_timeout);
        Ok(())
    }

    /// A frame arrived on the WebSocket that wants to take over.
    pub fn handle_probe_frame(&mut self, frame: &Frame) {
        if self.closed || self.upgrade_by.is_none() {
            return;
        }
        let packet = match frame {
            Frame::Text(text) => EnginePacket::parse(text),
            Frame::Binary(_) => None,
        };
        match packet {
            Some(EnginePacket::Ping(data)) if data == "probe" => {
                self.probed = true;
                self.signals.push_back(Signal::Probe(EnginePacket::Pong(data).to_text()));
                self.answer_poll();
            }
            Some(EnginePacket::Upgrade) if self.probed => {
                self.answer_poll();
                self.upgrade_by = None;
                self.probed = false;
                self.transport = Transport::WebSocket;
                self.signals.push_back(Signal::Switch);
                self.flush();
            }
            _ => self.drop_probe(),
        }
    }

    /// The WebSocket that wanted to take over is gone.
    pub fn handle_probe_closed(&mut self) {
        self.upgrade_by = None;
        self.probed = false;
    }

    /// Sends a Socket.IO message.
    pub fn send(&mut self, message: Message) {
        self.send_packet(match message {
            Message::Text(text) => EnginePacket::Text(text),
            Message::Binary(bytes) => EnginePacket::Binary(bytes),
        });
    }

    /// Ends the session.
    pub fn close(&mut self) {
        if self.closed {
            return;
        }
        if self.polled {
            self.buffer.push_back(EnginePacket::Close);
            self.flush();
        }
        self.drop_probe();
        self.closed = true;
        self.signals.push_back(Signal::Close);
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        if self.closed {
            return;
        }
        if self.upgrade_by.is_some_and(|until| until <= now) {
            self.drop_probe();
        }
        match self.heartbeat {
            Heartbeat::PingAt(due) if due <= now => {
                self.heartbeat = Heartbeat::PongBy(now + self.timing.ping_timeout);
                self.send_packet(EnginePacket::Ping(String::new()));
            }
            Heartbeat::PongBy(due) if due <= now => self.close(),
            _ => {}
        }
    }

    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.closed {
            return None;
        }
        let (Heartbeat::PingAt(beat) | Heartbeat::PongBy(beat)) = self.heartbeat;
        Some(self.upgrade_by.map_or(beat, |upgrade| upgrade.min(beat)))
    }

    pub fn poll_signal(&mut self) -> Option<Signal> {
        self.signals.pop_front()
    }

    /// A control frame of the WebSocket, which costs as much as a packet.
    pub fn handle_control(&mut self, now: Mono) {
        if !self.broken && !self.closed && !self.rate.take(now) {
            self.break_off(Fault::TooFast);
        }
    }

    fn handle_packet(&mut self, now: Mono, packet: EnginePacket) {
        self.handle_control(now);
        if !self.broken && !self.bytes.take_many(packet.size() as u64, now) {
            self.break_off(Fault::TooFast);
        }
        if self.broken || self.closed {
            return;
        }
        match packet {
            EnginePacket::Text(text) => self.signals.push_back(Signal::Message(Message::Text(text))),
            EnginePacket::Binary(bytes) => self.signals.push_back(Signal::Message(Message::Binary(bytes))),
            EnginePacket::Pong(_) => self.heartbeat = Heartbeat::PingAt(now + self.timing.ping_interval),
            EnginePacket::Close => {
                if self.polled {
                    self.buffer.push_back(EnginePacket::Noop);
                    self.flush();
                }
                self.close();
            }
            EnginePacket::Noop => {}
            // In version 4 only the server pings and opens.
            EnginePacket::Ping(_) | EnginePacket::Open(_) | EnginePacket::Upgrade => self.break_off(Fault::BadMessage),
        }
    }

    fn break_off(&mut self, fault: Fault) {
        self.broken = true;
        self.signals.push_back(Signal::Broken(fault));
    }

    fn send_packet(&mut self, packet: EnginePacket) {
        if self.closed {
            return;
        }
        self.buffered += packet.size();
        self.buffer.push_back(packet);
        self.flush();
        let max_bytes = self.max_payload.saturating_mul(MAX_BUFFERED_PAYLOADS);
        if self.buffer.len() > MAX_BUFFERED_PACKETS || self.buffered > max_bytes {
            self.close();
        }
    }

    fn flush(&mut self) {
        match self.transport {
            Transport::WebSocket => {
                for packet in self.buffer.drain(..) {
                    self.signals.push_back(Signal::Frame(match packet {
                        EnginePacket::Binary(bytes) => Frame::Binary(bytes),
                        packet => Frame::Text(packet.to_text()),
                    }));
                }
                self.buffered = 0;
            }
            Transport::Polling if self.polled && !self.buffer.is_empty() => {
                self.polled = false;
                let packets = self.next_payload();
                self.signals.push_back(Signal::Reply(EnginePacket::payload(&packets)));
            }
            Transport::Polling => {}
        }
    }

    /// As many packets as fit the greatest payload, at least one.
    fn next_payload(&mut self) -> Vec<EnginePacket> {
        let mut packets = Vec::new();
        let mut size = 0;
        while let Some(packet) = self.buffer.front() {
            size += packet.size() + 1;
            if !packets.is_empty() && size > self.max_payload {
                break;
            }
            self.buffered = self.buffered.saturating_sub(packet.size());
            packets.extend(self.buffer.pop_front());
        }
        packets
    }

    /// Lets the waiting GET go, so that the client can move over.
    fn answer_poll(&mut self) {
        if self.polled {
            self.buffer.push_back(EnginePacket::Noop);
            self.flush();
        }
    }

    fn drop_probe(&mut self) {
        if self.upgrade_by.take().is_some() {
            self.probed = false;
            self.signals.push_back(Signal::DropProbe);
        }
    }
}

#[cfg(test)]
mod tests;

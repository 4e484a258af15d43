//! One client: an [`Engine`] and the [`Protocol`] that it carries.

use std::collections::VecDeque;
use std::time::Duration;

use super::limits::{PING_INTERVAL, PING_TIMEOUT, UPGRADE_TIMEOUT};
use super::{BadRequest, Engine, Frame, Message, Services, Signal, Transport};
use crate::signaling::{Command, Delivery, Fault};
use crate::time::Mono;

/// How Engine.IO keeps time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// For a WebSocket that was opened for an upgrade.
    pub upgrade_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { ping_interval: PING_INTERVAL, ping_timeout: PING_TIMEOUT, upgrade_timeout: UPGRADE_TIMEOUT }
    }
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub timing: Timing,
    /// Bytes of one payload or message.
    pub max_payload: usize,
    pub packets_per_second: u32,
    /// What the client sends, with a burst of so many at once.
    pub bytes_per_second: u64,
    pub bytes_burst: u64,
}

/// What Engine.IO carries: a row of text and binary messages each way.
pub trait Protocol {
    fn handle_message(&mut self, message: Message, services: &dyn Services);

    /// Something from the hub for the namespace of `slot`.
    fn handle_delivery(&mut self, slot: u8, delivery: Delivery);

    /// The connection is about to end for this reason: the client may be told.
    fn handle_fault(&mut self, fault: Fault);

    /// The client went away for good.
    fn handle_gone(&mut self);

    fn handle_timeout(&mut self, now: Mono);

    fn poll_timeout(&self) -> Option<Mono>;

    fn poll_step(&mut self) -> Option<Step>;

    /// Bytes that it holds.
    fn buffered(&self) -> usize;

    /// True when something would wait for the client if its connection were lost.
    fn can_come_back(&self) -> bool;
}

/// What a protocol wants done.
#[derive(Debug)]
pub enum Step {
    Send(Message),
    /// Pass this to the hub, for the namespace of this slot.
    Command {
        slot: u8,
        command: Command,
    },
    /// End the connection, for this reason if there is one to tell.
    Close(Option<Fault>),
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Never [`Signal::Message`] and never [`Signal::Broken`].
    Transport(Signal),
    /// Pass this to the hub, for the namespace of this slot.
    Command { slot: u8, command: Command },
}

/// One client.
#[derive(Debug)]
pub struct Session<P> {
    engine: Engine,
    protocol: P,
    /// Why it ends.
    fault: Option<Fault>,
    outputs: VecDeque<Output>,
}

impl<P: Protocol> Session<P> {
    /// `sid`: the secret name of the session in the transport.
    pub fn new(now: Mono, sid: &str, transport: Transport, terms: &Terms, protocol: P) -> Self {
        Self { engine: Engine::new(now, sid, transport, terms), protocol, fault: None, outputs: VecDeque::new() }
    }

    pub fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    /// Why the session ended, when it was not the client that ended it.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes that wait for the client, or for the rest of what it sends.
    pub fn buffered(&self) -> usize {
        self.engine.buffered() + self.protocol.buffered()
    }

    /// True when something waits for the client after its connection is lost.
    pub fn can_come_back(&self) -> bool {
        self.protocol.can_come_back()
    }

    /// A GET arrived.
    pub fn handle_poll(&mut self) -> Result<(), BadRequest> {
        self.engine.handle_poll()
    }

    /// The body of a POST arrived.
    pub fn handle_payload(&mut self, now: Mono, payload: &str, services: &dyn Services) -> Result<(), BadRequest> {
        let result = self.engine.handle_payload(now, payload);
        self.read(services);
        result
    }

    /// A frame arrived on the session's WebSocket.
    pub fn handle_frame(&mut self, now: Mono, frame: Frame, services: &dyn Services) {
        self.engine.handle_frame(now, frame);
        self.read(services);
    }

    /// A control frame arrived on one of the session's WebSockets.
    pub fn handle_control(&mut self, now: Mono, services: &dyn Services) {
        self.engine.handle_control(now);
        self.read(services);
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
        self.protocol.handle_delivery(slot, delivery);
        self.follow();
    }

    /// The shell ends the session; the client is told why if it can be.
    pub fn handle_fault(&mut self, fault: Fault) {
        if !self.engine.is_closed() {
            self.fault = Some(fault);
            self.protocol.handle_fault(fault);
            self.follow();
            self.engine.close();
        }
    }

    /// The page was closed or left: nobody comes back.
    pub fn handle_gone(&mut self) {
        self.protocol.handle_gone();
        self.follow();
        self.engine.close();
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        self.protocol.handle_timeout(now);
        self.follow();
        self.engine.handle_timeout(now);
    }

    pub fn poll_timeout(&self) -> Option<Mono> {
        let engine = self.engine.poll_timeout()?;
        Some(self.protocol.poll_timeout().map_or(engine, |protocol| protocol.min(engine)))
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        // Messages were all read when they came.
        self.outputs.pop_front().or_else(|| self.engine.poll_signal().map(Output::Transport))
    }

    /// Reads the messages that the engine has got.
    fn read(&mut self, services: &dyn Services) {
        while let Some(signal) = self.engine.poll_signal() {
            match signal {
                Signal::Message(message) if !self.engine.is_closed() => {
                    self.protocol.handle_message(message, services);
                    self.follow();
                }
                Signal::Message(_) => {}
                Signal::Broken(fault) => self.handle_fault(fault),
                other => self.outputs.push_back(Output::Transport(other)),
            }
        }
    }

    fn follow(&mut self) {
        while let Some(step) = self.protocol.poll_step() {
            match step {
                Step::Send(message) => self.engine.send(message),
                Step::Command { slot, command } => self.outputs.push_back(Output::Command { slot, command }),
                Step::Close(fault) => {
                    self.fault = self.fault.or(fault);
                    self.engine.close();
                }
            }
        }
    }
}

//! The dialects on a hub of their own.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use relais::signaling::dialect::native::Native;
use relais::signaling::dialect::socketio::limits::CONNECT_TIMEOUT;
use relais::signaling::dialect::socketio::packet::{EnginePacket, Packet};
use relais::signaling::dialect::socketio::{self, Frame, Pages, Session, Signal, Sockets, Terms, Timing};
use relais::signaling::dialect::{self, Dialect, Ice, Invitation, Permit, Services};
use relais::signaling::{Command, Fault, Hub, HubLimits, Invite, LinkId, Output, Pass, PeerId, Random, Role};
use relais::time::Mono;

use super::Steps;

const MAX_PAYLOAD: usize = 10_000;

/// Lets everybody in but the token `no`.
#[derive(Default)]
pub(crate) struct Desk {
    count: Cell<u64>,
}

impl Random for Desk {
    fn fill(&self, bytes: &mut [u8]) {
        self.count.set(self.count.get() + 1);
        bytes.fill(0);
        for (byte, count) in bytes.iter_mut().zip(self.count.get().to_le_bytes()) {
            *byte = count;
        }
    }
}

impl Services for Desk {
    fn authorize(&self, token: Option<&str>) -> Result<Permit, Fault> {
        match token {
            Some("no") => Err(Fault::TokenInvalid),
            Some("late") => Err(Fault::TokenExpired),
            Some(room) => {
                let pass = Pass { token: Some(room.into()), expires: Some(60), one_room: true };
                Ok(Permit { room: Some(room.to_owned()), role: Role::Member, name: None, pass })
            }
            None => Ok(Permit { room: None, role: Role::Host, name: None, pass: Pass::default() }),
        }
    }

    fn ice(&self, peer: &PeerId) -> Result<Ice, Fault> {
        let json = serde_json::value::to_raw_value(&peer.as_str()).expect("text");
        Ok(Ice { json: json.into(), ttl: 600 })
    }

    fn invite(&self, room: &str, _: &Invite, until: Option<u64>) -> Result<Invitation, Fault> {
        Ok(Invitation { token: room.to_owned(), expires_at: until.unwrap_or(60) })
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Three native clients in the rooms of one hub: what they are sent is JSON, and nobody is told anything behind the close.
pub fn native_message(data: &[u8]) {
    let desk = Desk::default();
    let limits = HubLimits { rooms: 2, resume: Duration::from_secs(60), replay_messages: 8, ..HubLimits::default() };
    let mut hub = Hub::new(limits);
    let mut now = Mono(0);
    let mut clients: Vec<(Native, bool)> = (0..3).map(|_| (Native::new(now), false)).collect();
    let mut steps = Steps::new(data);
    while !steps.is_done() {
        let kind = steps.byte();
        let number = usize::from(kind & 3) % 3;
        match kind >> 4 {
            0 => {
                now = now + Duration::from_secs(u64::from(steps.byte()));
                hub.handle_timeout(now);
                clients.iter_mut().for_each(|(client, _)| client.handle_timeout(now));
            }
            1 => {
                hub.handle_lost(now, LinkId { connection: number as u64, slot: 0 });
                clients[number] = (Native::new(now), false);
            }
            _ => clients[number].0.handle_text(now, &text(steps.bytes()), &desk),
        }
        settle(&mut hub, now, &mut clients, &desk);
        let stats = hub.stats();
        assert!(stats.rooms <= 2 && stats.peers <= 4 && stats.lost <= stats.peers);
    }
}

/// Carries everything to where it belongs until nobody says anything more.
pub(crate) fn settle<D: Dialect>(hub: &mut Hub, now: Mono, clients: &mut [(D, bool)], desk: &Desk) {
    loop {
        let mut quiet = true;
        for (number, (client, closed)) in clients.iter_mut().enumerate() {
            while let Some(output) = client.poll_output() {
                quiet = false;
                assert!(!*closed || matches!(output, dialect::Output::Command(_)), "spoken behind the close");
                match output {
                    dialect::Output::Text(text) => assert!(is_json(&text), "{text}"),
                    dialect::Output::Command(command) => {
                        hub.handle_command(now, LinkId { connection: number as u64, slot: 0 }, command);
                    }
                    // Odd ones are dead: nothing comes from them any more.
                    dialect::Output::Ping if number % 2 == 1 => {}
                    dialect::Output::Ping => {
                        hub.handle_command(now, LinkId { connection: number as u64, slot: 0 }, Command::Alive);
                    }
                    dialect::Output::Close(code) => {
                        assert!(code >= 1000);
                        *closed = true;
                    }
                }
            }
        }
        while let Some(output) = hub.poll_output() {
            quiet = false;
            if let Output::Deliver { link, delivery } = output {
                clients[link.connection as usize].0.handle_delivery(now, delivery, desk);
            }
        }
        if quiet {
            return;
        }
    }
}

/// A Socket.IO session with both namespaces to come.
pub(crate) fn session(now: Mono, transport: socketio::Transport) -> Session<Sockets<Pages>> {
    let terms = Terms {
        timing: Timing::default(),
        max_payload: MAX_PAYLOAD,
        packets_per_second: 100,
        bytes_per_second: 100_000,
        bytes_burst: 100_000,
    };
    let sockets = Sockets::new(now, CONNECT_TIMEOUT, MAX_PAYLOAD, Pages::new(None));
    Session::new(now, "sid", transport, &terms, sockets)
}

/// Packets read and written again are the same; a session survives whatever comes over either transport.
pub fn socketio_packet(data: &[u8]) {
    let mut steps = Steps::new(data);
    let whole = text(data);
    if let Some(packets) = parse_payload(&whole) {
        let written = EnginePacket::payload(&packets);
        assert_eq!(parse_payload(&written).as_ref(), Some(&packets));
    }
    if let Some(packet) = Packet::parse(&whole) {
        assert_eq!(Packet::parse(&packet.to_text()), Some(packet.clone()), "{whole:?} became {}", packet.to_text());
        let _ = packet.event();
    }
    let desk = Desk::default();
    let mut now = Mono(0);
    let transport = if steps.byte() & 1 == 0 { socketio::Transport::Polling } else { socketio::Transport::WebSocket };
    let mut session = session(now, transport);
    let mut hub = Hub::new(HubLimits { rooms: 2, ..HubLimits::default() });
    run(&mut session, &mut hub, now);
    while !steps.is_done() {
        match steps.byte() % 8 {
            0 => drop(session.handle_poll()),
            1 => {
                now = now + Duration::from_secs(u64::from(steps.byte()));
                session.handle_timeout(now);
            }
            2 => drop(session.handle_probe_opened(now)),
            3 => session.handle_probe_frame(&Frame::Text(text(steps.bytes()))),
            4 => session.handle_frame(now, Frame::Binary(Bytes::copy_from_slice(steps.bytes())), &desk),
            5 => session.handle_frame(now, Frame::Text(text(steps.bytes())), &desk),
            _ => drop(session.handle_payload(now, &text(steps.bytes()), &desk)),
        }
        run(&mut session, &mut hub, now);
    }
}

fn parse_payload(payload: &str) -> Option<Vec<EnginePacket>> {
    EnginePacket::records(payload).map(EnginePacket::parse).collect()
}

fn run(session: &mut Session<Sockets<Pages>>, hub: &mut Hub, now: Mono) {
    loop {
        let mut quiet = true;
        while let Some(output) = session.poll_output() {
            quiet = false;
            match output {
                socketio::Output::Command { slot, command } => {
                    hub.handle_command(now, LinkId { connection: 1, slot }, command);
                }
                socketio::Output::Transport(Signal::Reply(body)) => {
                    assert!(parse_payload(&body).is_some(), "{body}");
                }
                socketio::Output::Transport(Signal::Message(_)) => panic!("that is the session's own"),
                socketio::Output::Transport(_) => {}
            }
        }
        while let Some(output) = hub.poll_output() {
            quiet = false;
            if let Output::Deliver { link, delivery } = output {
                session.handle_delivery(link.slot, delivery);
            }
        }
        if quiet {
            return;
        }
    }
}

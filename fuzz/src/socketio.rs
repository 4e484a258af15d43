//! Socket.IO clients that lose their connections and come back, on one hub: nothing comes twice, nothing goes back, and
//! whatever they are sent is whole.

use std::time::Duration;

use bytes::Bytes;
use relais::signaling::dialect::socketio::packet::{EnginePacket, Packet, PacketKind};
use relais::signaling::dialect::socketio::{Frame, Output, Pages, Session, Signal, Sockets, Transport};
use relais::signaling::{Hub, HubLimits, LinkId, Output as HubOutput};
use relais::time::Mono;

use super::Steps;
use super::signaling::{Desk, session};

const NAMESPACES: [&str; 2] = ["", "/webrtc,"];

/// What a client remembers of one namespace.
#[derive(Default)]
struct Memory {
    sid: String,
    pid: String,
    /// Epoch and number of the last event.
    offset: Option<(u64, u64)>,
    is_in: bool,
}

struct Client {
    session: Session<Sockets<Pages>>,
    connection: u64,
    memory: [Memory; 2],
    /// Attachments that are still to come.
    awaited: usize,
}

struct World {
    hub: Hub,
    now: Mono,
    clients: Vec<Client>,
    connections: u64,
    desk: Desk,
}

/// Three clients with both namespaces each.
pub fn socketio_sessions(data: &[u8]) {
    let limits = HubLimits { rooms: 3, replay_messages: 8, ..HubLimits::default() };
    let now = Mono(0);
    let clients = (0..3)
        .map(|connection| Client {
            session: session(now, Transport::WebSocket),
            connection,
            memory: Default::default(),
            awaited: 0,
        })
        .collect();
    let mut world = World { hub: Hub::new(limits), now, clients, connections: 3, desk: Desk::default() };
    world.settle();
    let mut steps = Steps::new(data);
    while !steps.is_done() {
        let step = steps.byte();
        world.act(usize::from(step & 3) % 3, usize::from(step >> 2 & 1), step >> 3, &mut steps);
        world.settle();
        let stats = world.hub.stats();
        assert!(stats.rooms <= 3 && stats.lost <= stats.peers);
    }
}

impl World {
    fn act(&mut self, number: usize, slot: usize, what: u8, steps: &mut Steps<'_>) {
        let namespace = NAMESPACES[slot];
        let other = self.clients[(number + 1) % 3].memory[slot].sid.clone();
        let event = if slot == 0 { "offer" } else { "webrtc-offer" };
        match what {
            0 => {
                self.now = self.now + Duration::from_secs(u64::from(steps.byte()));
                self.hub.handle_timeout(self.now);
                let now = self.now;
                self.clients.iter_mut().for_each(|client| client.session.handle_timeout(now));
            }
            // Odd: the hub has not noticed yet that the connection is lost.
            1 | 2 => self.reconnect(number, what == 1),
            3 => self.say(number, &format!("40{namespace}{}", self.clients[number].memory[slot].auth())),
            4 => self.say(number, &format!("41{namespace}")),
            5 => self.say(number, &format!(r#"42/webrtc,1["join-room","room {}"]"#, steps.byte() & 3)),
            6 => self.say(number, r#"42/webrtc,2["leave-room"]"#),
            7 => self.say(number, &format!(r#"42{namespace}["{event}",{{"offer":1,"to":"{other}"}}]"#)),
            8 => {
                let offer = r#"{"_placeholder":true,"num":0}"#;
                self.say(number, &format!(r#"451-{namespace}["{event}",{{"offer":{offer},"to":"{other}"}}]"#));
                self.frame(number, Frame::Binary(Bytes::from_static(b"bytes")));
            }
            9 => self.say(number, r#"42/webrtc,["webrtc-offer",{"offer":2}]"#),
            10 => self.say(number, r#"42/webrtc,["webrtc-answer",{"answer":3}]"#),
            11 => self.frame(number, Frame::Binary(Bytes::copy_from_slice(steps.bytes()))),
            12 => {
                self.clients[number].session.handle_gone();
                self.settle();
                self.reconnect(number, true);
            }
            _ => {
                let text = String::from_utf8_lossy(steps.bytes()).into_owned();
                self.say(number, &text);
            }
        }
    }

    fn reconnect(&mut self, number: usize, is_noticed: bool) {
        let client = &mut self.clients[number];
        if is_noticed {
            (0..2).for_each(|slot| self.hub.handle_lost(self.now, LinkId { connection: client.connection, slot }));
        }
        client.connection = self.connections;
        self.connections += 1;
        client.session = session(self.now, Transport::WebSocket);
        client.awaited = 0;
        client.memory.iter_mut().for_each(|memory| memory.is_in = false);
    }

    fn say(&mut self, number: usize, text: &str) {
        self.frame(number, Frame::Text(text.to_owned()));
    }

    fn frame(&mut self, number: usize, frame: Frame) {
        self.clients[number].session.handle_frame(self.now, frame, &self.desk);
        self.settle();
    }

    /// Carries everything to where it belongs until nobody says anything more. Who was shut out comes back.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for number in 0..self.clients.len() {
                while let Some(output) = self.clients[number].session.poll_output() {
                    quiet = false;
                    self.carry_out(number, output);
                }
            }
            while let Some(output) = self.hub.poll_output() {
                quiet = false;
                let HubOutput::Deliver { link, delivery } = output else { continue };
                if let Some(client) = self.clients.iter_mut().find(|client| client.connection == link.connection) {
                    client.session.handle_delivery(link.slot, delivery);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, number: usize, output: Output) {
        let client = &mut self.clients[number];
        match output {
            Output::Command { slot, command } => {
                self.hub.handle_command(self.now, LinkId { connection: client.connection, slot }, command);
            }
            Output::Transport(Signal::Frame(frame)) => client.hear(&frame),
            Output::Transport(Signal::Close) => self.reconnect(number, true),
            Output::Transport(other) => panic!("{other:?} over WebSocket"),
        }
    }
}

impl Memory {
    fn auth(&self) -> String {
        self.offset
            .map_or_else(String::new, |(epoch, seq)| format!(r#"{{"pid":"{}","offset":"{epoch}.{seq}"}}"#, self.pid))
    }
}

impl Client {
    fn hear(&mut self, frame: &Frame) {
        let text = match frame {
            Frame::Binary(_) => {
                self.awaited = self.awaited.checked_sub(1).expect("an attachment that belongs to a packet");
                return;
            }
            Frame::Text(text) => text,
        };
        let Some(EnginePacket::Text(text)) = EnginePacket::parse(text) else { return };
        assert_eq!(self.awaited, 0, "a packet among attachments");
        // Only servers send this kind, so our parser does not read it.
        if text.starts_with('4') {
            return;
        }
        let packet = Packet::parse(&text).unwrap_or_else(|| panic!("no packet: {text}"));
        assert!(packet.placeholders_fit(), "{text}");
        self.awaited = packet.attachments;
        let memory = &mut self.memory[usize::from(packet.namespace == "/webrtc")];
        match packet.kind {
            PacketKind::Connect => {
                let data: serde_json::Value =
                    serde_json::from_str(packet.data.as_deref().expect("data")).expect("JSON");
                let (sid, pid) = (data["sid"].as_str().expect("sid"), data["pid"].as_str().expect("pid"));
                if pid == memory.pid {
                    assert_eq!(sid, memory.sid, "recovered, yet another");
                } else {
                    *memory = Memory { sid: sid.into(), pid: pid.into(), ..Memory::default() };
                }
                memory.is_in = true;
            }
            PacketKind::Event => memory.hear(&packet),
            PacketKind::Disconnect => memory.is_in = false,
            PacketKind::Ack | PacketKind::ConnectError => {}
        }
    }
}

impl Memory {
    fn hear(&mut self, packet: &Packet) {
        let (_, arguments) = packet.event().expect("an event");
        let Some(last) = arguments.last().and_then(|last| serde_json::from_str::<String>(last.get()).ok()) else {
            return;
        };
        let Some((epoch, seq)) = last.split_once('.') else { return };
        let Some(offset) = epoch.parse().ok().zip(seq.parse().ok()) else { return };
        // Missed events come before the client is told that it is in.
        assert!(self.offset.is_none_or(|before| before < offset), "{offset:?} behind {:?}", self.offset);
        self.offset = Some(offset);
    }
}

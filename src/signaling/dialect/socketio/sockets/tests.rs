use super::super::super::testing::{self, Shell};
use super::super::limits::CONNECT_TIMEOUT;
use super::super::{Frame, Output, Pages, Session, Signal, Transport};
use super::*;
use crate::signaling::{Command, Event, Hub, HubLimits, Join, Kind, LinkId, Output as HubOutput, RoomKey, To};

const NOW: Mono = Mono(0);

/// A session over WebSocket, and the hub behind it.
struct World {
    hub: Hub,
    session: Session<Sockets<Pages>>,
    connection: u64,
    shell: Shell,
}

fn session() -> Session<Sockets<Pages>> {
    let terms = testing::terms();
    let sockets = Sockets::new(NOW, CONNECT_TIMEOUT, terms.max_payload, Pages::new(None));
    Session::new(NOW, "sid", Transport::WebSocket, &terms, sockets)
}

impl World {
    fn new(shell: Shell) -> Self {
        let mut world = Self { hub: Hub::new(HubLimits::default()), session: session(), connection: 0, shell };
        world.frames();
        world
    }

    /// The transport breaks and the client opens another. The hub hears of the first only if `is_noticed`.
    fn reconnect(&mut self, is_noticed: bool) {
        if is_noticed {
            (0..2).for_each(|slot| self.hub.handle_lost(NOW, LinkId { connection: self.connection, slot }));
        }
        self.connection += 1;
        self.session = session();
        self.frames();
    }

    /// Something reaches the by-id socket, or the one in a room, of that id.
    fn send(&mut self, room: RoomKey, to: &str, number: u64) {
        let link = LinkId { connection: 1000 + number, slot: 0 };
        let join = Join::nobody(room, &format!("other{number}"));
        let body = Some(testing::json(&number.to_string()));
        self.hub.handle_command(NOW, link, Command::Join(Box::new(join)));
        self.hub.handle_command(NOW, link, Command::Send { to: To::Peer(to.into()), kind: Kind::Offer, body });
        self.hub.handle_command(NOW, link, Command::Leave);
    }

    fn say(&mut self, text: &str) -> Vec<String> {
        self.session.handle_frame(NOW, Frame::Text(text.into()), &self.shell);
        self.frames()
    }

    fn binary(&mut self, bytes: &'static [u8]) -> Vec<String> {
        self.session.handle_frame(NOW, Frame::Binary(Bytes::from_static(bytes)), &self.shell);
        self.frames()
    }

    /// Lets everything settle, and gives what the client was sent.
    fn frames(&mut self) -> Vec<String> {
        let mut frames = Vec::new();
        loop {
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Command { slot, command } => {
                        self.hub.handle_command(NOW, LinkId { connection: self.connection, slot }, command);
                    }
                    Output::Transport(Signal::Frame(Frame::Text(text))) => frames.push(text),
                    Output::Transport(Signal::Close) => frames.push("close".into()),
                    Output::Transport(other) => frames.push(format!("{other:?}")),
                }
            }
            match self.hub.poll_output() {
                Some(HubOutput::Deliver { link, delivery }) if link.connection == self.connection => {
                    self.session.handle_delivery(link.slot, delivery);
                }
                Some(_) => {}
                None => return frames,
            }
        }
    }
}

#[test]
fn the_room_call_frame_by_frame() {
    let mut world = World::new(Shell::open());
    let connected = world.say("40/webrtc,");
    let pid = "AgICAgICAgICAgICAgICAgICAgICAgIC";
    assert_eq!(connected, [format!(r#"40/webrtc,{{"sid":"AQEBAQEBAQEBAQEBAQEB","pid":"{pid}"}}"#)]);
    let joined = world.say(r#"42/webrtc,5["join-room",{"room":"default"}]"#);
    let room = r#"{"room":"default","peer":"AQEBAQEBAQEBAQEBAQEB","limit":2,"peers":[]}"#;
    assert_eq!(joined, [format!(r#"42/webrtc,["room-joined",{room},"1.1"]"#), format!("43/webrtc,5[{room}]")]);
    let wrong = world.say(r#"42/webrtc,["webrtc-offer",{"room":"other","offer":{}}]"#);
    assert!(wrong[0].starts_with(r#"42/webrtc,["error",{"code":"wrong-room""#), "{wrong:?}");
    assert_eq!(world.say(r#"42/webrtc,9["webrtc-offer",{"room":"default","offer":{}}]"#), ["43/webrtc,9[]"]);
    assert_eq!(world.say(r#"42/webrtc,["something-else",1,2]"#), [""; 0]);
    assert_eq!(world.say("41/webrtc,"), [""; 0]);
    assert_eq!(world.hub.stats().peers, 0);
}

#[test]
fn by_id_frame_by_frame() {
    let mut world = World::new(Shell::open());
    let id = "AQEBAQEBAQEBAQEBAQEB";
    let connected = world.say("40");
    assert!(connected[0].starts_with(&format!(r#"40{{"sid":"{id}","pid":""#)), "{connected:?}");
    assert_eq!(connected[1..], [format!(r#"42["newUser","Coucou user :  {id}","1.1"]"#)]);
    let nobody = world.say(r#"42["offer",{"offer":{},"to":"nobody"}]"#);
    assert!(nobody[0].starts_with(r#"42["error",{"code":"unknown-peer""#), "{nobody:?}");
    let no_address = world.say(r#"423["offer",{"offer":{}}]"#);
    assert!(no_address[0].starts_with(r#"433[{"code":"bad-message""#), "{no_address:?}");
}

#[test]
fn namespaces_and_tokens() {
    let mut world = World::new(Shell::by_invitation());
    assert_eq!(world.say("40/nope,"), [r#"44/nope,{"message":"Invalid namespace"}"#]);
    let missing = world.say("40/webrtc,");
    assert!(missing[0].starts_with("44/webrtc,") && missing[0].contains(r#""code":"token-missing""#), "{missing:?}");
    let one_room = world.say(r#"40{"token":"room r"}"#);
    assert!(one_room[0].contains("wrong-room"), "{one_room:?}");
    assert!(world.say(r#"40/webrtc,{"token":"room r"}"#)[0].starts_with(r#"40/webrtc,{"sid":"#));
    let other_room = world.say(r#"42/webrtc,1["join-room",{"room":"s"}]"#);
    assert!(other_room[1].starts_with(r#"43/webrtc,1[{"error":{"code":"wrong-room""#), "{other_room:?}");
    assert_eq!(world.say(r#"42/webrtc,1["join-room",{"room":"r"}]"#).len(), 2);
}

#[test]
fn what_ends_a_session() {
    for bad in [r#"42["before connect"]"#, "4", "49", "40[1]", "51-[\"a\"]", "451-[\"a\"]", "4599-[\"a\"]"] {
        let mut world = World::new(Shell::open());
        let mut said = world.say(bad);
        if said.is_empty() {
            said = world.say(r#"42["a text where an attachment belongs"]"#);
        }
        assert_eq!(said, ["close"], "{bad}");
    }
    let mut world = World::new(Shell::open());
    assert_eq!(world.binary(&[1]), ["close"]);
}

#[test]
fn attachments_are_awaited_and_limited() {
    let mut world = World::new(Shell::open());
    world.say("40");
    let event = r#"452-7["offer",{"offer":{"_placeholder":true,"num":0},"to":"x"}]"#;
    assert_eq!(world.say(event), [""; 0]);
    assert_eq!(world.binary(&[1]), [""; 0]);
    let answered = world.binary(&[2]);
    assert_eq!(answered[0], "437[]");
    assert!(answered[1].starts_with(r#"42["error",{"code":"unknown-peer""#), "{answered:?}");
    world.say(r#"452-["x"]"#);
    assert_eq!(world.binary(&[0; 900]), [""; 0]);
    let over = world.binary(&[0; 200]);
    assert!(over[0].contains("too-large") && over[1] == "close", "{over:?}");
}

#[test]
fn too_many_packets_end_it() {
    let mut world = World::new(Shell::open());
    world.say("40");
    let last = (0..30).map(|_| world.say(r#"42["x"]"#)).find(|said| !said.is_empty()).expect("an end");
    assert!(last[0].contains("too-fast") && last[1] == "close", "{last:?}");
}

#[test]
fn asking_twice_for_a_namespace_is_answered_once() {
    let mut world = World::new(Shell::open());
    assert_eq!(world.say("40/webrtc,").len(), 1);
    assert_eq!(world.say("40/webrtc,"), [""; 0]);
}

#[test]
fn nobody_connects() {
    let mut world = World::new(Shell::open());
    world.say("3");
    world.session.handle_timeout(NOW + CONNECT_TIMEOUT);
    assert_eq!(world.frames().last().map(String::as_str), Some("close"));
}

#[test]
fn who_is_refused_does_not_stay() {
    for (asks, stays) in [("40/webrtc,", false), (r#"40/webrtc,{"token":"good"}"#, true)] {
        let mut world = World::new(Shell::by_invitation());
        world.say(asks);
        world.session.handle_timeout(NOW + CONNECT_TIMEOUT);
        assert_eq!(world.frames().last().is_none_or(|last| last != "close"), stays, "{asks}");
    }
}

#[test]
fn the_end_of_the_server_is_the_end_of_the_session() {
    let mut world = World::new(Shell::open());
    world.say("40");
    world.session.handle_delivery(0, Delivery { seq: 2, event: Event::Closing });
    assert_eq!(world.frames(), ["close"]);
}

/// The value of a text field in a CONNECT packet.
fn field(packet: &str, name: &str) -> String {
    let (_, rest) = packet.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("no {name}: {packet}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}

#[test]
fn a_lost_by_id_socket_is_the_same_when_it_comes_back() {
    for is_noticed in [true, false] {
        let mut world = World::new(Shell::open());
        let connected = world.say("40").remove(0);
        let (sid, pid) = (field(&connected, "sid"), field(&connected, "pid"));
        world.send(RoomKey::Direct, &sid, 1);
        assert_eq!(world.frames(), [r#"42["offer",{"offer":1,"from":"other1"},"1.2"]"#]);
        if is_noticed {
            (0..2).for_each(|slot| world.hub.handle_lost(NOW, LinkId { connection: 0, slot }));
        }
        world.send(RoomKey::Direct, &sid, 2);
        world.send(RoomKey::Direct, &sid, 3);
        world.reconnect(is_noticed);
        let said = world.say(&format!(r#"40{{"pid":"{pid}","offset":"1.2"}}"#));
        let missed = |number, seq| format!(r#"42["offer",{{"offer":{number},"from":"other{number}"}},"1.{seq}"]"#);
        assert_eq!(said, [missed(2, 3), missed(3, 4), connected.clone()], "noticed: {is_noticed}");
        world.send(RoomKey::Direct, &sid, 4);
        assert_eq!(world.frames(), [missed(4, 5)]);
        assert_eq!(world.hub.stats().peers, 1);
    }
}

#[test]
fn a_lost_socket_in_a_room_keeps_its_room_and_id() {
    let mut world = World::new(Shell::open());
    let connected = world.say("40/webrtc,").remove(0);
    let (sid, pid) = (field(&connected, "sid"), field(&connected, "pid"));
    world.say(r#"42/webrtc,["join-room","r"]"#);
    world.reconnect(true);
    world.send(RoomKey::Call("r".into()), &sid, 1);
    let said = world.say(&format!(r#"40/webrtc,{{"pid":"{pid}","offset":"1.1"}}"#));
    let names: Vec<_> = said.iter().map(|line| line.split('"').nth(1).expect("name")).collect();
    assert_eq!(names, ["peer-joined", "webrtc-offer", "peer-left", "sid"], "{said:?}");
    assert_eq!(said.last(), Some(&connected));
    // A page that joins again is told where it is.
    let again = world.say(r#"42/webrtc,3["join-room",{"room":"r"}]"#);
    assert_eq!(again, [format!(r#"43/webrtc,3[{{"room":"r","peer":"{sid}","limit":2,"peers":[]}}]"#)]);
    assert_eq!(world.say(r#"42/webrtc,4["leave-room"]"#), ["43/webrtc,4[]"]);
    assert_eq!(world.hub.stats().peers, 0);
}

#[test]
fn what_cannot_be_recovered_begins_anew() {
    let mut world = World::new(Shell::open());
    let connected = world.say("40").remove(0);
    let pid = field(&connected, "pid");
    let cases = [("none", "1.1"), (&pid, "1.9"), (&pid, "2.1"), (&pid, "x"), (&"p".repeat(99), "1.1")];
    for (pid, offset) in cases {
        world.reconnect(true);
        let said = world.say(&format!(r#"40{{"pid":"{pid}","offset":"{offset}"}}"#));
        assert_ne!(field(&said[0], "pid"), *pid, "{offset}");
        assert_ne!(field(&said[0], "sid"), field(&connected, "sid"), "{offset}");
        assert!(said[1].contains("newUser"));
    }
    // A private id of one namespace is none in the other.
    let pid = field(&world.say("40/webrtc,")[0], "pid");
    world.say(r#"42/webrtc,["join-room","r"]"#);
    world.reconnect(true);
    let said = world.say(&format!(r#"40{{"pid":"{pid}","offset":"1.1"}}"#));
    assert_ne!(field(&said[0], "pid"), pid);
    // Who leaves does not come back.
    let said = world.say("40/webrtc,").remove(0);
    world.say(r#"42/webrtc,["join-room","r"]"#);
    world.say("41/webrtc,");
    let back = format!(r#"40/webrtc,{{"pid":"{}","offset":"1.1"}}"#, field(&said, "pid"));
    assert_ne!(field(&world.say(&back)[0], "sid"), field(&said, "sid"));
}

#[test]
fn a_lost_page_makes_room_for_its_successor() {
    let mut world = World::new(Shell::open());
    for _ in 0..5 {
        world.say("40/webrtc,");
        let joined = world.say(r#"42/webrtc,1["join-room","r"]"#);
        assert!(joined[1].starts_with(r#"43/webrtc,1[{"room":"r""#), "{joined:?}");
        world.reconnect(true);
    }
    assert_eq!(world.hub.stats().peers, 2);
}

#[test]
fn binary_parts_go_along_and_placeholders_must_fit() {
    let mut world = World::new(Shell::open());
    let sid = field(&world.say("40")[0], "sid");
    let mut other = Pages::new(None);
    let connect = Connect { auth: None, recovery: None };
    let actions = other.handle_connect(0, &connect, &world.shell);
    let link = LinkId { connection: 7, slot: 0 };
    for action in actions {
        let Action::Command(command) = action else { continue };
        world.hub.handle_command(NOW, link, command);
    }
    let argument =
        format!(r#"{{"offer":[{{"_placeholder":true,"num":1}},{{"_placeholder":true,"num":0}}],"to":"{sid}"}}"#);
    let values = vec![serde_json::from_str(&argument).expect("JSON")];
    let attachments = vec![Bytes::from_static(b"zero"), Bytes::from_static(b"one")];
    while world.hub.poll_output().is_some() {}
    for action in other.handle_event(0, "offer", &Arguments { values, attachments, ack: None }) {
        let Action::Command(command) = action else { continue };
        world.hub.handle_command(NOW, link, command);
    }
    let frames = world.frames();
    assert!(frames[0].starts_with(r#"452-["offer",{"offer":[{"_placeholder":true,"num":1},"#), "{frames:?}");
    assert!(frames[1].contains("zero") && frames[2].contains("one"), "{frames:?}");
    let broken = world.say(r#"451-["offer",{"offer":{"_placeholder":true,"num":1},"to":"x"}]"#);
    assert!(broken[0].contains("bad-message") && broken[1] == "close", "{broken:?}");
}

use super::super::super::testing::Shell;
use super::*;
use crate::signaling::{Event, Hub, HubLimits, LinkId, Output as HubOutput};

const NOW: Mono = Mono(0);

/// A session over WebSocket, and the hub behind it.
struct World {
    hub: Hub,
    session: Session,
    shell: Shell,
}

impl World {
    fn new(shell: Shell) -> Self {
        let terms = Terms { max_payload: 1000, messages_per_second: 20, token: None };
        let session = Session::new(NOW, "sid", Transport::WebSocket, terms);
        let mut world = Self { hub: Hub::new(HubLimits::default()), session, shell };
        world.frames();
        world
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
                        self.hub.handle_command(NOW, LinkId { connection: 0, slot }, command);
                    }
                    Output::Transport(Signal::Frame(Frame::Text(text))) => frames.push(text),
                    Output::Transport(Signal::Close) => frames.push("close".into()),
                    Output::Transport(other) => frames.push(format!("{other:?}")),
                }
            }
            match self.hub.poll_output() {
                Some(HubOutput::Deliver { link, delivery }) => self.session.handle_delivery(link.slot, delivery),
                Some(HubOutput::Notice(_)) => {}
                None => return frames,
            }
        }
    }
}

#[test]
fn the_room_call_frame_by_frame() {
    let mut world = World::new(Shell::open());
    let connected = world.say("40/webrtc,");
    assert_eq!(connected, [r#"40/webrtc,{"sid":"AQEBAQEBAQEBAQEBAQEB"}"#]);
    let joined = world.say(r#"42/webrtc,5["join-room",{"room":"default"}]"#);
    let room = r#"{"room":"default","peer":"AQEBAQEBAQEBAQEBAQEB","limit":2,"peers":[]}"#;
    assert_eq!(joined, [format!(r#"42/webrtc,["room-joined",{room}]"#), format!("43/webrtc,5[{room}]")]);
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
    assert_eq!(world.say("40"), [format!(r#"40{{"sid":"{id}"}}"#), format!(r#"42["newUser","Coucou user :  {id}"]"#)],);
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
    // Descriptions are JSON: one with attachments is refused, and the session goes on.
    assert!(world.binary(&[2])[0].starts_with(r#"437[{"code":"bad-message""#));
    world.say(r#"452-["x"]"#);
    assert_eq!(world.binary(&[0; 999]), [""; 0]);
    assert_eq!(world.binary(&[0; 2]), ["close"]);
}

#[test]
fn too_many_packets_end_it() {
    let mut world = World::new(Shell::open());
    world.say("40");
    let ended = (0..30).any(|_| world.say(r#"42["x"]"#) == ["close"]);
    assert!(ended);
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
fn the_end_of_the_server_is_the_end_of_the_session() {
    let mut world = World::new(Shell::open());
    world.say("40");
    world.session.handle_delivery(MAIN, Delivery { seq: 2, event: Event::Closing });
    assert_eq!(world.frames(), ["close"]);
}

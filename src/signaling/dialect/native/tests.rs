use serde_json::{Value, json};

use super::super::testing::{self, Shell};
use super::*;
use crate::signaling::{Joined, LeaveReason, PeerView};

const START: Mono = Mono(1_000);

/// A client and what it was told.
struct Probe {
    native: Native,
    shell: Shell,
}

impl Probe {
    fn new(shell: Shell) -> Self {
        Self { native: Native::new(START), shell }
    }

    /// A client in room `r` with the id `me`.
    fn joined() -> Self {
        let mut probe = Self::new(Shell::open());
        probe.say(r#"{"type":"join","v":1,"room":"r"}"#);
        probe.hear(1, joined());
        probe.texts();
        probe
    }

    fn say(&mut self, text: &str) {
        self.native.handle_text(START, text, &self.shell);
    }

    fn hear(&mut self, seq: u64, event: Event) {
        self.native.handle_delivery(START, Delivery { seq, event }, &self.shell);
    }

    /// Everything wanted so far, commands by their debug form.
    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.native.poll_output()).collect()
    }

    fn texts(&mut self) -> Vec<Value> {
        let text = |output| match output {
            Output::Text(text) => Some(serde_json::from_str(&text).expect("JSON")),
            Output::Command(_) | Output::Close(_) | Output::Ping => None,
        };
        self.outputs().into_iter().filter_map(text).collect()
    }

    fn refusal(&mut self) -> (Value, Option<u16>) {
        let outputs = self.outputs();
        let code = outputs.iter().find_map(|output| if let Output::Close(code) = output { Some(*code) } else { None });
        let text = outputs.iter().find_map(|output| if let Output::Text(text) = output { Some(text) } else { None });
        (serde_json::from_str(text.expect("a text")).expect("JSON"), code)
    }
}

fn joined() -> Event {
    let view = PeerView {
        peer: "bob".into(),
        name: Some("Bob".into()),
        role: Role::Host,
        instance: Some("i".into()),
        polite: true,
        connected: false,
        alias: None,
    };
    Event::Joined(Box::new(Joined {
        room: RoomKey::Call("r".into()),
        peer: "me".into(),
        session: Some("secret".into()),
        resumed: false,
        missed: 0,
        role: Role::Member,
        name: None,
        limit: 2,
        resume: Duration::from_secs(60),
        locked: true,
        viewers: 3,
        peers: vec![view],
    }))
}

#[test]
fn a_join_becomes_a_command_and_its_answer_the_reply() {
    let mut probe = Probe::new(Shell::open());
    probe.say(r#"{"type":"join","v":1,"room":"r","name":" Ada ","instance":"i","session":"s","seq":7,"new":[1]}"#);
    let outputs = probe.outputs();
    let [Output::Command(Command::Join(join))] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(join.room, RoomKey::Call("r".into()));
    assert_eq!((join.name.as_deref(), join.instance.as_deref()), (Some("Ada"), Some("i")));
    let session = join.session.as_ref().expect("a session");
    let resume = session.resume.as_ref().expect("a resume");
    assert_eq!((resume.secret.as_str(), resume.seq), ("s", Some(7)));
    assert_ne!(session.secret.as_str(), join.peer.as_str());
    probe.hear(1, joined());
    let expected = json!({
        "type": "joined", "v": 1, "seq": 1, "room": "r", "peer": "me", "session": "secret", "resumed": false,
        "role": "member", "limit": 2, "resume": 60, "locked": true, "viewers": 3, "ice": {"for": "me"},
        "peers": [{"peer": "bob", "name": "Bob", "role": "host", "instance": "i", "polite": true, "connected": false}],
    });
    assert_eq!(probe.texts(), [expected]);
}

#[test]
fn a_stream_is_joined_by_its_name_and_a_part_in_it() {
    let join = |text: &str| {
        let mut probe = Probe::new(Shell::by_invitation());
        probe.say(text);
        let mut outputs = probe.outputs();
        let Some(Output::Command(Command::Join(join))) = outputs.pop() else { panic!("{outputs:?}") };
        (probe, join)
    };
    let (_, join_as_streamer) =
        join(r#"{"type":"join","v":1,"stream":"s","role":"streamer","token":"good","room":"unheard of"}"#);
    assert_eq!((join_as_streamer.room, join_as_streamer.role), (RoomKey::Stream("s".into()), Role::Streamer));
    assert!(join_as_streamer.alias.is_none());
    // Whatever else the token would let them do.
    let (mut probe, watching) = join(r#"{"type":"join","v":1,"stream":"s","token":"good"}"#);
    assert_eq!(watching.role, Role::Viewer);
    let alias = watching.alias.as_ref().map(|alias| alias.json().get().to_owned());
    assert_eq!(alias, Some(format!("\"{}\"", watching.peer)), "what a streamer of the live dialect calls it");
    let Event::Joined(mut answer) = joined() else { unreachable!() };
    answer.room = RoomKey::Stream("s".into());
    probe.hear(1, Event::Joined(answer));
    let told = probe.texts().remove(0);
    assert_eq!((&told["stream"], &told["room"]), (&json!("s"), &Value::Null));
    probe.hear(0, Event::Viewers(3));
    assert_eq!(probe.texts(), [json!({"type": "viewers", "count": 3})], "outside the count");
    let refused = [
        (r#"{"type":"join","v":1,"stream":"s","role":"streamer","token":"viewer"}"#, "wrong-role"),
        (r#"{"type":"join","v":1,"stream":"é","token":"good"}"#, "bad-room"),
        (r#"{"type":"join","v":1,"stream":"s","token":"room t"}"#, "wrong-room"),
    ];
    for (text, code) in refused {
        let mut probe = Probe::new(Shell::by_invitation());
        probe.say(text);
        assert_eq!(probe.refusal().0["code"], code, "{text}");
    }
}

#[test]
fn joins_that_are_refused() {
    let cases = [
        (r#"{"type":"join","room":"r"}"#, "version"),
        (r#"{"type":"join","v":1}"#, "bad-room"),
        (r#"{"type":"join","v":1,"room":""}"#, "bad-room"),
        (r#"{"type":"join","v":1,"room":"é"}"#, "bad-room"),
        (r#"{"type":"join","v":1,"room":"r","name":"a\nb"}"#, "bad-name"),
        (r#"{"type":"join","v":1,"room":"r"}"#, "token-missing"),
        (r#"{"type":"join","v":1,"room":"r","token":""}"#, "token-missing"),
        (r#"{"type":"join","v":1,"room":"r","token":"x"}"#, "token-invalid"),
        (r#"{"type":"join","v":1,"room":"r","token":"expired"}"#, "token-expired"),
        (r#"{"type":"join","v":1,"room":"r","token":"room s"}"#, "wrong-room"),
        (r#"{"type":"offer","to":"x","description":{}}"#, "join-first"),
    ];
    for (text, code) in cases {
        let mut probe = Probe::new(Shell::by_invitation());
        probe.say(text);
        let (error, closed) = probe.refusal();
        assert_eq!((&error["code"], &error["fatal"], closed), (&json!(code), &json!(true), Some(1008)), "{text}");
        // Nothing is said after the end.
        probe.say(text);
        assert!(probe.outputs().is_empty());
    }
}

#[test]
fn the_name_of_an_invitation_wins() {
    let mut probe = Probe::new(Shell::by_invitation());
    probe.say(r#"{"type":"join","v":1,"room":"s","token":"room s","name":"Ada"}"#);
    let outputs = probe.outputs();
    let [Output::Command(Command::Join(join))] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(join.name.as_deref(), Some("Minted"));
}

#[test]
fn bodies_pass_untouched_and_null_is_a_candidate() {
    let mut probe = Probe::joined();
    probe.say(r#"{"type":"offer","to":"bob","description":{ "sdp" : "\u00e9" }}"#);
    probe.say(r#"{"type":"candidate","to":"bob","candidate":null}"#);
    let bodies: Vec<String> = probe
        .outputs()
        .iter()
        .map(|output| match output {
            Output::Command(Command::Send { body: Some(body), .. }) => body.get().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bodies, [r#"{ "sdp" : "\u00e9" }"#, "null"]);
    let body = Some(testing::json("null"));
    probe.hear(2, Event::Message { from: "bob".into(), kind: Kind::Candidate, body });
    assert_eq!(probe.texts(), [json!({"type": "candidate", "from": "bob", "candidate": null, "seq": 2})]);
}

#[test]
fn what_the_hub_tells() {
    let mut probe = Probe::joined();
    let bob = PeerId::from("bob");
    probe.hear(2, Event::PeerLost(bob.clone()));
    probe.hear(3, Event::PeerBack(bob.clone()));
    probe.hear(4, Event::Message { from: bob.clone(), kind: Kind::Bye, body: None });
    probe.hear(5, Event::PeerLeft { peer: bob, reason: LeaveReason::Reload });
    probe.hear(6, Event::Complaint(Fault::UnknownPeer));
    probe.hear(7, Event::Ice);
    assert_eq!(
        probe.texts(),
        [
            json!({"type": "peer-lost", "peer": "bob", "seq": 2}),
            json!({"type": "peer-back", "peer": "bob", "seq": 3}),
            json!({"type": "bye", "from": "bob", "seq": 4}),
            json!({"type": "peer-left", "peer": "bob", "reason": "reload", "seq": 5}),
            json!({"type": "error", "code": "unknown-peer", "message": Fault::UnknownPeer.to_string(), "fatal": false,
                   "seq": 6}),
            json!({"type": "ice", "ice": {"for": "me"}, "seq": 7}),
        ],
    );
    probe.hear(8, Event::Closing);
    assert_eq!(probe.refusal(), (json!({"type": "closing", "reason": "shutdown", "seq": 8}), Some(1001)));
}

#[test]
fn complaints_are_numbered_by_the_hub_and_ten_in_a_row_end_it() {
    let mut probe = Probe::joined();
    for _ in 0..9 {
        probe.say("{");
    }
    assert!(probe.outputs().iter().all(|output| matches!(output, Output::Command(Command::Complain(Fault::BadJson)))));
    probe.say(r#"{"type":"ping"}"#);
    assert_eq!(probe.texts(), [json!({"type": "pong"})]);
    for _ in 0..10 {
        probe.say("7");
    }
    let (error, code) = probe.refusal();
    assert_eq!((&error["code"], &error["fatal"], code), (&json!("bad-message"), &json!(true), Some(1008)));
}

#[test]
fn no_join_in_time() {
    let mut probe = Probe::new(Shell::open());
    assert_eq!(probe.native.poll_timeout(), Some(Mono(11_000)));
    probe.native.handle_timeout(Mono(10_999));
    assert!(probe.outputs().is_empty());
    probe.native.handle_timeout(Mono(11_000));
    assert_eq!(probe.refusal().0["code"], "join-timeout");
    assert_eq!(probe.native.poll_timeout(), None);
}

#[test]
fn credentials_are_renewed_before_they_expire() {
    let mut probe = Probe::joined();
    assert_eq!(probe.native.poll_timeout(), Some(START + Duration::from_secs(750)));
    probe.native.handle_timeout(START + Duration::from_secs(750));
    assert!(matches!(probe.outputs().as_slice(), [Output::Command(Command::Ice)]));
    assert_eq!(probe.native.poll_timeout(), None);
    probe.hear(2, Event::Ice);
    assert!(probe.native.poll_timeout().is_some());
}

#[test]
fn leaving_closes() {
    let mut probe = Probe::joined();
    probe.say(r#"{"type":"leave"}"#);
    assert!(matches!(probe.outputs().as_slice(), [Output::Command(Command::Leave), Output::Close(1000)]));
}

#[test]
fn the_verbs_of_a_host() {
    let mut probe = Probe::joined();
    for (text, command) in [
        (r#"{"type":"kick","peer":"bob"}"#, r#"Kick(PeerId("bob"))"#),
        (r#"{"type":"lock","locked":false}"#, "Lock(false)"),
        (r#"{"type":"close"}"#, "Close"),
        (
            r#"{"type":"invite","role":"viewer","name":" Bob ","ttl":7,"id":"x"}"#,
            r#"Invite(Invite { id: Some("x"), role: Viewer, name: Some("Bob"), ttl: Some(7) })"#,
        ),
        (r#"{"type":"invite"}"#, "Invite(Invite { id: None, role: Member, name: None, ttl: None })"),
        (r#"{"type":"kick"}"#, "Complain(BadMessage)"),
        (r#"{"type":"lock"}"#, "Complain(BadMessage)"),
        (r#"{"type":"invite","role":"admin"}"#, "Complain(BadMessage)"),
        (r#"{"type":"invite","ttl":-1}"#, "Complain(BadMessage)"),
    ] {
        probe.say(text);
        let outputs = probe.outputs();
        let [Output::Command(found)] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert_eq!(format!("{found:?}"), command, "{text}");
    }
}

#[test]
fn what_a_host_s_verbs_bring() {
    let mut probe = Probe::joined();
    let invite = |ttl| Arc::new(Invite { id: Some("x".into()), role: Role::Viewer, name: None, ttl });
    probe.hear(2, Event::Lock { locked: true, by: "bob".into() });
    probe.hear(3, Event::Viewers(2));
    probe.hear(4, Event::Invite { invite: invite(Some(7)), until: Some(5) });
    probe.hear(5, Event::Invite { invite: invite(None), until: Some(0) });
    let expired = Fault::TokenExpired;
    assert_eq!(
        probe.texts(),
        [
            json!({"type": "lock", "locked": true, "by": "bob", "seq": 2}),
            json!({"type": "viewers", "count": 2, "seq": 3}),
            json!({"type": "invite", "id": "x", "room": "r", "role": "viewer", "token": "viewer r", "expiresAt": 5,
                   "seq": 4}),
            json!({"type": "error", "code": expired.code(), "message": expired.to_string(), "fatal": false, "seq": 5}),
        ]
    );
    probe.hear(0, Event::Closed(Fault::Kicked));
    let (error, code) = probe.refusal();
    assert_eq!((&error["code"], &error["fatal"], code), (&json!("kicked"), &json!(true), Some(1008)));
}

#[test]
fn who_has_a_session_to_show_is_left_to_the_hub() {
    for (token, fault) in [
        ("expired", Fault::TokenExpired),
        ("x", Fault::TokenInvalid),
        ("room s", Fault::WrongRoom),
        ("", Fault::TokenMissing),
    ] {
        let mut probe = Probe::new(Shell::by_invitation());
        probe.say(&format!(r#"{{"type":"join","v":1,"room":"r","token":"{token}","session":"s","seq":1}}"#));
        let outputs = probe.outputs();
        let [Output::Command(Command::Join(join))] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert_eq!((join.refused, join.role), (Some(fault), Role::Viewer));
    }
}

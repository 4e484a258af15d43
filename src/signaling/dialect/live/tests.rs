use super::super::testing::{self, Shell};
use super::*;
use crate::signaling::{Joined, LeaveReason};

const NOW: Mono = Mono(0);

struct Probe(Live, Shell);

impl Probe {
    fn new(messages: &[&str]) -> Self {
        let mut probe = Self(Live::new(NOW, Some("from-url".into()), None), Shell::open());
        for message in messages {
            probe.say(message);
        }
        probe
    }

    fn say(&mut self, text: &str) {
        self.0.handle_text(NOW, text, &self.1);
    }

    fn hear(&mut self, event: Event) {
        self.0.handle_delivery(NOW, Delivery { seq: 1, event }, &self.1);
    }

    /// Texts as they are, joins by their room and alias, messages by receiver and body.
    fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.poll_output())
            .map(|output| match output {
                Output::Text(text) => text,
                Output::Close(code) => format!("close {code}"),
                Output::Ping => "ping".into(),
                Output::Command(Command::Join(join)) => {
                    let alias = join.alias.as_ref().map_or("-", |alias| alias.json().get()).to_owned();
                    format!("join {:?} {:?} {alias}", join.room, join.role)
                }
                Output::Command(Command::Send { to: To::Peer(to), body: Some(body), .. }) => {
                    format!("to {to} {}", body.get())
                }
                Output::Command(other) => format!("{other:?}"),
            })
            .collect()
    }
}

fn view(peer: &str, alias: Option<&str>) -> PeerView {
    PeerView {
        peer: peer.into(),
        name: None,
        role: Role::Viewer,
        instance: None,
        polite: false,
        connected: true,
        alias: alias.and_then(|alias| Alias::parse(&testing::json(alias))),
    }
}

fn joined(peers: Vec<PeerView>) -> Event {
    Event::Joined(Box::new(Joined {
        room: RoomKey::Call("r".into()),
        peer: "me".into(),
        session: None,
        resumed: false,
        missed: 0,
        role: Role::Streamer,
        name: None,
        limit: 10,
        resume: std::time::Duration::ZERO,
        locked: false,
        viewers: 0,
        peers,
    }))
}

#[test]
fn a_page_that_registers_all_the_time_is_too_fast() {
    let mut live = Live::new(Mono(0), None, None);
    let register = |live: &mut Live, now: u64| {
        live.handle_text(Mono(now), r#"{"type":"streamer"}"#, &Shell::open());
        std::iter::from_fn(|| live.poll_output()).any(|output| matches!(output, Output::Close(1008)))
    };
    assert!((0..REGISTRATIONS).all(|_| !register(&mut live, 0)));
    assert!(!register(&mut live, 1_000) && register(&mut live, 1_000));
}

#[test]
fn what_a_url_brings_is_not_kept_at_any_length() {
    let long = "x".repeat(60_000);
    let live = Live::new(Mono(0), Some(long), None);
    assert_eq!(live.stream.as_ref().map(String::len), Some(MAX_STREAM + 1));
    assert!(!is_stream_name(live.stream.as_deref().unwrap_or_default()), "and it is refused");
}

#[test]
fn the_stream_is_the_message_s_else_the_url_s_else_the_default() {
    let first = |live, message: &str| {
        let mut probe = Probe(live, Shell::open());
        probe.say(message);
        probe.lines().remove(0)
    };
    let url = || Live::new(NOW, Some("url".into()), None);
    assert_eq!(first(url(), r#"{"type":"streamer","stream":"own"}"#), r#"join Stream("own") Streamer -"#);
    assert_eq!(first(url(), r#"{"type":"streamer"}"#), r#"join Stream("url") Streamer -"#);
    assert_eq!(first(Live::new(NOW, None, None), r#"{"type":"streamer"}"#), r#"join Stream("default") Streamer -"#);
}

#[test]
fn viewer_ids_keep_their_type() {
    for (id, alias) in [("5", "5"), (r#""5""#, r#""5""#), ("-1.5e3", "-1.5e3")] {
        let mut probe = Probe::new(&[&format!(r#"{{"type":"viewer","viewerId":{id}}}"#)]);
        assert_eq!(probe.lines(), [format!(r#"join Stream("from-url") Viewer {alias}"#)]);
    }
    for id in ["{}", "[1]", "true", "1e999", r#""\ud800""#, &format!("\"{}\"", "x".repeat(200))] {
        let mut probe = Probe::new(&[&format!(r#"{{"type":"viewer","viewerId":{id}}}"#)]);
        assert!(probe.lines().is_empty(), "{id}");
    }
    let nameless = Probe::new(&[r#"{"type":"viewer"}"#]).lines().remove(0);
    assert!(nameless.starts_with(r#"join Stream("from-url") Viewer ""#), "{nameless}");
}

#[test]
fn a_streamer_names_its_viewers_however_it_writes_them() {
    let mut probe = Probe::new(&[r#"{"type":"streamer","extras":true}"#]);
    probe.hear(joined(vec![view("a", Some("1.0")), view("b", Some(r#""1""#))]));
    probe.lines();
    for (id, peer) in [("1", "a"), ("10e-1", "a"), (r#""1""#, "b"), (r#""\u0031""#, "b")] {
        probe.say(&format!(r#"{{"type":"offer","offer":{{"o":1}},"viewerId":{id}}}"#));
        assert_eq!(probe.lines(), [format!(r#"to {peer} {{"o":1}}"#)]);
    }
    let answer = |from: &str| Event::Message { from: from.into(), kind: Kind::Answer, body: Some(testing::json("{}")) };
    probe.hear(answer("a"));
    assert_eq!(probe.lines(), [r#"{"type":"answer","answer":{},"viewerId":1.0}"#]);
    probe.hear(Event::PeerLeft { peer: "a".into(), reason: LeaveReason::Lost });
    assert_eq!(probe.lines(), [r#"{"type":"viewerLeft","viewerId":1.0}"#, r#"{"type":"viewerCount","count":1}"#]);
    probe.hear(answer("a"));
    assert!(probe.lines().is_empty(), "it is gone");
}

#[test]
fn a_studio_that_stops_and_stays_is_over_for_pages_that_listen() {
    for (extras, told) in [("", &[][..]), (r#","extras":true"#, &[r#"{"type":"streamerLeft"}"#][..])] {
        let mut probe = Probe::new(&[&format!(r#"{{"type":"viewer","viewerId":1{extras}}}"#)]);
        probe.lines();
        probe.hear(Event::Message { from: "t".into(), kind: Kind::Bye, body: None });
        assert_eq!(probe.lines(), told);
    }
}

#[test]
fn who_is_asked_for_a_sign_of_life_is_pinged() {
    let mut probe = Probe::new(&[r#"{"type":"streamer"}"#]);
    probe.lines();
    probe.hear(Event::Probe);
    assert_eq!(probe.lines(), ["ping"]);
}

#[test]
fn stock_pages_hear_no_complaints() {
    let mut probe = Probe::new(&["{", r#"{"type":"offer","offer":{},"viewerId":1}"#, r#"{"type":"what"}"#]);
    assert!(probe.lines().is_empty());
    let mut probe = Probe::new(&[r#"{"type":"viewer","viewerId":1}"#, r#"{"type":"answer","answer":{}}"#]);
    assert_eq!(probe.lines().len(), 1);
}

#[test]
fn refusals_are_told_and_close() {
    let mut probe = Probe::new(&[r#"{"type":"streamer"}"#]);
    probe.lines();
    probe.hear(Event::Closed(Fault::StreamTaken));
    let lines = probe.lines();
    assert!(lines[0].starts_with(r#"{"type":"error","code":"stream-taken""#), "{lines:?}");
    assert_eq!(lines[1], "close 1008");

    for (message, code) in [
        (r#"{"type":"streamer"}"#, "token-missing"),
        (r#"{"type":"streamer","token":"viewer"}"#, "wrong-role"),
        (r#"{"type":"viewer","token":"room other"}"#, "wrong-room"),
        (r#"{"type":"viewer","token":"good","stream":""}"#, "bad-room"),
    ] {
        let mut probe = Probe(Live::new(NOW, None, None), Shell::by_invitation());
        probe.say(message);
        let lines = probe.lines();
        assert!(lines[0].contains(code) && lines[1] == "close 1008", "{message}: {lines:?}");
    }
}

#[test]
fn a_token_in_the_url_is_as_good() {
    let mut probe = Probe(Live::new(NOW, None, Some("viewer".into())), Shell::by_invitation());
    probe.say(r#"{"type":"viewer","viewerId":1}"#);
    assert_eq!(probe.lines(), [r#"join Stream("default") Viewer 1"#]);
}

#[test]
fn who_never_registers_is_sent_away_and_who_did_stays() {
    let mut probe = Probe::new(&[]);
    probe.0.handle_timeout(NOW + std::time::Duration::from_secs(599));
    assert!(probe.lines().is_empty());
    probe.0.handle_timeout(NOW + std::time::Duration::from_secs(600));
    let lines = probe.lines();
    assert!(lines[0].contains("join-timeout") && lines[1] == "close 1008", "{lines:?}");
    assert_eq!(Probe::new(&[r#"{"type":"streamer"}"#]).0.poll_timeout(), None);
}

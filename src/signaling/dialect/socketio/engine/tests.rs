use std::time::Duration;

use super::super::super::testing;
use super::*;

const START: Mono = Mono(1_000);

fn at(seconds: u64) -> Mono {
    START + Duration::from_secs(seconds)
}

fn engine(transport: Transport) -> Engine {
    Engine::new(START, "sid", transport, &testing::terms())
}

/// A polling engine whose open packet was taken.
fn polled() -> Engine {
    let mut engine = engine(Transport::Polling);
    engine.handle_poll().expect("open");
    signals(&mut engine);
    engine
}

fn signals(engine: &mut Engine) -> Vec<Signal> {
    std::iter::from_fn(|| engine.poll_signal()).collect()
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

fn frame(text: &str) -> Frame {
    Frame::Text(text.into())
}

#[test]
fn the_open_packet() {
    let terms = r#""pingInterval":25000,"pingTimeout":20000,"maxPayload":1000}"#;
    let mut polling = engine(Transport::Polling);
    polling.handle_poll().expect("open");
    let open = format!(r#"0{{"sid":"sid","upgrades":["websocket"],{terms}"#);
    assert_eq!(signals(&mut polling), [Signal::Reply(open)]);
    let open = format!(r#"0{{"sid":"sid","upgrades":[],{terms}"#);
    assert_eq!(signals(&mut engine(Transport::WebSocket)), [Signal::Frame(Frame::Text(open))]);
}

#[test]
fn messages_wait_for_a_poll_and_are_split_to_fit() {
    let mut engine = polled();
    engine.send(text("a"));
    engine.send(Message::Binary(Bytes::from_static(&[1])));
    assert_eq!(signals(&mut engine), []);
    engine.handle_poll().expect("poll");
    assert_eq!(signals(&mut engine), [Signal::Reply("4a\u{1e}bAQ==".into())]);
    let long = "x".repeat(700);
    engine.send(text(&long));
    engine.send(text(&long));
    for _ in 0..2 {
        engine.handle_poll().expect("poll");
        assert_eq!(signals(&mut engine), [Signal::Reply(format!("4{long}"))]);
    }
}

#[test]
fn a_second_poll_ends_the_session() {
    let mut engine = polled();
    engine.handle_poll().expect("poll");
    assert_eq!(engine.handle_poll(), Err(BadRequest));
    assert_eq!(signals(&mut engine), [Signal::Reply("1".into()), Signal::Close]);
    assert_eq!(engine.handle_poll(), Err(BadRequest));
    assert_eq!(engine.poll_timeout(), None);
}

#[test]
fn heartbeats() {
    let mut engine = engine(Transport::WebSocket);
    signals(&mut engine);
    assert_eq!(engine.poll_timeout(), Some(at(25)));
    engine.handle_timeout(at(25));
    assert_eq!(signals(&mut engine), [Signal::Frame(frame("2"))]);
    assert_eq!(engine.poll_timeout(), Some(at(45)));
    engine.handle_frame(at(30), frame("3"));
    assert_eq!(engine.poll_timeout(), Some(at(55)));
    engine.handle_timeout(at(55));
    engine.handle_timeout(at(75));
    assert_eq!(signals(&mut engine), [Signal::Frame(frame("2")), Signal::Close]);
}

#[test]
fn an_upgrade_loses_and_doubles_nothing() {
    let mut engine = polled();
    engine.handle_poll().expect("poll");
    engine.handle_probe_opened(at(1)).expect("probe");
    assert_eq!(engine.handle_probe_opened(at(1)), Err(BadRequest));
    engine.handle_probe_frame(&frame("2probe"));
    assert_eq!(signals(&mut engine), [Signal::Probe("3probe".into()), Signal::Reply("6".into())]);
    // A poll that was on its way is let go; what is sent meanwhile waits for the new transport.
    engine.handle_poll().expect("poll");
    assert_eq!(signals(&mut engine), [Signal::Reply("6".into())]);
    engine.send(text("a"));
    engine.handle_payload(at(1), "4from the old").expect("post");
    engine.handle_probe_frame(&frame("5"));
    assert_eq!(
        signals(&mut engine),
        [Signal::Message(text("from the old")), Signal::Switch, Signal::Frame(frame("4a"))]
    );
    assert_eq!(engine.handle_poll(), Err(BadRequest));
    assert_eq!(engine.handle_payload(at(1), "4x"), Err(BadRequest));
    engine.handle_frame(at(1), frame("4b"));
    engine.handle_frame(at(1), Frame::Binary(Bytes::from_static(&[7])));
    let binary = Message::Binary(Bytes::from_static(&[7]));
    assert_eq!(signals(&mut engine), [Signal::Message(text("b")), Signal::Message(binary)]);
}

#[test]
fn an_upgrade_that_fails_leaves_polling_as_it_was() {
    for failing in ["5", "4x", "nonsense", "2other"] {
        let mut engine = polled();
        engine.handle_probe_opened(at(1)).expect("probe");
        engine.handle_probe_frame(&frame(failing));
        assert_eq!(signals(&mut engine), [Signal::DropProbe], "{failing}");
        engine.handle_poll().expect("still polling");
    }
    let mut engine = polled();
    engine.handle_probe_opened(at(1)).expect("probe");
    assert_eq!(engine.poll_timeout(), Some(at(11)));
    engine.handle_timeout(at(11));
    assert_eq!(signals(&mut engine), [Signal::DropProbe]);
    engine.handle_probe_opened(at(12)).expect("another try");
    engine.handle_probe_closed();
    engine.handle_probe_opened(at(13)).expect("and another");
}

#[test]
fn what_only_servers_say_ends_the_session() {
    for payload in ["0{}", "2", "5", "4ok\u{1e}2"] {
        let mut engine = polled();
        engine.handle_payload(START, payload).expect("well formed");
        assert_eq!(signals(&mut engine).last(), Some(&Signal::Broken(Fault::BadMessage)), "{payload}");
    }
    let mut engine = polled();
    assert_eq!(engine.handle_payload(START, "4a\u{1e}not a packet\u{1e}4b"), Err(BadRequest));
    assert_eq!(signals(&mut engine), [Signal::Message(text("a")), Signal::Broken(Fault::BadMessage)]);
    engine.handle_payload(START, "4c").expect("taken, not read");
    assert_eq!(signals(&mut engine), []);
}

#[test]
fn every_packet_counts_against_the_rate() {
    let noops = vec!["6"; 30].join("\u{1e}");
    let mut engine = polled();
    engine.handle_payload(START, &noops).expect("well formed");
    assert_eq!(signals(&mut engine), [Signal::Broken(Fault::TooFast)]);
    let mut patient = polled();
    for second in 0..5 {
        patient.handle_payload(at(second), &noops[..29]).expect("well formed");
    }
    assert_eq!(signals(&mut patient), []);
    (0..30).for_each(|_| patient.handle_control(at(9)));
    assert_eq!(signals(&mut patient), [Signal::Broken(Fault::TooFast)]);
    let mut large = polled();
    for _ in 0..3 {
        large.handle_payload(at(1), &format!("4{}", "x".repeat(700))).expect("well formed");
    }
    assert_eq!(signals(&mut large).last(), Some(&Signal::Broken(Fault::TooFast)));
}

#[test]
fn the_client_closes() {
    let mut engine = polled();
    engine.handle_poll().expect("poll");
    engine.handle_payload(START, "1").expect("close");
    assert_eq!(signals(&mut engine), [Signal::Reply("6".into()), Signal::Close]);
    engine.send(text("late"));
    assert_eq!(signals(&mut engine), []);
}

#[test]
fn what_nobody_polls_for_is_limited() {
    let mut by_count = polled();
    for _ in 0..MAX_BUFFERED_PACKETS {
        by_count.send(text(""));
    }
    assert!(!by_count.is_closed());
    by_count.send(text(""));
    assert!(by_count.is_closed());
    let mut by_size = polled();
    for _ in 0..5 {
        by_size.send(text(&"x".repeat(900)));
    }
    assert!(by_size.is_closed());
}

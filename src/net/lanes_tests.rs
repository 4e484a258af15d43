//! What a lane must not change, and what it is for: a client that sends much gets the same service by its own socket, and
//! the others lose nothing to it.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::batching::{PATIENCE, Packet, Stage, Target, pattern};
use super::sys::{Outgoing, Piece, Sender};
use crate::bench::link::{Link, udp_socket};
use crate::bench::session::release;
use crate::clock;
use crate::relay::stun::method;

/// Where servers listen, what clients speak to, and with how many shards.
const STAGES: [(&str, &str, usize); 6] = [
    ("127.0.0.1", "127.0.0.1", 1),
    ("0.0.0.0", "127.0.0.1", 1),
    // Not the address that a route would choose.
    ("0.0.0.0", "127.0.0.5", 1),
    ("::", "::1", 1),
    ("127.0.0.1", "127.0.0.1", 2),
    ("0.0.0.0", "127.0.0.1", 3),
];
/// The one that sends much.
const HOT: usize = 0;

/// Sends bursts of the hot one, each packet numbered, until it has a lane, and checks that all come in order.
fn open_lane(stage: &mut Stage) {
    let start = clock::stopwatch();
    let packet = Packet { client: HOT, target: Target::Channel(0), size: 100 };
    let mut number = 0u64;
    let mut next = 0u64;
    let mut buffer = [0; 2048];
    // And some more through the lane.
    let mut left = 20;
    while left > 0 {
        assert!(start.elapsed() < PATIENCE, "no lane after {number} packets");
        left -= usize::from(stage.net.totals().lanes > 0);
        for _ in 0..12 {
            let mut frames = Vec::new();
            for _ in 0..16 {
                let mut payload = pattern(0, packet.size);
                payload[..8].copy_from_slice(&number.to_be_bytes());
                frames.push(stage.frame(packet, &payload));
                number += 1;
            }
            stage.burst(HOT, &frames);
        }
        while next < number {
            let (len, from) = stage.peers[0].recv_from(&mut buffer).expect("a packet is missing");
            assert_eq!((len, from), (packet.size, stage.links[HOT].2));
            assert_eq!(buffer[..8], next.to_be_bytes(), "in order");
            next += 1;
        }
    }
}

/// Whether the server has a socket that is connected to the hot one.
fn has_lane(stage: &Stage) -> bool {
    has_lane_of(stage, stage.socket(HOT).local_addr().unwrap().port())
}

fn has_lane_of(stage: &Stage, client: u16) -> bool {
    let table = if stage.server.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    let table = std::fs::read_to_string(table).unwrap();
    let ends_with =
        |place: Option<&str>, port: u16| place.is_some_and(|place| place.ends_with(&format!(":{port:04X}")));
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        ends_with(columns.next(), stage.server.port()) && ends_with(columns.next(), client)
    })
}

#[test]
fn a_lane_changes_nothing_for_its_client_and_the_others() {
    for (listen, here, shards) in STAGES {
        let mut stage = Stage::listening(listen, here, shards);
        assert!(!has_lane(&stage));
        open_lane(&mut stage);
        assert!(has_lane(&stage), "{listen}, {here}, {shards}");
        stage.run_any(4);
    }
}

#[test]
fn who_speaks_to_an_address_no_route_starts_from_has_no_lane_with_several_shards_and_loses_nothing() {
    let mut stage = Stage::listening("0.0.0.0", "127.0.0.5", 2);
    for _ in 0..3 {
        let packets = [Packet { client: HOT, target: Target::Channel(0), size: 160 }; 900];
        stage.run(&packets, true);
        stage.run(&packets, false);
    }
    assert!(!has_lane(&stage));
    assert_eq!(stage.net.totals().lanes, 0);
}

#[test]
fn errors_about_its_client_do_not_silence_a_lane() {
    let mut stage = Stage::listening("127.0.0.1", "127.0.0.1", 1);
    open_lane(&mut stage);
    let (mut buffer, relayed) = ([0; 2048], stage.links[HOT].2);
    let old = stage.socket(HOT).local_addr().unwrap();
    let elsewhere = super::batching::socket(old.ip());
    elsewhere.connect(stage.server).unwrap();
    let frame = stage.frame(Packet { client: HOT, target: Target::Channel(0), size: 4 }, b"here");
    let Link::Udp(gone) = std::mem::replace(&mut stage.links[HOT].0, Link::Udp(elsewhere)) else { panic!("UDP") };
    drop(gone);
    for _ in 0..100 {
        // Nobody listens where this goes, and the kernel says so on the lane.
        for _ in 0..8 {
            stage.peers[0].send_to(b"anybody?", relayed).unwrap();
        }
        let back = udp_socket(old, false).unwrap();
        back.send_to(&frame, stage.server).unwrap();
        let (len, from) = stage.peers[0].recv_from(&mut buffer).expect("a packet is missing");
        assert_eq!((&buffer[..len], from), (&b"here"[..], relayed));
    }
    assert!(has_lane_of(&stage, old.port()));
}

#[test]
fn a_lane_ends_with_its_allocation() {
    for (listen, here, shards) in [STAGES[1], STAGES[4]] {
        let mut stage = Stage::listening(listen, here, shards);
        open_lane(&mut stage);
        let (link, session, _) = &mut stage.links[HOT];
        session.ask(link, method::REFRESH, release).unwrap();
        let start = clock::stopwatch();
        let mut buffer = [0; 2048];
        // Lanes are looked after by turns that have something to do.
        while has_lane(&stage) {
            assert!(start.elapsed() < PATIENCE, "the lane is still there: {listen}, {shards}");
            for client in 1..3 {
                let packet = Packet { client, target: Target::Channel(1), size: 4 };
                let frame = stage.frame(packet, b"turn");
                stage.burst(client, &[frame]);
                stage.peers[1].recv_from(&mut buffer).expect("a packet is missing");
            }
            // Whichever shard has the lane: the kernel sends each of these to another.
            let stranger = super::batching::socket(here.parse().unwrap());
            stranger.send_to(b"\0\x01\0\0\x21\x12\xa4\x42 a stranger", stage.server).unwrap();
        }
        let (link, session, _) = &mut stage.links[HOT];
        session.allocate(link).expect("a new allocation on the same 5-tuple");
    }
}

#[test]
fn who_floods_costs_the_others_nothing() {
    let mut stage = Stage::listening("0.0.0.0", "127.0.0.1", 1);
    open_lane(&mut stage);
    let is_over = AtomicBool::new(false);
    let flooder = stage.socket(HOT).try_clone().unwrap();
    let server = stage.server;
    let frame = stage.frame(Packet { client: HOT, target: Target::Channel(0), size: 1_000 }, &[7; 1_000]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = frame.repeat(60);
            let pieces = [Piece { region: 0, start: 0, len: bytes.len() as u32 }];
            let message = Outgoing { to: server, source: None, segment: frame.len() as u16, pieces: 0..1 };
            let mut sender = Sender::new();
            while !is_over.load(Ordering::Relaxed) {
                // More than anybody could relay: what is not taken is lost, and that is its own affair.
                let _ = sender.send(flooder.as_fd(), &[&bytes], &pieces, &vec![message.clone(); 64]);
            }
        });
        let start = clock::stopwatch();
        let mut buffer = [0; 2048];
        let mut lost = 0;
        let mut number = 0u32;
        stage.peers[1].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        while start.elapsed() < Duration::from_secs(3) {
            let client = 1 + number as usize % 2;
            let payload = number.to_be_bytes();
            let frame = stage.frame(Packet { client, target: Target::Channel(1), size: 4 }, &payload);
            stage.burst(client, &[frame]);
            match stage.peers[1].recv_from(&mut buffer) {
                Ok((len, _)) => assert_eq!(buffer[..len], payload),
                Err(_) => lost += 1,
            }
            number += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(lost, 0, "of {number}");
    });
}

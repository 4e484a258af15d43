//! The hub on simulated time: who is told what, when somebody joins, is lost, comes back, is refused.

mod signaling_common;

use std::time::Duration;

use relais::signaling::{Event, Fault, HubLimits, Kind, LeaveReason, Role, RoomKey, To};
use signaling_common::{Wish, World, call, peer};

fn limits() -> HubLimits {
    HubLimits { rooms: 3, replay_messages: 5, viewers_per_stream: 2, ..HubLimits::default() }
}

#[test]
fn the_newcomer_finds_the_others_and_they_are_told() {
    let mut world = World::new(limits());
    assert_eq!(world.join(1, Wish::call("r", "a")), ["1 joined a new []"]);
    assert_eq!(
        world.join(2, Wish::call("r", "b")),
        ["1 peer-joined b impolite", "2 joined b new [a polite connected]"],
    );
    assert_eq!(world.leave(1), ["2 peer-left a Left"]);
    assert_eq!(world.leave(2), [""; 0]);
    assert_eq!(world.hub.stats().rooms, 0);
}

#[test]
fn a_room_has_a_limit_and_so_have_rooms() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    assert_eq!(world.join(3, Wish::call("r", "c")), ["3 closed RoomFull"]);
    world.join(4, Wish::call("s", "d"));
    world.join(5, Wish::call("t", "e"));
    assert_eq!(world.join(6, Wish::call("u", "f")), ["6 closed RoomsFull"]);
    world.leave(5);
    assert_eq!(world.join(6, Wish::call("u", "f")), ["6 joined f new []"]);
    // A refused client has no place: nothing that it sends goes anywhere.
    assert_eq!(world.send(3, To::Others, Kind::Offer, "1"), [""; 0]);
}

#[test]
fn a_lost_peer_keeps_its_place_for_a_while() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    assert_eq!(world.lose(1), ["2 peer-lost a"]);
    assert_eq!(world.join(3, Wish::call("r", "c")), ["3 closed RoomFull"]);
    assert_eq!(world.pass(Duration::from_millis(59_999)), [""; 0]);
    assert_eq!(world.pass(Duration::from_millis(1)), ["2 peer-left a Lost", "gone a"]);
    assert_eq!(world.hub.poll_timeout(), None);
    assert_eq!(
        world.join(3, Wish::call("r", "c")),
        ["2 peer-joined c impolite", "3 joined c new [b polite connected]"]
    );
}

#[test]
fn who_comes_back_is_the_same_and_gets_what_was_missed() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    let (secret, seq) = world.position(1);
    world.lose(1);
    world.send(2, To::Peer(peer("a")), Kind::Offer, "1");
    world.send(2, To::Peer(peer("a")), Kind::Candidate, "2");
    let back = world.join(3, Wish::call("r", "x").resume(&secret, Some(seq)));
    assert_eq!(
        back,
        ["2 peer-back a", "3 joined a resumed [b impolite connected]", "3 from b Offer 1", "3 from b Candidate 2",],
    );
    assert_eq!(world.position(3).1, seq + 2);
    assert_eq!(world.pass(Duration::from_secs(3600)), [""; 0]);
    assert_eq!(world.send(3, To::Peer(peer("b")), Kind::Answer, "3"), ["2 from a Answer 3"]);
}

#[test]
fn a_session_taken_up_elsewhere_closes_the_connection_before() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    let (secret, seq) = world.position(1);
    let back = world.join(3, Wish::call("r", "x").resume(&secret, Some(seq)));
    assert_eq!(back, ["1 closed Replaced", "3 joined a resumed [b impolite connected]"]);
    // The old connection's end concerns nobody any more.
    assert_eq!(world.lose(1), [""; 0]);
    assert_eq!(world.send(1, To::Peer(peer("b")), Kind::Bye, "0"), [""; 0]);
}

#[test]
fn a_reloaded_page_takes_its_own_place() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    let (secret, seq) = world.position(1);
    world.lose(1);
    let back = world.join(3, Wish::call("r", "c").instance("another").resume(&secret, Some(seq)));
    assert_eq!(
        back,
        ["2 peer-left a Reload", "2 peer-joined c impolite", "3 joined c new [b polite connected]", "gone a",],
    );
}

#[test]
fn who_missed_more_than_is_kept_comes_back_as_somebody_new() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    let (secret, seq) = world.position(1);
    world.lose(1);
    for number in 0..6 {
        world.send(2, To::Peer(peer("a")), Kind::Candidate, &number.to_string());
    }
    let back = world.join(3, Wish::call("r", "c").resume(&secret, Some(seq)));
    assert_eq!(back[0], "2 peer-left a Lost");
    assert_eq!(back[2], "3 joined c new [b polite connected]");
}

#[test]
fn a_position_that_cannot_be_starts_anew() {
    for seq in [None, Some(0), Some(99)] {
        let mut world = World::new(limits());
        world.join(1, Wish::call("r", "a"));
        let (secret, _) = world.position(1);
        world.lose(1);
        assert_eq!(world.join(2, Wish::call("r", "b").resume(&secret, seq)), ["2 joined b new []", "gone a"]);
    }
}

#[test]
fn an_unknown_secret_starts_anew_and_leaves_everybody_alone() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    let joined = world.join(2, Wish::call("r", "b").resume("made up", Some(1)));
    assert_eq!(joined, ["1 peer-joined b impolite", "2 joined b new [a polite connected]"]);
}

#[test]
fn a_session_is_good_for_its_own_room_only() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    let (secret, seq) = world.position(1);
    let moved = world.join(3, Wish::call("s", "c").resume(&secret, Some(seq)));
    assert_eq!(moved, ["1 closed Replaced", "2 peer-left a Left", "3 joined c new []", "gone a"]);
}

#[test]
fn a_session_after_its_time_is_over_is_unknown() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    let (secret, seq) = world.position(1);
    world.lose(1);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.join(2, Wish::call("r", "b").resume(&secret, Some(seq))), ["2 joined b new []"]);
}

#[test]
fn without_a_session_a_lost_connection_is_the_end() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b").without_session());
    assert_eq!(world.lose(2), ["1 peer-left b Lost"]);
}

#[test]
fn messages_stay_in_their_room() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("s", "b"));
    for to in ["b", "a", "nobody"] {
        assert_eq!(world.send(1, To::Peer(peer(to)), Kind::Offer, "1"), ["1 complaint UnknownPeer"], "{to}");
    }
    assert_eq!(world.send(1, To::Others, Kind::Offer, "1"), [""; 0]);
}

#[test]
fn messages_that_name_nobody_find_the_right_one() {
    let mut world = World::new(HubLimits { peers_per_room: 3, ..limits() });
    for (link, id) in [(1, "a"), (2, "b"), (3, "c")] {
        world.join(link, Wish::call("r", id));
    }
    // The offer goes to both, and so do candidates until one of them answers.
    assert_eq!(world.send(1, To::Others, Kind::Offer, "1"), ["2 from a Offer 1", "3 from a Offer 1"]);
    assert_eq!(world.send(1, To::Others, Kind::Candidate, "2"), ["2 from a Candidate 2", "3 from a Candidate 2"]);
    assert_eq!(world.send(2, To::Others, Kind::Answer, "3"), ["1 from b Answer 3"]);
    assert_eq!(world.send(1, To::Others, Kind::Candidate, "4"), ["2 from a Candidate 4"]);
    assert_eq!(world.send(2, To::Others, Kind::Candidate, "5"), ["1 from b Candidate 5"]);
    // A page with one connection would break at a second answer: the one who is late is told.
    assert_eq!(world.send(3, To::Others, Kind::Answer, "6"), ["3 from a Bye null"]);
    world.leave(2);
    assert_eq!(world.send(3, To::Others, Kind::Answer, "7"), ["1 from c Answer 7"]);
}

#[test]
fn a_stream_has_one_streamer_and_viewers_that_do_not_see_each_other() {
    let mut world = World::new(limits());
    assert_eq!(world.join(1, Wish::stream("s", "v", Role::Viewer)), ["1 joined v new []"]);
    assert_eq!(world.join(2, Wish::stream("s", "w", Role::Viewer)), ["2 joined w new []"]);
    assert_eq!(world.join(3, Wish::stream("s", "x", Role::Viewer)), ["3 closed RoomFull"]);
    assert_eq!(
        world.join(4, Wish::stream("s", "t", Role::Streamer)),
        [
            "1 peer-joined t impolite",
            "2 peer-joined t impolite",
            "4 joined t new [v polite connected, w polite connected]",
        ],
    );
    assert_eq!(world.send(1, To::Peer(peer("w")), Kind::Offer, "1"), ["1 complaint UnknownPeer"]);
    assert_eq!(world.send(4, To::Peer(peer("w")), Kind::Offer, "1"), ["2 from t Offer 1"]);
    assert_eq!(world.lose(4), ["1 peer-left t Lost", "2 peer-left t Lost"]);
    assert_eq!(world.join(5, Wish::stream("s", "u", Role::Streamer)).len(), 3);
}

#[test]
fn viewers_of_a_call_room_do_not_see_each_other_either() {
    let mut world = World::new(HubLimits { peers_per_room: 3, ..limits() });
    world.join(1, Wish::call("r", "v").role(Role::Viewer));
    assert_eq!(world.join(2, Wish::call("r", "w").role(Role::Viewer)), ["2 joined w new []"]);
    assert_eq!(world.send(2, To::Peer(peer("v")), Kind::Offer, "1"), ["2 complaint UnknownPeer"]);
    assert_eq!(world.join(3, Wish::call("r", "h").role(Role::Host)).len(), 3);
}

#[test]
fn by_id_sockets_reach_each_other_and_nobody_else() {
    let mut world = World::new(limits());
    world.join(1, Wish::direct("a"));
    assert_eq!(world.join(2, Wish::direct("b")), ["2 joined b new []"],);
    world.join(3, Wish::call("r", "c"));
    assert_eq!(world.send(1, To::Peer(peer("b")), Kind::Offer, "1"), ["2 from a Offer 1"]);
    assert_eq!(world.send(1, To::Peer(peer("c")), Kind::Offer, "1"), ["1 complaint UnknownPeer"]);
    assert_eq!(world.send(3, To::Peer(peer("a")), Kind::Offer, "1"), ["3 complaint UnknownPeer"]);
    assert_eq!(world.lose(1), [""; 0]);
    assert_eq!(world.hub.stats().peers, 2);
}

#[test]
fn joining_again_on_the_same_link_leaves_the_former_room() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    assert_eq!(world.join(1, Wish::call("s", "c")), ["1 joined c new []", "2 peer-left a Left", "gone a"]);
}

#[test]
fn the_end_is_told_to_everybody_connected() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    world.join(3, Wish::stream("s", "v", Role::Viewer));
    world.lose(2);
    world.hub.handle_shutdown();
    assert_eq!(world.drain(), ["1 closing", "3 closing"]);
}

#[test]
fn numbers_have_no_gaps() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    for number in 0..20 {
        world.send(2, To::Peer(peer("a")), Kind::Candidate, &number.to_string());
        world.send(1, To::Peer(peer("nobody")), Kind::Candidate, "0");
    }
    let numbers: Vec<u64> = world.received.iter().filter(|(link, _)| *link == 1).map(|(_, kept)| kept.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(numbers.len() > 40);
}

#[test]
fn bodies_are_carried_byte_for_byte() {
    let mut world = World::new(limits());
    world.join(1, Wish::call("r", "a"));
    world.join(2, Wish::call("r", "b"));
    let body = r#"{ "z":1,  "a" : [ 1e400, "\u0041\/" ], "z": null }"#;
    world.send(1, To::Peer(peer("b")), Kind::Offer, body);
    let (_, last) = world.received.last().expect("delivered");
    let Event::Message { body: Some(carried), .. } = &last.event else { panic!("{last:?}") };
    assert_eq!(carried.get(), body);
}

#[test]
fn faults_and_reasons_are_what_the_protocol_says() {
    assert_eq!(Fault::RoomFull.code(), "room-full");
    assert!(Fault::RoomFull.is_fatal() && !Fault::UnknownPeer.is_fatal());
    assert_eq!(serde_json::to_string(&LeaveReason::Reload).expect("text"), r#""reload""#);
    assert_ne!(call("r"), RoomKey::Stream("r".into()));
}

#[test]
fn one_sessions_backlog_takes_no_others_and_all_together_are_bounded() {
    let limits = HubLimits {
        replay_messages: 256,
        replay_bytes: 1 << 20,
        replay_total_bytes: 100 << 10,
        resume: Duration::from_secs(60),
        ..HubLimits::default()
    };
    let mut world = World::new(limits);
    for (link, room, id) in [(1, "r", "a"), (2, "r", "b"), (3, "s", "c"), (4, "s", "d")] {
        world.join(link, Wish::call(room, id));
    }
    let (hog, bystander) = (world.position(1), world.position(3));
    world.lose(1);
    world.lose(3);
    let large = format!("\"{}\"", "x".repeat(10 << 10));
    for _ in 0..100 {
        world.send(2, To::Peer(peer("a")), Kind::Candidate, &large);
    }
    for _ in 0..10 {
        world.send(4, To::Peer(peer("c")), Kind::Candidate, "7");
    }
    let back = world.join(5, Wish::call("s", "x").resume(&bystander.0, Some(bystander.1)));
    assert_eq!(back.iter().filter(|line| *line == "5 from d Candidate 7").count(), 10);
    let back = world.join(6, Wish::call("r", "y").resume(&hog.0, Some(hog.1)));
    assert_eq!(back[0], "2 peer-left a Lost", "it missed more than is kept");
    // What is given back can be kept again.
    world.lose(5);
    for _ in 0..8 {
        world.send(4, To::Peer(peer("c")), Kind::Candidate, &large);
    }
    let seq = bystander.1 + 10;
    let back = world.join(7, Wish::call("s", "z").resume(&bystander.0, Some(seq)));
    assert_eq!(back.iter().filter(|line| line.starts_with("7 from d")).count(), 8, "{back:.0?}");
}

//! Streams whose pages have sessions (the native protocol), alone and beside pages that have none (the live dialect).

mod signaling_common;

use std::sync::Arc;
use std::time::Duration;

use relais::signaling::{Command, HubLimits, Invite, Kind, Role, To};
use signaling_common::{Wish, World, peer};

fn world() -> World {
    World::new(HubLimits { viewers_per_stream: 3, ..HubLimits::default() })
}

fn streamer(id: &str) -> Wish {
    Wish::stream("s", id, Role::Streamer).with_session()
}

fn viewer(id: &str) -> Wish {
    Wish::stream("s", id, Role::Viewer).with_session()
}

/// A page of the live dialect.
fn plain(id: &str) -> Wish {
    Wish::stream("s", id, Role::Viewer)
}

#[test]
fn the_streamer_calls_whoever_came_first() {
    let mut world = world();
    assert_eq!(world.join(1, viewer("v")), ["1 joined v new []"]);
    let told = world.join(2, streamer("t"));
    assert_eq!(told, ["1 peer-joined t impolite", "2 joined t new [v polite connected]"]);
    assert_eq!(world.join(3, viewer("w")), ["2 peer-joined w polite", "3 joined w new [t impolite connected]"]);
}

#[test]
fn a_streamer_whose_connection_broke_comes_back_to_its_place() {
    let mut world = world();
    world.join(1, streamer("t"));
    world.join(2, viewer("v"));
    let (secret, seq) = world.position(1);
    assert_eq!(world.lose(1), ["2 peer-lost t"]);
    assert_eq!(world.join(3, plain("w")), ["3 joined w new [t impolite lost]"]);
    let told = world.join(4, streamer("u").resume(&secret, Some(seq)));
    assert_eq!(
        told,
        [
            "2 peer-back t",
            "3 peer-back t",
            "4 joined t resumed [v polite connected, w polite connected]",
            "4 peer-joined w polite"
        ]
    );
    assert_eq!(world.send(4, To::Peer(peer("v")), Kind::Offer, "1"), ["2 from t Offer 1"]);
}

#[test]
fn a_streamer_that_loads_its_page_again_finds_its_place_free() {
    let mut world = world();
    world.join(1, streamer("t"));
    world.join(2, viewer("v"));
    let (secret, seq) = world.position(1);
    let told = world.join(3, streamer("u").instance("after the reload").resume(&secret, Some(seq)));
    assert!(told.contains(&"1 closed Replaced".into()) && told.contains(&"2 peer-left t Reload".into()), "{told:?}");
    assert!(told.contains(&"3 joined u new [v polite connected]".into()), "{told:?}");
}

#[test]
fn a_lost_streamer_gives_way_at_once_and_a_living_one_does_not() {
    let mut world = world();
    world.join(1, streamer("t"));
    assert_eq!(world.join(2, streamer("u")), ["1 probe"]);
    assert_eq!(world.command(1, Command::Alive), ["2 closed StreamTaken"]);
    let (secret, seq) = world.position(1);
    world.lose(1);
    assert_eq!(world.join(3, streamer("w")), ["3 joined w new []", "gone t"]);
    // It is too late then: the living one is asked, and stays.
    assert_eq!(world.join(4, streamer("x").resume(&secret, Some(seq))), ["3 probe"]);
    assert_eq!(world.command(3, Command::Alive), ["4 closed StreamTaken"]);
}

#[test]
fn viewers_are_counted_where_there_are_sessions_outside_the_count() {
    let mut world = world();
    world.join(1, streamer("t"));
    assert_eq!(
        world.join(2, plain("v")),
        ["1 peer-joined v polite", "1 viewers 1", "2 joined v new [t impolite connected]"]
    );
    world.join(3, viewer("w"));
    assert_eq!(world.pass(Duration::from_secs(1)), ["1 viewers 2", "3 viewers 2"]);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.lose(3), ["1 peer-lost w", "1 viewers 1"]);
    let numbers =
        |world: &World| world.received.iter().filter(|(to, _)| *to == 1).map(|(_, one)| one.seq).collect::<Vec<_>>();
    assert_eq!(numbers(&world), [1, 2, 0, 3, 0, 4, 0], "the number of viewers bears none");
    let (secret, seq) = world.position(3);
    world.pass(Duration::from_secs(1));
    let told = world.join(4, viewer("x").resume(&secret, Some(seq)));
    assert_eq!(told[..2], ["1 peer-back w", "1 viewers 2"], "{told:?}");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.leave(2), ["1 peer-left v Left", "1 viewers 1", "4 viewers 1"]);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.leave(4), ["1 peer-left w Left", "1 viewers 0"]);
}

#[test]
fn a_streamer_invites_viewers_and_nobody_else_invites() {
    let invite = |role| Command::Invite(Arc::new(Invite { id: None, role, name: None, ttl: None }));
    let mut world = world();
    world.join(1, streamer("t").token("x"));
    world.join(2, viewer("v"));
    assert_eq!(world.command(1, invite(Role::Viewer)), ["1 invite Viewer until Some(1000000)"]);
    for (link, role) in [(1, Role::Streamer), (1, Role::Host), (1, Role::Member), (2, Role::Viewer)] {
        assert_eq!(world.command(link, invite(role)), [format!("{link} complaint NotHost")], "{role:?}");
    }
}

#[test]
fn a_streamer_removes_a_viewer_and_others_still_come_by_the_same_link() {
    let mut world = world();
    world.join(1, streamer("t").token("own"));
    world.join(2, viewer("v").token("link").instance("page"));
    world.join(3, viewer("w").token("link").instance("other"));
    assert_eq!(world.command(3, Command::Kick(peer("v"))), ["3 complaint NotHost"]);
    let told = world.command(1, Command::Kick(peer("v")));
    assert_eq!(told, ["1 peer-left v Kicked", "2 closed Kicked", "gone v"], "viewers do not see one another");
    assert_eq!(world.join(4, viewer("x").token("link").instance("page")), ["4 closed Kicked"], "the same page");
    assert!(world.join(5, viewer("y").token("link").instance("third")).contains(&"1 peer-joined y polite".into()));
}

#[test]
fn a_streamer_locks_the_stream_and_who_watches_stays() {
    let mut world = world();
    world.join(1, streamer("t"));
    world.join(2, viewer("v"));
    world.join(3, plain("p").alias("7"));
    assert_eq!(world.command(2, Command::Lock(true)), ["2 complaint NotHost"]);
    assert_eq!(world.command(1, Command::Close), ["1 complaint NotHost"], "it ends by leaving");
    let told = world.command(1, Command::Lock(true));
    assert_eq!(told, ["1 lock true by t", "2 lock true by t", "3 lock true by t"]);
    for (link, late) in [(4, viewer("w")), (5, plain("x"))] {
        assert_eq!(world.join(link, late), [format!("{link} closed RoomLocked")]);
    }
    // Whoever was in comes back: by its session, also after a reload; and so does the streamer.
    let (secret, seq) = world.position(2);
    world.lose(2);
    let told = world.join(6, viewer("v").resume(&secret, Some(seq)));
    assert!(told.contains(&"6 joined v resumed [t impolite connected]".into()), "{told:?}");
    let told = world.join(7, viewer("z").instance("after the reload").resume(&secret, Some(seq)));
    assert!(told.contains(&"7 joined z new [t impolite connected]".into()), "{told:?}");
    let (secret, seq) = world.position(1);
    let told = world.join(8, streamer("u").instance("after the reload").resume(&secret, Some(seq)));
    assert!(told.contains(&"8 joined u new [p polite connected, z polite connected]".into()), "{told:?}");
    assert_eq!(world.command(8, Command::Lock(false)), ["3 lock false by u", "7 lock false by u", "8 lock false by u"]);
    assert!(world.join(9, plain("x")).contains(&"8 peer-joined x polite".into()));
}

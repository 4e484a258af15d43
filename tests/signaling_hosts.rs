//! What hosts may do with a room, and who may have the places that only one can have: on simulated time.

mod signaling_common;

use std::sync::Arc;
use std::time::Duration;

use relais::signaling::{Command, Fault, HubLimits, Invite, Kind, LinkId, Output, Role, RoomKey, To};
use signaling_common::{Wish, World, call, peer};

/// A room `r` with a host `h` on link 1 and members `a`, `b` on 2 and 3, each by a token of its own.
fn meeting() -> World {
    let mut world = World::new(HubLimits { peers_per_room: 4, ..HubLimits::default() });
    world.join(1, Wish::call("r", "h").role(Role::Host).token("th"));
    world.join(2, Wish::call("r", "a").token("ta"));
    world.join(3, Wish::call("r", "b").token("tb"));
    world
}

fn invite(role: Role) -> Command {
    Command::Invite(Arc::new(Invite { id: None, role, name: None, ttl: None }))
}

#[test]
fn who_is_kicked_is_told_and_does_not_come_back_while_the_room_lives() {
    let mut world = meeting();
    let (secret, seq) = world.position(2);
    let told = world.command(1, Command::Kick(peer("a")));
    assert_eq!(told, ["1 peer-left a Kicked", "2 closed Kicked", "3 peer-left a Kicked", "gone a"]);
    assert_eq!(world.send(2, To::Peer(peer("b")), Kind::Bye, "1"), [""; 0], "it has no say any more");
    let again = Wish::call("r", "c").token("ta").instance("another");
    assert_eq!(world.join(4, again.resume(&secret, Some(seq))), ["4 closed Kicked"]);
    assert_eq!(world.join(5, Wish::call("s", "d").token("ta")), ["5 joined d new []"], "other rooms are open");
    assert_eq!(
        world.join(6, Wish::call("r", "e").token("te"))[2],
        "6 joined e new [h polite connected, b polite connected]"
    );
    for link in [1, 3, 6] {
        world.leave(link);
    }
    assert_eq!(world.join(7, Wish::call("r", "f").token("ta")), ["7 joined f new []"], "a new room");
}

#[test]
fn a_lost_peer_can_be_kicked_and_its_session_is_over() {
    let mut world = meeting();
    let (secret, seq) = world.position(2);
    world.lose(2);
    assert_eq!(world.command(1, Command::Kick(peer("a"))), ["1 peer-left a Kicked", "3 peer-left a Kicked", "gone a"]);
    assert_eq!(world.join(4, Wish::call("r", "c").token("ta").resume(&secret, Some(seq))), ["4 closed Kicked"]);
    assert_eq!((world.hub.stats().lost, world.hub.poll_timeout()), (0, None));
}

#[test]
fn without_a_token_of_its_own_the_page_is_barred() {
    for token in [None, Some("th")] {
        let mut world = meeting();
        let wish = |id: &str, page: &str| {
            let wish = Wish::call("r", id).instance(page);
            if let Some(token) = token { wish.token(token) } else { wish }
        };
        world.join(4, wish("c", "page 4"));
        world.command(1, Command::Kick(peer("c")));
        assert_eq!(world.join(5, wish("d", "page 4")), ["5 closed Kicked"]);
        assert_eq!(world.join(6, wish("e", "page 6")).len(), 4, "the host's own token stays good");
    }
}

#[test]
fn a_shared_token_is_barred_for_newcomers_and_whoever_is_in_stays() {
    let mut world = meeting();
    world.join(4, Wish::call("r", "c").token("ta").instance("p"));
    world.command(1, Command::Kick(peer("a")));
    let (secret, seq) = world.position(4);
    world.lose(4);
    let resumed = world.join(5, Wish::call("r", "d").token("ta").instance("p").resume(&secret, Some(seq)));
    assert!(resumed.contains(&"5 joined c resumed [h polite connected, b polite connected]".into()), "{resumed:?}");
    let (secret, seq) = world.position(5);
    let reloaded = world.join(6, Wish::call("r", "e").token("ta").instance("q").resume(&secret, Some(seq)));
    assert!(reloaded.iter().any(|line| line.starts_with("6 joined e new")), "{reloaded:?}");
}

#[test]
fn only_hosts_and_only_in_their_room() {
    let mut world = meeting();
    world.join(9, Wish::call("s", "x"));
    for command in [Command::Kick(peer("b")), Command::Lock(true), Command::Close, invite(Role::Viewer)] {
        assert_eq!(world.command(2, command), ["2 complaint NotHost"]);
    }
    for nobody in ["x", "nobody", "h"] {
        assert_eq!(world.command(1, Command::Kick(peer(nobody))), ["1 complaint UnknownPeer"]);
    }
    assert_eq!(world.command(1, invite(Role::Host)), ["1 invite Host until Some(1000000)"]);
}

#[test]
fn a_locked_room_takes_nobody_new_but_hosts_and_who_was_in() {
    let mut world = meeting();
    let told = world.command(1, Command::Lock(true));
    assert_eq!(told, ["1 lock true by h", "2 lock true by h", "3 lock true by h"]);
    assert_eq!(world.join(4, Wish::call("r", "c")), ["4 closed RoomLocked"]);
    assert_eq!(world.join(4, Wish::call("r", "g").role(Role::Host)).len(), 4);
    world.leave(4);
    let (secret, seq) = world.position(2);
    world.lose(2);
    let resumed = world.join(5, Wish::call("r", "c").token("ta").resume(&secret, Some(seq)));
    assert!(resumed.iter().any(|line| line.starts_with("5 joined a resumed")), "{resumed:?}");
    let (secret, seq) = world.position(5);
    let reloaded = world.join(6, Wish::call("r", "d").token("ta").instance("new").resume(&secret, Some(seq)));
    assert!(reloaded.iter().any(|line| line.starts_with("6 joined d new")), "{reloaded:?}");
    world.command(1, Command::Lock(false));
    assert_eq!(world.join(7, Wish::call("r", "e")).len(), 4);
}

#[test]
fn a_reload_of_the_last_one_keeps_the_lock() {
    let mut world = World::new(HubLimits::default());
    world.join(1, Wish::call("r", "h").role(Role::Host));
    world.command(1, Command::Lock(true));
    let (secret, seq) = world.position(1);
    let reloaded = Wish::call("r", "i").role(Role::Host).instance("new").resume(&secret, Some(seq));
    assert_eq!(world.join(2, reloaded), ["1 closed Replaced", "2 joined i new []", "gone h"]);
    assert_eq!(world.join(3, Wish::call("r", "a")), ["3 closed RoomLocked"]);
    world.leave(2);
    assert_eq!(world.hub.stats().rooms, 0);
    assert_eq!(world.join(3, Wish::call("r", "a")), ["3 joined a new []"]);
}

#[test]
fn the_end_of_a_room_is_the_end_for_everybody() {
    let mut world = meeting();
    world.lose(3);
    let (secret, seq) = world.position(3);
    let told = world.command(1, Command::Close);
    assert_eq!(told, ["1 closed RoomClosed", "2 closed RoomClosed", "gone h", "gone a", "gone b"]);
    assert_eq!(world.hub.stats(), relais::signaling::Stats::default());
    assert_eq!(world.join(4, Wish::call("r", "c").resume(&secret, Some(seq))), ["4 joined c new []"]);
}

#[test]
fn an_administrator_kicks_closes_and_revokes() {
    let mut world = meeting();
    let now = world.now;
    assert!(world.hub.handle_kick(now, &peer("a")) && !world.hub.handle_kick(now, &peer("a")));
    assert_eq!(world.drain(), ["1 peer-left a Kicked", "2 closed Kicked", "3 peer-left a Kicked", "gone a"]);
    world.hub.handle_revoked(now, "tb");
    assert_eq!(world.drain(), ["1 peer-left b Revoked", "3 closed TokenRevoked", "gone b"]);
    assert_eq!(world.hub.peer(&peer("h")).map(|info| (info.room, info.connected)), Some((call("r"), true)));
    assert!(world.hub.handle_close(now, &call("r")) && !world.hub.handle_close(now, &call("r")));
    assert_eq!(world.drain(), ["1 closed RoomClosed", "gone h"]);
    assert_eq!(world.hub.peer(&peer("h")), None);
}

#[test]
fn an_expired_invite_still_resumes_but_opens_nothing_new() {
    let mut world = meeting();
    let (secret, seq) = world.position(2);
    world.lose(2);
    let late = |id: &str| Wish::call("r", id).role(Role::Viewer).refused(Fault::TokenExpired);
    assert_eq!(world.join(4, late("c")), ["4 closed TokenExpired"]);
    assert_eq!(world.join(4, late("c").resume("made up", Some(1))), ["4 closed TokenExpired"]);
    let elsewhere = Wish::call("s", "c").refused(Fault::WrongRoom).resume(&secret, Some(seq));
    assert_eq!(world.join(4, elsewhere), ["4 closed WrongRoom"], "and the session lives on");
    let back = world.join(5, late("c").resume(&secret, Some(seq)));
    assert_eq!(back[1], "3 peer-back a");
    let reloaded = world.join(6, late("d").instance("new").resume(&secret, Some(1)));
    assert!(reloaded.contains(&"6 joined d new [h polite connected, b polite connected]".into()), "{reloaded:?}");
    let info = world.hub.peer(&peer("d")).expect("there");
    assert_eq!((info.role, info.token.as_deref()), (Role::Member, Some("ta")), "what it had");
}

#[test]
fn viewers_are_counted_and_a_crowd_is_told_of_once_a_second() {
    let mut world = World::new(HubLimits { peers_per_room: 50, ..HubLimits::default() });
    world.join(1, Wish::call("r", "h").role(Role::Host));
    let told = world.join(2, Wish::call("r", "v0").role(Role::Viewer));
    assert_eq!(told, ["1 peer-joined v0 impolite", "1 viewers 1", "2 joined v0 new [h polite connected]"]);
    for number in 1..10 {
        let told = world.join(2 + number, Wish::call("r", &format!("v{number}")).role(Role::Viewer));
        assert!(!told.iter().any(|line| line.contains("viewers")), "{told:?}");
    }
    let told = world.pass(Duration::from_secs(1));
    assert_eq!((told.len(), told[0].as_str(), told[10].as_str()), (11, "1 viewers 10", "11 viewers 10"));
    world.lose(2);
    assert_eq!(world.pass(Duration::from_secs(1))[0], "1 viewers 9");
    assert_eq!(world.pass(Duration::from_secs(70)), ["1 peer-left v0 Lost", "gone v0"], "it was not counted any more");
}

#[test]
fn a_streamer_that_is_alive_keeps_its_place() {
    let mut world = World::new(HubLimits::default());
    world.join(1, Wish::stream("s", "t", Role::Streamer));
    assert_eq!(world.join(2, Wish::stream("s", "u", Role::Streamer)), ["1 probe"]);
    assert_eq!(world.join(3, Wish::stream("s", "w", Role::Streamer)), ["3 closed StreamTaken"], "one waits at a time");
    assert_eq!(world.command(1, Command::Alive), ["2 closed StreamTaken"]);
    assert_eq!(world.join(4, Wish::stream("s", "x", Role::Streamer)), ["4 closed StreamTaken"], "it just answered");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.join(5, Wish::stream("s", "y", Role::Streamer)), ["1 probe"]);
    assert_eq!(world.lose(5), [""; 0]);
    assert_eq!(world.pass(Duration::from_secs(60)), [""; 0], "nobody waits any more");
    assert_eq!(world.hub.poll_timeout(), None);
}

#[test]
fn a_dead_streamer_gives_way() {
    let mut world = World::new(HubLimits::default());
    world.join(1, Wish::stream("s", "t", Role::Streamer));
    world.join(2, Wish::stream("s", "v", Role::Viewer).alias("1"));
    world.join(3, Wish::stream("s", "u", Role::Streamer));
    assert_eq!(world.pass(Duration::from_millis(1999)), [""; 0]);
    let told = world.pass(Duration::from_millis(1));
    assert_eq!(
        told,
        ["1 closed Replaced", "2 peer-left t Lost", "2 peer-joined u impolite", "3 joined u new [v polite connected]"]
    );
    // Or at once, when its end is noticed meanwhile.
    world.join(4, Wish::stream("s", "w", Role::Streamer));
    assert_eq!(world.lose(3)[2], "4 joined w new [v polite connected]");
}

#[test]
fn who_waits_for_a_place_by_a_token_that_is_revoked_does_not_get_it() {
    let mut world = World::new(HubLimits::default());
    world.join(1, Wish::stream("s", "t", Role::Streamer));
    assert_eq!(world.join(2, Wish::stream("s", "u", Role::Streamer).token("spent")), ["1 probe"]);
    world.hub.handle_revoked(world.now, "another");
    assert_eq!(world.drain(), [""; 0]);
    world.hub.handle_revoked(world.now, "spent");
    assert_eq!(world.drain(), ["2 closed TokenRevoked"]);
    assert_eq!(world.pass(Duration::from_secs(60)), [""; 0], "nobody waits any more");
    assert_eq!(world.hub.poll_timeout(), None);
}

#[test]
fn nobody_takes_the_id_of_a_living_viewer() {
    let mut world = World::new(HubLimits::default());
    world.join(1, Wish::stream("s", "v", Role::Viewer).alias("5"));
    for (link, other) in [(2, r#""5""#), (3, "6"), (4, "-5")] {
        assert_eq!(world.join(link, Wish::stream("s", &format!("o{link}"), Role::Viewer).alias(other)).len(), 1);
    }
    assert_eq!(world.join(5, Wish::stream("s", "w", Role::Viewer).alias("5.0")), ["1 probe"], "the same to a page");
    assert_eq!(world.command(1, Command::Alive), ["5 closed ViewerTaken"]);
    world.pass(Duration::from_secs(2));
    // It lost its connection, and comes back before that is noticed.
    world.join(6, Wish::stream("s", "x", Role::Viewer).alias("5"));
    assert_eq!(world.pass(Duration::from_secs(2)), ["1 closed Replaced", "6 joined x new []"]);
    // Registering again on the same connection concerns nobody else.
    assert_eq!(world.join(6, Wish::stream("s", "y", Role::Viewer).alias("5")), ["6 joined y new []"]);
    assert_eq!(world.join(7, Wish::stream("t", "z", Role::Viewer).alias("5")), ["7 joined z new []"], "another stream");
}

#[test]
fn what_happens_is_noticed_in_order() {
    let mut world = World::new(HubLimits::default());
    world.join(1, Wish::call("r", "h").role(Role::Host).token("th"));
    world.join(2, Wish::call("r", "a").token("ta"));
    // By the same token in a stream of that name: what was given out for it ends all the same.
    world.join(3, Wish::stream("r", "s", Role::Viewer).token("ta").alias("1"));
    world.hub.handle_command(world.now, LinkId { connection: 1, slot: 0 }, Command::Kick(peer("a")));
    world.hub.handle_command(world.now, LinkId { connection: 1, slot: 0 }, Command::Leave);
    let notices: Vec<String> = std::iter::from_fn(|| world.hub.poll_output())
        .filter_map(|output| if let Output::Notice(notice) = output { Some(format!("{notice:?}")) } else { None })
        .collect();
    let (kicked, left, closed) = (&notices[0], &notices[1], &notices[2]);
    assert!(
        kicked.contains(r#"peer: PeerId("a"), reason: Kicked"#) && kicked.contains(r#"spent: Some("ta")"#),
        "{kicked}"
    );
    assert!(left.contains(r#"peer: PeerId("h"), reason: Left"#) && left.contains("spent: None"), "{left}");
    assert_eq!((closed.as_str(), notices.len()), (r#"RoomClosed { room: Call("r") }"#, 3));
    assert_eq!((call("r").to_string(), RoomKey::Stream("r".into()).to_string()), ("r".into(), "live:r".into()));
}
